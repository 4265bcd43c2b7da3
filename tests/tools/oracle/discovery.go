package main

import (
	"encoding/json"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

type discoverArguments struct {
	// Pods as they are stored; without status.podIP nothing is found.
	Pods []json.RawMessage `json:"pods"`
}

type discoverResult struct {
	// Groups in the order of the pods.
	Groups []discoveredGroup `json:"groups"`
}

type discoveredGroup struct {
	Source  string           `json:"source"`
	Labels  model.LabelSet   `json:"labels"`
	Targets []model.LabelSet `json:"targets"`
}

// discoverPods finds targets as Prometheus' kubernetes_sd_configs does with role pod.
func discoverPods(arguments discoverArguments) (*discoverResult, error) {
	pods, err := readPods(arguments.Pods)
	if err != nil {
		return nil, err
	}
	result := &discoverResult{Groups: []discoveredGroup{}}
	for _, group := range podGroups(pods) {
		result.Groups = append(result.Groups, discoveredGroup{group.Source, group.Labels, group.Targets})
	}
	return result, nil
}

func readPods(raw []json.RawMessage) ([]*corev1.Pod, error) {
	var pods []*corev1.Pod
	for _, one := range raw {
		internal, _, err := readPod(one)
		if err != nil {
			return nil, err
		}
		pod, err := versionedPod(internal)
		if err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

func podGroups(pods []*corev1.Pod) []*targetgroup.Group {
	discovery := podDiscovery(podStore())
	var groups []*targetgroup.Group
	for _, pod := range pods {
		groups = append(groups, buildPod(discovery, pod))
	}
	return groups
}

// Events of discoveries; nobody reads them.
var discoveryEvents = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "events"}, []string{"role", "event"})

func podDiscovery(informer cache.SharedIndexInformer) *kubernetes.Pod {
	return kubernetes.NewPod(nil, informer, nil, nil, nil, nil, false, false, false, discoveryEvents)
}

// podStore is an informer that is never started.
func podStore() cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{}, &corev1.Pod{}, 0, cache.Indexers{})
}
