package main

import (
	"encoding/json"
	"strings"
	"sync"

	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type podSecurityArguments struct {
	Pod json.RawMessage `json:"pod"`
	// Levels with versions, such as "restricted:latest" or "baseline:v1.25".
	Levels []string `json:"levels"`
}

type podSecurityResult struct {
	// Violations by level and version; a level that the pod satisfies is absent.
	Violations map[string][]string `json:"violations"`
}

var evaluator = sync.OnceValues(func() (policy.Evaluator, error) {
	return policy.NewEvaluator(policy.DefaultChecks(), nil)
})

// checkPodSecurity asks the Pod Security Standards about a pod.
func checkPodSecurity(arguments podSecurityArguments) (*podSecurityResult, error) {
	pod, _, err := readPod(arguments.Pod)
	if err != nil {
		return nil, err
	}
	versioned, err := versionedPod(pod)
	if err != nil {
		return nil, err
	}
	evaluator, err := evaluator()
	if err != nil {
		return nil, at("checks", err)
	}
	result := &podSecurityResult{Violations: map[string][]string{}}
	for _, text := range arguments.Levels {
		level, err := levelVersion(text)
		if err != nil {
			return nil, at("levels", err)
		}
		for _, check := range evaluator.EvaluatePod(level, &versioned.ObjectMeta, &versioned.Spec) {
			if !check.Allowed {
				violation := check.ForbiddenReason + ": " + check.ForbiddenDetail
				result.Violations[text] = append(result.Violations[text], violation)
			}
		}
	}
	return result, nil
}

func levelVersion(text string) (api.LevelVersion, error) {
	name, number, _ := strings.Cut(text, ":")
	level, err := api.ParseLevel(name)
	if err != nil {
		return api.LevelVersion{}, err
	}
	version, err := api.ParseVersion(number)
	if err != nil {
		return api.LevelVersion{}, err
	}
	return api.LevelVersion{Level: level, Version: version}, nil
}
