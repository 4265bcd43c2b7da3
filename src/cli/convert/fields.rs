//! What of a central agent's or server's spec goes into a template. PURE: tables and a function.
//!
//! The principle: what says **what** is collected, how and where it is sent is the same beside an application, and stays.
//! What says **where and how large** the one central process is (its workload, its place, its size, the address that
//! others reach it at) was chosen for all targets together; copied into every pod it would be wrong without a sound, so it
//! is left out and told. What an agent does is in [`FIELDS`](crate::template::api::fields::FIELDS) alone; here stands only
//! what that table cannot know: what a server has beyond an agent, and what is meant for one process of many targets.
//!
//! Input: a spec. Output: the template's spec, and what became of each field.

use serde_json::{Map, Value};

use crate::template::api::fields::{Field, Verdict};
use crate::template::violation::Path;

const BLOCKS: &str =
    "an agent keeps no blocks: how long samples are kept is set at the receiver, before the first pods move";
const RULES: &str =
    "an agent evaluates no rules: evaluate them where the samples arrive, before the first pods move";
const ALERTS: &str = "an agent sends no alerts: alert where the samples arrive, before the first pods move";
const QUERIES: &str = "an agent answers no queries: ask the receiver";
const IMAGE: &str = "is no longer used upstream; name the image in spec.image";

/// Every field of a `Prometheus` that a `PrometheusAgent` does not have, and what to do instead.
pub const SERVER_FIELDS: [(&str, &str); 24] = [
    ("additionalAlertManagerConfigs", ALERTS),
    ("additionalAlertRelabelConfigs", ALERTS),
    ("alerting", ALERTS),
    ("allowOverlappingBlocks", BLOCKS),
    ("baseImage", IMAGE),
    ("disableCompaction", BLOCKS),
    ("enableAdminAPI", "an agent has no data to administer"),
    ("evaluationInterval", RULES),
    ("exemplars", "an agent stores none; it sends them on with remoteWrite[].sendExemplars"),
    ("prometheusRulesExcludedFromEnforce", RULES),
    ("query", QUERIES),
    ("queryLogFile", QUERIES),
    ("remoteRead", QUERIES),
    ("retention", BLOCKS),
    ("retentionPercentage", BLOCKS),
    ("retentionSize", BLOCKS),
    ("ruleNamespaceSelector", RULES),
    ("ruleQueryOffset", RULES),
    ("ruleSelector", RULES),
    ("rules", RULES),
    ("sha", IMAGE),
    ("shardRetentionPolicy", BLOCKS),
    ("tag", IMAGE),
    ("thanos", "an agent has no blocks to upload: send to Thanos Receive by remoteWrite"),
];

const SIZE: &str = "sized for all targets together; agents beside applications have small defaults";
const PROBES: &str = "an agent that fails must not make the application unready";
const ADDRESS: &str = "is about a server that others reach; an agent listens on its pod's loopback";

/// Fields that a template honours, and that say of a central process what is not true of an agent in each pod.
pub const CENTRAL: [(&str, &str); 7] = [
    ("externalUrl", ADDRESS),
    ("paused", "a template that is paused from its first day is never published"),
    (
        "replicaExternalLabelName",
        "there are no replicas: each pod's name would be its value, and a receiver that deduplicates by it would drop all pods \
         but one",
    ),
    ("resources", SIZE),
    ("routePrefix", ADDRESS),
    ("storage", SIZE),
    ("web", ADDRESS),
];

/// The same of the container of Prometheus, in `containers`.
const CENTRAL_OF_CONTAINER: [(&str, &str); 6] = [
    ("livenessProbe", PROBES),
    ("ports", ADDRESS),
    ("readinessProbe", PROBES),
    ("resources", SIZE),
    ("securityContext", "an agent has one that satisfies Pod Security restricted"),
    ("startupProbe", PROBES),
];

/// What upstream's definitions fill in by themselves and a template means anyway: no intent of anyone.
const FILLED_IN: [(&str, &str); 2] = [("scrapeInterval", "30s"), ("evaluationInterval", "30s")];

/// A field, and what there is to say about it.
pub type Note = (String, String);

/// What became of a spec.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields {
    /// The template's.
    pub spec: Map<String, Value>,
    /// Fields that are used as they are.
    pub kept: Vec<&'static str>,
    /// Fields that are used otherwise than upstream.
    pub modified: Vec<Note>,
    /// Fields that are not in the template.
    pub left_out: Vec<Note>,
}

/// Takes a spec apart. One that is `claimed` is a template's already: its sizes are an agent's.
pub fn take(spec: &Map<String, Value>, claimed: bool) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in spec {
        if value.is_null() || FILLED_IN.iter().any(|(field, filled_in)| name == field && value == filled_in) {
            continue;
        }
        let path = Path::root("spec").key(name);
        match Field::find(name) {
            Some(field) => fields.take(field, value, &path, claimed),
            None => {
                let why = found(&SERVER_FIELDS, name).unwrap_or("is no field that promsidecar knows");
                fields.leave_out(&path, why);
            }
        }
    }
    fields
}

fn found(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(field, _)| *field == name).map(|(_, why)| *why)
}

impl Fields {
    fn take(&mut self, field: &'static Field, value: &Value, path: &Path, claimed: bool) {
        if let Some(why) = found(&CENTRAL, field.name).filter(|_| !claimed) {
            self.leave_out(path, why);
            return;
        }
        if matches!(field.verdict, Verdict::Ignored(_)) {
            if let Some(why) = field.why_ignored(value) {
                self.leave_out(path, why);
            }
            return;
        }
        let value =
            if field.name == "containers" { self.containers(value, path, claimed) } else { value.clone() };
        if value.as_array().is_some_and(Vec::is_empty) {
            return;
        }
        self.spec.insert(field.name.to_owned(), value);
        match field.verdict {
            Verdict::Modified(how) => self.modified.push((path.to_string(), how.to_owned())),
            Verdict::Honoured | Verdict::Ignored(_) => self.kept.push(field.name),
        }
    }

    /// Of `containers`, that of Prometheus alone, without what is true of the central one.
    fn containers(&mut self, containers: &Value, path: &Path, claimed: bool) -> Value {
        let Value::Array(containers) = containers else { return containers.clone() };
        let mut taken = Vec::new();
        for (index, container) in containers.iter().enumerate() {
            let path = path.index(index);
            let mut container = container.clone();
            match (&mut container, claimed) {
                (Value::Object(members), _) if members.get("name").is_some_and(is_foreign) => {
                    self.leave_out(&path, "foreign containers are not added to the application's pod");
                    continue;
                }
                (Value::Object(members), false) => {
                    for (name, why) in CENTRAL_OF_CONTAINER {
                        if members.remove(name).is_some() {
                            self.leave_out(&path.key(name), why);
                        }
                    }
                    if members.keys().eq(["name"]) {
                        continue;
                    }
                }
                _ => {}
            }
            taken.push(container);
        }
        Value::Array(taken)
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        self.left_out.push((path.to_string(), why.to_owned()));
    }
}

/// Whether a container's name is one, and not that of Prometheus' own.
fn is_foreign(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name != "prometheus")
}

#[cfg(test)]
mod tests {
    use super::{CENTRAL, FILLED_IN, SERVER_FIELDS, take};
    use crate::template::api::fields::{Field, Verdict};
    use serde_json::{Value, json};

    #[test]
    fn the_tables_are_sorted_and_say_nothing_twice() {
        assert!(SERVER_FIELDS.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(CENTRAL.is_sorted_by(|(a, _), (b, _)| a < b));
        for (name, _) in SERVER_FIELDS {
            assert_eq!(Field::find(name), None, "{name} is a field of agents");
        }
        for (name, _) in CENTRAL {
            let verdict = Field::find(name).map(|field| field.verdict);
            assert!(
                matches!(verdict, Some(Verdict::Honoured | Verdict::Modified(_))),
                "{name}: {verdict:?}: the table of verdicts leaves it out by itself"
            );
        }
        for (name, _) in FILLED_IN {
            assert!(Field::find(name).is_some() || SERVER_FIELDS.iter().any(|(field, _)| *field == name));
        }
    }

    #[test]
    fn what_the_definitions_fill_in_is_nobodys_intent() {
        let Value::Object(spec) = json!({
            "shards": 1, "replicas": 1, "portName": "web", "scrapeInterval": "30s", "evaluationInterval": "30s",
            "paused": null,
        }) else {
            unreachable!("it is an object")
        };
        assert_eq!(take(&spec, false), super::Fields::default());
    }

    #[test]
    fn of_containers_that_of_prometheus_stays_without_its_size() {
        let env = json!([{"name": "A", "value": "b"}]);
        let Value::Object(spec) = json!({"containers": [
            {"name": "oauth-proxy", "image": "proxy"},
            {"name": "prometheus", "env": env, "resources": {"limits": {"memory": "8Gi"}}},
        ]}) else {
            unreachable!("it is an object")
        };
        let fields = take(&spec, false);
        assert_eq!(Value::from(fields.spec), json!({"containers": [{"name": "prometheus", "env": env}]}));
        let paths: Vec<_> = fields.left_out.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["spec.containers[0]", "spec.containers[1].resources"]);
    }
}
