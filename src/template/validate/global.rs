//! The global section: intervals, protocols, external labels, limits. PURE.
//!
//! Input: the spec, the version, the agent's memory. Output: `global`, without the labels of the pod's identity, which
//! rendering adds.

use std::collections::{BTreeMap, BTreeSet};

use super::text;
use crate::names;
use crate::template::agent::{Derived, TemplateId};
use crate::template::api::PrometheusAgentSpec;
use crate::template::duration::PromDuration;
use crate::template::prometheus::{Flow, Global, Limits};
use crate::template::quantity::Quantity;
use crate::template::version::{Capability, Version};
use crate::template::violation::{Findings, Path, Rule};

/// Upstream's default of the definition, for objects that no API server has seen.
const DEFAULT_INTERVAL: PromDuration = PromDuration::from_millis(30_000);
/// Prometheus' own default.
const DEFAULT_TIMEOUT: PromDuration = PromDuration::from_millis(10_000);
/// Label that carries namespace and name of the template, as upstream.
const PROMETHEUS_LABEL: &str = "prometheus";

/// Names of scrape protocols.
pub(crate) const PROTOCOLS: &[&str] = &[
    "PrometheusProto",
    "OpenMetricsText0.0.1",
    "OpenMetricsText1.0.0",
    "PrometheusText0.0.4",
    "PrometheusText1.0.0",
];
const VALIDATION: (&[&str], &[&str]) = (&["UTF8", "Legacy"], &["utf8", "legacy"]);
const ESCAPING: (&[&str], &[&str]) =
    (&["AllowUTF8", "Underscores", "Dots", "Values"], &["allow-utf-8", "underscores", "dots", "values"]);

/// Memory of an agent without any series, and of one series: what a template's memory limit can carry.
const BASE_MEMORY: u64 = 64 * 1024 * 1024;
const MEMORY_PER_SAMPLE: u64 = 3 * 1024;
/// Of agents before 3.5: with as many series, 3.0 holds half as much again and grows further in between.
const MEMORY_PER_SAMPLE_BEFORE_3_5: u64 = 5 * 1024;
const LEAST_SAMPLES: u64 = 1000;
/// Bytes of exposition that one sample takes.
const BYTES_PER_SAMPLE: u64 = 512;
const LOWERED: &str = "the enforced limit is lower and counts";
const MEBIBYTE: u64 = 1024 * 1024;

/// Whether names are restricted to letters, digits and underscores.
pub(crate) fn legacy_names(spec: &PrometheusAgentSpec) -> bool {
    spec.name_validation_scheme.as_deref() == Some("Legacy")
}

/// Intervals, protocols, names and histograms. Labels and limits have functions of their own.
pub(crate) fn global(spec: &PrometheusAgentSpec, version: Version, findings: &mut Findings) -> Global {
    let root = Path::root("spec");
    let (scrape_interval, scrape_timeout) = intervals(spec, &root, findings);
    let scheme = root.key("nameValidationScheme");
    let validation =
        text::choice(spec.name_validation_scheme.as_deref(), VALIDATION.0, VALIDATION.1, &scheme, findings);
    let escaping_path = root.key("nameEscapingScheme");
    let mut escaping =
        text::choice(spec.name_escaping_scheme.as_deref(), ESCAPING.0, ESCAPING.1, &escaping_path, findings);
    if escaping.is_some() && !version.has(Capability::NameEscapingScheme) {
        findings.too_new(&escaping_path, Capability::NameEscapingScheme.since(), version);
        escaping = None;
    }
    if validation == Some("legacy") && escaping == Some("allow-utf-8") {
        findings.violation(&escaping_path, "AllowUTF8", Rule::Conflict { with: format!("{scheme}: Legacy") });
    }
    let mut gated = |value: Option<bool>, capability: Capability, name: &str| {
        let value = value?;
        if !version.has(capability) {
            findings.too_new(&root.key(name), capability.since(), version);
            return None;
        }
        Some(value)
    };
    Global {
        scrape_interval,
        scrape_timeout,
        metric_name_validation_scheme: validation,
        metric_name_escaping_scheme: escaping,
        convert_classic_histograms_to_nhcb: gated(
            spec.convert_classic_histograms_to_nhcb,
            Capability::ConvertClassicHistograms,
            "convertClassicHistogramsToNHCB",
        ),
        always_scrape_classic_histograms: gated(
            spec.scrape_classic_histograms,
            Capability::AlwaysScrapeClassicHistograms,
            "scrapeClassicHistograms",
        ),
        scrape_native_histograms: gated(
            spec.scrape_native_histograms,
            Capability::ScrapeNativeHistograms,
            "scrapeNativeHistograms",
        ),
        scrape_protocols: protocols(&spec.scrape_protocols, &root.key("scrapeProtocols"), findings),
        ..Global::default()
    }
}

fn intervals(
    spec: &PrometheusAgentSpec,
    root: &Path,
    findings: &mut Findings,
) -> (PromDuration, PromDuration) {
    let mut read = |text: Option<&str>, name: &str| {
        let path = root.key(name);
        let duration = text::duration(text, &path, findings)?;
        if duration.is_zero() {
            findings.violation(&path, text.unwrap_or_default(), Rule::Text("is not above zero"));
            return None;
        }
        Some(duration)
    };
    let interval = read(spec.scrape_interval.as_deref(), "scrapeInterval");
    let timeout = read(spec.scrape_timeout.as_deref(), "scrapeTimeout");
    let interval = interval.unwrap_or(DEFAULT_INTERVAL);
    if let Some(timeout) = timeout.filter(|timeout| *timeout > interval) {
        let bound = format!("the scrape interval, {interval}");
        findings.violation(&root.key("scrapeTimeout"), timeout.to_string(), Rule::Exceeds { bound });
    }
    (interval, timeout.unwrap_or_else(|| DEFAULT_TIMEOUT.min(interval)))
}

/// A list of scrape protocols, in which none stands twice.
pub(crate) fn protocols(protocols: &[String], path: &Path, findings: &mut Findings) -> Flow {
    let mut seen = BTreeSet::new();
    for (index, protocol) in protocols.iter().enumerate() {
        if !PROTOCOLS.contains(&protocol.as_str()) {
            findings.violation(&path.index(index), protocol, Rule::OneOf(PROTOCOLS));
        } else if !seen.insert(protocol) {
            findings.violation(
                &path.index(index),
                protocol,
                Rule::Duplicate { of: "an earlier item".to_owned() },
            );
        }
    }
    Flow(protocols.to_vec())
}

/// External labels. Environment is expanded in their values: `$` of the template is escaped, and upstream's `$(NAME)` becomes
/// `${NAME}` for variables that the agent has (`env`).
pub(crate) fn external_labels(
    spec: &PrometheusAgentSpec,
    id: &TemplateId,
    env: &BTreeSet<String>,
    legacy: bool,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let root = Path::root("spec");
    let mut reserved = BTreeMap::new();
    let prometheus = spec.prometheus_external_label_name.as_deref().unwrap_or(PROMETHEUS_LABEL);
    if check_name(prometheus, legacy, &root.key("prometheusExternalLabelName"), findings) {
        reserved.insert(prometheus.to_owned(), id.to_string());
    }
    let replica = spec.replica_external_label_name.as_deref().unwrap_or_default();
    let replica_path = root.key("replicaExternalLabelName");
    if check_name(replica, legacy, &replica_path, findings) {
        if replica == "__replica__" {
            findings.warning(
                &replica_path,
                "deduplicating receivers keep one replica a cluster and would drop all pods but one",
            );
        }
        let value = format!("${{{}}}", names::POD_NAME.env);
        if reserved.insert(replica.to_owned(), value).is_some() {
            let of = root.key("prometheusExternalLabelName").to_string();
            findings.violation(&replica_path, replica, Rule::Duplicate { of });
        }
    }
    let path = root.key("externalLabels");
    let mut labels = BTreeMap::new();
    for (name, value) in &spec.external_labels {
        let path = path.key(name);
        if name.is_empty() {
            findings.violation(&path, name, Rule::Text("is not a label name"));
        } else if reserved.contains_key(name) {
            findings
                .ignored(&path, "the label that identifies the template or replica has this name and wins");
        } else if check_name(name, legacy, &path, findings) && text::line(value, &path, findings).is_some() {
            labels.insert(name.clone(), escape(value, env));
        }
    }
    labels.extend(reserved);
    labels
}

/// Whether a label of that name is written; empty switches it off.
fn check_name(name: &str, legacy: bool, path: &Path, findings: &mut Findings) -> bool {
    if name.is_empty() {
        return false;
    }
    let rule = if name.starts_with(names::INTERNAL_LABEL_PREFIX) {
        Rule::Text("begins with __promsidecar_, which belongs to promsidecar")
    } else if !text::is_label_name(name, legacy) {
        Rule::Text("is not a label name")
    } else {
        return text::line(name, path, findings).is_some();
    };
    findings.violation(path, name, rule);
    false
}

fn escape(value: &str, env: &BTreeSet<String>) -> String {
    let mut escaped = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(dollar) = rest.find('$') {
        let (before, from) = rest.split_at(dollar);
        escaped.push_str(before);
        let variable = from
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'))
            .filter(|(name, _)| env.contains(*name));
        if let Some((name, after)) = variable {
            escaped.push_str("${");
            escaped.push_str(name);
            escaped.push('}');
            rest = after;
        } else {
            escaped.push_str("$$");
            rest = &from[1..];
        }
    }
    escaped.push_str(rest);
    escaped
}

/// Limits of the global section, those that enforced body size puts on every job, and what was derived.
///
/// Upstream's rule: a plain limit counts unless an enforced one (above zero) is lower. A template that sets neither gets the
/// sample limit that its memory can carry, and a body limit to match.
pub(crate) fn limits(
    spec: &PrometheusAgentSpec,
    version: Version,
    memory_limit: Quantity,
    findings: &mut Findings,
) -> (Limits, Limits, Derived) {
    report_lowered(spec, findings);
    let samples = lower(spec.sample_limit, spec.enforced_sample_limit);
    let per_sample =
        if version < Version::new(3, 5, 0) { MEMORY_PER_SAMPLE_BEFORE_3_5 } else { MEMORY_PER_SAMPLE };
    let carried = (memory_limit.units().saturating_sub(BASE_MEMORY) / per_sample).max(LEAST_SAMPLES);
    let plain = size(spec.body_size_limit.as_deref(), "bodySizeLimit", findings);
    let enforced = size(spec.enforced_body_size_limit.as_deref(), "enforcedBodySizeLimit", findings);
    let enforced = enforced.filter(|(bytes, _)| *bytes != 0);
    let body = match (&plain, &enforced) {
        (Some(plain), Some(enforced)) if plain.0 == 0 || plain.0 > enforced.0 => {
            findings.ignored(&Path::root("spec").key("bodySizeLimit"), LOWERED);
            Some(enforced)
        }
        (Some(plain), _) => Some(plain),
        (None, enforced) => enforced.as_ref(),
    };
    let derived = Derived {
        sample_limit: samples.is_none().then_some(carried),
        // An explicit sample limit above what memory carries is the author's to answer for; none at all needs no body limit.
        body_size_limit: (body.is_none() && samples != Some(0)).then(|| {
            let bytes = samples.unwrap_or(carried).max(carried).saturating_mul(BYTES_PER_SAMPLE);
            format!("{}MiB", (bytes / MEBIBYTE).max(1))
        }),
    };
    let global = Limits {
        body_size_limit: body.map(|(_, text)| text.clone()).or_else(|| derived.body_size_limit.clone()),
        sample_limit: samples.or(derived.sample_limit),
        target_limit: lower(spec.target_limit, spec.enforced_target_limit),
        label_limit: lower(spec.label_limit, spec.enforced_label_limit),
        label_name_length_limit: lower(spec.label_name_length_limit, spec.enforced_label_name_length_limit),
        label_value_length_limit: lower(
            spec.label_value_length_limit,
            spec.enforced_label_value_length_limit,
        ),
        keep_dropped_targets: lower(spec.keep_dropped_targets, spec.enforced_keep_dropped_targets),
    };
    let job = Limits { body_size_limit: enforced.map(|(_, text)| text), ..Limits::default() };
    (global, job, derived)
}

/// Upstream logs them.
fn report_lowered(spec: &PrometheusAgentSpec, findings: &mut Findings) {
    for (name, plain, enforced) in [
        ("sampleLimit", spec.sample_limit, spec.enforced_sample_limit),
        ("targetLimit", spec.target_limit, spec.enforced_target_limit),
        ("labelLimit", spec.label_limit, spec.enforced_label_limit),
        ("labelNameLengthLimit", spec.label_name_length_limit, spec.enforced_label_name_length_limit),
        ("labelValueLengthLimit", spec.label_value_length_limit, spec.enforced_label_value_length_limit),
        ("keepDroppedTargets", spec.keep_dropped_targets, spec.enforced_keep_dropped_targets),
    ] {
        if plain.zip(enforced).is_some_and(|(plain, enforced)| enforced != 0 && plain > enforced) {
            findings.ignored(&Path::root("spec").key(name), LOWERED);
        }
    }
}

/// The plain limit, unless an enforced one is lower; 0 means no limit in either.
fn lower(plain: Option<u64>, enforced: Option<u64>) -> Option<u64> {
    match (plain, enforced.filter(|enforced| *enforced != 0)) {
        (Some(0) | None, Some(enforced)) => Some(enforced),
        (Some(plain), Some(enforced)) => Some(plain.min(enforced)),
        (plain, None) => plain,
    }
}

fn size(text: Option<&str>, name: &str, findings: &mut Findings) -> Option<(u64, String)> {
    let text = text.filter(|text| !text.is_empty())?;
    let bytes = text::byte_size(text);
    if bytes.is_none() {
        findings.violation(&Path::root("spec").key(name), text, Rule::ByteSize);
    }
    bytes.map(|bytes| (bytes, text.to_owned()))
}

/// Pod labels that become target labels, with the names that upstream gives them.
pub(crate) fn pod_target_labels(spec: &PrometheusAgentSpec, findings: &mut Findings) -> Vec<String> {
    let path = Path::root("spec").key("podTargetLabels");
    let mut labels = Vec::new();
    for (index, label) in spec.pod_target_labels.iter().enumerate() {
        if label.is_empty() {
            findings.violation(&path.index(index), label, Rule::Text("is not the name of a pod label"));
            continue;
        }
        let sanitized: String =
            label.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        if !labels.contains(&sanitized) {
            labels.push(sanitized);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::{escape, limits};
    use crate::template::api::PrometheusAgentSpec;
    use crate::template::quantity::Quantity;
    use crate::template::version::Version;
    use crate::template::violation::Findings;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn dollars_are_escaped_and_known_variables_are_kept() {
        let env = BTreeSet::from(["POD_NAME".to_owned()]);
        for (value, expected) in [
            ("plain", "plain"),
            ("$5", "$$5"),
            ("${HOME}", "$${HOME}"),
            ("a-$(POD_NAME)-b", "a-${POD_NAME}-b"),
            ("$(OTHER)", "$$(OTHER)"),
            ("$$", "$$$$"),
            ("$(POD_NAME", "$$(POD_NAME"),
        ] {
            assert_eq!(escape(value, &env), expected, "{value}");
        }
    }

    #[test]
    fn derived_limits_follow_memory_and_version_and_explicit_ones_win() {
        let check_version = |minor, spec: serde_json::Value, mebibytes, samples, body: Option<&str>| {
            let read: PrometheusAgentSpec = serde_json::from_value(spec.clone()).unwrap();
            let (version, memory) = (Version::new(3, minor, 0), Quantity::from_mebibytes(mebibytes));
            let (global, ..) = limits(&read, version, memory, &mut Findings::default());
            assert_eq!((global.sample_limit, global.body_size_limit.as_deref()), (samples, body), "{spec}");
        };
        let check = |spec, mebibytes, samples, body| check_version(5, spec, mebibytes, samples, body);
        check_version(0, json!({}), 128, Some(13_107), Some("6MiB"));
        check_version(4, json!({}), 128, Some(13_107), Some("6MiB"));
        check(json!({}), 128, Some(21_845), Some("10MiB"));
        check(json!({}), 32, Some(1000), Some("1MiB"));
        check(json!({"sampleLimit": 500}), 128, Some(500), Some("10MiB"));
        check(json!({"sampleLimit": 100_000}), 128, Some(100_000), Some("48MiB"));
        check(json!({"sampleLimit": 0}), 128, Some(0), None);
        check(json!({"sampleLimit": 900, "enforcedSampleLimit": 300}), 128, Some(300), Some("10MiB"));
        check(json!({"sampleLimit": 0, "enforcedSampleLimit": 300}), 128, Some(300), Some("10MiB"));
        check(json!({"enforcedBodySizeLimit": "10MB"}), 128, Some(21_845), Some("10MB"));
        check(
            json!({"bodySizeLimit": "1MB", "enforcedBodySizeLimit": "2MB"}),
            128,
            Some(21_845),
            Some("1MB"),
        );
    }
}
