package main

import (
	"encoding/json"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

func init() {
	// The API server's JSONPatchMaxCopyBytes.
	jsonpatch.AccumulatedCopySizeLimit = 3 * 1024 * 1024
}

type patchArguments struct {
	Pod   json.RawMessage `json:"pod"`
	Patch json.RawMessage `json:"patch"`
	// EngineOnly applies the patch to the bytes of the pod as they are, and stops there.
	EngineOnly bool `json:"engineOnly"`
}

type patchResult struct {
	// Pod with the patch, with defaults, as the next webhook and validation get it.
	Pod json.RawMessage `json:"pod"`
	// Dropped says what the API server leaves out of the patched pod without a word.
	Dropped []string `json:"dropped"`
	// Changed says whether anything is left of the patch.
	Changed bool `json:"changed"`
}

// patchPod takes the steps of the API server with a webhook's patch (callAttrMutatingHook of its mutating dispatcher). In
// stage "decode-patch" the API server calls it a failure of the webhook, and the failure policy decides; in the stages
// after it the pod is rejected whatever the policy says.
func patchPod(arguments patchArguments) (*patchResult, error) {
	patch, err := jsonpatch.DecodePatch(arguments.Patch)
	if err != nil {
		return nil, at("decode-patch", err)
	}
	if arguments.EngineOnly {
		patched, err := patch.Apply(arguments.Pod)
		if err != nil {
			return nil, at("apply", err)
		}
		return &patchResult{Pod: patched, Dropped: []string{}, Changed: true}, nil
	}
	internal, _, err := readPod(arguments.Pod)
	if err != nil {
		return nil, err
	}
	before, err := versionedPod(internal)
	if err != nil {
		return nil, err
	}
	encoded, err := runtime.Encode(podCodec, before)
	if err != nil {
		return nil, at("encode", err)
	}
	patched, err := patch.Apply(encoded)
	if err != nil {
		return nil, at("apply", err)
	}
	return reread(before, patched)
}

// reread decodes a patched pod as the API server does, and says what it does not say.
func reread(before *corev1.Pod, patched []byte) (*patchResult, error) {
	dropped, err := readStrictly(patched, &corev1.Pod{})
	if err != nil {
		return nil, at("decode-patched", err)
	}
	after, _, err := podCodec.Decode(patched, nil, &corev1.Pod{})
	if err != nil {
		return nil, at("decode-patched", err)
	}
	changed := !equality.Semantic.DeepEqual(before, after)
	legacyscheme.Scheme.Default(after)
	encoded, err := runtime.Encode(podCodec, after)
	if err != nil {
		return nil, at("encode", err)
	}
	return &patchResult{Pod: encoded, Dropped: dropped, Changed: changed}, nil
}
