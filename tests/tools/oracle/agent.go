package main

import (
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"github.com/prometheus-operator/prometheus-operator/pkg/operator"
	prometheusoperator "github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// agentContainer tells what the operator's agent is started with besides its configuration.
func agentContainer(
	generator *prometheusoperator.ConfigGenerator, agent *monitoringv1alpha1.PrometheusAgent, result *configResult,
) error {
	var err error
	arguments := buildAgentArgs(generator, agent.Spec.WALCompression)
	if result.Arguments, err = operator.BuildArgs(arguments, agent.Spec.AdditionalArgs); err != nil {
		return at("arguments", err)
	}
	volumes, mounts, err := prometheusoperator.BuildCommonVolumes(agent, &operator.ShardedSecret{}, false)
	if err != nil {
		return at("volumes", err)
	}
	sources := map[string]corev1.VolumeSource{}
	for _, volume := range volumes {
		sources[volume.Name] = volume.VolumeSource
	}
	result.Objects = map[string]string{}
	for _, mount := range mounts {
		switch source := sources[mount.Name]; {
		case source.Secret != nil:
			result.Objects[mount.MountPath] = "Secret/" + source.Secret.SecretName
		case source.ConfigMap != nil:
			result.Objects[mount.MountPath] = "ConfigMap/" + source.ConfigMap.Name
		}
	}
	return nil
}
