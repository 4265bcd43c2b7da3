package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	"github.com/prometheus-operator/prometheus-operator/pkg/operator"
	prometheusoperator "github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

type configArguments struct {
	// Objects: one PrometheusAgent, its monitors, and the Namespaces, Secrets and ConfigMaps that they need.
	Objects []json.RawMessage `json:"objects"`
	// DaemonSet generates for an agent on every node instead of one for all.
	DaemonSet bool `json:"daemonSet"`
}

type configResult struct {
	// Config is a prometheus.yml.
	Config string `json:"config"`
	// Selected monitors as kind/namespace/name.
	Selected []string `json:"selected"`
	// Rejected monitors with upstream's message.
	Rejected map[string]string `json:"rejected"`
	// Warnings that the operator logs, such as for fields that it leaves out.
	Warnings []string `json:"warnings"`
	// Arguments of the agent's container.
	Arguments []string `json:"arguments"`
	// Objects that are mounted as a whole, as kind/name by path.
	Objects map[string]string `json:"objects"`
}

// Series of the operator about itself; nobody reads them.
var operatorMetrics = operator.NewMetrics(prometheus.NewRegistry())

// generateConfig generates an agent's configuration as the operator's controller does.
func generateConfig(arguments configArguments) (*configResult, error) {
	cluster, err := readCluster(arguments.Objects)
	if err != nil {
		return nil, at("objects", err)
	}
	if cluster.agent.Spec.ScrapeInterval == "" {
		// The definition's default, without which the generator makes another configuration.
		cluster.agent.Spec.ScrapeInterval = "30s"
	}
	result := &configResult{Selected: []string{}, Rejected: map[string]string{}, Warnings: []string{}}
	logger := slog.New(&warningLog{lines: &result.Warnings})
	// Every cluster that we know of has EndpointSlices.
	options := []prometheusoperator.ConfigGeneratorOption{prometheusoperator.WithEndpointSliceSupport()}
	if arguments.DaemonSet {
		options = append(options, prometheusoperator.WithDaemonSet())
	}
	generator, err := prometheusoperator.NewConfigGenerator(logger, cluster.agent, options...)
	if err != nil {
		return nil, at("generator", err)
	}
	store := assets.NewStoreBuilder(cluster.client.CoreV1(), cluster.client.CoreV1())
	selected, err := selectMonitors(cluster, store, logger, result)
	if err != nil {
		return nil, at("select", err)
	}
	additional, err := loadReferences(cluster, store, generator)
	if err != nil {
		return nil, err
	}
	config, err := generator.GenerateAgentConfiguration(selected.services.ValidResources(), selected.pods.ValidResources(),
		selected.probes.ValidResources(), selected.scrapeConfigs.ValidResources(), store, additional)
	if err != nil {
		return nil, at("generate", err)
	}
	result.Config = string(config)
	if err := agentContainer(generator, cluster.agent, result); err != nil {
		return nil, err
	}
	return result, nil
}

type selection struct {
	services      operator.TypedResourcesSelection[*monitoringv1.ServiceMonitor]
	pods          operator.TypedResourcesSelection[*monitoringv1.PodMonitor]
	probes        operator.TypedResourcesSelection[*monitoringv1.Probe]
	scrapeConfigs operator.TypedResourcesSelection[*monitoringv1alpha1.ScrapeConfig]
}

func selectMonitors(
	cluster *cluster, store *assets.StoreBuilder, logger *slog.Logger, result *configResult,
) (*selection, error) {
	ctx := context.Background()
	// A recorder per request: it blocks once it is full.
	recorder := operator.NewFakeRecorder(1000, cluster.agent)
	selector, err := prometheusoperator.NewResourceSelector(
		logger, cluster.agent, store, cluster.namespaces, operatorMetrics, recorder)
	if err != nil {
		return nil, err
	}
	list := func(kind string) prometheusoperator.ListAllByNamespaceFn {
		return func(namespace string, selector labels.Selector, each cache.AppendFunc) error {
			return cache.ListAllByNamespace(cluster.monitors[kind], namespace, selector, each)
		}
	}
	selected := &selection{}
	if selected.services, err = selector.SelectServiceMonitors(ctx, list("ServiceMonitor")); err != nil {
		return nil, err
	}
	if selected.pods, err = selector.SelectPodMonitors(ctx, list("PodMonitor")); err != nil {
		return nil, err
	}
	if selected.probes, err = selector.SelectProbes(ctx, list("Probe")); err != nil {
		return nil, err
	}
	if selected.scrapeConfigs, err = selector.SelectScrapeConfigs(ctx, list("ScrapeConfig")); err != nil {
		return nil, err
	}
	note(result, "ServiceMonitor", selected.services)
	note(result, "PodMonitor", selected.pods)
	note(result, "Probe", selected.probes)
	note(result, "ScrapeConfig", selected.scrapeConfigs)
	slices.Sort(result.Selected)
	return selected, nil
}

// note tells which monitors were taken, and why others were not.
func note[T operator.ConfigurationResource](
	result *configResult, kind string, selected operator.TypedResourcesSelection[T],
) {
	valid := selected.ValidResources()
	for key, resource := range selected {
		name := kind + "/" + key
		if _, taken := valid[key]; taken {
			result.Selected = append(result.Selected, name)
			continue
		}
		result.Rejected[name] = ""
		for _, condition := range resource.Conditions() {
			result.Rejected[name] = condition.Message
		}
	}
}

// loadReferences reads what the agent's spec refers to into the store. Gives the additional scrape configurations.
func loadReferences(
	cluster *cluster, store *assets.StoreBuilder, generator *prometheusoperator.ConfigGenerator,
) ([]byte, error) {
	ctx, namespace, spec := context.Background(), cluster.agent.Namespace, &cluster.agent.Spec
	if err := generator.AddRemoteWriteToStore(ctx, store, namespace, spec.RemoteWrite); err != nil {
		return nil, at("remote-write", err)
	}
	if err := prometheusoperator.AddAPIServerConfigToStore(ctx, store, namespace, spec.APIServerConfig); err != nil {
		return nil, at("api-server", err)
	}
	if err := prometheusoperator.AddScrapeClassesToStore(ctx, store, namespace, spec.ScrapeClasses); err != nil {
		return nil, at("scrape-classes", err)
	}
	if spec.AdditionalScrapeConfigs == nil {
		return nil, nil
	}
	additional, err := store.GetSecretKey(ctx, namespace, *spec.AdditionalScrapeConfigs)
	if err != nil {
		return nil, at("additional-scrape-configs", err)
	}
	return []byte(additional), nil
}

// warningLog keeps warnings and errors as lines.
type warningLog struct {
	lines      *[]string
	attributes []slog.Attr
}

func (w *warningLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (w *warningLog) Handle(_ context.Context, record slog.Record) error {
	line := record.Message
	add := func(attribute slog.Attr) bool {
		line += " " + attribute.String()
		return true
	}
	for _, attribute := range w.attributes {
		add(attribute)
	}
	record.Attrs(add)
	*w.lines = append(*w.lines, line)
	return nil
}

func (w *warningLog) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &warningLog{lines: w.lines, attributes: slices.Concat(w.attributes, attributes)}
}

func (w *warningLog) WithGroup(string) slog.Handler { return w }
