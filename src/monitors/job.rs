//! From one monitor to its scrape jobs, or every violation at once. PURE.
//!
//! Input: a monitor and the agent that would run it. Output: [`Checked`]: upstream's job for each endpoint with our targets
//! file in place of pod discovery, and what it needs.

use std::collections::BTreeSet;

use super::api::{IntOrString, PodMetricsEndpoint, PodMonitorSpec};
use super::doubts::{self, Authored};
use super::object::{Kind, MonitorId};
use super::podmonitor::PodMonitor;
use super::{endpoint, selector};
use crate::names;
use crate::template::agent::{Agent, FileReference, IgnoredField, ScrapeClass};
use crate::template::duration::PromDuration;
use crate::template::prometheus::{Histograms, Limits, Relabel, ScrapeConfig};
use crate::template::quantity::Quantity;
use crate::template::render::jobs::{Times, frame};
use crate::template::validate::credentials::Needs;
use crate::template::validate::global::{PROTOCOLS, legacy_names, protocols};
use crate::template::validate::{classes, relabel, text};
use crate::template::version::Capability;
use crate::template::violation::{Findings, Path, Rule, Violation, Warning};

/// Where upstream keeps the name of its job, for relabelings.
pub(super) const JOB_NAME: &str = "__tmp_prometheus_job_name";
const MECHANISMS: &[&str] = &["RelabelConfig", "RoleSelector"];

/// A monitor that passed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checked {
    /// One a endpoint, in their order.
    pub(super) jobs: Vec<ScrapeConfig>,
    /// Files of the jobs, none of which an agent needs to run.
    pub(super) files: BTreeSet<FileReference>,
    /// Fields that refer to Secrets and `ConfigMap`s of the monitor's namespace.
    pub(super) references: Vec<Path>,
    /// Sorted by path.
    pub(super) ignored: Vec<IgnoredField>,
    /// Sorted by path.
    pub(super) warnings: Vec<Warning>,
}

/// A monitor of either kind, as far as both are the same.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a MonitorId,
    /// Of a `ServiceMonitor`, its fields of the same names.
    pub(super) spec: &'a PodMonitorSpec,
    pub(super) misread: &'a [Violation],
    pub(super) ignored: &'a [IgnoredField],
}

/// The job of an endpoint, but for where its targets come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    /// Its relabelings are upstream's alone, those before the class's and the author's.
    job: ScrapeConfig,
    /// The class's, then the author's.
    pub(super) authored: Vec<Relabel>,
    times: (PromDuration, PromDuration),
    held: Times,
    enforced: Option<(String, String)>,
}

impl Draft {
    /// The whole job; `first` are rules that choose and prepare its targets.
    pub(super) fn framed(&self, job_name: String, first: Vec<Relabel>) -> ScrapeConfig {
        let relabel_configs = first.into_iter().chain(self.rules().cloned()).collect();
        let job = ScrapeConfig { job_name, relabel_configs, ..self.job.clone() };
        let enforced = self.enforced.as_ref().map(|(label, value)| (label.as_str(), value.as_str()));
        frame(job, self.times, enforced, self.held)
    }

    /// Every relabeling but those of the frame.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Relabel> {
        self.job.relabel_configs.iter().chain(&self.authored)
    }
}

/// Checks a `PodMonitor` for an agent, whatever the namespace of its pods.
pub(super) fn check(agent: &Agent, monitor: &PodMonitor) -> Result<Checked, Vec<Violation>> {
    let PodMonitor { id, spec, misread, ignored, .. } = monitor;
    let subject = Subject { kind: Kind::Pod, id, spec, misread, ignored };
    let (checked, drafts) = drafts(agent, &subject, |common, (endpoint, path), findings| {
        relabelings(id, common, (endpoint, path), findings)
    })?;
    let jobs =
        drafts.iter().enumerate().map(|(index, draft)| draft.framed(job_name(&subject, index), Vec::new()));
    Ok(Checked { jobs: jobs.collect(), ..checked })
}

/// Upstream's name of a job.
pub(super) fn job_name(subject: &Subject<'_>, index: usize) -> String {
    let Subject { kind, id, .. } = subject;
    format!("{}/{}/{}/{index}", kind.job_prefix(), id.namespace, id.name)
}

/// Checks a monitor of either kind; `before` gives the relabelings that upstream puts before those of the class and the author.
/// The result has no jobs yet.
pub(super) fn drafts(
    agent: &Agent,
    subject: &Subject<'_>,
    before: impl Fn(&Common, (&PodMetricsEndpoint, &Path), &mut Findings) -> Vec<Relabel>,
) -> Result<(Checked, Vec<Draft>), Vec<Violation>> {
    let mut findings = Findings {
        violations: subject.misread.to_vec(),
        ignored: subject.ignored.to_vec(),
        warnings: Vec::new(),
    };
    let mut needs = Needs::of_monitor();
    let root = Path::root("spec");
    let common = common(agent, subject, &root, &mut findings);
    let endpoints = root.key(subject.kind.endpoints());
    let mut drafts = Vec::new();
    let mut references = Vec::new();
    for (index, endpoint) in subject.spec.pod_metrics_endpoints.iter().enumerate() {
        let path = endpoints.index(index);
        references.extend(endpoint.references().into_iter().map(|name| path.key(name)));
        let before = before(&common, (endpoint, &path), &mut findings);
        drafts.push(draft(agent, subject, &common, (endpoint, &path), (before, &mut needs, &mut findings)));
    }
    if drafts.is_empty() {
        findings.warning(&endpoints, "is empty: nothing is scraped");
    }
    let Findings { mut violations, mut ignored, mut warnings } = findings;
    if !violations.is_empty() {
        violations.sort();
        violations.dedup();
        return Err(violations);
    }
    ignored.sort();
    ignored.dedup();
    warnings.sort();
    let files = needs.files.into_iter().map(|file| FileReference { essential: false, ..file }).collect();
    Ok((Checked { jobs: Vec::new(), files, references, ignored, warnings }, drafts))
}

/// What all endpoints of a monitor share.
pub(super) struct Common {
    /// Which pods, of a `PodMonitor`.
    selection: Vec<Relabel>,
    /// Labels of the pod that become labels of the target.
    pub(super) pod_labels: Vec<Relabel>,
    pub(super) job_label: Option<String>,
    limits: Limits,
    histograms: Histograms,
    fallback: Option<&'static str>,
    class: ScrapeClass,
}

fn common(agent: &Agent, subject: &Subject<'_>, root: &Path, findings: &mut Findings) -> Common {
    let spec = subject.spec;
    let mechanism = root.key("selectorMechanism");
    text::choice(spec.selector_mechanism.as_deref(), MECHANISMS, MECHANISMS, &mechanism, findings);
    match &spec.selector {
        Some(selector) => selector::check(selector, &root.key("selector"), findings),
        None => findings.violation_at(&root.key("selector"), Rule::Required),
    }
    let class = scrape_class(agent, spec, root, findings);
    let fallback = spec.fallback_scrape_protocol.as_deref();
    let fallback =
        text::choice(fallback, PROTOCOLS, PROTOCOLS, &root.key("fallbackScrapeProtocol"), findings);
    Common {
        selection: spec.selector.as_ref().map(selector::rules).unwrap_or_default(),
        pod_labels: pod_labels(agent, spec, root, findings),
        job_label: text::optional_line(spec.job_label.as_deref(), &root.key("jobLabel"), findings),
        limits: limits(agent, spec, root, findings),
        histograms: histograms(agent, spec, root, findings),
        fallback: fallback.or(class.fallback_scrape_protocol),
        class,
    }
}

/// The class that the monitor names, or the template's default; nothing where there is none.
fn scrape_class(agent: &Agent, spec: &PodMonitorSpec, root: &Path, findings: &mut Findings) -> ScrapeClass {
    let classes = &agent.config.scrape_classes;
    let path = root.key("scrapeClass");
    let named = spec.scrape_class.as_deref().filter(|name| !name.is_empty());
    let class = match named {
        Some(name) => classes.iter().find(|class| class.name == name),
        None => classes.iter().find(|class| class.default),
    };
    if let (Some(name), None) = (named, class) {
        let rule = Rule::Other {
            rule: "is not a scrape class of the template",
            fix: "name one of spec.scrapeClasses of the template, or remove it",
        };
        findings.violation(&path, name, rule);
    }
    findings.violations.extend(class.into_iter().flat_map(classes::refusals));
    class.cloned().unwrap_or_default()
}

fn draft(
    agent: &Agent,
    subject: &Subject<'_>,
    common: &Common,
    (endpoint, path): (&PodMetricsEndpoint, &Path),
    (before, needs, findings): (Vec<Relabel>, &mut Needs, &mut Findings),
) -> Draft {
    let template = &agent.spec;
    let legacy = legacy_names(template);
    let keys = endpoint::job(endpoint, path, &common.class, needs, findings);
    let times = endpoint::times(&keys, agent, path, findings);
    let (targets_path, metrics_path) = (path.key("relabelings"), path.key("metricRelabelings"));
    let targets = relabel::relabelings(&endpoint.relabelings, legacy, &targets_path, findings);
    let metrics = relabel::relabelings(&endpoint.metric_relabelings, legacy, &metrics_path, findings);
    let mut authored = common.class.relabel_configs.clone();
    let theirs: Vec<_> = before.iter().chain(&authored).cloned().collect();
    let report =
        Authored { before: &theirs, targets: (&targets, targets_path), metrics: (&metrics, metrics_path) };
    doubts::report(&report, findings);
    authored.extend(targets);
    let overridden = template.override_honor_timestamps == Some(true);
    let job = ScrapeConfig {
        honor_labels: Some(
            endpoint.honor_labels == Some(true) && template.override_honor_labels != Some(true),
        ),
        honor_timestamps: if overridden { Some(false) } else { endpoint.honor_timestamps },
        scrape_protocols: protocols(
            &subject.spec.scrape_protocols,
            &Path::root("spec").key("scrapeProtocols"),
            findings,
        ),
        fallback_scrape_protocol: common.fallback,
        limits: common.limits.clone(),
        histograms: common.histograms.clone(),
        relabel_configs: before,
        metric_relabel_configs: common.class.metric_relabel_configs.iter().cloned().chain(metrics).collect(),
        ..keys
    };
    // Upstream's value, whichever namespace the pods are in.
    let label = agent.config.enforced_namespace_label.clone().filter(|_| !is_excluded(agent, subject));
    // Not by target label: a labelmap, or a target label with groups, would be missed.
    let held = if agent.guard_rails.min_scrape_interval.is_some() { Times::Held } else { Times::Hinted };
    Draft { job, authored, times, held, enforced: label.map(|label| (label, subject.id.namespace.clone())) }
}

/// Whether the template leaves the monitor out of enforcement. Entries without a namespace count for nothing, as upstream.
fn is_excluded(agent: &Agent, subject: &Subject<'_>) -> bool {
    agent.spec.excluded_from_enforcement.iter().any(|excluded| {
        let upstream = excluded.group.is_empty() || excluded.group == "monitoring.coreos.com";
        upstream
            && excluded.resource == subject.kind.resource()
            && !excluded.namespace.is_empty()
            && excluded.namespace == subject.id.namespace
            && (excluded.name.is_empty() || excluded.name == subject.id.name)
    })
}

/// Upstream's relabelings before the author's, over the groups that pod discovery would have made.
fn relabelings(
    id: &MonitorId,
    common: &Common,
    (endpoint, path): (&PodMetricsEndpoint, &Path),
    findings: &mut Findings,
) -> Vec<Relabel> {
    let mut rules = vec![Relabel::drop(names::META_SOURCE, ".+"), Relabel::copy("job", JOB_NAME)];
    rules.extend(running(endpoint));
    rules.extend(common.selection.iter().cloned());
    let (keep, label) = port(endpoint, path, findings);
    rules.extend(keep);
    rules.push(Relabel::copy("__meta_kubernetes_namespace", "namespace"));
    rules.push(Relabel::copy("__meta_kubernetes_pod_container_name", "container"));
    rules.push(Relabel::copy(names::POD_NAME.meta_label, "pod"));
    rules.extend(common.pod_labels.iter().cloned());
    rules.push(Relabel::set("job", id.to_string()));
    rules.extend(common.job_label.as_deref().map(|label| pod_label(&selector::sanitise(label), "job")));
    rules.extend(label.map(|label| Relabel::set("endpoint", label)));
    rules
}

/// The filter of pods that still run, unless the endpoint says otherwise.
pub(super) fn running(endpoint: &PodMetricsEndpoint) -> Option<Relabel> {
    let is_filtered = endpoint.filter_running != Some(false);
    is_filtered.then(|| Relabel::drop("__meta_kubernetes_pod_phase", "(Failed|Succeeded)"))
}

/// Rules that leave to the monitor the ports that it scrapes, for the job over the hints of pods.
pub(super) fn hinted(monitor: &PodMonitor) -> Vec<Relabel> {
    let Some(pods) = &monitor.spec.selector else { return Vec::new() };
    let endpoints = monitor.spec.pod_metrics_endpoints.iter();
    let port = |endpoint| port(endpoint, &Path::root("spec"), &mut Findings::default()).0;
    // It scrapes declared ports alone.
    endpoints
        .flat_map(|endpoint| {
            let rules = selector::rules(pods).into_iter().chain([selector::declared()]).chain(port(endpoint));
            selector::drops(rules)
        })
        .collect()
}

/// The rule that keeps the endpoint's port, and the value of the label `endpoint`. Upstream takes the first of three fields
/// for the one, and for the other knows two of them.
pub(super) fn port(
    endpoint: &PodMetricsEndpoint,
    path: &Path,
    findings: &mut Findings,
) -> (Option<Relabel>, Option<String>) {
    let by_name = |name: &str| Relabel::keep("__meta_kubernetes_pod_container_port_name", name);
    let by_number =
        |number: i64| Relabel::keep("__meta_kubernetes_pod_container_port_number", number.to_string());
    let port = endpoint.port.as_deref().filter(|port| !port.is_empty());
    let target = endpoint.target_port.as_ref();
    if let Some(port) = port {
        endpoint::port_name(port, &path.key("port"), findings);
    }
    if let Some(IntOrString::Text(name)) = target {
        endpoint::port_name(name, &path.key("targetPort"), findings);
    }
    if let Some(number) = endpoint.port_number.filter(|number| !(1..=65535).contains(number)) {
        let rule = Rule::Text("is not the number of a port, 1 to 65535");
        findings.violation(&path.key("portNumber"), number.to_string(), rule);
    }
    let keep = match (port, endpoint.port_number, target) {
        (Some(port), ..) => Some(by_name(port)),
        (None, Some(number), _) => Some(by_number(number)),
        (None, None, Some(IntOrString::Text(name))) if !name.is_empty() => Some(by_name(name)),
        (None, None, Some(IntOrString::Int(number))) if *number != 0 => Some(by_number(*number)),
        _ => None,
    };
    let label = port.map(str::to_owned).or_else(|| target.map(ToString::to_string));
    (keep, label.filter(|label| !label.is_empty()))
}

fn pod_label(label: &str, target: &str) -> Relabel {
    object_label("pod", label, target)
}

/// The label of an object, where it has one, as a label of the target.
pub(super) fn object_label(object: &str, label: &str, target: &str) -> Relabel {
    Relabel::replace([format!("__meta_kubernetes_{object}_label_{label}").as_str()], "(.+)", target, "${1}")
}

/// The monitor's labels, then the template's.
fn pod_labels(agent: &Agent, spec: &PodMonitorSpec, root: &Path, findings: &mut Findings) -> Vec<Relabel> {
    let own = target_labels(agent, &spec.pod_target_labels, &root.key("podTargetLabels"), findings);
    own.iter().chain(&agent.config.pod_target_labels).map(|label| pod_label(label, label)).collect()
}

/// Labels of objects as discovery spells them, each of which becomes a label of series.
pub(super) fn target_labels(
    agent: &Agent,
    written: &[String],
    path: &Path,
    findings: &mut Findings,
) -> Vec<String> {
    let legacy = legacy_names(&agent.spec);
    let labels: Vec<_> = written.iter().map(|label| selector::sanitise(label)).collect();
    for (index, (label, written)) in labels.iter().zip(written).enumerate() {
        if !text::is_label_name(label, legacy) {
            let rule = Rule::Text("is not the name of a label that can be a label of series");
            findings.violation(&path.index(index), written, rule);
        }
    }
    labels
}

/// Upstream's rule: the monitor's limit, unless an enforced one is lower. An enforced one alone stands in `global`.
fn limits(agent: &Agent, spec: &PodMonitorSpec, root: &Path, findings: &mut Findings) -> Limits {
    let template = &agent.spec;
    let limit = |own: Option<u64>, enforced: Option<u64>| match enforced.filter(|enforced| *enforced != 0) {
        None => own,
        Some(enforced) => own.filter(|own| *own != 0).map(|own| own.min(enforced)),
    };
    let path = root.key("bodySizeLimit");
    let own = spec.body_size_limit.as_deref().filter(|size| !size.is_empty());
    let bytes = own.and_then(text::byte_size);
    if let (Some(own), None) = (own, bytes) {
        findings.violation(&path, own, Rule::ByteSize);
    }
    let enforced = agent.config.job_limits.body_size_limit.as_deref();
    let body = match (bytes, enforced.and_then(text::byte_size)) {
        (Some(own), Some(enforced)) if own > enforced => agent.config.job_limits.body_size_limit.clone(),
        (Some(_), _) => own.map(str::to_owned),
        (None, _) => enforced.map(str::to_owned),
    };
    Limits {
        body_size_limit: body,
        sample_limit: limit(spec.sample_limit, template.enforced_sample_limit),
        target_limit: limit(spec.target_limit, template.enforced_target_limit),
        label_limit: limit(spec.label_limit, template.enforced_label_limit),
        label_name_length_limit: limit(
            spec.label_name_length_limit,
            template.enforced_label_name_length_limit,
        ),
        label_value_length_limit: limit(
            spec.label_value_length_limit,
            template.enforced_label_value_length_limit,
        ),
        keep_dropped_targets: limit(spec.keep_dropped_targets, template.enforced_keep_dropped_targets),
    }
}

fn histograms(agent: &Agent, spec: &PodMonitorSpec, root: &Path, findings: &mut Findings) -> Histograms {
    let native = Capability::ScrapeNativeHistograms;
    let mut scrape_native_histograms = spec.scrape_native_histograms;
    if scrape_native_histograms.is_some() && !agent.version.has(native) {
        findings.too_new(&root.key("scrapeNativeHistograms"), native.since(), agent.version);
        scrape_native_histograms = None;
    }
    let factor = spec.native_histogram_min_bucket_factor.as_ref().map(|text| text.0.as_str());
    let parsed = factor.and_then(Quantity::parse);
    if let (Some(factor), None) = (factor, parsed) {
        findings.violation(&root.key("nativeHistogramMinBucketFactor"), factor, Rule::Quantity);
    }
    Histograms {
        scrape_native_histograms,
        native_histogram_bucket_limit: spec.native_histogram_bucket_limit,
        native_histogram_min_bucket_factor: parsed.map(Quantity::approximate),
        always_scrape_classic_histograms: spec.scrape_classic_histograms,
        convert_classic_histograms_to_nhcb: spec.convert_classic_histograms_to_nhcb,
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
