//! Flags of the agent that a template asks for. PURE.
//!
//! Input: the spec and the version. Output: complete flags in a fixed order, violations where a flag is ours.

use super::api::{Argument, PrometheusAgentSpec};
use super::validate::text;
use super::version::{Capability, Version};
use super::violation::{Findings, Path, Rule};

mod web;

/// Flags that promsidecar sets or that fields of the template set; `additionalArgs` may name none of them, nor their `no-`
/// form (upstream's rule).
pub const MANAGED_FLAGS: [&str; 23] = [
    "agent",
    "config.auto-reload",
    "config.auto-reload-interval",
    "config.file",
    "enable-feature",
    "log.format",
    "log.level",
    "storage.agent.path",
    "storage.agent.retention.max-time",
    "storage.agent.retention.min-time",
    "storage.agent.wal-compression",
    "storage.agent.wal-segment-size",
    "storage.agent.wal-truncate-frequency",
    "storage.remote.flush-deadline",
    "web.config.file",
    "web.enable-admin-api",
    "web.enable-lifecycle",
    "web.enable-otlp-receiver",
    "web.enable-remote-write-receiver",
    "web.external-url",
    "web.listen-address",
    "web.remote-write-receiver.accepted-protobuf-messages",
    "web.route-prefix",
];

/// Flags that end the process instead of running it.
const ENDING: [&str; 6] =
    ["help", "help-long", "help-man", "version", "completion-bash", "completion-script-bash"];

/// Beginnings of flags that Prometheus refuses in agent mode.
const SERVER_ONLY: [&str; 5] = ["storage.tsdb.", "storage.remote.read-", "query.", "rules.", "alertmanager."];

const LOG_LEVELS: &[&str] = &["debug", "info", "warn", "error"];
const LOG_FORMATS: &[&str] = &["logfmt", "json"];
const MESSAGE_VERSIONS: &[&str] = &["V1.0", "V2.0"];

/// The template's flags and what they imply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    /// Complete flags.
    pub args: Vec<String>,
    /// Whether the agent receives samples from the application.
    pub receives: bool,
    /// Path of the agent's own metrics, where it is not the usual one.
    pub metrics_path: Option<String>,
}

/// Makes the template's flags.
pub fn flags(spec: &PrometheusAgentSpec, version: Version, findings: &mut Findings) -> Flags {
    let root = Path::root("spec");
    let mut args = Vec::new();
    log_flags(spec, &root, &mut args, findings);
    let features = features(spec, version, &root, findings);
    if !features.is_empty() {
        args.push(format!("--enable-feature={}", features.join(",")));
    }
    let receives = receivers(spec, &root, &mut args, findings);
    match spec.wal_compression {
        Some(true) => args.push("--storage.agent.wal-compression".to_owned()),
        Some(false) => args.push("--no-storage.agent.wal-compression".to_owned()),
        None => {}
    }
    web::web(spec, &root, &mut args, findings);
    let of_fields = args.clone();
    for (index, argument) in spec.additional_args.iter().enumerate() {
        args.extend(additional(argument, &of_fields, &root.key("additionalArgs").index(index), findings));
    }
    let prefix = web::prefix(spec).map(|prefix| prefix.trim_matches('/')).filter(|prefix| !prefix.is_empty());
    Flags { args, receives, metrics_path: prefix.map(|prefix| format!("/{prefix}/metrics")) }
}

/// Upstream's defaults are Prometheus' own and need no flag.
fn log_flags(spec: &PrometheusAgentSpec, root: &Path, args: &mut Vec<String>, findings: &mut Findings) {
    for (name, value, flag, allowed, default) in [
        ("logLevel", &spec.log_level, "log.level", LOG_LEVELS, "info"),
        ("logFormat", &spec.log_format, "log.format", LOG_FORMATS, "logfmt"),
    ] {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
        if !allowed.contains(&value) {
            findings.violation(&root.key(name), value, Rule::OneOf(allowed));
        } else if value != default {
            args.push(format!("--{flag}={value}"));
        }
    }
}

fn features<'a>(
    spec: &'a PrometheusAgentSpec,
    version: Version,
    root: &Path,
    findings: &mut Findings,
) -> Vec<&'a str> {
    const NOT_A_FEATURE: Rule = Rule::Other {
        rule: "is not the name of a feature: lower-case letters, digits, hyphens",
        fix: "list one feature an item, as Prometheus documents it",
    };
    let mut features: Vec<&str> = Vec::new();
    for (index, feature) in spec.enable_features.iter().enumerate() {
        let path = root.key("enableFeatures").index(index);
        if feature.is_empty()
            || !feature.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            findings.violation(&path, feature, NOT_A_FEATURE);
        } else if feature == "agent" || feature == "auto-reload-config" {
            findings.ignored(&path, "every agent has it by a flag of its own");
        } else if !features.contains(&feature.as_str()) {
            features.push(feature);
        }
    }
    let writes_v2 = spec.remote_write.iter().any(|write| write.message_version.as_deref() == Some("V2.0"));
    if writes_v2
        && !version.has(Capability::MetadataFromSeries)
        && !features.contains(&"metadata-wal-records")
    {
        features.push("metadata-wal-records");
    }
    features
}

fn receivers(
    spec: &PrometheusAgentSpec,
    root: &Path,
    args: &mut Vec<String>,
    findings: &mut Findings,
) -> bool {
    let path = root.key("remoteWriteReceiverMessageVersions");
    let mut messages = Vec::new();
    for (index, version) in spec.remote_write_receiver_message_versions.iter().enumerate() {
        match message(version) {
            Some(message) => messages.push(message),
            None => findings.violation(&path.index(index), version, Rule::OneOf(MESSAGE_VERSIONS)),
        }
    }
    let remote_write = spec.enable_remote_write_receiver == Some(true);
    if remote_write {
        args.push("--web.enable-remote-write-receiver".to_owned());
        if !messages.is_empty() {
            args.push(format!(
                "--web.remote-write-receiver.accepted-protobuf-messages={}",
                messages.join(",")
            ));
        }
    } else if !messages.is_empty() {
        findings.ignored(&path, "spec.enableRemoteWriteReceiver is not true");
    }
    let otlp = spec.enable_otlp_receiver.unwrap_or_else(|| spec.otlp.is_some());
    if otlp {
        args.push("--web.enable-otlp-receiver".to_owned());
    }
    remote_write || otlp
}

/// Prometheus' name of a message version.
pub(super) fn message(version: &str) -> Option<&'static str> {
    match version {
        "V1.0" => Some("prometheus.WriteRequest"),
        "V2.0" => Some("io.prometheus.write.v2.Request"),
        _ => None,
    }
}

/// One of `additionalArgs`, which may repeat no flag of ours and none `of_fields`, nor their `no-` form.
fn additional(
    argument: &Argument,
    of_fields: &[String],
    path: &Path,
    findings: &mut Findings,
) -> Option<String> {
    let name = argument.name.as_str();
    let path_of_name = path.key("name");
    let positive = name.strip_prefix("no-").unwrap_or(name);
    let is_set = of_fields.iter().any(|flag| flag_name(flag) == positive);
    let rule = if name.is_empty()
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        || name.starts_with('-')
    {
        Some(Rule::Other {
            rule: "is not the name of a flag: letters, digits, dots, hyphens, no leading dashes",
            fix: "write the name without dashes and the value in its own field",
        })
    } else if MANAGED_FLAGS.contains(&positive) || is_set {
        Some(Rule::Other {
            rule: "is a flag that promsidecar or another field of the template sets",
            fix: "remove it; use the template's field for it where there is one",
        })
    } else if ENDING.contains(&name) {
        Some(Rule::Other { rule: "ends the agent instead of running it", fix: "remove it" })
    } else if SERVER_ONLY.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Rule::Other { rule: "is refused by Prometheus in agent mode", fix: "remove it" })
    } else {
        None
    };
    if let Some(rule) = rule {
        findings.violation(&path_of_name, name, rule);
        return None;
    }
    match argument.value.as_deref().filter(|value| !value.is_empty()) {
        None => Some(format!("--{name}")),
        // The kubelet expands $(NAME) in args, which is upstream's way as well.
        Some(value) => {
            text::line(value, &path.key("value"), findings)?;
            Some(format!("--{name}={value}"))
        }
    }
}

/// Name of a complete flag.
fn flag_name(flag: &str) -> &str {
    flag.trim_start_matches('-').split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Flags, MANAGED_FLAGS, flags};
    use crate::template::api::PrometheusAgentSpec;
    use crate::template::version::{Version, reload_args};
    use crate::template::violation::Findings;
    use serde_json::json;

    fn make(spec: serde_json::Value, version: Version) -> (Flags, Vec<String>) {
        let spec: PrometheusAgentSpec = serde_json::from_value(spec).unwrap();
        let mut findings = Findings::default();
        let flags = flags(&spec, version, &mut findings);
        (flags, findings.violations.iter().map(|violation| violation.path.clone()).collect())
    }

    #[test]
    fn every_field_becomes_its_flag_and_defaults_become_none() {
        let (flags, violations) = make(
            json!({
                "logLevel": "debug", "logFormat": "json", "enableFeatures": ["a-b", "agent", "a-b"],
                "enableRemoteWriteReceiver": true, "remoteWriteReceiverMessageVersions": ["V2.0", "V1.0"],
                "otlp": {}, "walCompression": false,
                "additionalArgs": [{"name": "scrape.adjust-timestamps"}, {"name": "web.max-connections", "value": "5"}],
                "remoteWrite": [{"messageVersion": "V2.0"}],
            }),
            Version::new(3, 3, 0),
        );
        assert_eq!(violations, [""; 0]);
        assert!(flags.receives);
        assert_eq!(
            flags.args,
            [
                "--log.level=debug",
                "--log.format=json",
                "--enable-feature=a-b,metadata-wal-records",
                "--web.enable-remote-write-receiver",
                "--web.remote-write-receiver.accepted-protobuf-messages=io.prometheus.write.v2.Request,prometheus.WriteRequest",
                "--web.enable-otlp-receiver",
                "--no-storage.agent.wal-compression",
                "--scrape.adjust-timestamps",
                "--web.max-connections=5",
            ]
        );
        let (web, violations) = make(
            json!({
                "web": {"pageTitle": "shop", "maxConnections": 7}, "routePrefix": "/agent/",
                "additionalArgs": [{"name": "web.max-connections", "value": "5"}],
            }),
            Version::new(3, 3, 0),
        );
        assert_eq!(violations, ["spec.additionalArgs[0].name"]);
        assert_eq!(
            web.args,
            ["--web.page-title=shop", "--web.max-connections=7", "--web.route-prefix=/agent/"]
        );
        assert_eq!(web.metrics_path.as_deref(), Some("/agent/metrics"));
        let (none, _) = make(json!({"logLevel": "info", "logFormat": "logfmt"}), Version::new(3, 4, 0));
        assert_eq!(none, Flags::default());
    }

    #[test]
    fn managed_ending_and_server_flags_are_refused() {
        for name in [
            "config.file",
            "no-agent",
            "storage.agent.path",
            "log.level",
            "help",
            "query.timeout",
            "",
            "--x",
            "a b",
        ] {
            let (flags, violations) =
                make(json!({"additionalArgs": [{"name": name, "value": "x"}]}), Version::new(3, 5, 0));
            assert_eq!(violations, ["spec.additionalArgs[0].name"], "{name:?}");
            assert!(flags.args.is_empty());
        }
    }

    #[test]
    fn the_flags_of_auto_reload_are_managed() {
        for minor in [0, 11, 12, 16] {
            for arg in reload_args(Version::new(3, minor, 0)) {
                let name = arg.trim_start_matches('-').split('=').next().unwrap();
                assert!(MANAGED_FLAGS.contains(&name), "{name}");
            }
        }
        assert!(MANAGED_FLAGS.is_sorted());
    }
}
