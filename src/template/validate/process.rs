//! What an agent does besides scraping and sending: OTLP, tracing, storage, the log of failed scrapes. PURE.
//!
//! Input: upstream's fields. Output: sections of the configuration. Version gates are upstream's: keys that the version does
//! not know are left out and reported; a strategy that it does not know is a violation.

use std::collections::BTreeSet;

use super::credentials::Needs;
use super::{http, remote_write, text};
use crate::template::api::PrometheusAgentSpec;
use crate::template::api::pod::QuantityText;
use crate::template::api::process::{OtlpConfig, TracingConfig, TsdbSpec};
use crate::template::prometheus::{Flow, Otlp, Storage, Tracing, Tsdb};
use crate::template::quantity::Quantity;
use crate::template::version::{Capability, Version};
use crate::template::violation::{Findings, Path, Rule};

const STRATEGIES: &[&str] = &[
    "NoUTF8EscapingWithSuffixes",
    "UnderscoreEscapingWithSuffixes",
    "NoTranslation",
    "UnderscoreEscapingWithoutSuffixes",
];
const CLIENTS: (&[&str], &[&str]) = (&["http", "grpc", "HTTP", "GRPC"], &["http", "grpc", "http", "grpc"]);
const COMPRESSIONS: (&[&str], &[&str]) = (&["gzip", "Gzip"], &["gzip", "gzip"]);
const FLOATS: &[&str] = &["Xor", "Xor2"];
/// Where the log of failed scrapes goes: the kubelet rotates what is there.
const STDOUT: &str = "/dev/stdout";
/// Files that are there and can be written.
const STREAMS: [&str; 3] = [STDOUT, "/dev/stderr", "/dev/null"];

/// `otlp`. Without any key that the version knows there is no section.
pub(super) fn otlp(spec: &PrometheusAgentSpec, version: Version, findings: &mut Findings) -> Option<Otlp> {
    let config = spec.otlp.as_ref()?;
    let path = Path::root("spec").key("otlp");
    let promotes_all = version.has(Capability::OtlpPromoteAll);
    if promotes_all {
        promotions(config, &path, findings);
    } else if !config.ignore_resource_attributes.is_empty() {
        findings.too_new(&path.key("ignoreResourceAttributes"), Capability::OtlpPromoteAll.since(), version);
    }
    let ignore = if promotes_all { config.ignore_resource_attributes.as_slice() } else { &[] };
    let promote = &config.promote_resource_attributes;
    let (promote_resource_attributes, ignore_resource_attributes, translation_strategy) = (
        attributes(promote, &path.key("promoteResourceAttributes"), findings),
        attributes(ignore, &path.key("ignoreResourceAttributes"), findings),
        strategy(spec, config, version, &path, findings),
    );
    let mut gated = |value: Option<bool>, capability: Capability, name: &str| {
        if value.is_some() && !version.has(capability) {
            findings.too_new(&path.key(name), capability.since(), version);
        }
        value.filter(|_| version.has(capability))
    };
    let section = Otlp {
        promote_resource_attributes,
        translation_strategy,
        keep_identifying_resource_attributes: gated(
            config.keep_identifying_resource_attributes,
            Capability::OtlpKeepIdentifying,
            "keepIdentifyingResourceAttributes",
        ),
        convert_histograms_to_nhcb: gated(
            config.convert_histograms_to_nhcb,
            Capability::OtlpConvertHistograms,
            "convertHistogramsToNHCB",
        ),
        promote_all_resource_attributes: gated(
            config.promote_all_resource_attributes,
            Capability::OtlpPromoteAll,
            "promoteAllResourceAttributes",
        ),
        ignore_resource_attributes,
        promote_scope_metadata: gated(
            config.promote_scope_metadata,
            Capability::OtlpPromoteScope,
            "promoteScopeMetadata",
        ),
        label_name_underscore_sanitization: gated(
            config.label_name_underscore_sanitization,
            Capability::OtlpLabelUnderscores,
            "labelNameUnderscoreSanitization",
        ),
        label_name_preserve_multiple_underscores: gated(
            config.label_name_preserve_multiple_underscores,
            Capability::OtlpLabelUnderscores,
            "labelNamePreserveMultipleUnderscores",
        ),
    };
    (section != Otlp::default()).then_some(section)
}

/// Either every attribute is promoted but those that are ignored, or those that are listed.
fn promotions(config: &OtlpConfig, path: &Path, findings: &mut Findings) {
    let all = config.promote_all_resource_attributes == Some(true);
    if all && !config.promote_resource_attributes.is_empty() {
        let with = path.key("promoteAllResourceAttributes").to_string();
        findings.violation_at(&path.key("promoteResourceAttributes"), Rule::Conflict { with });
    }
    if !all && !config.ignore_resource_attributes.is_empty() {
        let rule = Rule::Other {
            rule: "has no meaning unless promoteAllResourceAttributes is true",
            fix: "set promoteAllResourceAttributes to true, or remove the list",
        };
        findings.violation_at(&path.key("ignoreResourceAttributes"), rule);
    }
}

/// Names of attributes, in which none stands twice: Prometheus cuts spaces off before it compares them.
fn attributes(names: &[String], path: &Path, findings: &mut Findings) -> Flow {
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = path.index(index);
        let trimmed = name.trim();
        if trimmed.is_empty() {
            findings.violation(&path, name, Rule::Text("is not the name of an attribute"));
        } else if text::line(name, &path, findings).is_some() && !seen.insert(trimmed) {
            findings.violation(&path, name, Rule::Duplicate { of: "an earlier item".to_owned() });
        }
    }
    Flow(names.to_vec())
}

/// How names become Prometheus' own. Strategies that keep other characters need names that may have them.
fn strategy(
    spec: &PrometheusAgentSpec,
    config: &OtlpConfig,
    version: Version,
    path: &Path,
    findings: &mut Findings,
) -> Option<&'static str> {
    let path = path.key("translationStrategy");
    let given = config.translation_strategy.as_deref();
    let strategy = text::choice(given, STRATEGIES, STRATEGIES, &path, findings)?;
    let since = match strategy {
        "NoTranslation" => Some(Capability::OtlpNoTranslation.since()),
        "UnderscoreEscapingWithoutSuffixes" => Some(Capability::OtlpWithoutSuffixes.since()),
        _ => None,
    };
    if let Some(since) = since.filter(|since| version < *since) {
        findings.violation(&path, strategy, Rule::NeedsVersion { since, have: version });
    }
    if strategy.starts_with("No") && super::global::legacy_names(spec) {
        let with = "spec.nameValidationScheme: Legacy".to_owned();
        findings.violation(&path, strategy, Rule::Conflict { with });
    }
    Some(strategy)
}

/// `tsdb`. Of blocks there are none, so what shapes them has no effect; what the operator refuses there is refused.
pub(super) fn storage(spec: &PrometheusAgentSpec, findings: &mut Findings) -> Option<Storage> {
    let tsdb = spec.tsdb.as_ref()?;
    let path = Path::root("spec").key("tsdb");
    blocks(tsdb, &spec.enable_features, &path, findings);
    let window = tsdb.out_of_order_time_window.as_deref();
    let window = text::duration(window, &path.key("outOfOrderTimeWindow"), findings)?;
    Some(Storage { tsdb: Tsdb { out_of_order_time_window: window } })
}

fn blocks(tsdb: &TsdbSpec, features: &[String], path: &Path, findings: &mut Findings) {
    const NO_BLOCKS: &str = "agents keep no blocks";
    if let Some(threshold) = &tsdb.stale_series_compaction_threshold {
        let path = path.key("staleSeriesCompactionThreshold");
        fraction(threshold, &path, findings);
        findings.ignored(&path, NO_BLOCKS);
    }
    let Some(floats) = tsdb.chunk_encoding.as_ref().and_then(|encoding| encoding.floats.as_deref()) else {
        return;
    };
    let path = path.key("chunkEncoding").key("floats");
    text::choice(Some(floats), FLOATS, FLOATS, &path, findings);
    if floats == "Xor" && features.iter().any(|feature| feature == "st-storage") {
        findings.violation(
            &path,
            floats,
            Rule::Conflict { with: "spec.enableFeatures: st-storage".to_owned() },
        );
    }
    findings.ignored(&path, NO_BLOCKS);
}

/// A number from 0 to 1.
fn fraction(text: &QuantityText, path: &Path, findings: &mut Findings) -> Option<f64> {
    let Some(quantity) = Quantity::parse(&text.0) else {
        findings.violation(path, &text.0, Rule::Quantity);
        return None;
    };
    if quantity.is_negative() || quantity > Quantity::from_units(1) {
        let rule = Rule::Other { rule: "is not between 0 and 1", fix: "write a fraction such as 0.1" };
        findings.violation(path, &text.0, rule);
    }
    Some(quantity.approximate())
}

/// `tracingConfig`.
pub(super) fn tracing(
    spec: Option<&TracingConfig>,
    needs: &mut Needs,
    findings: &mut Findings,
) -> Option<Tracing> {
    const NO_AUTHORIZATION: &str = "remove it: Prometheus sends traces without credentials";
    let spec = spec?;
    let path = Path::root("spec").key("tracingConfig");
    let endpoint = text::optional_line(spec.endpoint.as_deref(), &path.key("endpoint"), findings);
    if spec.endpoint.as_deref().is_none_or(str::is_empty) {
        findings.violation_at(&path.key("endpoint"), Rule::Required);
    }
    let client = spec.client_type.as_deref();
    let compression = spec.compression.as_deref();
    Some(Tracing {
        endpoint: endpoint.unwrap_or_default(),
        client_type: text::choice(client, CLIENTS.0, CLIENTS.1, &path.key("clientType"), findings),
        sampling_fraction: spec
            .sampling_fraction
            .as_ref()
            .and_then(|text| fraction(text, &path.key("samplingFraction"), findings)),
        insecure: spec.insecure,
        headers: remote_write::headers(&spec.headers, NO_AUTHORIZATION, &path.key("headers"), findings),
        compression: text::choice(
            compression,
            COMPRESSIONS.0,
            COMPRESSIONS.1,
            &path.key("compression"),
            findings,
        ),
        timeout: text::duration(spec.timeout.as_deref(), &path.key("timeout"), findings),
        tls_config: spec
            .tls_config
            .as_ref()
            .map(|tls| http::tls_config(tls, &path.key("tlsConfig"), needs, findings)),
    })
}

/// `scrapeFailureLogFile`. A file that cannot be opened ends the agent, and a running one reloads nothing until it can: what
/// is mounted is decided when the pod is created, this at any time. So nothing but a stream is taken.
pub(super) fn failure_log(file: Option<&str>, findings: &mut Findings) -> Option<String> {
    let path = Path::root("spec").key("scrapeFailureLogFile");
    let file = text::optional_line(file, &path, findings)?;
    if STREAMS.contains(&file.as_str()) {
        return Some(file);
    }
    if file.contains('/') {
        findings.ignored(
            &path,
            "failed scrapes are logged to standard output: a file may not be there to be written",
        );
    }
    Some(STDOUT.to_owned())
}

#[cfg(test)]
mod tests {
    use super::failure_log;
    use crate::template::violation::Findings;

    #[test]
    fn failed_scrapes_are_logged_to_a_stream_whatever_file_is_named() {
        let write = |file: &str| {
            let mut findings = Findings::default();
            let file = failure_log(Some(file), &mut findings);
            assert_eq!(findings.violations, []);
            (file, findings.ignored.len())
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(write(""), (None, 0));
        assert_eq!(write("failures.log"), (text("/dev/stdout"), 0));
        for stream in ["/dev/stdout", "/dev/stderr", "/dev/null"] {
            assert_eq!(write(stream), (text(stream), 0));
        }
        for file in ["/var/log/a", "logs/a", "/scratch/a/b.log", "/scratch/../etc/a"] {
            assert_eq!(write(file), (text("/dev/stdout"), 1), "{file}");
        }
    }
}
