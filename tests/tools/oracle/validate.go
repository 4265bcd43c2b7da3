package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/capabilities"
	podregistry "k8s.io/kubernetes/pkg/registry/core/pod"
)

func init() {
	// As nearly every cluster is started; without it, every privileged pod is invalid.
	capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
}

type validateArguments struct {
	Pod json.RawMessage `json:"pod"`
	// Namespace of the request; the pod's own, else "default".
	Namespace string `json:"namespace"`
	// Old makes it an update of this pod instead of a creation.
	Old json.RawMessage `json:"old"`
}

type verdict struct {
	// Unknown fields, which kubectl reports and the API server drops.
	Unknown  []string `json:"unknown"`
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
	// QoS class that the pod gets.
	QOS corev1.PodQOSClass `json:"qos"`
}

// validatePod runs what the API server runs between admission and storage: the strategy of pods, for creations or updates.
func validatePod(arguments validateArguments) (*verdict, error) {
	pod, unknown, err := readPod(arguments.Pod)
	if err != nil {
		return nil, err
	}
	namespace := firstOf(arguments.Namespace, pod.Namespace, metav1.NamespaceDefault)
	if pod.Namespace == "" {
		pod.Namespace = namespace
	}
	judged := &verdict{Unknown: unknown, Errors: []string{}, Warnings: []string{}}
	verb := "create"
	if arguments.Old != nil {
		verb = "update"
	}
	ctx := apirequest.WithNamespace(context.Background(), namespace)
	ctx = apirequest.WithRequestInfo(ctx, &apirequest.RequestInfo{
		IsResourceRequest: true, Verb: verb, APIVersion: "v1", Resource: "pods", Namespace: namespace})
	ctx = warning.WithWarningRecorder(ctx, &recorder{&judged.Warnings})
	if arguments.Old == nil {
		err = create(ctx, pod)
	} else {
		err = update(ctx, pod, arguments.Old)
	}
	var staged *failure
	if errors.As(err, &staged) {
		return nil, err
	}
	judged.Errors = causes(err)
	judged.QOS = corev1.PodQOSClass(pod.Status.QOSClass)
	return judged, nil
}

// create does what the generic registry does before it stores a new object.
func create(ctx context.Context, pod *core.Pod) error {
	rest.FillObjectMetaSystemFields(pod)
	if pod.GenerateName != "" && pod.Name == "" {
		pod.Name = podregistry.Strategy.GenerateName(pod.GenerateName)
	}
	return rest.BeforeCreate(podregistry.Strategy, ctx, pod)
}

// update does what the generic registry does before it stores a changed object.
func update(ctx context.Context, pod *core.Pod, old json.RawMessage) error {
	before, _, err := readPod(old)
	if err != nil {
		return at("old", err)
	}
	before.Namespace = pod.Namespace
	// A stored pod has one, and an update has to name it.
	before.ResourceVersion = "1"
	pod.ResourceVersion = "1"
	return rest.BeforeUpdate(podregistry.Strategy, ctx, pod, before)
}

// causes are the single errors within one of the API server's.
func causes(err error) []string {
	if err == nil {
		return []string{}
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
		return []string{err.Error()}
	}
	var all []string
	for _, cause := range status.Status().Details.Causes {
		all = append(all, fmt.Sprintf("%s: %s", cause.Field, cause.Message))
	}
	return all
}

// recorder keeps warnings as kubectl would print them.
type recorder struct{ warnings *[]string }

func (r *recorder) AddWarning(_, text string) { *r.warnings = append(*r.warnings, text) }

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
