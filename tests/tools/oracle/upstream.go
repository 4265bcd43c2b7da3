package main

import (
	_ "unsafe" // for linkname

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	prometheusoperator "github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/prometheus/agent"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/scrape"
	_ "github.com/prometheus/prometheus/storage/remote"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Functions of upstream that it does not export. The linker compares names, not types, so checkLinks runs each of them at
// start.

//go:linkname buildAgentArgs github.com/prometheus-operator/prometheus-operator/pkg/prometheus/agent.buildAgentArgs
func buildAgentArgs(generator *prometheusoperator.ConfigGenerator, walCompression *bool) []monitoringv1.Argument

//go:linkname buildPod github.com/prometheus/prometheus/discovery/kubernetes.(*Pod).buildPod
func buildPod(discovery *kubernetes.Pod, pod *corev1.Pod) *targetgroup.Group

//go:linkname buildEndpoints github.com/prometheus/prometheus/discovery/kubernetes.(*Endpoints).buildEndpoints
func buildEndpoints(discovery *kubernetes.Endpoints, endpoints *corev1.Endpoints) *targetgroup.Group

//go:linkname buildEndpointSlice github.com/prometheus/prometheus/discovery/kubernetes.(*EndpointSlice).buildEndpointSlice
func buildEndpointSlice(discovery *kubernetes.EndpointSlice, slice discoveryv1.EndpointSlice) *targetgroup.Group

//go:linkname mutateSampleLabels github.com/prometheus/prometheus/scrape.mutateSampleLabels
func mutateSampleLabels(series labels.Labels, target *scrape.Target, honor bool, rules []*relabel.Config) labels.Labels

//go:linkname mutateReportSampleLabels github.com/prometheus/prometheus/scrape.mutateReportSampleLabels
func mutateReportSampleLabels(series labels.Labels, target *scrape.Target) labels.Labels

//go:linkname processExternalLabels github.com/prometheus/prometheus/storage/remote.processExternalLabels
func processExternalLabels(series *labels.Builder, external []labels.Label)
