//! From one monitor to its scrape jobs, or every violation at once. PURE.
//!
//! Input: a monitor and the agent that would run it. Output: [`Checked`]: upstream's job for each endpoint with our targets
//! file in place of pod discovery, and what it needs.

use std::collections::BTreeSet;

use super::api::{IntOrString, PodMetricsEndpoint, PodMonitorSpec};
use super::doubts::{self, Authored};
use super::podmonitor::PodMonitor;
use super::{endpoint, selector};
use crate::names;
use crate::template::agent::{Agent, FileReference, IgnoredField, ScrapeClass};
use crate::template::prometheus::{Histograms, Limits, Relabel, ScrapeConfig};
use crate::template::quantity::Quantity;
use crate::template::render::jobs::frame;
use crate::template::validate::credentials::Needs;
use crate::template::validate::global::{PROTOCOLS, legacy_names, protocols};
use crate::template::validate::{classes, relabel, text};
use crate::template::version::Capability;
use crate::template::violation::{Findings, Path, Rule, Violation, Warning};

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

/// Checks a monitor for an agent, whatever the namespace of its pods.
pub(super) fn check(agent: &Agent, monitor: &PodMonitor) -> Result<Checked, Vec<Violation>> {
    let mut findings = Findings {
        violations: monitor.misread.clone(),
        ignored: monitor.ignored.clone(),
        warnings: Vec::new(),
    };
    let mut needs = Needs::of_monitor();
    let root = Path::root("spec");
    let common = common(agent, monitor, &root, &mut findings);
    let endpoints = root.key("podMetricsEndpoints");
    let mut jobs = Vec::new();
    let mut references = Vec::new();
    for (index, endpoint) in monitor.spec.pod_metrics_endpoints.iter().enumerate() {
        let path = endpoints.index(index);
        references.extend(endpoint.references().into_iter().map(|name| path.key(name)));
        let job = ScrapeConfig {
            job_name: format!("podMonitor/{}/{}/{index}", monitor.id.namespace, monitor.id.name),
            ..job(agent, monitor, &common, (endpoint, &path), &mut needs, &mut findings)
        };
        jobs.push(job);
    }
    if jobs.is_empty() {
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
    Ok(Checked { jobs, files, references, ignored, warnings })
}

/// What all endpoints of a monitor share.
struct Common {
    /// Which pods.
    selection: Vec<Relabel>,
    /// Labels of the pod that become labels of the target.
    pod_labels: Vec<Relabel>,
    job_label: Option<String>,
    limits: Limits,
    histograms: Histograms,
    fallback: Option<&'static str>,
    class: ScrapeClass,
}

fn common(agent: &Agent, monitor: &PodMonitor, root: &Path, findings: &mut Findings) -> Common {
    let spec = &monitor.spec;
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

fn job(
    agent: &Agent,
    monitor: &PodMonitor,
    common: &Common,
    (endpoint, path): (&PodMetricsEndpoint, &Path),
    needs: &mut Needs,
    findings: &mut Findings,
) -> ScrapeConfig {
    let template = &agent.spec;
    let legacy = legacy_names(template);
    let keys = endpoint::job(endpoint, path, &common.class, needs, findings);
    let times = endpoint::times(&keys, agent, path, findings);
    let mut before = relabelings(monitor, common, (endpoint, path), findings);
    before.extend(common.class.relabel_configs.iter().cloned());
    let (targets_path, metrics_path) = (path.key("relabelings"), path.key("metricRelabelings"));
    let targets = relabel::relabelings(&endpoint.relabelings, legacy, &targets_path, findings);
    let metrics = relabel::relabelings(&endpoint.metric_relabelings, legacy, &metrics_path, findings);
    let authored =
        Authored { before: &before, targets: (&targets, targets_path), metrics: (&metrics, metrics_path) };
    doubts::report(&authored, findings);
    let overridden = template.override_honor_timestamps == Some(true);
    let job = ScrapeConfig {
        honor_labels: Some(
            endpoint.honor_labels == Some(true) && template.override_honor_labels != Some(true),
        ),
        honor_timestamps: if overridden { Some(false) } else { endpoint.honor_timestamps },
        scrape_protocols: protocols(
            &monitor.spec.scrape_protocols,
            &Path::root("spec").key("scrapeProtocols"),
            findings,
        ),
        fallback_scrape_protocol: common.fallback,
        limits: common.limits.clone(),
        histograms: common.histograms.clone(),
        relabel_configs: before.into_iter().chain(targets).collect(),
        metric_relabel_configs: common.class.metric_relabel_configs.iter().cloned().chain(metrics).collect(),
        ..keys
    };
    // Upstream's value, whichever namespace the pods are in.
    let label = agent.config.enforced_namespace_label.as_deref().filter(|_| !is_excluded(agent, monitor));
    frame(job, times, label.map(|label| (label, monitor.id.namespace.as_str())))
}

/// Whether the template leaves the monitor out of enforcement. Entries without a namespace count for nothing, as upstream.
fn is_excluded(agent: &Agent, monitor: &PodMonitor) -> bool {
    agent.spec.excluded_from_enforcement.iter().any(|excluded| {
        let upstream = excluded.group.is_empty() || excluded.group == "monitoring.coreos.com";
        upstream
            && excluded.resource == "podmonitors"
            && !excluded.namespace.is_empty()
            && excluded.namespace == monitor.id.namespace
            && (excluded.name.is_empty() || excluded.name == monitor.id.name)
    })
}

/// Upstream's relabelings before the author's, over the groups that pod discovery would have made.
fn relabelings(
    monitor: &PodMonitor,
    common: &Common,
    (endpoint, path): (&PodMetricsEndpoint, &Path),
    findings: &mut Findings,
) -> Vec<Relabel> {
    let drop = |source: &str, regex: &str| Relabel { action: Some("drop"), ..Relabel::keep(source, regex) };
    let mut rules = vec![drop(names::META_SOURCE, ".+"), Relabel::copy("job", "__tmp_prometheus_job_name")];
    if endpoint.filter_running != Some(false) {
        rules.push(drop("__meta_kubernetes_pod_phase", "(Failed|Succeeded)"));
    }
    rules.extend(common.selection.iter().cloned());
    let (keep, label) = port(endpoint, path, findings);
    rules.extend(keep);
    rules.push(Relabel::copy("__meta_kubernetes_namespace", "namespace"));
    rules.push(Relabel::copy("__meta_kubernetes_pod_container_name", "container"));
    rules.push(Relabel::copy(names::POD_NAME.meta_label, "pod"));
    rules.extend(common.pod_labels.iter().cloned());
    rules.push(Relabel::set("job", monitor.id.to_string()));
    rules.extend(common.job_label.as_deref().map(|label| pod_label(&selector::sanitise(label), "job")));
    rules.extend(label.map(|label| Relabel::set("endpoint", label)));
    rules
}

/// Rules that leave to the monitor the ports that it scrapes, for the job over the hints of pods.
pub(super) fn hinted(monitor: &PodMonitor) -> Vec<Relabel> {
    let Some(pods) = &monitor.spec.selector else { return Vec::new() };
    let endpoints = monitor.spec.pod_metrics_endpoints.iter();
    let port = |endpoint| port(endpoint, &Path::root("spec"), &mut Findings::default()).0;
    endpoints.flat_map(|endpoint| selector::drops(pods, port(endpoint))).collect()
}

/// The rule that keeps the endpoint's port, and the value of the label `endpoint`. Upstream takes the first of three fields
/// for the one, and for the other knows two of them.
fn port(
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
    Relabel::replace([format!("__meta_kubernetes_pod_label_{label}").as_str()], "(.+)", target, "${1}")
}

/// The monitor's labels, then the template's.
fn pod_labels(agent: &Agent, spec: &PodMonitorSpec, root: &Path, findings: &mut Findings) -> Vec<Relabel> {
    let legacy = legacy_names(&agent.spec);
    let path = root.key("podTargetLabels");
    let own: Vec<_> = spec.pod_target_labels.iter().map(|label| selector::sanitise(label)).collect();
    for (index, (label, written)) in own.iter().zip(&spec.pod_target_labels).enumerate() {
        if !text::is_label_name(label, legacy) {
            let rule = Rule::Text("is not the name of a pod label that can be a label of series");
            findings.violation(&path.index(index), written, rule);
        }
    }
    own.iter().chain(&agent.config.pod_target_labels).map(|label| pod_label(label, label)).collect()
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
mod tests {
    use super::{PodMonitor, check};
    use crate::template::agent::Agent;
    use crate::template::{Settings, Template, validate};
    use serde_json::{Value, json};

    fn agent(spec: Value) -> Agent {
        let mut object = json!({"apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
            "metadata": {"name": "agent", "namespace": "shop"}});
        object["spec"] = spec;
        let settings = Settings::default();
        validate::validate(&Template::read(&object, &settings).unwrap(), &settings).unwrap()
    }

    fn monitor(spec: Value) -> PodMonitor {
        let mut object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
            "metadata": {"name": "web", "namespace": "shop"}});
        object["spec"] = spec;
        PodMonitor::read(&object).unwrap()
    }

    fn violations(endpoint: &Value) -> Vec<String> {
        let spec = json!({"selector": {}, "podMetricsEndpoints": [endpoint]});
        let judged = check(&agent(json!({})), &monitor(spec));
        let paths = |list: Vec<crate::template::violation::Violation>| {
            list.into_iter().map(|violation| violation.path).collect()
        };
        judged.map_or_else(paths, |_| Vec::new())
    }

    #[test]
    fn everything_wrong_with_a_monitor_is_said_at_once() {
        let spec = json!({
            "selectorMechanism": "Magic", "scrapeClass": "tls", "podTargetLabels": [""], "bodySizeLimit": "1",
            "fallbackScrapeProtocol": "Text", "nativeHistogramMinBucketFactor": "x", "jobLabel": "a\nb",
            "podMetricsEndpoints": [
                {"interval": "10s", "scrapeTimeout": "1m", "port": "(", "proxyUrl": "http://proxy:3128"},
                {"authorization": {"credentials": {"name": "s", "key": "k"}}, "basicAuth": {}},
                {"relabelings": [{"targetLabel": "__address__", "replacement": "blackbox:9115"}]},
            ],
        });
        let violations = check(&agent(json!({})), &monitor(spec)).unwrap_err();
        let paths: Vec<_> = violations.iter().map(|violation| &*violation.path).collect();
        let expected = [
            "spec.bodySizeLimit",
            "spec.fallbackScrapeProtocol",
            "spec.jobLabel",
            "spec.nativeHistogramMinBucketFactor",
            "spec.podMetricsEndpoints[0].port",
            "spec.podMetricsEndpoints[0].proxyUrl",
            "spec.podMetricsEndpoints[0].scrapeTimeout",
            "spec.podMetricsEndpoints[1].basicAuth",
            "spec.podMetricsEndpoints[1].basicAuth.password",
            "spec.podMetricsEndpoints[1].basicAuth.username",
            "spec.podMetricsEndpoints[2].relabelings[0].replacement",
            "spec.podTargetLabels[0]",
            "spec.scrapeClass",
            "spec.selector",
            "spec.selectorMechanism",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn fields_of_an_endpoint_are_judged_one_by_one() {
        let endpoint = "spec.podMetricsEndpoints[0]";
        for (value, path) in [
            (json!({"portNumber": 0}), ".portNumber"),
            (json!({"portNumber": 70000}), ".portNumber"),
            (json!({"targetPort": "["}), ".targetPort"),
            (json!({"scheme": "ftp"}), ".scheme"),
            (json!({"scrapeTimeout": "31s"}), ".scrapeTimeout"),
            (json!({"interval": "soon"}), ".interval"),
            (json!({"noProxy": "a"}), ".proxyUrl"),
            (json!({"proxyConnectHeader": {"a": [{"name": "b", "key": "c"}]}}), ".proxyConnectHeader"),
            (json!({"bearerTokenSecret": {"name": "a"}}), ".bearerTokenSecret.key"),
            (json!({"relabelings": [{"regex": "("}]}), ".relabelings[0].regex"),
            (json!({"metricRelabelings": [{"action": "x"}]}), ".metricRelabelings[0].action"),
        ] {
            let found = violations(&value);
            assert!(found.contains(&format!("{endpoint}{path}")), "{value}: {found:?}");
        }
        for good in [
            json!({}),
            json!({"scheme": "HTTPS", "interval": "1h", "scrapeTimeout": "1h", "port": "a|b"}),
            json!({"proxyFromEnvironment": true, "bearerTokenSecret": {"key": ""}}),
        ] {
            assert_eq!(violations(&good), [""; 0], "{good}");
        }
    }

    #[test]
    fn files_are_named_once_and_none_is_essential() {
        let selector = |key: &str| json!({"name": "scrape", "key": key});
        let endpoint = json!({
            "basicAuth": {"username": selector("user"), "password": selector("password")},
            "tlsConfig": {"ca": {"configMap": selector("ca.crt")}},
        });
        let spec = json!({"selector": {}, "podMetricsEndpoints": [endpoint, endpoint]});
        let checked = check(&agent(json!({})), &monitor(spec)).unwrap();
        let files: Vec<_> = checked.files.iter().map(|file| (file.path(), file.essential)).collect();
        let expected = [
            "monitors/secrets/scrape/password",
            "monitors/secrets/scrape/user",
            "monitors/configmaps/scrape/ca.crt",
        ];
        assert_eq!(files, expected.map(|path| (path.to_owned(), false)));
        assert_eq!(checked.references.len(), 4);
    }

    #[test]
    fn what_looks_into_values_of_run_time_is_a_warning() {
        let endpoint = json!({
            "relabelings": [
                {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"},
                {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "regex": "node-1", "action": "keep"},
            ],
            "metricRelabelings": [{"sourceLabels": ["pod"], "regex": "web-(.+)", "targetLabel": "shard"}],
        });
        let spec = json!({"selector": {}, "podMetricsEndpoints": [endpoint]});
        let checked = check(&agent(json!({})), &monitor(spec)).unwrap();
        let warnings: Vec<_> = checked.warnings.iter().map(|warning| &*warning.path).collect();
        let expected = [
            "spec.podMetricsEndpoints[0].metricRelabelings[0]",
            "spec.podMetricsEndpoints[0].relabelings[1]",
        ];
        assert_eq!(warnings, expected);
    }
}
