//! Deliberate differences between our agent and upstream's: each has a name, and is told from every other by its path and both
//! values.

use promsidecar::names::{self, RUNTIME_FACTS};
use promsidecar::template::agent::Agent;
use promsidecar::template::duration::PromDuration;
use promsidecar::template::version::Version;
use serde_json::{Value, json};

use crate::support::monitors::difference::{Fired, Place, credentials};
use crate::support::monitors::objects::secret_value;

/// Names of all differences; one that never fires is not one.
pub(crate) const DIFFERENCES: [&str; 45] = [
    // Accept and reject.
    "rejected: a path inside the container",
    "rejected: a header of a proxy has no file form",
    "rejected: the client id stands in a Secret",
    "rejected: Azure's secret has no file form",
    "rejected: a credential in clear text",
    "rejected: a queue whose bounds cross",
    "rejected: two pairs of AWS keys",
    "rejected: the same remote write twice",
    "rejected: an authorization without credentials",
    "rejected: a duration of zero",
    "rejected: a header that no request may have",
    "rejected: a label that is ours or that series do not keep",
    "rejected: a pod label without a name",
    "rejected: a URL with which no agent starts",
    "rejected: a flag that is ours or ends the agent",
    "rejected: parts of the pod that a template may not have",
    "rejected: Prometheus 2",
    "rejected: the definition refuses it",
    "rejected: Prometheus refuses what the operator makes of it",
    "accepted: the Secret is not read",
    "accepted: additional scrape configs have no effect",
    // Flags.
    "flags: where files are and who is served",
    "flags: every agent has the feature",
    // The configuration.
    "the pod's identity comes by external labels",
    "the pod's identity is written before sending",
    "agents have no replica label",
    "variables are Prometheus' own",
    "dollars are escaped",
    "the timeout is written out",
    "limits follow from memory",
    "no limit is written out",
    "the lower body size counts",
    "a body size that is lowered is reported",
    "failed scrapes are logged to standard output",
    "an empty runtime is none",
    "blocks have no settings",
    "upstream writes storage twice",
    "queues are small",
    "durations are canonical",
    "credentials are files",
    "the client id is in the clear",
    "AWS keys come by environment",
    "Prometheus 3.0 has no FIPS endpoint",
    "an absent tenant has no key",
    "no proxy has no key",
];

/// What both configurations are made from.
pub(crate) struct Sides<'a> {
    pub(crate) spec: &'a Value,
    pub(crate) agent: &'a Agent,
    /// Rules that come before those of every remote write.
    pub(crate) identity: Value,
}

fn take(value: &mut Value, key: &str) -> Value {
    value.as_object_mut().and_then(|map| map.remove(key)).unwrap_or_default()
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Indexing puts a null where nothing is.
fn without_nulls(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}

/// Takes out of both configurations what differs deliberately.
pub(crate) fn configurations(ours: &mut Value, theirs: &mut Value, sides: &Sides<'_>, fired: &mut Fired) {
    external_labels(&mut ours["global"], &mut theirs["global"], sides, fired);
    limits(&mut ours["global"], &mut theirs["global"], sides, fired);
    global(&mut ours["global"], &mut theirs["global"], sides, fired);
    if theirs.get("runtime").is_some_and(is_empty) && ours.get("runtime").is_none() {
        fired.note("an empty runtime is none");
        take(theirs, "runtime");
    }
    storage(theirs, fired);
    if ours.get("storage").is_some() && theirs.get("storage").is_some() {
        let (own, upstream) = (&mut ours["storage"]["tsdb"], &theirs["storage"]["tsdb"]);
        duration(own, upstream, "out_of_order_time_window", fired);
    }
    if ours.get("tracing").is_some() && theirs.get("tracing").is_some() {
        let (own, upstream) = (&mut ours["tracing"], &mut theirs["tracing"]);
        duration(own, upstream, "timeout", fired);
        credentials(own, upstream, &place(), fired);
    }
    let writes = sides.spec["remoteWrite"].as_array().cloned().unwrap_or_default();
    for (index, spec) in writes.iter().enumerate() {
        if ours["remote_write"][index].is_object() && theirs["remote_write"][index].is_object() {
            let (own, upstream) = (&mut ours["remote_write"][index], &mut theirs["remote_write"][index]);
            remote_write(own, upstream, spec, sides, fired);
        }
    }
    without_nulls(ours);
    without_nulls(theirs);
}

/// Where files of a template are.
fn place() -> Place<'static> {
    static NULL: Value = Value::Null;
    Place { namespace: "shop", spec: &NULL, class: Value::Null, global: &NULL, without_role: None, files: "" }
}

fn external_labels(ours: &mut Value, theirs: &mut Value, sides: &Sides<'_>, fired: &mut Fired) {
    let (mut own, mut upstream) = (take(ours, "external_labels"), take(theirs, "external_labels"));
    if let Some(labels) = own.as_object_mut() {
        let count = labels.len();
        labels.retain(|name, _| !name.starts_with(names::INTERNAL_LABEL_PREFIX));
        if labels.len() + RUNTIME_FACTS.len() == count {
            fired.note("the pod's identity comes by external labels");
        }
    }
    if sides.spec["replicaExternalLabelName"].is_null() && upstream["prometheus_replica"] == "$(POD_NAME)" {
        fired.note("agents have no replica label");
        take(&mut upstream, "prometheus_replica");
    }
    for (name, value) in own.as_object_mut().into_iter().flatten() {
        let Some(text) = upstream[name].as_str().filter(|text| text.contains('$')) else { continue };
        let mut parts = text.split("$(POD_NAME)").map(|part| part.replace('$', "$$")).collect::<Vec<_>>();
        let (dollars, variables) = (parts.iter().any(|part| part.contains('$')), parts.len() > 1);
        let first = parts.remove(0);
        let expected = parts.into_iter().fold(first, |text, part| text + "${POD_NAME}" + &part);
        if *value == json!(expected) {
            for (seen, rule) in
                [(dollars, "dollars are escaped"), (variables, "variables are Prometheus' own")]
            {
                if seen {
                    fired.note(rule);
                }
            }
            *value = json!(text);
        }
    }
    ours["external_labels"] = own;
    theirs["external_labels"] = upstream;
}

fn limits(ours: &mut Value, theirs: &mut Value, sides: &Sides<'_>, fired: &mut Fired) {
    let (spec, derived) = (sides.spec, &sides.agent.config.derived);
    let samples = derived.sample_limit.map(|limit| json!(limit));
    let body = derived.body_size_limit.as_ref().map(|limit| json!(limit));
    for (key, derived) in [("sample_limit", samples), ("body_size_limit", body)] {
        if derived.is_some() && ours.get(key) == derived.as_ref() && theirs.get(key).is_none() {
            fired.note("limits follow from memory");
            take(ours, key);
        }
    }
    for (key, field) in [
        ("sample_limit", "sampleLimit"),
        ("target_limit", "targetLimit"),
        ("label_limit", "labelLimit"),
        ("label_name_length_limit", "labelNameLengthLimit"),
        ("label_value_length_limit", "labelValueLengthLimit"),
        ("keep_dropped_targets", "keepDroppedTargets"),
    ] {
        if spec[field] == 0 && ours.get(key) == Some(&json!(0)) && theirs.get(key).is_none() {
            fired.note("no limit is written out");
            take(ours, key);
        }
    }
    let (plain, enforced) = (&spec["bodySizeLimit"], &spec["enforcedBodySizeLimit"]);
    let (own, upstream) = (ours.get("body_size_limit"), theirs.get("body_size_limit"));
    if own != upstream && own == Some(enforced) && upstream == Some(plain) {
        fired.note("the lower body size counts");
        take(ours, "body_size_limit");
        take(theirs, "body_size_limit");
    }
}

fn global(ours: &mut Value, theirs: &mut Value, sides: &Sides<'_>, fired: &mut Fired) {
    let spec = sides.spec;
    duration(ours, theirs, "scrape_interval", fired);
    duration(ours, theirs, "scrape_timeout", fired);
    if spec["scrapeTimeout"].is_null() && theirs.get("scrape_timeout").is_none() {
        let interval = sides.agent.config.global.scrape_interval;
        if ours["scrape_timeout"] == json!(interval.min(PromDuration::from_millis(10_000)).to_string()) {
            fired.note("the timeout is written out");
            take(ours, "scrape_timeout");
        }
    }
    if let Some(name) = spec["scrapeFailureLogFile"].as_str().filter(|name| !name.starts_with("/dev/"))
        && ours["scrape_failure_log_file"] == "/dev/stdout"
        && [json!(format!("/var/log/prometheus/{name}")), json!(name)]
            .contains(&theirs["scrape_failure_log_file"])
    {
        fired.note("failed scrapes are logged to standard output");
        ours["scrape_failure_log_file"] = theirs["scrape_failure_log_file"].clone();
    }
    without_nulls(ours);
    without_nulls(theirs);
}

/// Settings of blocks.
fn storage(theirs: &mut Value, fired: &mut Fired) {
    let Some(storage) = theirs.get_mut("storage") else { return };
    for key in ["stale_series_compaction_threshold", "chunk_encoding"] {
        if !take(&mut storage["tsdb"], key).is_null() {
            fired.note("blocks have no settings");
        }
    }
    if is_empty(&storage["tsdb"]) {
        take(theirs, "storage");
    }
}

/// One duration, in whatever words.
fn duration(ours: &mut Value, theirs: &Value, key: &str, fired: &mut Fired) {
    let (Some(own), Some(upstream)) = (ours[key].as_str(), theirs[key].as_str()) else {
        return without_nulls(ours);
    };
    let same = own.parse::<PromDuration>().ok() == upstream.parse().ok();
    if own != upstream && same {
        fired.note("durations are canonical");
        ours[key] = json!(upstream);
    }
}

fn remote_write(ours: &mut Value, theirs: &mut Value, spec: &Value, sides: &Sides<'_>, fired: &mut Fired) {
    let identity = sides.identity.as_array().map_or(&[][..], Vec::as_slice);
    let mut rules = take(ours, "write_relabel_configs");
    if let Some(rules) = rules.as_array_mut()
        && rules.starts_with(identity)
        && !identity.is_empty()
    {
        fired.note("the pod's identity is written before sending");
        rules.drain(..identity.len());
    }
    if !is_empty(&rules) {
        ours["write_relabel_configs"] = rules;
    }
    duration(ours, theirs, "remote_timeout", fired);
    queue(ours, theirs, spec, fired);
    if ours.get("metadata_config").is_some() && theirs.get("metadata_config").is_some() {
        duration(&mut ours["metadata_config"], &theirs["metadata_config"], "send_interval", fired);
    }
    credentials(ours, theirs, &place(), fired);
    aws(theirs, spec, sides, fired);
    if spec["azureAd"]["sdk"].is_object()
        && ours["azuread"]["sdk"].get("tenant_id").is_none()
        && theirs["azuread"]["sdk"]["tenant_id"] == ""
    {
        fired.note("an absent tenant has no key");
        take(&mut theirs["azuread"]["sdk"], "tenant_id");
    }
    no_proxy(ours, theirs, fired);
    if ours.get("oauth2").is_some() && theirs.get("oauth2").is_some() {
        no_proxy(&ours["oauth2"], &mut theirs["oauth2"], fired);
    }
    without_nulls(ours);
    without_nulls(theirs);
}

/// Bounds of the queue where the template is silent.
fn queue(ours: &mut Value, theirs: &mut Value, spec: &Value, fired: &mut Fired) {
    let (mut own, upstream) = (take(ours, "queue_config"), take(theirs, "queue_config"));
    for key in ["batch_send_deadline", "min_backoff", "max_backoff", "sample_age_limit"] {
        duration(&mut own, &upstream, key, fired);
    }
    let stated = |field: &str| spec["queueConfig"][field].as_u64().filter(|number| *number != 0);
    let samples = stated("maxSamplesPerSend").unwrap_or(500);
    for (key, expected) in [
        ("capacity", samples.max(2500)),
        ("max_shards", stated("minShards").unwrap_or(0).max(2)),
        ("max_samples_per_send", 500),
    ] {
        if upstream.get(key).is_none() && own[key] == expected {
            fired.note("queues are small");
            take(&mut own, key);
        }
    }
    // What is false there is Prometheus' default.
    if own["retry_on_http_429"] == false && upstream.get("retry_on_http_429").is_none() {
        take(&mut own, "retry_on_http_429");
    }
    for (side, queue) in [(ours, own), (theirs, upstream)] {
        if !queue.is_null() && !is_empty(&queue) {
            side["queue_config"] = queue;
        }
    }
}

/// Keys in clear text there, variables here.
fn aws(theirs: &mut Value, spec: &Value, sides: &Sides<'_>, fired: &mut Fired) {
    if !theirs["sigv4"].is_object() {
        return;
    }
    if sides.agent.version < Version::new(3, 1, 0)
        && !take(&mut theirs["sigv4"], "use_fips_sts_endpoint").is_null()
    {
        fired.note("Prometheus 3.0 has no FIPS endpoint");
    }
    for (key, field, env) in [
        ("access_key", "accessKey", "AWS_ACCESS_KEY_ID"),
        ("secret_key", "secretKey", "AWS_SECRET_ACCESS_KEY"),
    ] {
        let entry = spec["sigv4"][field]["key"].as_str().unwrap_or_default();
        let comes = sides.agent.secret_env.iter().any(|it| it.env == env && it.key == entry);
        if comes && theirs["sigv4"][key] == secret_value("shop", entry) {
            fired.note("AWS keys come by environment");
            take(&mut theirs["sigv4"], key);
        }
    }
}

/// `proxy_from_environment: false` is Prometheus' default.
fn no_proxy(ours: &Value, theirs: &mut Value, fired: &mut Fired) {
    if theirs["proxy_from_environment"] == false && ours.get("proxy_from_environment").is_none() {
        fired.note("no proxy has no key");
        take(theirs, "proxy_from_environment");
    }
}
