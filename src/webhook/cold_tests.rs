//! Waits with a clock that does not wait.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ColdCache, MOST_REMEMBERED, PATIENCE, REMEMBERED, WAITING};
use crate::admission::catalog::{AllowedNamespaces, Catalog, NamespaceMeta, TemplateEntry};
use crate::admission::decision::Missing;
use crate::admission::entry::Entry;
use crate::admission::{Answer, Outcome, OutcomeKind, Policy, admit_by};
use crate::metrics::Metrics;
use crate::template::agent::TemplateId;

fn template(name: &str) -> Missing {
    Missing::Template(TemplateId { namespace: "team-a".to_owned(), name: name.to_owned() })
}

fn namespace() -> Missing {
    Missing::Namespace("team-a".to_owned())
}

fn lacking(missing: Missing) -> Answer {
    let outcome =
        Outcome { kind: OutcomeKind::Skipped, reason: None, refusal: None, missing: Some(Box::new(missing)) };
    Answer::Reviewed { body: Vec::new(), outcome }
}

fn injected() -> Answer {
    let outcome = Outcome { kind: OutcomeKind::Injected, reason: None, refusal: None, missing: None };
    Answer::Reviewed { body: Vec::new(), outcome }
}

/// Waits for nothing that comes; gives how long.
async fn in_vain(cold: &ColdCache, missing: Missing, metrics: &Metrics) -> Duration {
    let changes = watch::Sender::new(());
    let start = Instant::now();
    let decide = || lacking(missing.clone());
    let answer = cold.wait(decide(), changes.subscribe(), metrics, decide).await;
    assert_eq!(answer, lacking(missing.clone()));
    start.elapsed()
}

fn waits(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode(&Catalog::default(), &[]).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("promsidecar_admission_waits_total"));
    lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_made_anew_with_each_snapshot_until_nothing_is_missing() {
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    let changes = watch::Sender::new(());
    let asked = Cell::new(0);
    let decide = || {
        asked.set(asked.get() + 1);
        match asked.get() {
            1 => lacking(namespace()),
            2 => lacking(template("shop")),
            _ => injected(),
        }
    };
    let wait = cold.wait(lacking(namespace()), changes.subscribe(), &metrics, decide);
    let arrive = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            changes.send_replace(());
        }
    };
    let (answer, ()) = tokio::join!(wait, arrive);
    assert_eq!((answer, asked.get()), (injected(), 3));
    assert_eq!(waits(&metrics), ["{result=\"found\"} 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_came_between_answer_and_wait_is_not_waited_for() {
    let changes = watch::Sender::new(());
    let start = Instant::now();
    let metrics = Metrics::default();
    let answer =
        ColdCache::default().wait(lacking(template("shop")), changes.subscribe(), &metrics, injected).await;
    assert_eq!((answer, start.elapsed()), (injected(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_waited_for_once_in_thirty_seconds() {
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    assert_eq!(in_vain(&cold, template("shop"), &metrics).await, PATIENCE);
    assert_eq!(in_vain(&cold, template("shop"), &metrics).await, Duration::ZERO);
    assert_eq!(in_vain(&cold, template("other"), &metrics).await, PATIENCE);
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(in_vain(&cold, template("shop"), &metrics).await, PATIENCE);
    assert_eq!(waits(&metrics), ["{result=\"in-vain\"} 3"]);
}

/// A template of `other` that says this of itself.
fn foreign(name: &str, claimed: bool) -> TemplateEntry {
    TemplateEntry {
        id: TemplateId { namespace: "other".to_owned(), name: name.to_owned() },
        uid: String::new(),
        claimed,
        deleting: false,
        allowed_namespaces: AllowedNamespaces::parse(None),
        sidecar: None,
        violation: None,
    }
}

/// What a pod of `team-a` is answered, and after which waits, the first time and the second.
async fn answered(inject: &str, catalog: &Catalog, policy: &Policy) -> (Value, [Duration; 2]) {
    let pod = json!({
        "metadata": {"name": "web", "annotations": {"sidecar.prometheus.io/inject": inject}},
        "spec": {"containers": [{"name": "web"}]},
    });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "team-a",
            "operation": "CREATE",
            "object": pod,
        },
    });
    let decide = || admit_by(Some(Entry::PodNo), review.to_string().as_bytes(), catalog, policy);
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    let changes = watch::Sender::new(());
    let mut waits = [Duration::ZERO; 2];
    let mut shown = Value::Null;
    for wait in &mut waits {
        let start = Instant::now();
        let answer = cold.wait(decide(), changes.subscribe(), &metrics, decide).await;
        *wait = start.elapsed();
        let Answer::Reviewed { body, .. } = answer else { unreachable!("{answer:?}") };
        let body: Value = serde_json::from_slice(&body).unwrap();
        // The audit trail has the truth, and the pod's owner does not read it.
        shown = json!({"warnings": body["response"]["warnings"], "patch": body["response"]["patch"]});
    }
    (shown, waits)
}

#[tokio::test(start_paused = true)]
async fn neither_answer_nor_wait_tells_a_template_that_may_not_be_used_from_one_that_does_not_exist() {
    let mut none = Catalog::default();
    none.insert_namespace("team-a".to_owned(), NamespaceMeta::default());
    let with = |claimed| {
        let mut catalog = none.clone();
        catalog.insert_template(foreign("secret", claimed));
        catalog
    };
    let (closed, unclaimed) = (with(true), with(false));
    let named = Policy::default();
    let default_template = Some(foreign("secret", true).id);
    let default = Policy { default_template, ..Policy::default() };
    for (inject, policy) in [("other/secret", &named), ("true", &default)] {
        let missing = answered(inject, &none, policy).await;
        assert_eq!(missing.1, [PATIENCE, Duration::ZERO], "{inject}");
        assert_eq!(answered(inject, &closed, policy).await, missing, "{inject}: closed");
        assert_eq!(answered(inject, &unclaimed, policy).await, missing, "{inject}: unclaimed");
    }
}

#[tokio::test(start_paused = true)]
async fn few_wait_at_once_and_what_is_remembered_is_bounded() {
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    let names: Vec<String> = (0..=WAITING).map(|number| format!("t{number}")).collect();
    let waiting = names.iter().map(|name| in_vain(&cold, template(name), &metrics));
    let mut waited = futures_util::future::join_all(waiting).await;
    waited.sort();
    assert_eq!((waited[0], waited[1], waited[WAITING]), (Duration::ZERO, PATIENCE, PATIENCE));

    for number in 0..MOST_REMEMBERED {
        cold.remember(template(&format!("never{number}")));
    }
    assert_eq!(in_vain(&cold, template("one more"), &metrics).await, Duration::ZERO);
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(in_vain(&cold, template("one more"), &metrics).await, PATIENCE);
    assert!(cold.in_vain.lock().unwrap().len() < 3);
}
