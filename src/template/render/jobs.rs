//! Scrape jobs. PURE.
//!
//! Input: the agent and the namespace of its pods. Output: jobs over the targets file. Every job has the same frame, into which
//! its source puts what is its own.

use super::digits::{at_least, between};
use super::{Job, identity};
use crate::names;
use crate::template::agent::Agent;
use crate::template::duration::PromDuration;
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

/// How it may scrape. Prometheus takes any text for a scheme and writes it unescaped before the address, so that another one
/// would make a host of its own. `HTTPS` works as `https` does.
const SCHEMES: &str = "(?i)https?";

/// Every job of the agent but those of monitors; `hinted` are rules for the pod's hints.
pub(super) fn jobs(agent: &Agent, namespace: &str, hinted: &[Relabel]) -> Vec<Job> {
    let own = agent.self_monitor.then(|| own(agent));
    let global = &agent.config.global;
    let times = (global.scrape_interval, global.scrape_timeout);
    // A namespace is a DNS label: nothing in it would be expanded as a group.
    let enforced = agent.config.enforced_namespace_label.as_deref().map(|label| (label, namespace));
    let framed = |job| Job {
        honor_timestamps: agent.config.honor_timestamps,
        limits: agent.config.job_limits.clone(),
        ..frame(job, times, enforced, Times::Hinted)
    };
    [annotations(agent, hinted)].into_iter().chain(own).map(framed).collect()
}

/// The pod's hints by annotation, where no monitor says what to scrape.
fn annotations(agent: &Agent, hinted: &[Relabel]) -> Job {
    let mut relabel_configs = vec![Relabel::keep(names::META_SOURCE, names::SOURCE_ANNOTATION)];
    relabel_configs.extend_from_slice(hinted);
    relabel_configs.extend(hinted_times(agent));
    relabel_configs.extend(pod_labels(agent));
    Job {
        job_name: names::JOB_ANNOTATIONS.to_owned(),
        relabel_configs,
        fallback_scrape_protocol: Some(FALLBACK_PROTOCOL),
        ..Job::default()
    }
}

/// The agent itself.
fn own(agent: &Agent) -> Job {
    let mut relabel_configs = vec![Relabel::keep(names::META_SOURCE, names::SOURCE_AGENT)];
    relabel_configs.extend(pod_labels(agent));
    Job {
        job_name: names::JOB_AGENT.to_owned(),
        metrics_path: agent.metrics_path.clone(),
        relabel_configs,
        metric_relabel_configs: vec![Relabel::keep("__name__", OWN_METRICS.join("|"))],
        ..Job::default()
    }
}

/// Who decides interval and timeout of a job's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// The job, unless its relabelings say otherwise, as upstream.
    Hinted,
    /// The job alone: the platform bounds how often agents scrape.
    Held,
}

/// The frame of every job: it begins by taking interval and timeout back from the target's labels, and ends, behind all that
/// the author wrote, with keeping the agent inside its pod. `job` holds what its source puts in; `enforced` is a label with
/// the value that every series has to carry.
pub(crate) fn frame(
    job: Job,
    (interval, timeout): (PromDuration, PromDuration),
    enforced: Option<(&str, &str)>,
    times: Times,
) -> Job {
    let stated = [
        Relabel::set("__scrape_interval__", interval.to_string()),
        Relabel::set("__scrape_timeout__", timeout.to_string()),
    ];
    let mut relabel_configs = stated.to_vec();
    relabel_configs.extend(job.relabel_configs);
    let mut metric_relabel_configs = job.metric_relabel_configs;
    if let Some((label, value)) = enforced {
        relabel_configs.push(Relabel::set(label, value));
        metric_relabel_configs.push(Relabel::set(label, value));
    }
    if times == Times::Held {
        relabel_configs.extend(stated);
    }
    relabel_configs.push(Relabel::keep("__scheme__", SCHEMES));
    relabel_configs.push(Relabel::keep("__address__", OWN_POD));
    metric_relabel_configs.push(identity::drop_internal());
    let file_sd_configs = vec![FileSd { files: flow([names::TARGETS_GLOB]) }];
    Job { file_sd_configs, relabel_configs, metric_relabel_configs, ..job }
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
