package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	prometheusoperator "github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/scrape"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

// checkLinks runs every function of upstream.go on an input whose output is known.
func checkLinks() (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("a call panicked: %v", panicked)
		}
	}()
	return errors.Join(checkSampleLabels(), checkReportLabels(), checkExternalLabels(), checkBuildPod(),
		checkAgentArgs(), checkBuildEndpoints())
}

func checkAgentArgs() error {
	agent := &monitoringv1alpha1.PrometheusAgent{}
	agent.Spec.Version = "v3.5.0"
	generator, err := prometheusoperator.NewConfigGenerator(slog.New(slog.DiscardHandler), agent)
	if err != nil {
		return err
	}
	compression := false
	var got []string
	for _, argument := range buildAgentArgs(generator, &compression) {
		got = append(got, argument.Name)
	}
	want := []string{"config.file", "web.enable-lifecycle", "web.route-prefix", "agent", "storage.agent.path",
		"no-storage.agent.wal-compression"}
	if !slices.Equal(got, want) {
		return fmt.Errorf("buildAgentArgs: want %v, got %v", want, got)
	}
	return nil
}

func checkSampleLabels() error {
	target := scrape.NewTarget(labels.FromStrings("pod", "p", "job", "j"), &promconfig.ScrapeConfig{}, nil, nil)
	drop := &relabel.Config{
		Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp("gone"), NameValidationScheme: model.UTF8Validation}
	series := labels.FromStrings("__name__", "m", "pod", "own", "gone", "x")
	for _, honor := range []bool{false, true} {
		want := labels.FromStrings("__name__", "m", "exported_pod", "own", "job", "j", "pod", "p")
		if honor {
			want = labels.FromStrings("__name__", "m", "job", "j", "pod", "own")
		}
		if got := mutateSampleLabels(series, target, honor, []*relabel.Config{drop}); !labels.Equal(got, want) {
			return fmt.Errorf("mutateSampleLabels, honor %v: want %v, got %v", honor, want, got)
		}
	}
	return nil
}

func checkReportLabels() error {
	target := scrape.NewTarget(labels.FromStrings("job", "j"), &promconfig.ScrapeConfig{}, nil, nil)
	want := labels.FromStrings("__name__", "up", "job", "j")
	if got := mutateReportSampleLabels(labels.FromStrings("__name__", "up"), target); !labels.Equal(got, want) {
		return fmt.Errorf("mutateReportSampleLabels: want %v, got %v", want, got)
	}
	return nil
}

func checkExternalLabels() error {
	series := labels.NewBuilder(labels.FromStrings("a", "series"))
	processExternalLabels(series, []labels.Label{{Name: "a", Value: "external"}, {Name: "b", Value: "external"}})
	want := labels.FromStrings("a", "series", "b", "external")
	if got := series.Labels(); !labels.Equal(got, want) {
		return fmt.Errorf("processExternalLabels: want %v, got %v", want, got)
	}
	return nil
}

// checkBuildPod compares with what the exported way finds: an informer and a running discovery, which takes 100 ms.
func checkBuildPod() error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName:       "node",
			Containers:     []corev1.Container{{Name: "app", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}},
			InitContainers: []corev1.Container{{Name: "init", Image: "j"}},
		},
		Status: corev1.PodStatus{PodIP: "10.0.0.7", Phase: corev1.PodRunning},
	}
	want, err := runDiscovery(pod)
	if err != nil {
		return fmt.Errorf("discovery does not run: %w", err)
	}
	got := buildPod(podDiscovery(podStore()), pod)
	if len(got.Targets) != 2 || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("buildPod: want %v %v, got %v %v", want.Labels, want.Targets, got.Labels, got.Targets)
	}
	return nil
}

// checkBuildEndpoints looks for what both roles find of a pod that one Service selects: its port and one that the Service has not.
func checkBuildEndpoints() error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{
			{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9090}}}}},
		Status: corev1.PodStatus{PodIP: "10.0.0.7", Phase: corev1.PodRunning},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.1.0.1", Selector: pod.Labels, Ports: []corev1.ServicePort{
			{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
	for role, label := range map[kubernetes.Role]model.LabelName{
		kubernetes.RoleEndpoint:      "__meta_kubernetes_endpoint_port_name",
		kubernetes.RoleEndpointSlice: "__meta_kubernetes_endpointslice_port_name",
	} {
		groups, err := endpointGroups(role, nil, []*corev1.Pod{pod}, []*corev1.Service{service})
		if err != nil {
			return err
		}
		if len(groups) != 1 || len(groups[0].Targets) != 2 || groups[0].Targets[0][label] != "http" ||
			groups[0].Targets[1]["__address__"] != "10.0.0.7:9090" || groups[0].Labels["__meta_kubernetes_service_name"] != "web" {
			return fmt.Errorf("role %s: want one group with two targets, got %v", role, groups)
		}
	}
	return nil
}

// runDiscovery discovers a pod with a whole discovery.
func runDiscovery(pod *corev1.Pod) (*targetgroup.Group, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := fake.NewClientset(pod)
	pods := client.CoreV1().Pods("")
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return pods.Watch(ctx, options)
		},
	}
	// Without the wrapper, the informer waits for a bookmark that the fake client never sends.
	wrapped := cache.ToListWatcherWithWatchListSemantics(source, client)
	informer := cache.NewSharedIndexInformer(wrapped, &corev1.Pod{}, 0, cache.Indexers{})
	discovery := podDiscovery(informer)
	go informer.RunWithContext(ctx)
	found := make(chan []*targetgroup.Group)
	go discovery.Run(ctx, found)
	select {
	case groups := <-found:
		if len(groups) != 1 {
			return nil, fmt.Errorf("want one group, got %v", groups)
		}
		return groups[0], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
