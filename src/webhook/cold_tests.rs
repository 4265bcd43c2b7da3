//! Waits with a clock that does not wait.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{ColdCache, MOST_REMEMBERED, PATIENCE, REMEMBERED, WAITING};
use crate::admission::catalog::Catalog;
use crate::admission::decision::Missing;
use crate::admission::{Answer, Outcome, OutcomeKind};
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
async fn in_vain(cold: &ColdCache, missing: Missing, labelled: bool, metrics: &Metrics) -> Duration {
    let changes = watch::Sender::new(());
    let start = Instant::now();
    let decide = || lacking(missing.clone());
    let answer = cold.wait(decide(), labelled, changes.subscribe(), metrics, decide).await;
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
    let wait = cold.wait(lacking(namespace()), true, changes.subscribe(), &metrics, decide);
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
    let answer = ColdCache::default()
        .wait(lacking(template("shop")), false, changes.subscribe(), &metrics, injected)
        .await;
    assert_eq!((answer, start.elapsed()), (injected(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_waited_for_once_in_thirty_seconds() {
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    assert_eq!(in_vain(&cold, template("shop"), false, &metrics).await, PATIENCE);
    assert_eq!(in_vain(&cold, template("shop"), false, &metrics).await, Duration::ZERO);
    assert_eq!(in_vain(&cold, template("other"), false, &metrics).await, PATIENCE);
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(in_vain(&cold, template("shop"), false, &metrics).await, PATIENCE);
    assert_eq!(waits(&metrics), ["{result=\"in-vain\"} 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_waited_for_only_where_the_api_server_found_its_label() {
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    assert_eq!(in_vain(&cold, namespace(), false, &metrics).await, Duration::ZERO);
    assert_eq!(in_vain(&cold, namespace(), true, &metrics).await, PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn few_wait_at_once_and_what_is_remembered_is_bounded() {
    let (cold, metrics) = (ColdCache::default(), Metrics::default());
    let names: Vec<String> = (0..=WAITING).map(|number| format!("t{number}")).collect();
    let waiting = names.iter().map(|name| in_vain(&cold, template(name), false, &metrics));
    let mut waited = futures_util::future::join_all(waiting).await;
    waited.sort();
    assert_eq!((waited[0], waited[1], waited[WAITING]), (Duration::ZERO, PATIENCE, PATIENCE));

    for number in 0..MOST_REMEMBERED {
        cold.remember(template(&format!("never{number}")));
    }
    assert_eq!(in_vain(&cold, template("one more"), false, &metrics).await, Duration::ZERO);
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(in_vain(&cold, template("one more"), false, &metrics).await, PATIENCE);
    assert!(cold.in_vain.lock().unwrap().len() < 3);
}
