package main

import (
	"encoding/json"
	"log/slog"
	"os"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/scrape"
)

type labelArguments struct {
	// Config is a prometheus.yml.
	Config string `json:"config"`
	// Pods for kubernetes_sd_configs.
	Pods []json.RawMessage `json:"pods"`
	// Services for kubernetes_sd_configs with role endpoints or endpointslice.
	Services []json.RawMessage `json:"services"`
	// Files for file_sd_configs: content by path.
	Files map[string]string `json:"files"`
	// Env of the agent, for external labels.
	Env map[string]string `json:"env"`
	// Series that each target exposes.
	Series []map[string]string `json:"series"`
	// Reports are names of the series that a scrape says of itself; "up" where there are none.
	Reports []string `json:"reports"`
}

type labelResult struct {
	Targets []labelledTarget `json:"targets"`
	// Failures of targets that cannot be scraped.
	Failures []string `json:"failures"`
}

type labelledTarget struct {
	Job string `json:"job"`
	// Discovered labels, before relabeling.
	Discovered map[string]string `json:"discovered"`
	// Labels after relabeling; absent if the target was dropped.
	Labels map[string]string `json:"labels,omitempty"`
	URL    string            `json:"url,omitempty"`
	// Series in the order of the request, then the reports.
	Series []labelledSeries `json:"series,omitempty"`
}

type labelledSeries struct {
	// Stored labels; absent if metric relabeling dropped the series.
	Stored map[string]string `json:"stored,omitempty"`
	// Sent labels per remote write; null where write relabeling dropped the series.
	Sent []map[string]string `json:"sent,omitempty"`
}

// labelSeries follows series from discovery to remote write through a configuration.
func labelSeries(arguments labelArguments) (*labelResult, error) {
	for name, value := range arguments.Env {
		if err := os.Setenv(name, value); err != nil {
			return nil, at("env", err)
		}
		defer os.Unsetenv(name)
	}
	config, err := promconfig.Load(arguments.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, at("config", err)
	}
	jobs, err := config.GetScrapeConfigs()
	if err != nil {
		return nil, at("config", err)
	}
	pods, err := readPods(arguments.Pods)
	if err != nil {
		return nil, err
	}
	if len(arguments.Reports) == 0 {
		arguments.Reports = []string{"up"}
	}
	services, err := readServices(arguments.Services)
	if err != nil {
		return nil, err
	}
	result := &labelResult{Targets: []labelledTarget{}, Failures: []string{}}
	builder := labels.NewBuilder(labels.EmptyLabels())
	for _, job := range jobs {
		groups, err := jobGroups(job, pods, services, arguments.Files)
		if err != nil {
			return nil, at("discovery of job "+job.JobName, err)
		}
		for _, group := range groups {
			targets, failures := scrape.TargetsFromGroup(group, job, nil, builder)
			for _, failure := range failures {
				result.Failures = append(result.Failures, failure.Error())
			}
			for _, target := range targets {
				result.Targets = append(result.Targets, labelTarget(config, job, target, builder, arguments))
			}
		}
	}
	return result, nil
}

func labelTarget(
	config *promconfig.Config, job *promconfig.ScrapeConfig, target *scrape.Target, builder *labels.Builder,
	arguments labelArguments,
) labelledTarget {
	labelled := labelledTarget{Job: job.JobName, Discovered: target.DiscoveredLabels(builder).Map()}
	final := target.Labels(builder)
	if final.IsEmpty() {
		return labelled
	}
	labelled.Labels = final.Map()
	labelled.URL = target.URL().String()
	for _, series := range arguments.Series {
		stored := mutateSampleLabels(labels.FromMap(series), target, job.HonorLabels, job.MetricRelabelConfigs)
		labelled.Series = append(labelled.Series, send(config, stored))
	}
	for _, name := range arguments.Reports {
		report := mutateReportSampleLabels(labels.FromStrings(labels.MetricName, name), target)
		labelled.Series = append(labelled.Series, send(config, report))
	}
	return labelled
}

// send gives the labels of a stored series at each receiver.
func send(config *promconfig.Config, stored labels.Labels) labelledSeries {
	if stored.IsEmpty() {
		return labelledSeries{}
	}
	var external []labels.Label
	config.GlobalConfig.ExternalLabels.Range(func(label labels.Label) { external = append(external, label) })
	sent := labelledSeries{Stored: stored.Map()}
	for _, receiver := range config.RemoteWriteConfigs {
		builder := labels.NewBuilder(stored)
		processExternalLabels(builder, external)
		if relabel.ProcessBuilder(builder, receiver.WriteRelabelConfigs...) {
			sent.Sent = append(sent.Sent, builder.Labels().Map())
		} else {
			sent.Sent = append(sent.Sent, nil)
		}
	}
	return sent
}
