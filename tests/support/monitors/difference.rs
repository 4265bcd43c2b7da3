//! Deliberate differences between our jobs and upstream's: each has a name, and is told from every other by its path and both
//! values.

use std::collections::BTreeMap;

use promsidecar::names;
use promsidecar::template::duration::PromDuration;
use serde_json::{Value, json};

use super::classes;
use super::objects::secret_value;

/// Names of all differences; one that never fires is not one.
pub(crate) const DIFFERENCES: [&str; 28] = [
    // Accept and reject.
    "rejected: a proxy leaves the pod",
    "rejected: a relabeling leaves the pod",
    "rejected: a header of a proxy has no file form",
    "rejected: the client id stands in a Secret",
    "rejected: the scrape class has a path",
    "rejected: the scrape class leaves the pod",
    "rejected: Prometheus refuses what the operator makes of it",
    "rejected: the definition refuses it",
    "accepted: the Secret is not read",
    "rejected: credentials of another namespace",
    // Jobs.
    "targets come from the annotation",
    "interval and timeout are taken back",
    "marked groups are left to their jobs",
    "nothing outside of the pod is scraped",
    "nothing is scraped by another scheme",
    "nothing is sharded",
    "labels of ours are dropped",
    "values of selectors match exactly",
    "role selectors are relabelings",
    "ports are text",
    "durations are canonical",
    "credentials are files",
    "credentials of classes are loaded",
    "TLS files of classes are the template's",
    "TLS files of classes complete an endpoint's own",
    "a class does not add a second way to authenticate",
    "the client id is in the clear",
    "loopback has no proxy",
];

/// The same of `ServiceMonitor`s; Services are chosen before there are jobs, so no selector is in them.
pub(crate) const SERVICE_DIFFERENCES: [&str; 31] = [
    "rejected: a proxy leaves the pod",
    "rejected: a relabeling leaves the pod",
    "rejected: a header of a proxy has no file form",
    "rejected: the client id stands in a Secret",
    "rejected: the scrape class has a path",
    "rejected: the scrape class leaves the pod",
    "rejected: Prometheus refuses what the operator makes of it",
    "rejected: the definition refuses it",
    "accepted: the Secret is not read",
    "rejected: credentials of another namespace",
    "targets come from the annotation",
    "interval and timeout are taken back",
    "marked groups are left to their jobs",
    "nothing outside of the pod is scraped",
    "nothing is scraped by another scheme",
    "nothing is sharded",
    "labels of ours are dropped",
    "ports are text",
    "durations are canonical",
    "credentials are files",
    "credentials of classes are loaded",
    "TLS files of classes are the template's",
    "TLS files of classes complete an endpoint's own",
    "a class does not add a second way to authenticate",
    "the client id is in the clear",
    "loopback has no proxy",
    "rejected: a path into the container",
    "constants stand for discovery of endpoints",
    "services are chosen before",
    "an endpoint is a pod",
    "the name of the job is upstream's",
];

/// How often each difference of a list was seen.
#[derive(Debug)]
pub(crate) struct Fired {
    names: &'static [&'static str],
    counts: BTreeMap<&'static str, usize>,
}

impl Default for Fired {
    fn default() -> Self {
        Self::of(&DIFFERENCES)
    }
}

impl Fired {
    /// Those of another list.
    pub(crate) fn of(names: &'static [&'static str]) -> Self {
        Self { names, counts: BTreeMap::new() }
    }

    /// Notes a difference of this name.
    pub(crate) fn note(&mut self, name: &'static str) {
        assert!(self.names.contains(&name), "{name:?} has no row");
        *self.counts.entry(name).or_default() += 1;
    }

    /// How often a difference was seen.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// How often each difference was seen, a line each, and those that never were.
    pub(crate) fn all(&self) -> (String, Vec<&'static str>) {
        let count = |name: &str| self.count(name);
        let lines: Vec<_> = self.names.iter().map(|name| format!("{:>7} {name}", count(name))).collect();
        (lines.join("\n"), self.names.iter().copied().filter(|name| count(name) == 0).collect())
    }
}

/// Where a job is from.
pub(crate) struct Place<'a> {
    /// Namespace of the monitor.
    pub(crate) namespace: &'a str,
    /// The monitor's spec.
    pub(crate) spec: &'a Value,
    /// The monitor's scrape class as upstream has it; null where it has none.
    pub(crate) class: Value,
    /// `global` of upstream's configuration.
    pub(crate) global: &'a Value,
    /// Upstream's relabelings where the monitor asks for a role selector: those that it would have without.
    pub(crate) without_role: Option<Value>,
    /// Directory of the files that it refers to.
    pub(crate) files: &'a str,
}

/// One job of each; lines that no rule explains.
pub(crate) fn jobs(ours: &Value, theirs: &Value, place: &Place<'_>, fired: &mut Fired) -> Vec<String> {
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let mut lines = Vec::new();
    targets(&mut ours, &mut theirs, place, fired, &mut lines);
    relabelings(&mut ours, &mut theirs, place, fired, &mut lines);
    metric_relabelings(&mut ours, &mut theirs, fired, &mut lines);
    durations(&mut ours, &theirs, fired);
    classes::differences(&mut ours, &mut theirs, place, fired);
    credentials(&mut ours, &mut theirs, place, fired);
    if theirs.get("proxy_from_environment").is_some() {
        fired.note("loopback has no proxy");
        take(&mut theirs, "proxy_from_environment");
    }
    lines.extend(unequal("", &ours, &theirs));
    lines
}

pub(super) fn take(value: &mut Value, key: &str) -> Value {
    value.as_object_mut().and_then(|map| map.remove(key)).unwrap_or_default()
}

/// Every place where two values differ.
pub(crate) fn unequal(path: &str, ours: &Value, theirs: &Value) -> Vec<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            let at =
                |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or_default();
            keys.into_iter()
                .flat_map(|key| unequal(&format!("{path}.{key}"), &at(a, key), &at(b, key)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.flat_map(|(index, (a, b))| unequal(&format!("{path}[{index}]"), a, b)).collect()
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            // Upstream's own words for the factor: an approximate number.
            if (a - b).abs() <= 1e-9 * a.abs() {
                Vec::new()
            } else {
                vec![format!("{path}: {ours}, not {theirs}")]
            }
        }
        _ if ours == theirs => Vec::new(),
        _ => vec![format!("{path}: {ours}, not {theirs}")],
    }
}

/// `kubernetes_sd_configs`, of which everything follows from the monitor, and our file.
fn targets(
    ours: &mut Value,
    theirs: &mut Value,
    place: &Place<'_>,
    fired: &mut Fired,
    lines: &mut Vec<String>,
) {
    let mut discovery = take(theirs, "kubernetes_sd_configs");
    let file = take(ours, "file_sd_configs");
    let parts = &mut discovery[0];
    let namespaces = take(parts, "namespaces");
    let selectors = take(parts, "selectors");
    let attached = take(parts, "attach_metadata");
    let stated = |of: &Value| of["attachMetadata"].as_object().map(|_| of["attachMetadata"]["node"].clone());
    let expected = stated(place.spec).or_else(|| stated(&place.class)).unwrap_or_default();
    let node = attached["node"].as_bool().unwrap_or_default() == expected.as_bool().unwrap_or_default();
    let role = place.spec["selectorMechanism"] == "RoleSelector";
    let only_names =
        namespaces.is_null() || namespaces.as_object().is_some_and(|map| map.keys().eq(["names"]));
    let known = discovery == json!([{"role": "pod"}])
        && file == json!([{"files": [names::TARGETS_GLOB]}])
        && only_names
        && node
        && (role || selectors.is_null());
    if known {
        fired.note("targets come from the annotation");
    } else {
        lines.push(format!("discovery: {file}, not {discovery} {namespaces} {selectors} {attached}"));
    }
}

/// Interval and timeout that Prometheus finds for a job.
fn times(job: &Value, global: &Value) -> (PromDuration, PromDuration) {
    let read = |value: &Value| value.as_str().and_then(|text| text.parse::<PromDuration>().ok());
    let set = |value: Option<PromDuration>| value.filter(|value| !value.is_zero());
    let interval =
        set(read(&job["scrape_interval"])).or_else(|| read(&global["scrape_interval"])).expect("it is set");
    let timeout = set(read(&global["scrape_timeout"])).unwrap_or(PromDuration::from_millis(10_000));
    (interval, set(read(&job["scrape_timeout"])).unwrap_or_else(|| timeout.min(interval)))
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// Numbers that YAML reads as such where Prometheus reads text.
fn texts(rules: &mut [Value], fired: &mut Fired) {
    for rule in rules {
        for key in ["regex", "replacement"] {
            if let Some(number) = rule.get(key).and_then(Value::as_number).cloned() {
                fired.note("ports are text");
                rule[key] = json!(number.to_string());
            }
        }
    }
}

fn relabelings(
    ours: &mut Value,
    theirs: &mut Value,
    place: &Place<'_>,
    fired: &mut Fired,
    lines: &mut Vec<String>,
) {
    let (mut own, mut upstream) =
        (array(take(ours, "relabel_configs")), array(take(theirs, "relabel_configs")));
    if let Some(without) = &place.without_role {
        fired.note("role selectors are relabelings");
        upstream = array(without.clone());
    }
    texts(&mut upstream, fired);
    let times = times(ours, place.global);
    for (label, time) in [("__scrape_interval__", times.0), ("__scrape_timeout__", times.1)] {
        let expected = json!({"target_label": label, "replacement": time.to_string()});
        let first = if own.is_empty() { Value::Null } else { own.remove(0) };
        if first == expected {
            fired.note("interval and timeout are taken back");
        } else {
            lines.push(format!("the job does not begin with {expected}: {first}"));
        }
    }
    let marked = json!({"source_labels": [names::META_SOURCE], "regex": ".+", "action": "drop"});
    if own.first() == Some(&marked) {
        own.remove(0);
        fired.note("marked groups are left to their jobs");
    }
    let inside = json!({
        "source_labels": ["__address__"], "regex": r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", "action": "keep",
    });
    if own.last() == Some(&inside) {
        own.pop();
        fired.note("nothing outside of the pod is scraped");
    }
    if own.last() == Some(&json!({"source_labels": ["__scheme__"], "regex": "(?i)https?", "action": "keep"}))
    {
        own.pop();
        fired.note("nothing is scraped by another scheme");
    }
    let shards = upstream.split_off(upstream.len().saturating_sub(3));
    let sharding = json!([
        {"source_labels": ["__address__", "__tmp_hash"], "target_label": "__tmp_hash", "regex": "(.+);",
            "replacement": "$1", "action": "replace"},
        {"source_labels": ["__tmp_hash"], "target_label": "__tmp_hash", "modulus": 1, "action": "hashmod"},
        {"source_labels": ["__tmp_hash", "__tmp_disable_sharding"], "regex": "$(SHARD);|.+;.+", "action": "keep"},
    ]);
    if Value::Array(shards.clone()) == sharding {
        fired.note("nothing is sharded");
    } else {
        upstream.extend(shards);
    }
    for (own, upstream) in own.iter_mut().zip(&upstream) {
        let (Some(exact), Some(loose)) = (own["regex"].as_str(), upstream["regex"].as_str()) else {
            continue;
        };
        let label = own["source_labels"][0].as_str().unwrap_or_default();
        let selects = label.starts_with("__meta_kubernetes_pod_label_") && own.get("target_label").is_none();
        if selects && exact != loose && exact == loose.replace('.', r"\.") {
            fired.note("values of selectors match exactly");
            own["regex"] = json!(loose);
        }
    }
    lines.extend(unequal(".relabel_configs", &json!(own), &json!(upstream)));
}

fn metric_relabelings(ours: &mut Value, theirs: &mut Value, fired: &mut Fired, lines: &mut Vec<String>) {
    let mut own = array(take(ours, "metric_relabel_configs"));
    let upstream = array(take(theirs, "metric_relabel_configs"));
    if own.last() == Some(&json!({"regex": "__promsidecar_.*", "action": "labeldrop"})) {
        own.pop();
        fired.note("labels of ours are dropped");
    }
    lines.extend(unequal(".metric_relabel_configs", &json!(own), &json!(upstream)));
}

fn durations(ours: &mut Value, theirs: &Value, fired: &mut Fired) {
    for key in ["scrape_interval", "scrape_timeout"] {
        let (Some(own), Some(upstream)) = (ours[key].as_str(), theirs[key].as_str()) else { continue };
        let same = own.parse::<PromDuration>().ok() == upstream.parse().ok();
        if own != upstream && same {
            fired.note("durations are canonical");
            ours[key] = json!(upstream);
        }
    }
    // Indexing puts a null where nothing is.
    if let Some(map) = ours.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}

/// Our files hold what upstream writes out.
pub(crate) fn credentials(ours: &mut Value, theirs: &mut Value, place: &Place<'_>, fired: &mut Fired) {
    tls(ours, theirs, place, fired);
    if let (Value::Object(own), Some(token)) = (&ours["authorization"], theirs.get("bearer_token").cloned())
        && own.get("type") == Some(&json!("Bearer"))
    {
        theirs["authorization"] = json!({"type": "Bearer", "credentials": token});
        take(theirs, "bearer_token");
    }
    for (section, key) in [
        ("basic_auth", "username"),
        ("basic_auth", "password"),
        ("authorization", "credentials"),
        ("oauth2", "client_secret"),
    ] {
        if ours[section].is_object() && theirs[section].is_object() {
            file(&mut ours[section], &mut theirs[section], key, place, fired);
        }
    }
    if ours["oauth2"].is_object() && theirs["oauth2"].is_object() {
        let (own, upstream) = (&mut ours["oauth2"], &mut theirs["oauth2"]);
        tls(own, upstream, place, fired);
        let mut params = take(upstream, "endpoint_params");
        let id = take(&mut params, "client_id");
        if id.is_string() && own["client_id"] == id {
            fired.note("the client id is in the clear");
            upstream["client_id"] = id;
        }
        if params.as_object().is_some_and(|params| !params.is_empty()) {
            upstream["endpoint_params"] = params;
        }
    }
    for value in [ours, theirs] {
        if let Some(map) = value.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }
}

/// A key with a value upstream, and with a path here.
fn file(ours: &mut Value, theirs: &mut Value, key: &str, place: &Place<'_>, fired: &mut Fired) {
    let path = format!("{key}_file");
    let own = ours[&path]
        .as_str()
        .and_then(|path| path.strip_prefix(place.files)?.strip_prefix("secrets/credentials/"))
        .map(str::to_owned);
    let Some(own) = own else { return };
    if theirs[key] == secret_value(place.namespace, &own) {
        fired.note("credentials are files");
        take(ours, &path);
        take(theirs, key);
    }
}

/// Paths of TLS files; no keys at all are none.
fn tls(ours: &mut Value, theirs: &mut Value, place: &Place<'_>, fired: &mut Fired) {
    for key in ["ca_file", "cert_file", "key_file"] {
        let (Some(own), Some(upstream)) =
            (ours["tls_config"][key].as_str(), theirs["tls_config"][key].as_str())
        else {
            continue;
        };
        let Some(own) = own.strip_prefix(place.files) else { continue };
        let mut parts = own.splitn(3, '/');
        let kind = u8::from(parts.next() != Some("secrets"));
        let (name, entry) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let expected = format!("/etc/prometheus/certs/{kind}_{}_{name}_{entry}", place.namespace);
        if upstream == expected {
            fired.note("credentials are files");
            ours["tls_config"][key] = json!(upstream);
        }
    }
    for value in [ours, theirs] {
        if let Some(Value::Object(tls)) = value.get_mut("tls_config") {
            tls.retain(|_, value| !value.is_null());
            if tls.is_empty() {
                take(value, "tls_config");
            }
        }
        if let Some(map) = value.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }
}
