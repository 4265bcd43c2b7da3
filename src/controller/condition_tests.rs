//! Statuses of templates that are good, bad, paused and undelivered.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Undelivered, differs, is_left_behind, is_urgent, news, rejected_news};
use crate::controller::fleet::Counts;
use crate::controller::rendered::{Notes, Rejection};
use crate::monitors::object::{Kind, MonitorId, MonitorKey};
use crate::names;
use crate::store::known::{Known, judge};
use crate::template::Settings;

const COUNTS: Counts = Counts { all: 3, updated: 2, ready: 1, targeted: 1, newer: 0 };

fn now() -> Timestamp {
    "2026-11-25T12:00:00.123Z".parse().unwrap()
}

fn object(generation: i64, spec: &Value) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "namespace": "a", "name": "one", "uid": "u", "generation": generation,
            "annotations": {(names::CONTROLLER_ID): "promsidecar"},
        },
        "spec": spec,
    })
}

fn judged(object: &Value, previous: Option<&Known>) -> Known {
    judge(object, &Settings::default(), previous).unwrap()
}

fn good() -> Known {
    judged(&object(1, &json!({"sampleLimit": 5, "bodySizeLimit": "1MB", "replicas": 3})), None)
}

/// The status of a template that selects no monitor.
fn status(known: &Known, delivered: &Result<(), Undelivered>, counts: Counts, now: Timestamp) -> Value {
    super::status(known, delivered, counts, &Notes::default(), now)
}

/// Status, reason, message and generation of both conditions.
fn conditions(known: &Known, delivered: &Result<(), Undelivered>) -> [[String; 4]; 2] {
    let status = status(known, delivered, COUNTS, now());
    let conditions = status["conditions"].as_array().unwrap();
    assert_eq!((&conditions[0]["type"], &conditions[1]["type"]), (&json!("Reconciled"), &json!("Available")));
    [0, 1].map(|at| {
        ["status", "reason", "message", "observedGeneration"].map(|key| match &conditions[at][key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    })
}

fn row(status: &str, reason: &str, message: &str, generation: i64) -> [String; 4] {
    [status.to_owned(), reason.to_owned(), message.to_owned(), generation.to_string()]
}

#[test]
fn a_delivered_template_is_reconciled_and_says_what_it_ignores() {
    let [reconciled, available] = conditions(&good(), &Ok(()));
    assert_eq!((&*reconciled[0], &*reconciled[1], &*reconciled[3]), ("True", "Delivered", "1"));
    assert!(reconciled[2].starts_with("ignored: spec.replicas: "), "{}", reconciled[2]);
    assert!(!reconciled[2].contains("PodMonitor"), "{}", reconciled[2]);
    assert_eq!(available, row("True", "Published", "", 1));
}

#[test]
fn pods_of_a_newer_promsidecar_are_told_of_and_their_number_is_not() {
    let message = |newer| {
        let status = status(&good(), &Ok(()), Counts { newer, ..COUNTS }, now());
        assert_eq!(status["conditions"][0]["status"], "True");
        status["conditions"][0]["message"].as_str().unwrap().to_owned()
    };
    let told =
        "newer: a newer promsidecar injected some of its pods: they run on, and do not count as up to date; ";
    assert_eq!(message(1), format!("{told}{}", message(0)));
    assert_eq!(message(2), message(1));
}

#[test]
fn what_is_wrong_with_its_monitors_comes_first_and_takes_nothing_else_down() {
    let rejection = Rejection {
        monitor: MonitorKey {
            kind: Kind::Pod,
            id: MonitorId { namespace: "a".to_owned(), name: "bad".to_owned() },
        },
        uid: "m".to_owned(),
        lines: vec!["rejected: PodMonitor a/bad: spec: too bad".to_owned()],
        told: vec!["rejected: PodMonitor a/bad: too bad".to_owned()],
    };
    let notes = Notes { rejections: vec![rejection.clone()], remarks: vec!["ignored: x".to_owned()] };
    let mut known = good();
    let status = super::status(&known, &Ok(()), COUNTS, &notes, now());
    let reconciled = &status["conditions"][0];
    assert_eq!((&reconciled["status"], &reconciled["reason"]), (&json!("True"), &json!("Delivered")));
    let message = reconciled["message"].as_str().unwrap();
    assert!(message.starts_with("rejected: PodMonitor a/bad: spec: too bad; ignored: spec.replicas"));
    assert!(message.ends_with("; ignored: x"), "{message}");

    let told = "template a/one: rejected: PodMonitor a/bad: too bad";
    assert_eq!(rejected_news(&known, &rejection).as_deref(), Some(told));
    known.status = status;
    assert_eq!(rejected_news(&known, &rejection), None, "it is said");
    let worse = Rejection { lines: vec!["rejected: PodMonitor a/bad: spec: worse".to_owned()], ..rejection };
    assert!(rejected_news(&known, &worse).is_some());
}

#[test]
fn a_bad_edit_is_degraded_while_an_older_version_is_in_force_and_false_without_one() {
    let bad = object(2, &json!({"version": "2.0.0", "scrapeInterval": "soon"}));
    let [reconciled, available] = conditions(&judged(&bad, Some(&good())), &Ok(()));
    assert_eq!((&*reconciled[0], &*reconciled[1], &*reconciled[3]), ("False", "Invalid", "2"));
    assert!(
        reconciled[2].contains("spec.version: ") && reconciled[2].contains("; spec."),
        "{}",
        reconciled[2]
    );
    assert_eq!(available, row("Degraded", "LastGoodInForce", "generation 1 is in force", 2));
    let [_, available] = conditions(&judged(&bad, None), &Ok(()));
    assert_eq!(available, row("False", "NothingToInject", "there never was a valid version", 2));
}

#[test]
fn a_bad_annotation_is_degraded_though_it_is_no_new_generation() {
    let mut bad = object(1, &json!({}));
    bad["metadata"]["annotations"][names::MODE] = json!("sideways");
    let [reconciled, available] = conditions(&judged(&bad, Some(&good())), &Ok(()));
    assert_eq!((&*reconciled[0], &*reconciled[1]), ("False", "Invalid"));
    let message = "generation 1 is in force, with its annotations of before";
    assert_eq!(available, row("Degraded", "LastGoodInForce", message, 1));
}

#[test]
fn a_paused_template_is_available_in_its_published_version() {
    let paused = judged(&object(2, &json!({"paused": true, "scrapeInterval": "10s"})), Some(&good()));
    assert_eq!(conditions(&paused, &Ok(()))[1], row("True", "Paused", "generation 1 is in force", 2));
    assert_eq!(status(&paused, &Ok(()), COUNTS, now())["paused"], true);
}

#[test]
fn what_could_not_be_delivered_is_not_reconciled_but_available() {
    let conflict = Err(Undelivered::Conflict("a/promsidecar-one is not ours".to_owned()));
    let [reconciled, available] = conditions(&good(), &conflict);
    assert_eq!(reconciled, row("False", "ConfigMapConflict", "a/promsidecar-one is not ours", 1));
    assert_eq!(available[0], "True");
}

#[test]
fn counts_are_those_of_the_pods() {
    let status = status(&good(), &Ok(()), COUNTS, now());
    let counts = ["replicas", "updatedReplicas", "availableReplicas", "unavailableReplicas"];
    assert_eq!(counts.map(|field| status[field].as_u64().unwrap()), [3, 2, 1, 2]);
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_change() {
    let mut known = good();
    let before = status(&known, &Ok(()), COUNTS, now());
    assert_eq!(before["conditions"][0]["lastTransitionTime"], "2026-11-25T12:00:00Z");
    known.status = before;
    let later = "2026-11-25T13:00:00Z".parse().unwrap();
    let after = status(&known, &Err(Undelivered::Failed("403".to_owned())), COUNTS, later);
    assert_eq!(after["conditions"][0]["lastTransitionTime"], "2026-11-25T13:00:00Z");
    assert_eq!(after["conditions"][1]["lastTransitionTime"], "2026-11-25T12:00:00Z");
}

#[test]
fn a_status_is_written_where_it_says_something_new() {
    let mut known = good();
    let written = status(&known, &Ok(()), COUNTS, now());
    assert!(differs(&Value::Null, &written) && is_urgent(&Value::Null, &written));
    known.status = written.clone();
    // What others keep there, and the order of conditions, make no difference.
    let mut stored = written;
    stored["shards"] = json!(1);
    stored["conditions"].as_array_mut().unwrap().reverse();
    assert!(!differs(&stored, &status(&known, &Ok(()), COUNTS, now())));
    let counted = status(&known, &Ok(()), Counts { all: 4, ..COUNTS }, now());
    assert!(differs(&stored, &counted) && !is_urgent(&stored, &counted));
    let failed = status(&known, &Err(Undelivered::Failed("403".to_owned())), COUNTS, now());
    assert!(is_urgent(&stored, &failed));
}

#[test]
fn a_message_is_never_longer_than_the_api_server_takes() {
    let conflict = Err(Undelivered::Failed("é".repeat(40_000)));
    let message = conditions(&good(), &conflict)[0][2].clone();
    assert!(message.len() < 32_768 && message.ends_with("é…"));
}

#[test]
fn a_rejected_edit_is_news_once_for_each_generation() {
    let bad = |generation| {
        judged(&object(generation, &json!({"version": "2.0.0", "scrapeInterval": "soon"})), Some(&good()))
    };
    let mut second = bad(2);
    let (reason, note) = news(&second, &Ok(())).unwrap();
    assert_eq!(reason, "TemplateInvalid");
    assert!(note.starts_with("generation 2 is not used: spec.") && note.contains("; spec."), "{note}");
    second.status = status(&second, &Ok(()), COUNTS, now());
    assert_eq!(news(&second, &Ok(())), None, "the status says it");
    let mut third = bad(3);
    third.status = second.status;
    let (_, other) = news(&third, &Ok(())).unwrap();
    assert!(other.starts_with("generation 3 is not used: "), "{other}");

    assert_eq!(news(&good(), &Ok(())), None);
    assert_eq!(news(&good(), &Err(Undelivered::Failed("503".to_owned()))), None, "it is tried again");
    let conflict = Err(Undelivered::Conflict("a/x is not ours".to_owned()));
    assert_eq!(news(&good(), &conflict), Some(("ConfigMapConflict", "a/x is not ours".to_owned())));
}

#[test]
fn a_status_of_ours_on_what_nobody_claims_is_left_behind() {
    let with = |claim: &Value, reason: &str| {
        let mut object = object(1, &json!({}));
        object["metadata"]["annotations"][names::CONTROLLER_ID] = claim.clone();
        object["status"] = json!({"conditions": [{"type": "Reconciled", "reason": reason}]});
        is_left_behind(&object)
    };
    assert!(with(&Value::Null, "Delivered") && with(&json!(""), "Invalid"));
    assert!(!with(&json!("promsidecar"), "Delivered") && !with(&json!("other"), "Delivered"));
    assert!(!with(&Value::Null, "ReconciliationFailed") && !with(&Value::Null, ""));
}
