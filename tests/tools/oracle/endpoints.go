package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

type endpointArguments struct {
	// Pods as they are stored.
	Pods []json.RawMessage `json:"pods"`
	// Services as a user writes them.
	Services []json.RawMessage `json:"services"`
	// Role of the discovery: endpoints or endpointslice.
	Role string `json:"role"`
}

// discoverEndpoints finds targets as Prometheus' kubernetes_sd_configs does with role endpoints or endpointslice, in the
// endpoints that the controller of EndpointSlices makes of pods and Services.
func discoverEndpoints(arguments endpointArguments) (*discoverResult, error) {
	pods, err := readPods(arguments.Pods)
	if err != nil {
		return nil, err
	}
	services, err := readServices(arguments.Services)
	if err != nil {
		return nil, err
	}
	groups, err := endpointGroups(kubernetes.Role(arguments.Role), nil, pods, services)
	if err != nil {
		return nil, at("endpoints", err)
	}
	result := &discoverResult{Groups: []discoveredGroup{}}
	for _, group := range groups {
		result.Groups = append(result.Groups, discoveredGroup{group.Source, group.Labels, group.Targets})
	}
	return result, nil
}

// readServices reads Services as the API server reads them: with defaults.
func readServices(raw []json.RawMessage) ([]*corev1.Service, error) {
	var services []*corev1.Service
	for _, one := range raw {
		service := &corev1.Service{}
		if _, err := readStrictly(one, service); err != nil {
			return nil, at("service", err)
		}
		legacyscheme.Scheme.Default(service)
		services = append(services, service)
	}
	return services, nil
}

// endpointGroups are the target groups of all Services. Selectors choose Services, Endpoints and slices each by its own labels.
func endpointGroups(
	role kubernetes.Role, selectors []kubernetes.SelectorConfig, pods []*corev1.Pod, services []*corev1.Service,
) ([]*targetgroup.Group, error) {
	podInformer := podStore()
	for _, pod := range pods {
		if err := podInformer.GetStore().Add(pod); err != nil {
			return nil, err
		}
	}
	serviceInformer := neverStarted(&corev1.Service{})
	for _, service := range services {
		selected, err := selects(selectors, kubernetes.RoleService, service, nil)
		if err != nil {
			return nil, err
		}
		if !selected {
			continue
		}
		if err := serviceInformer.GetStore().Add(service); err != nil {
			return nil, err
		}
	}
	var groups []*targetgroup.Group
	for _, service := range services {
		slices, err := endpointSlices(service, pods)
		if err != nil {
			return nil, fmt.Errorf("Service %s/%s: %w", service.Namespace, service.Name, err)
		}
		switch role {
		case kubernetes.RoleEndpointSlice:
			discovery := kubernetes.NewEndpointSlice(nil, neverStarted(&discoveryv1.EndpointSlice{}), serviceInformer,
				podInformer, nil, nil, nil, nil, false, false, false, discoveryEvents)
			for _, slice := range slices {
				selected, err := selects(selectors, role, &slice, nil)
				if err != nil {
					return nil, err
				}
				if selected {
					groups = append(groups, buildEndpointSlice(discovery, slice))
				}
			}
		case kubernetes.RoleEndpoint:
			discovery := kubernetes.NewEndpoints(nil, neverStarted(&corev1.Endpoints{}), serviceInformer,
				podInformer, nil, nil, nil, nil, false, false, false, discoveryEvents)
			made := endpoints(service, slices)
			selected, err := selects(selectors, role, made, nil)
			if err != nil {
				return nil, err
			}
			if selected {
				groups = append(groups, buildEndpoints(discovery, made))
			}
		default:
			return nil, fmt.Errorf("role %s is not supported here", role)
		}
	}
	return groups, nil
}

// neverStarted is an informer of which only the store is used.
func neverStarted(object runtime.Object) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{}, object, 0, cache.Indexers{})
}

// endpointSlices are those that Kubernetes' own controller makes for a Service, by name.
func endpointSlices(service *corev1.Service, pods []*corev1.Pod) ([]discoveryv1.EndpointSlice, error) {
	if service.Spec.Type == corev1.ServiceTypeExternalName || len(service.Spec.Selector) == 0 {
		// The controller leaves these to others.
		return nil, nil
	}
	client := fake.NewClientset()
	names := 0
	client.PrependReactor("create", "endpointslices", func(action clienttesting.Action) (bool, runtime.Object, error) {
		// The API server generates names; the fake does not.
		created := action.(clienttesting.CreateAction).GetObject().(*discoveryv1.EndpointSlice)
		names++
		created.Name = fmt.Sprintf("%s%d", created.GenerateName, names)
		return false, nil, nil
	})
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	var selected []*corev1.Pod
	for _, pod := range pods {
		matches := labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels))
		if pod.Namespace != service.Namespace || !matches {
			continue
		}
		node := &corev1.Node{}
		node.Name = pod.Spec.NodeName
		if err := nodes.Add(node); err != nil {
			return nil, err
		}
		pod = pod.DeepCopy()
		if len(pod.Status.PodIPs) == 0 {
			pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
		}
		selected = append(selected, pod)
	}
	reconciler := endpointslice.NewReconciler(client, corelisters.NewNodeLister(nodes), 1000,
		endpointsliceutil.NewEndpointSliceTracker(), nil, &record.FakeRecorder{}, "endpointslice-controller.k8s.io")
	if err := reconciler.Reconcile(klog.Background(), service, selected, nil, time.Time{}); err != nil {
		return nil, err
	}
	made, err := client.Tracker().List(discoveryv1.SchemeGroupVersion.WithResource("endpointslices"),
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), service.Namespace)
	if err != nil {
		return nil, err
	}
	found := made.(*discoveryv1.EndpointSliceList).Items
	slices.SortFunc(found, func(a, b discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// endpoints is the older form of a Service's slices, with the labels that its controller writes.
func endpoints(service *corev1.Service, slices []discoveryv1.EndpointSlice) *corev1.Endpoints {
	made := &corev1.Endpoints{}
	made.Namespace, made.Name = service.Namespace, service.Name
	made.Labels = map[string]string{}
	maps.Copy(made.Labels, service.Labels)
	delete(made.Labels, corev1.IsHeadlessService)
	if !helper.IsServiceIPSet(service) {
		made.Labels[corev1.IsHeadlessService] = ""
	}
	made.Labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
	for _, slice := range slices {
		subset := corev1.EndpointSubset{}
		for _, port := range slice.Ports {
			if port.Port != nil {
				subset.Ports = append(subset.Ports, corev1.EndpointPort{
					Name: *port.Name, Port: *port.Port, Protocol: *port.Protocol, AppProtocol: port.AppProtocol})
			}
		}
		for _, endpoint := range slice.Endpoints {
			address := corev1.EndpointAddress{
				IP: endpoint.Addresses[0], NodeName: endpoint.NodeName, TargetRef: endpoint.TargetRef}
			if *endpoint.Conditions.Ready {
				subset.Addresses = append(subset.Addresses, address)
			} else {
				subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
			}
		}
		made.Subsets = append(made.Subsets, subset)
	}
	return made
}
