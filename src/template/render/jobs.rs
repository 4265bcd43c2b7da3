//! Scrape jobs. PURE.
//!
//! Input: the agent and the namespace of its pods. Output: jobs over the targets file. Every job has the same frame, into which
//! its source puts what is its own.

use super::digits::{at_least, between};
use super::{Job, identity};
use crate::names;
use crate::template::agent::Agent;
use crate::template::prometheus::{FileSd, Relabel, flow};

/// The agent's own metrics that tell whether it works; everything else would double what a pod costs.
const OWN_METRICS: [&str; 6] = [
    "process_resident_memory_bytes",
    "prometheus_agent_active_series",
    "prometheus_build_info",
    "prometheus_config_last_reload_successful",
    "prometheus_remote_storage_samples_failed_total",
    "prometheus_remote_storage_samples_pending",
];

/// Prometheus 3 refuses responses without a content type, which 2.x took for this.
const FALLBACK_PROTOCOL: &str = "PrometheusText0.0.4";

/// Where an agent may scrape: its own pod.
const OWN_POD: &str = r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?";

/// What one source of jobs puts into the frame.
struct Source {
    name: String,
    /// Which groups of the targets file, what they become, and the author's relabelings.
    relabel_configs: Vec<Relabel>,
    metric_relabel_configs: Vec<Relabel>,
    fallback_scrape_protocol: Option<&'static str>,
}

/// Every job of the agent.
pub(super) fn jobs(agent: &Agent, namespace: &str) -> Vec<Job> {
    let own = agent.self_monitor.then(|| own(agent));
    [annotations(agent)].into_iter().chain(own).map(|source| frame(source, agent, namespace)).collect()
}

/// The pod's hints by annotation.
fn annotations(agent: &Agent) -> Source {
    let mut relabel_configs = vec![Relabel::keep(names::META_SOURCE, names::SOURCE_ANNOTATION)];
    relabel_configs.extend(hinted_times(agent));
    relabel_configs.extend(pod_labels(agent));
    Source {
        name: names::JOB_ANNOTATIONS.to_owned(),
        relabel_configs,
        metric_relabel_configs: Vec::new(),
        fallback_scrape_protocol: Some(FALLBACK_PROTOCOL),
    }
}

/// The agent itself.
fn own(agent: &Agent) -> Source {
    let mut relabel_configs = vec![Relabel::keep(names::META_SOURCE, names::SOURCE_AGENT)];
    relabel_configs.extend(pod_labels(agent));
    Source {
        name: names::JOB_AGENT.to_owned(),
        relabel_configs,
        metric_relabel_configs: vec![Relabel::keep("__name__", OWN_METRICS.join("|"))],
        fallback_scrape_protocol: None,
    }
}

/// The frame of every job: it begins by taking interval and timeout back from the target's labels, and ends, behind all that
/// the author wrote, with keeping the agent inside its pod.
fn frame(source: Source, agent: &Agent, namespace: &str) -> Job {
    let global = &agent.config.global;
    let mut relabel_configs = vec![
        Relabel::set("__scrape_interval__", global.scrape_interval.to_string()),
        Relabel::set("__scrape_timeout__", global.scrape_timeout.to_string()),
    ];
    relabel_configs.extend(source.relabel_configs);
    let mut metric_relabel_configs = source.metric_relabel_configs;
    if let Some(label) = &agent.config.enforced_namespace_label {
        // A namespace is a DNS label: nothing in it would be expanded as a group.
        relabel_configs.push(Relabel::set(label, namespace));
        metric_relabel_configs.push(Relabel::set(label, namespace));
    }
    relabel_configs.push(Relabel::keep("__address__", OWN_POD));
    metric_relabel_configs.push(identity::drop_internal());
    Job {
        job_name: source.name,
        honor_timestamps: agent.config.honor_timestamps,
        file_sd_configs: vec![FileSd { files: flow([names::TARGETS_GLOB]) }],
        fallback_scrape_protocol: source.fallback_scrape_protocol,
        limits: agent.config.job_limits.clone(),
        relabel_configs,
        metric_relabel_configs,
    }
}

/// Takes over hinted times where they are not shorter than the template's. A longer timeout needs a longer interval beside it,
/// since Prometheus does not scrape a target whose timeout is above its interval.
fn hinted_times(agent: &Agent) -> [Relabel; 3] {
    let (interval, timeout) =
        (agent.config.global.scrape_interval.millis(), agent.config.global.scrape_timeout.millis());
    let times = [names::META_INTERVAL_MS, names::META_TIMEOUT_MS];
    let both = format!("(?:{});({})", at_least(interval), at_least(timeout));
    let interval_alone = format!("({})", at_least(interval));
    let timeout_alone = format!("({})", between(timeout, interval));
    [
        Relabel::replace([names::META_INTERVAL_MS], interval_alone, "__scrape_interval__", "${1}ms"),
        Relabel::replace([names::META_TIMEOUT_MS], timeout_alone, "__scrape_timeout__", "${1}ms"),
        Relabel::replace(times, both, "__scrape_timeout__", "${1}ms"),
    ]
}

/// Labels of the pod as upstream writes them for its monitors.
fn pod_labels(agent: &Agent) -> Vec<Relabel> {
    let fixed = [
        Relabel::copy("__meta_kubernetes_namespace", "namespace"),
        Relabel::copy("__meta_kubernetes_pod_container_name", "container"),
        Relabel::copy(names::POD_NAME.meta_label, "pod"),
    ];
    let labels = agent.config.pod_target_labels.iter().map(|label| {
        Relabel::replace([format!("__meta_kubernetes_pod_label_{label}").as_str()], "(.+)", label, "${1}")
    });
    fixed.into_iter().chain(labels).collect()
}
