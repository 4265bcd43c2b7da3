package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"
)

// cluster is what the operator's controller would see: one agent and the objects around it.
type cluster struct {
	agent      *monitoringv1alpha1.PrometheusAgent
	monitors   map[string]cache.Indexer
	namespaces cache.SharedIndexInformer
	client     *fake.Clientset
}

// kinds of objects that a cluster may hold.
var kinds = map[string]func() runtime.Object{
	"ConfigMap":       func() runtime.Object { return &corev1.ConfigMap{} },
	"Namespace":       func() runtime.Object { return &corev1.Namespace{} },
	"PodMonitor":      func() runtime.Object { return &monitoringv1.PodMonitor{} },
	"Probe":           func() runtime.Object { return &monitoringv1.Probe{} },
	"PrometheusAgent": func() runtime.Object { return &monitoringv1alpha1.PrometheusAgent{} },
	"ScrapeConfig":    func() runtime.Object { return &monitoringv1alpha1.ScrapeConfig{} },
	"Secret":          func() runtime.Object { return &corev1.Secret{} },
	"ServiceMonitor":  func() runtime.Object { return &monitoringv1.ServiceMonitor{} },
}

var monitorKinds = []string{"PodMonitor", "Probe", "ScrapeConfig", "ServiceMonitor"}

func readCluster(objects []json.RawMessage) (*cluster, error) {
	byNamespace := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	read := &cluster{
		monitors: map[string]cache.Indexer{},
		// Never started: only its store is read.
		namespaces: cache.NewSharedIndexInformer(&cache.ListWatch{}, &corev1.Namespace{}, 0, byNamespace),
	}
	for _, kind := range monitorKinds {
		read.monitors[kind] = cache.NewIndexer(cache.MetaNamespaceKeyFunc, byNamespace)
	}
	var served []runtime.Object
	for index, raw := range objects {
		object, err := readObject(raw)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", index, err)
		}
		switch object := object.(type) {
		case *monitoringv1alpha1.PrometheusAgent:
			read.agent = object
		case *corev1.Namespace:
			err = read.namespaces.GetStore().Add(object)
		case *corev1.Secret, *corev1.ConfigMap:
			served = append(served, object)
		default:
			err = read.monitors[object.GetObjectKind().GroupVersionKind().Kind].Add(object)
		}
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", index, err)
		}
	}
	if read.agent == nil {
		return nil, errors.New("a PrometheusAgent is missing")
	}
	read.client = fake.NewClientset(served...)
	return read, nil
}

func readObject(raw json.RawMessage) (runtime.Object, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, err
	}
	empty, known := kinds[kind.Kind]
	if !known {
		return nil, fmt.Errorf("kind %q is none of %v", kind.Kind, slices.Sorted(maps.Keys(kinds)))
	}
	object := empty()
	if err := yaml.UnmarshalStrict(raw, object); err != nil {
		return nil, err
	}
	if secret, is := object.(*corev1.Secret); is {
		// As the API server does.
		for key, value := range secret.StringData {
			if secret.Data == nil {
				secret.Data = map[string][]byte{}
			}
			secret.Data[key] = []byte(value)
		}
	}
	return object, nil
}
