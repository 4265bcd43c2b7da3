//! One cluster through prometheus-operator and through us.

#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::collections::BTreeMap;

use promsidecar::monitors::collect::Collector;
use promsidecar::monitors::object::{Kind, MonitorKey};
use promsidecar::monitors::selection::{self, Monitors, Rejected, Selection};
use promsidecar::names;
use promsidecar::template::agent::Agent;
use promsidecar::template::render;
use promsidecar::template::violation::{Rule, Violation};
use serde_json::{Map, Value, json};

use super::classes;
use super::difference::{self, Fired, Place};
use super::objects::{CONFIG_MAP, NAMESPACES, SECRET, surroundings};
use crate::support::oracle::{self, Generated, Surroundings};
use crate::support::template;

/// What became of the monitors of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Specs that both sides took, by how many jobs were compared.
    pub(crate) taken: Vec<Value>,
    /// Specs that one side rejected, or both.
    pub(crate) rejected: Vec<Value>,
    pub(crate) jobs: usize,
    /// What no rule explains.
    pub(crate) lines: Vec<String>,
}

impl Compared {
    /// Compares what both sides make of each monitor that either selects.
    pub(super) fn verdicts(
        &mut self,
        template: &Value,
        monitors: &[Value],
        (everywhere, generated): (&Selection, &Generated),
        fired: &mut Fired,
    ) {
        for monitor in monitors {
            let (mine, theirs) = (verdict(everywhere, monitor), their_verdict(generated, monitor));
            match (&mine, &theirs) {
                (None, None) => continue,
                (Some(Ok(())), Some(Ok(()))) => self.taken.push(monitor["spec"].clone()),
                _ => self.rejected.push(monitor["spec"].clone()),
            }
            let because = explain_verdicts(template, monitor, &mine, &theirs, fired);
            self.lines.extend(because.map(|line| format!("{}: {line}", id(monitor))));
        }
    }
}

pub(super) fn id(object: &Value) -> String {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or("default");
    format!("{}/{}", text("namespace"), text("name"))
}

/// The template as a validated agent.
pub(crate) fn agent_of(template: &Value) -> Agent {
    template::judge(template).unwrap_or_else(|violations| panic!("{template}: {violations:?}"))
}

/// Reads monitors, Services and namespaces.
pub(crate) fn monitors_of(monitors: &[Value]) -> Monitors {
    let mut collector = Collector::default();
    for monitor in monitors {
        collector.note(monitor, "default").expect("an object with a name of its own");
    }
    let mut read = collector.into_monitors();
    for (name, tier) in NAMESPACES {
        let says = selection::Surroundings {
            labels: [("tier".to_owned(), tier.to_owned())].into(),
            allowed_secrets: [SECRET, CONFIG_MAP, "absent"].map(str::to_owned).into(),
        };
        read.insert_namespace(name.to_owned(), says);
    }
    read
}

pub(crate) fn upstream(template: &Value, monitors: &[Value]) -> Generated {
    let mut objects = surroundings();
    objects.push(template.clone());
    objects.extend(monitors.iter().cloned());
    oracle::config(&objects, false).unwrap_or_else(|failure| panic!("{failure:?}: {template} {monitors:?}"))
}

pub(super) fn parsed(config: &str) -> Value {
    serde_saphyr::from_str(config).unwrap_or_else(|error| panic!("{error}: {config}"))
}

/// Jobs of monitors by name.
pub(super) fn jobs(config: &Value) -> BTreeMap<String, Value> {
    let jobs = config["scrape_configs"].as_array().into_iter().flatten();
    let named = jobs.map(|job| (job["job_name"].as_str().unwrap_or_default().to_owned(), job.clone()));
    named.filter(|(name, _)| name.starts_with("podMonitor/") || name.starts_with("serviceMonitor/")).collect()
}

/// `kind/namespace/name` of a monitor, as upstream's side has it.
pub(crate) fn key(monitor: &Value) -> String {
    format!("{}/{}", monitor["kind"].as_str().unwrap_or_default(), id(monitor))
}

/// Compares both sides, for the pods of every namespace.
pub(crate) fn compare(template: &Value, monitors: &[Value], fired: &mut Fired) -> Compared {
    compare_with(template, template, monitors, fired)
}

/// The same, where the operator has another template: the one of [`classes::with_paths`].
pub(crate) fn compare_with(
    template: &Value,
    their_template: &Value,
    monitors: &[Value],
    fired: &mut Fired,
) -> Compared {
    let mut compared = Compared::default();
    let agent = agent_of(template);
    let known = monitors_of(monitors);
    let generated = upstream(their_template, monitors);
    let everywhere = known.select_everywhere(&agent);
    compared.verdicts(template, monitors, (&everywhere, &generated), fired);
    let config = parsed(&generated.config);
    let without_roles = without_roles(their_template, monitors);
    let theirs = jobs(&config);
    for (namespace, _) in NAMESPACES {
        let selection = known.select(&agent, namespace);
        let ours = jobs(&parsed(&render::render(&agent, namespace, &selection)));
        for monitor in monitors {
            // One side alone has no job; why is said above.
            let elsewhere =
                everywhere.rejected.iter().any(|rejected| rejected.monitor.id.to_string() == id(monitor));
            if elsewhere || !matches!(their_verdict(&generated, monitor), Some(Ok(()))) {
                continue;
            }
            let prefix = format!("podMonitor/{}/", id(monitor));
            let expected =
                theirs.iter().filter(|(name, job)| name.starts_with(&prefix) && covers(job, namespace));
            let expected: Map<_, _> = expected.map(|(name, job)| (name.clone(), job.clone())).collect();
            let found = ours.iter().filter(|(name, _)| name.starts_with(&prefix));
            let found: Map<_, _> = found.map(|(name, job)| (name.clone(), job.clone())).collect();
            if found.is_empty() && !expected.is_empty() && foreign_credentials(&selection, monitor) {
                fired.note("rejected: credentials of another namespace");
                continue;
            }
            let names = |jobs: &Map<String, Value>| jobs.keys().cloned().collect::<Vec<_>>();
            if names(&found) != names(&expected) {
                let (found, expected) = (names(&found), names(&expected));
                compared.lines.push(format!("jobs for {namespace}: {found:?}, not {expected:?}"));
                continue;
            }
            for (name, job) in &found {
                let place = Place {
                    namespace: monitor["metadata"]["namespace"].as_str().unwrap_or_default(),
                    spec: &monitor["spec"],
                    class: classes::of(their_template, &monitor["spec"]),
                    global: &config["global"],
                    without_role: without_roles.get(name).cloned(),
                    files: "monitors/",
                };
                let lines = difference::jobs(job, &expected[name], &place, fired);
                compared
                    .lines
                    .extend(lines.into_iter().map(|line| format!("{name} for {namespace}: {line}")));
                compared.jobs += 1;
            }
        }
    }
    compared
}

/// Upstream's relabelings of monitors with a role selector, as they are without.
fn without_roles(template: &Value, monitors: &[Value]) -> BTreeMap<String, Value> {
    let is_role = |monitor: &&Value| monitor["spec"]["selectorMechanism"] == "RoleSelector";
    let mut plain: Vec<_> = monitors.iter().filter(is_role).cloned().collect();
    if plain.is_empty() {
        return BTreeMap::new();
    }
    for monitor in &mut plain {
        monitor["spec"]["selectorMechanism"] = json!("RelabelConfig");
    }
    let jobs = jobs(&parsed(&upstream(template, &plain).config));
    jobs.into_iter().map(|(name, job)| (name, job["relabel_configs"].clone())).collect()
}

/// Whether a job of upstream discovers pods of a namespace.
pub(super) fn covers(job: &Value, namespace: &str) -> bool {
    let names = &job["kubernetes_sd_configs"][0]["namespaces"]["names"];
    names.as_array().is_none_or(|names| names.contains(&json!(namespace)))
}

pub(super) type Verdict<'a, T> = Option<Result<(), &'a T>>;

/// Whether we take a monitor; `None` where the template does not select it.
pub(super) fn verdict<'a>(selection: &'a Selection, monitor: &Value) -> Verdict<'a, [Violation]> {
    let is_it =
        |found: &MonitorKey| Some(found.kind) == Kind::of(monitor) && found.id.to_string() == id(monitor);
    if let Some(Rejected { violations, .. }) = selection.rejected.iter().find(|it| is_it(&it.monitor)) {
        return Some(Err(violations));
    }
    let mut taken = selection.taken.iter().map(|taken| &taken.monitor).chain(&selection.elsewhere);
    taken.any(is_it).then_some(Ok(()))
}

pub(super) fn their_verdict<'a>(generated: &'a Generated, monitor: &Value) -> Verdict<'a, String> {
    let key = key(monitor);
    if let Some(why) = generated.rejected.get(&key) {
        return Some(Err(why));
    }
    generated.selected.contains(&key).then_some(Ok(()))
}

pub(super) fn foreign_credentials(selection: &Selection, monitor: &Value) -> bool {
    let foreign = |violation: &Violation| violation.rule.text().starts_with("refers to Secrets");
    verdict(selection, monitor)
        .is_some_and(|verdict| verdict.is_err_and(|violations| violations.iter().all(foreign)))
}

/// Why the sides do not agree on a monitor, unless a rule says so.
pub(super) fn explain_verdicts(
    template: &Value,
    monitor: &Value,
    ours: &Verdict<'_, [Violation]>,
    theirs: &Verdict<'_, String>,
    fired: &mut Fired,
) -> Option<String> {
    match (ours, theirs) {
        (Some(Ok(())), Some(Ok(()))) | (None, None) | (Some(Err(_)), Some(Err(_))) => None,
        (Some(Ok(())), Some(Err(why))) if why.contains("\"absent\" not found") => {
            fired.note("accepted: the Secret is not read");
            None
        }
        (Some(Err(violations)), Some(Ok(()))) => {
            let mut proven = None;
            for violation in *violations {
                let name = deliberate(violation)
                    .or_else(|| *proven.get_or_insert_with(|| refused_by_others(template, monitor)));
                let Some(name) = name else { return Some(format!("only we reject it: {violation}")) };
                fired.note(name);
            }
            None
        }
        _ => Some(format!("we say {ours:?}, upstream {theirs:?}")),
    }
}

/// What the operator takes and we deliberately do not.
fn deliberate(violation: &Violation) -> Option<&'static str> {
    let (path, text) = (&violation.path, violation.rule.text());
    let endpoint = path.starts_with("spec.podMetricsEndpoints[") || path.starts_with("spec.endpoints[");
    let ends = |end: &str| endpoint && path.ends_with(end);
    match &violation.rule {
        Rule::RawPath(_) if ends("].bearerTokenFile") || ends("File") => {
            Some("rejected: a path into the container")
        }
        Rule::NoFileForm(_) if ends("].proxyConnectHeader") => {
            Some("rejected: a header of a proxy has no file form")
        }
        Rule::NoFileForm(_) if ends("].oauth2.clientId") => {
            Some("rejected: the client id stands in a Secret")
        }
        _ if ends("].proxyUrl") && text.starts_with("leads the scrape") => {
            Some("rejected: a proxy leaves the pod")
        }
        _ if ends("].replacement") && text.starts_with("leads out of the pod") => {
            Some("rejected: a relabeling leaves the pod")
        }
        Rule::ScrapeClass(text) if path == "spec.scrapeClass" && text.contains("is a path inside") => {
            Some("rejected: the scrape class has a path")
        }
        Rule::ScrapeClass(text) if path == "spec.scrapeClass" && text.contains("leads out of the pod") => {
            Some("rejected: the scrape class leaves the pod")
        }
        _ => None,
    }
}

/// What upstream's own definition or Prometheus itself refuses.
fn refused_by_others(template: &Value, monitor: &Value) -> Option<&'static str> {
    let custom = oracle::custom_resource(monitor).expect("the definition is known");
    if !custom.errors.is_empty() {
        return Some("rejected: the definition refuses it");
    }
    let config = upstream(&classes::without_authorization(template), std::slice::from_ref(monitor)).config;
    let pods = [json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": []}, "status": {}})];
    let around = Surroundings { pods: pods.to_vec(), ..Surroundings::default() };
    let refused = oracle::labels(&config, &around).is_err_and(|failure| failure.stage == "config");
    refused.then_some("rejected: Prometheus refuses what the operator makes of it")
}

/// The global sections: what of them is not the same, beyond the labels of the pod's identity and limits by memory.
pub(crate) fn globals(template: &Value, fired: &mut Fired) -> Vec<String> {
    let _ = &fired;
    let agent = agent_of(template);
    let mut ours = parsed(&render::render(&agent, "shop", &Selection::default()))["global"].clone();
    let mut theirs = parsed(&upstream(template, &[]).config)["global"].clone();
    if let Some(labels) = ours["external_labels"].as_object_mut() {
        labels.retain(|name, _| !name.starts_with(names::INTERNAL_LABEL_PREFIX));
    }
    if let Some(labels) = theirs["external_labels"].as_object_mut() {
        labels.remove("prometheus_replica");
    }
    let derived = &agent.config.derived;
    let drop = |value: &mut Value, key: &str| drop(value.as_object_mut().and_then(|map| map.remove(key)));
    for (key, is_derived) in [
        ("sample_limit", derived.sample_limit.is_some()),
        ("body_size_limit", derived.body_size_limit.is_some()),
    ] {
        if is_derived {
            drop(&mut ours, key);
        }
    }
    if template["spec"]["scrapeTimeout"].is_null() {
        drop(&mut ours, "scrape_timeout");
    }
    difference::unequal("global", &ours, &theirs)
}
