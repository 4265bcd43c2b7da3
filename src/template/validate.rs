//! Validation: from a spec to an [`Agent`], or every violation at once. PURE.
//!
//! Input: a [`Template`] and the operator's [`Settings`]. Output: all that rendering and the sidecar need, resolved. The parts
//! are checked one beside the other, so that nothing hides behind the first mistake.

use std::collections::{BTreeMap, BTreeSet};

use super::agent::{Agent, ConfigParts, ModePreference};
use super::api::PrometheusAgentSpec;
use super::image::{self, ImageReference};
use super::prometheus::Runtime;
use super::quantity::Quantity;
use super::version::Version;
use super::violation::{Findings, Path, Rule, Violation};
use super::{Settings, Template, flags, render};
use crate::monitors::selection::Selection;
use crate::monitors::selector;
use crate::names;

mod azure;
pub(crate) mod classes;
mod clouds;
pub(crate) mod credentials;
pub(crate) mod global;
pub(crate) mod guard_rails;
pub(crate) mod http;
mod mounts;
mod object;
pub(crate) mod pod;
mod process;
pub(crate) mod re2;
pub(crate) mod relabel;
mod remote_write;
mod resources;
pub(crate) mod text;

use credentials::Needs;

/// Where upstream finds the endpoints of Services.
pub(crate) const DISCOVERY_ROLES: &[&str] = &["Endpoints", "EndpointSlice"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// Checks a template and resolves it.
pub fn validate(template: &Template, settings: &Settings) -> Result<Agent, Vec<Violation>> {
    let mut findings = Findings {
        violations: template.misread.clone(),
        ignored: template.ignored.clone(),
        warnings: Vec::new(),
    };
    let agent = resolve(template, settings, &mut findings);
    let Findings { mut violations, mut ignored, mut warnings } = findings;
    if !violations.is_empty() {
        violations.sort();
        violations.dedup();
        return Err(violations);
    }
    let bytes = render::render(&agent, LONGEST_NAMESPACE, &Selection::default()).len();
    if bytes > render::MAX_BYTES {
        let rule = Rule::Other {
            rule: "is more than the 1032192 bytes that a ConfigMap holds",
            fix: "shorten the template, or make two of it",
        };
        let value = Some(format!("{bytes} bytes of configuration"));
        return Err(vec![Violation { path: "spec".to_owned(), value, rule }]);
    }
    ignored.sort();
    ignored.dedup();
    warnings.sort();
    Ok(Agent { ignored, config: ConfigParts { warnings, ..agent.config }, ..agent })
}

/// The size of a configuration differs by the names of namespaces: this one makes it as large as it gets.
const LONGEST_NAMESPACE: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

fn resolve(template: &Template, settings: &Settings, findings: &mut Findings) -> Agent {
    let rails = &settings.guard_rails;
    let bounded = guard_rails::bounded(&template.spec, rails, findings);
    let spec = &bounded;
    let chosen = annotations(template, findings);
    let (version, image, supervised) = program(spec, chosen.supervise, settings, findings);
    let legacy = global::legacy_names(spec);
    let mut needs = Needs::default();
    let remote_write = remote_write::remote_writes(&spec.remote_write, version, legacy, &mut needs, findings);
    let tracing = process::tracing(spec.tracing_config.as_ref(), &mut needs, findings);
    let extras = pod::extras(spec, !needs.secret_env.is_empty(), findings);
    let resources = container_resources(spec, &extras, &rails.ceilings, findings);
    let (wal_size_limit, wal_medium) = resources::storage(spec.storage.as_ref(), findings);
    let flags = flags::flags(spec, version, findings);
    let mut global = global::global(spec, version, findings);
    global.external_labels =
        global::external_labels(spec, &template.id, &env_names(&extras), legacy, findings);
    let (limits, job_limits, derived) = global::limits(spec, version, resources.memory_limit(), findings);
    global.limits = limits;
    global.scrape_failure_log_file = process::failure_log(spec.scrape_failure_log_file.as_deref(), findings);
    selectors(spec, findings);
    let config = ConfigParts {
        runtime: go_gc(spec, findings),
        storage: process::storage(spec, findings),
        otlp: process::otlp(spec, version, findings),
        tracing,
        remote_write,
        job_limits,
        honor_timestamps: spec.override_honor_timestamps.filter(|r#override| *r#override).map(|_| false),
        pod_target_labels: global::pod_target_labels(spec, findings),
        scrape_classes: classes::scrape_classes(&spec.scrape_classes, legacy, &mut needs, findings),
        enforced_namespace_label: enforced_namespace_label(spec, legacy, findings),
        derived,
        warnings: Vec::new(),
        referenced_objects: extras.objects,
        global,
    };
    let agent = Agent {
        id: template.id.clone(),
        generation: template.generation,
        version,
        image,
        image_pull_policy: text::choice(
            spec.image_pull_policy.as_deref(),
            PULL_POLICIES,
            PULL_POLICIES,
            &Path::root("spec").key("imagePullPolicy"),
            findings,
        )
        .map(str::to_owned),
        mode: chosen.mode,
        supervised,
        flags: flags.args,
        fixed_port: chosen.self_monitor || flags.receives,
        self_monitor: chosen.self_monitor,
        metrics_path: flags.metrics_path,
        resources,
        env: extras.env,
        volume_mounts: extras.volume_mounts,
        volumes: extras.volumes,
        wal_size_limit,
        wal_medium,
        files: needs.files,
        secret_env: needs.secret_env,
        scrape_interval: config.global.scrape_interval.get(),
        scrape_timeout: config.global.scrape_timeout.get(),
        selects_monitors: spec.pod_monitor_selector.is_some() || spec.service_monitor_selector.is_some(),
        guard_rails: rails.clone(),
        spec: bounded,
        ignored: Vec::new(),
        config,
    };
    guard_rails::check(&agent, rails, findings);
    agent
}

/// Which monitors the template selects: what the API machinery refuses would select nothing, without a word.
fn selectors(spec: &PrometheusAgentSpec, findings: &mut Findings) {
    let root = Path::root("spec");
    for (selector, name) in [
        (&spec.pod_monitor_selector, "podMonitorSelector"),
        (&spec.pod_monitor_namespace_selector, "podMonitorNamespaceSelector"),
        (&spec.service_monitor_selector, "serviceMonitorSelector"),
        (&spec.service_monitor_namespace_selector, "serviceMonitorNamespaceSelector"),
    ] {
        if let Some(selector) = selector {
            selector::check(selector, &root.key(name), findings);
        }
    }
    let role = spec.service_discovery_role.as_deref();
    text::choice(role, DISCOVERY_ROLES, DISCOVERY_ROLES, &root.key("serviceDiscoveryRole"), findings);
}

/// What the template's annotations choose.
struct Chosen {
    mode: ModePreference,
    supervise: Supervise,
    self_monitor: bool,
}

#[derive(Clone, Copy)]
enum Supervise {
    Auto,
    Always,
    Never,
}

fn annotations(template: &Template, findings: &mut Findings) -> Chosen {
    let root = Path::root("metadata").key("annotations");
    let mut read = |value: &Option<String>, key: &str, allowed: &'static [&'static str]| {
        let value = value.as_deref().unwrap_or(allowed[0]).trim().to_ascii_lowercase();
        let position = allowed.iter().position(|word| *word == value);
        if position.is_none() {
            findings.violation(&root.key(key), value, Rule::OneOf(allowed));
        }
        position.unwrap_or_default()
    };
    let own = &template.annotations;
    let mode = match read(&own.mode, names::MODE, &["auto", "native", "container"]) {
        1 => ModePreference::Native,
        2 => ModePreference::Container,
        _ => ModePreference::Auto,
    };
    let supervise = match read(&own.supervise, names::SUPERVISE, &["auto", "always", "never"]) {
        1 => Supervise::Always,
        2 => Supervise::Never,
        _ => Supervise::Auto,
    };
    let self_monitor = read(&own.self_monitor, names::SELF_MONITOR, &["false", "true"]) == 1;
    for name in template.allowed_namespaces.iter().flat_map(|list| list.split(',')).map(str::trim) {
        if !name.is_empty() && name != "*" && !text::is_label(name) {
            let rule = Rule::Text("is neither * nor the name of a namespace");
            findings.violation(&root.key(names::ALLOWED_NAMESPACES), name, rule);
        }
    }
    Chosen { mode, supervise, self_monitor }
}

/// Version, image and whether the agent runs under the loop.
fn program(
    spec: &PrometheusAgentSpec,
    supervise: Supervise,
    settings: &Settings,
    findings: &mut Findings,
) -> (Version, String, bool) {
    let root = Path::root("spec");
    let text = spec.image.as_deref().filter(|image| !image.is_empty());
    let reference = text.and_then(ImageReference::parse);
    if let (Some(text), None) = (text, reference) {
        let rule = Rule::Text("is not an image reference, and a kubelet would not start the pod");
        findings.violation(&root.key("image"), text, rule);
    }
    let tagged = reference.and_then(|reference| reference.version());
    let stated = spec.version.as_deref().filter(|version| !version.is_empty());
    let parsed = stated.and_then(Version::parse);
    if let (Some(stated), None) = (stated, parsed) {
        findings.violation(&root.key("version"), stated, Rule::Text("is not a version such as v3.13.5"));
    }
    let (path, shown) = match (stated, text) {
        (Some(stated), _) => (root.key("version"), stated),
        (None, Some(image)) => (root.key("image"), image),
        (None, None) => (root.key("version"), ""),
    };
    let version = parsed.or(tagged).unwrap_or(settings.agent_version);
    if version < Version::FIRST_SUPPORTED {
        let rule = Rule::Other {
            rule: "is older than v3.0.0: Prometheus 2.x cannot reload its configuration by itself and is out of support",
            fix: "use v3.0.0 or later",
        };
        findings.violation(&path, shown, rule);
    } else if version >= Version::FIRST_UNKNOWN {
        let rule = Rule::Other {
            rule: "is a major version that promsidecar does not know",
            fix: "use a 3.x release",
        };
        findings.violation(&path, shown, rule);
    }
    if let (Some(parsed), Some(tagged), Some(text)) = (parsed, tagged, text)
        && parsed != tagged
    {
        let doubt = format!("{text} is another version; flags and configuration are made for {parsed}");
        findings.warning(&root.key("version"), doubt);
    }
    let image = match (text, stated.filter(|_| parsed.is_some())) {
        (Some(image), _) => image.to_owned(),
        // A pre-release keeps its whole name here.
        (None, Some(stated)) => {
            let tag = stated.strip_prefix('v').unwrap_or(stated).replace('+', "-");
            format!("{}:v{tag}", settings.agent_image)
        }
        (None, None) => format!("{}:{version}", settings.agent_image),
    };
    let supervised = match supervise {
        Supervise::Always => true,
        Supervise::Never => false,
        Supervise::Auto => has_shell(&image, settings),
    };
    (version, image, supervised)
}

/// Whether the image is known to have the shell that the loop needs.
fn has_shell(image: &str, settings: &Settings) -> bool {
    ImageReference::parse(image).is_some_and(|reference| {
        let repository = reference.full_repository();
        let known =
            settings.supervisable_images.iter().any(|known| image::full_repository(known) == repository);
        known && !reference.is_distroless()
    })
}

fn container_resources(
    spec: &PrometheusAgentSpec,
    extras: &pod::Extras,
    ceilings: &BTreeMap<String, Quantity>,
    findings: &mut Findings,
) -> super::agent::Resources {
    let plain = spec.resources.as_ref().map(|resources| (resources, Path::root("spec").key("resources")));
    let merged = extras.resources.as_ref().map(|(resources, path)| (resources, path.clone()));
    let sources: Vec<_> = plain.into_iter().chain(merged).collect();
    resources::resources(&sources, ceilings, findings)
}

/// Variables that external labels may refer to.
fn env_names(extras: &pod::Extras) -> BTreeSet<String> {
    let facts = names::RUNTIME_FACTS.iter().map(|fact| fact.env.to_owned());
    let own = extras.env.iter().filter_map(|env| env["name"].as_str()).map(str::to_owned);
    facts.chain(own).chain(["POD_NAMESPACE".to_owned()]).collect()
}

fn go_gc(spec: &PrometheusAgentSpec, findings: &mut Findings) -> Option<Runtime> {
    let gogc = spec.runtime.as_ref()?.go_gc?;
    if gogc < -1 {
        let rule = Rule::Other { rule: "is below -1", fix: "state a percentage, or -1 for no collection" };
        findings.violation(&Path::root("spec").key("runtime").key("goGC"), gogc.to_string(), rule);
    }
    Some(Runtime { gogc })
}

fn enforced_namespace_label(
    spec: &PrometheusAgentSpec,
    legacy: bool,
    findings: &mut Findings,
) -> Option<String> {
    let path = Path::root("spec").key("enforcedNamespaceLabel");
    let label = text::optional_line(spec.enforced_namespace_label.as_deref(), &path, findings)?;
    if !text::is_label_name(&label, legacy) || label.starts_with("__") {
        findings.violation(&path, &label, Rule::Text("is not the name of a label that series may carry"));
    }
    Some(label)
}
