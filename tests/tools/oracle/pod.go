package main

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // puts Pod and its defaults into the scheme
	strict "sigs.k8s.io/json"
)

// podCodec encodes and decodes as the API server does for webhooks: unknown fields are no error.
var podCodec = serializer.NewSerializerWithOptions(
	serializer.DefaultMetaFactory, legacyscheme.Scheme, legacyscheme.Scheme, serializer.SerializerOptions{})

type sendArguments struct {
	Pod json.RawMessage `json:"pod"`
}

type sentPod struct {
	// Pod as it stands in an AdmissionReview.
	Pod json.RawMessage `json:"pod"`
	// Dropped says which fields of the input have no place in a Pod.
	Dropped []string `json:"dropped"`
}

// sendPod gives a pod that a user wrote as the API server sends it to webhooks.
func sendPod(arguments sendArguments) (*sentPod, error) {
	pod, dropped, err := readPod(arguments.Pod)
	if err != nil {
		return nil, err
	}
	versioned, err := versionedPod(pod)
	if err != nil {
		return nil, err
	}
	encoded, err := runtime.Encode(podCodec, versioned)
	if err != nil {
		return nil, at("encode", err)
	}
	return &sentPod{Pod: encoded, Dropped: dropped}, nil
}

// readPod reads a pod as the API server reads a request: with defaults, in the internal version. What has no place in a Pod
// is listed.
func readPod(raw []byte) (*core.Pod, []string, error) {
	versioned := &corev1.Pod{}
	dropped, err := readStrictly(raw, versioned)
	if err != nil {
		return nil, nil, at("decode", err)
	}
	legacyscheme.Scheme.Default(versioned)
	pod := &core.Pod{}
	if err := legacyscheme.Scheme.Convert(versioned, pod, nil); err != nil {
		return nil, nil, at("convert", err)
	}
	return pod, dropped, nil
}

// versionedPod is the v1 form of a pod, as webhooks get it and as it is stored.
func versionedPod(pod *core.Pod) (*corev1.Pod, error) {
	versioned := &corev1.Pod{}
	if err := legacyscheme.Scheme.Convert(pod, versioned, nil); err != nil {
		return nil, at("convert", err)
	}
	versioned.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return versioned, nil
}

// readStrictly reads JSON and lists unknown and repeated fields, which are no error.
func readStrictly(raw []byte, into any) ([]string, error) {
	unknown, err := strict.UnmarshalStrict(raw, into)
	dropped := make([]string, 0, len(unknown))
	for _, field := range unknown {
		dropped = append(dropped, field.Error())
	}
	return dropped, err
}
