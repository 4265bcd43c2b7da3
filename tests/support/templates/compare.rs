//! One template through prometheus-operator and through us: verdicts, warnings, configuration, flags, mounted objects.

#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::monitors::selection::Selection;
use promsidecar::template::agent::Agent;
use promsidecar::template::render;
use promsidecar::template::violation::{Rule, Violation};
use serde_json::{Value, json};

use super::rules::{self, Sides};
use crate::support::monitors::difference::{Fired, unequal};
use crate::support::monitors::objects::surroundings;
use crate::support::oracle::{self, Answer, Generated, Surroundings};
use crate::support::template;

/// What became of one template.
#[derive(Debug)]
pub(crate) struct Compared {
    /// Whether both sides take it.
    pub(crate) accepted: bool,
    /// What no rule explains.
    pub(crate) lines: Vec<String>,
}

/// The configuration of a template's agents, as Prometheus would read it.
pub(crate) fn rendered(agent: &Agent) -> Value {
    parsed(&render::render(agent, "shop", &Selection::default()))
}

fn parsed(config: &str) -> Value {
    serde_saphyr::from_str(config).unwrap_or_else(|error| panic!("{error}: {config}"))
}

fn upstream(template: &Value) -> Answer<Generated> {
    let mut objects = surroundings();
    objects.push(template.clone());
    oracle::config(&objects, false)
}

/// Compares both sides.
pub(crate) fn compare(template: &Value, fired: &mut Fired) -> Compared {
    let (ours, theirs) = (template::judge(template), upstream(template));
    let accepted = ours.is_ok() && theirs.is_ok();
    let lines = match (&ours, &theirs) {
        (Ok(agent), Ok(generated)) => agents(template, agent, generated, fired),
        (Err(_), Err(_)) => Vec::new(),
        (Err(violations), Ok(generated)) => rejected(template, violations, &generated.config, fired),
        (Ok(_), Err(failure)) if failure.message.contains("\"absent\" not found") => {
            fired.note("accepted: the Secret is not read");
            Vec::new()
        }
        (Ok(_), Err(failure)) if failure.message.starts_with("generate additional scrape configs") => {
            fired.note("accepted: additional scrape configs have no effect");
            Vec::new()
        }
        (Ok(_), Err(failure)) => vec![format!("only upstream rejects it: {failure:?}")],
    };
    Compared { accepted, lines }
}

fn agents(template: &Value, agent: &Agent, generated: &Generated, fired: &mut Fired) -> Vec<String> {
    let mut lines = Vec::new();
    let mut config = generated.config.clone();
    if config.matches("\nstorage:").count() > 1 {
        fired.note("upstream writes storage twice");
        let mut without = template.clone();
        let tsdb = without["spec"]["tsdb"].as_object_mut().expect("only that writes it");
        tsdb.retain(|key, _| key == "outOfOrderTimeWindow");
        config = upstream(&without).unwrap_or_else(|failure| panic!("{failure:?}: {without}")).config;
    }
    let (mut ours, mut theirs) = (rendered(agent), parsed(&config));
    for side in [&mut ours, &mut theirs] {
        // Without monitors, upstream has no job; ours are about hints and the agent itself.
        side.as_object_mut().map(|map| map.remove("scrape_configs"));
    }
    let mut plain = template.clone();
    plain["spec"]["remoteWrite"] = json!([{"url": "http://plain.example"}]);
    let plain = template::judge(&plain).unwrap_or_else(|violations| panic!("{plain}: {violations:?}"));
    let identity = rendered(&plain)["remote_write"][0]["write_relabel_configs"].take();
    let sides = Sides { spec: &template["spec"], agent, identity };
    rules::configurations(&mut ours, &mut theirs, &sides, fired);
    lines.extend(unequal("", &ours, &theirs));
    lines.extend(flags(&sides, &generated.arguments, fired));
    lines.extend(warnings(&sides, &generated.warnings, fired));
    let objects = mounted(agent);
    if objects != generated.objects {
        lines.push(format!("mounted: {objects:?}, not {:?}", generated.objects));
    }
    lines
}

/// Whole objects that an agent has, by path.
fn mounted(agent: &Agent) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    for mount in &agent.volume_mounts {
        let volume = agent.volumes.iter().find(|volume| volume["name"] == mount["name"]);
        let volume = volume.expect("a mount has its volume");
        if volume["name"].as_str().is_some_and(|name| name.starts_with("promsidecar-x-")) {
            continue;
        }
        let name = match (&volume["secret"]["secretName"], &volume["configMap"]["name"]) {
            (Value::String(name), _) => format!("Secret/{name}"),
            (_, Value::String(name)) => format!("ConfigMap/{name}"),
            _ => panic!("{volume}"),
        };
        objects.insert(mount["mountPath"].as_str().expect("a path").to_owned(), name);
    }
    objects
}

/// Flags beyond those that say where files are and how the agent is reached.
fn flags(sides: &Sides<'_>, theirs: &[String], fired: &mut Fired) -> Vec<String> {
    let split = |flags: &[String]| {
        let (features, mut rest): (Vec<_>, Vec<_>) =
            flags.iter().cloned().partition(|flag| flag.starts_with("--enable-feature="));
        rest.sort();
        let features = features
            .iter()
            .filter_map(|flag| flag.split_once('='))
            .flat_map(|(_, list)| list.split(',').map(str::to_owned).collect::<Vec<_>>());
        (features.collect::<BTreeSet<_>>(), rest)
    };
    let ((ours, own), (mut upstream, mut rest)) = (split(&sides.agent.flags), split(theirs));
    let everywhere = [
        "--agent",
        "--config.file=/etc/prometheus/config_out/prometheus.env.yaml",
        "--storage.agent.path=/prometheus",
        "--web.enable-lifecycle",
        "--web.listen-address=127.0.0.1:9090",
    ];
    let count = rest.len();
    rest.retain(|flag| !everywhere.contains(&flag.as_str()));
    if rest.len() < count {
        fired.note("flags: where files are and who is served");
    }
    if !own.iter().any(|flag| flag.starts_with("--web.route-prefix=")) {
        rest.retain(|flag| flag != "--web.route-prefix=/");
    }
    for feature in ["agent", "auto-reload-config"] {
        if !ours.contains(feature) && upstream.remove(feature) {
            fired.note("flags: every agent has the feature");
        }
    }
    if sides.spec["tsdb"]["chunkEncoding"]["floats"] == "Xor2"
        && !ours.contains("xor2-encoding")
        && upstream.remove("xor2-encoding")
    {
        fired.note("blocks have no settings");
    }
    let mut lines = Vec::new();
    if ours != upstream {
        lines.push(format!("features: {ours:?}, not {upstream:?}"));
    }
    if own != rest {
        lines.push(format!("flags: {own:?}, not {rest:?}"));
    }
    lines
}

/// The key that a field of upstream becomes.
fn key_of(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or_default();
    let mut key = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            key.push('_');
        }
        key.push(c.to_ascii_lowercase());
        before = c;
    }
    match key.as_str() {
        "name_escaping_scheme" => "metric_name_escaping_scheme".to_owned(),
        "scrape_classic_histograms" => "always_scrape_classic_histograms".to_owned(),
        _ => key,
    }
}

/// What upstream's log says is left out, against what we report.
fn warnings(sides: &Sides<'_>, theirs: &[String], fired: &mut Fired) -> Vec<String> {
    let (mut ours, mut upstream, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for ignored in &sides.agent.ignored {
        if ignored.path.ends_with(".useFIPSSTSEndpoint") {
            fired.note("Prometheus 3.0 has no FIPS endpoint");
        } else if ignored.why.starts_with("needs Prometheus")
            || ignored.why == "Prometheus 3 has no such setting"
        {
            ours.push(format!("too new: {}", key_of(&ignored.path)));
        } else if ignored.path == "spec.bodySizeLimit" {
            fired.note("a body size that is lowered is reported");
        } else if ignored.why.starts_with("the enforced limit") {
            ours.push(format!("lowered: {}", key_of(&ignored.path)));
        } else if let Some(label) = ignored.path.strip_prefix("spec.externalLabels.") {
            ours.push(format!("reserved: {label}"));
        }
    }
    for line in theirs {
        let quoted = line.split('"').nth(1).unwrap_or_default();
        if line.starts_with("ignoring command line argument \"enable-feature\"=\"xor2-encoding\"")
            || line.starts_with("ignoring \"storage\" not supported")
        {
            fired.note("blocks have no settings");
        } else if line.starts_with("ignoring \"") && line.contains("not supported by Prometheus") {
            upstream.push(format!("too new: {quoted}"));
        } else if line.contains("is greater than the enforced limit") {
            upstream.push(format!("lowered: {quoted}"));
        } else if line.contains("it is a reserved key")
            && let Some((_, label)) = line.split_once(" key=")
        {
            upstream.push(format!("reserved: {label}"));
        } else {
            lines.push(format!("upstream warns: {line}"));
        }
    }
    ours.sort();
    upstream.sort();
    if ours != upstream {
        lines.push(format!("reported: {ours:?}, not {upstream:?}"));
    }
    lines
}

/// Why only we reject a template: lines that no rule explains.
fn rejected(template: &Value, violations: &[Violation], config: &str, fired: &mut Fired) -> Vec<String> {
    // What else is wrong is judged as for Prometheus 3.
    if violations.iter().any(|violation| deliberate(violation) == Some("rejected: Prometheus 2")) {
        fired.note("rejected: Prometheus 2");
        return Vec::new();
    }
    let (mut proven, mut lines) = (None, Vec::new());
    for violation in violations {
        let others = || {
            let custom = oracle::custom_resource(template).expect("the definition is known");
            if !custom.errors.is_empty() {
                return Some("rejected: the definition refuses it");
            }
            // Some of Prometheus' rules are about jobs, and without monitors upstream has none.
            let config = config.replace("scrape_configs: []", "scrape_configs: [{job_name: any}]");
            let refused = oracle::labels(&config, &Surroundings::default());
            refused
                .is_err_and(|failure| failure.stage == "config")
                .then_some("rejected: Prometheus refuses what the operator makes of it")
        };
        match deliberate(violation).or_else(|| *proven.get_or_insert_with(others)) {
            Some(name) => fired.note(name),
            None => lines.push(format!("only we reject it: {violation}")),
        }
    }
    lines
}

/// What the operator takes and we deliberately do not.
fn deliberate(violation: &Violation) -> Option<&'static str> {
    let (path, text) = (violation.path.as_str(), violation.rule.text());
    let ends = |end: &str| path.ends_with(end);
    let begins = |beginning: &str| path.starts_with(beginning);
    Some(match &violation.rule {
        Rule::RawPath(_) => "rejected: a path inside the container",
        Rule::NoFileForm(_) if ends(".proxyConnectHeader") => {
            "rejected: a header of a proxy has no file form"
        }
        Rule::NoFileForm(_) if ends(".oauth2.clientId") => "rejected: the client id stands in a Secret",
        Rule::NoFileForm(_) if ends(".azureAd.oauth") => "rejected: Azure's secret has no file form",
        Rule::ClearText(_) if ends(".bearerToken") || ends(".url") || ends("Url") => {
            "rejected: a credential in clear text"
        }
        Rule::Exceeds { .. } if ends(".queueConfig.minShards") || ends(".queueConfig.minBackoff") => {
            "rejected: a queue whose bounds cross"
        }
        Rule::Duplicate { .. } if ends("]") && begins("spec.remoteWrite[") => {
            "rejected: the same remote write twice"
        }
        Rule::Required if ends(".authorization.credentials") => {
            "rejected: an authorization without credentials"
        }
        _ if text.starts_with("differs from the keys of another remote write") => {
            "rejected: two pairs of AWS keys"
        }
        _ if text == "is not above zero" => "rejected: a duration of zero",
        _ if text == "is not the name of a header" => "rejected: a header that no request may have",
        _ if text.starts_with("begins with __promsidecar_") || path == "spec.enforcedNamespaceLabel" => {
            "rejected: a label that is ours or that series do not keep"
        }
        _ if begins("spec.podTargetLabels[") => "rejected: a pod label without a name",
        _ if begins("spec.additionalArgs[") => "rejected: a flag that is ours or ends the agent",
        _ if path == "spec.externalUrl" => "rejected: a URL with which no agent starts",
        _ if path == "spec.version" && text.starts_with("is older than") => "rejected: Prometheus 2",
        _ if ["image", "storage", "secrets", "configMaps", "volumes", "volumeMounts", "containers"]
            .iter()
            .any(|field| begins(&format!("spec.{field}"))) =>
        {
            "rejected: parts of the pod that a template may not have"
        }
        _ => return None,
    })
}
