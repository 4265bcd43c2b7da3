package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// jobGroups are the target groups that a job's discoveries find.
func jobGroups(
	job *promconfig.ScrapeConfig, pods []*corev1.Pod, services []*corev1.Service, files map[string]string,
) ([]*targetgroup.Group, error) {
	var groups []*targetgroup.Group
	for _, one := range job.ServiceDiscoveryConfigs {
		var found []*targetgroup.Group
		var err error
		switch one := one.(type) {
		case discovery.StaticConfig:
			found = one
		case *file.SDConfig:
			found, err = fileGroups(one, files)
		case *kubernetes.SDConfig:
			found, err = kubernetesGroups(one, pods, services)
		default:
			err = fmt.Errorf("%s discovery is not supported here", one.Name())
		}
		if err != nil {
			return nil, err
		}
		groups = append(groups, found...)
	}
	return groups, nil
}

func fileGroups(config *file.SDConfig, files map[string]string) ([]*targetgroup.Group, error) {
	var groups []*targetgroup.Group
	for _, path := range config.Files {
		content, given := files[path]
		if !given {
			return nil, fmt.Errorf("file %q is not among the files of the request", path)
		}
		asJSON, err := yaml.YAMLToJSON([]byte(content))
		if err != nil {
			return nil, fmt.Errorf("file %q: %w", path, err)
		}
		var found []*targetgroup.Group
		if err := json.Unmarshal(asJSON, &found); err != nil {
			return nil, fmt.Errorf("file %q: %w", path, err)
		}
		groups = append(groups, found...)
	}
	return groups, nil
}

func kubernetesGroups(
	config *kubernetes.SDConfig, pods []*corev1.Pod, services []*corev1.Service,
) ([]*targetgroup.Group, error) {
	attached := config.AttachMetadata
	if attached.Node || attached.Namespace {
		return nil, fmt.Errorf("attach_metadata is not supported here")
	}
	names := config.NamespaceDiscovery.Names
	if config.Role != kubernetes.RolePod {
		discovered := slices.DeleteFunc(slices.Clone(services), func(service *corev1.Service) bool {
			return len(names) > 0 && !slices.Contains(names, service.Namespace)
		})
		return endpointGroups(config.Role, config.Selectors, pods, discovered)
	}
	var selected []*corev1.Pod
	for _, pod := range pods {
		selects, err := selectsPod(config, pod)
		if err != nil {
			return nil, err
		}
		if selects {
			selected = append(selected, pod)
		}
	}
	return podGroups(selected), nil
}

// selectsPod does what the API server does with the selectors of a list call.
func selectsPod(config *kubernetes.SDConfig, pod *corev1.Pod) (bool, error) {
	if names := config.NamespaceDiscovery.Names; len(names) > 0 && !slices.Contains(names, pod.Namespace) {
		return false, nil
	}
	return selects(config.Selectors, kubernetes.RolePod, pod, fields.Set{
		"spec.nodeName": pod.Spec.NodeName,
		"status.phase":  string(pod.Status.Phase),
		"status.podIP":  pod.Status.PodIP,
	})
}

// selects does the same for an object of any role. Its values are those that field selectors may name beside its name and
// namespace.
func selects(
	selectors []kubernetes.SelectorConfig, role kubernetes.Role, object metav1.Object, values fields.Set,
) (bool, error) {
	all := fields.Set{"metadata.name": object.GetName(), "metadata.namespace": object.GetNamespace()}
	maps.Copy(all, values)
	for _, selector := range selectors {
		if selector.Role != role {
			continue
		}
		byLabel, err := labels.Parse(selector.Label)
		if err != nil {
			return false, fmt.Errorf("label selector %q: %w", selector.Label, err)
		}
		byField, err := fields.ParseSelector(selector.Field)
		if err != nil {
			return false, fmt.Errorf("field selector %q: %w", selector.Field, err)
		}
		if !byLabel.Matches(labels.Set(object.GetLabels())) || !byField.Matches(all) {
			return false, nil
		}
	}
	return true, nil
}
