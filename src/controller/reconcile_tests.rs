//! The loop before an API server in this process, with a clock that does not wait.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use super::Reconciler;
use crate::admission::Policy;
use crate::admission::sidecar::config_map_name;
use crate::controller::apply::Writer;
use crate::controller::lease::Leadership;
use crate::controller::observe::Observer;
use crate::controller::plan::{Observed, Seen, Step, digest};
use crate::controller::world::World;
use crate::names;
use crate::store::inventory::{Concerned, Namespace};
use crate::template::Settings;
use crate::template::agent::TemplateId;

fn template(status: &Value) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "namespace": "a", "name": "one", "uid": "u", "generation": 1,
            "annotations": {(names::CONTROLLER_ID): "promsidecar"},
        },
        "spec": {},
        "status": status,
    })
}

/// How often the loop writes to `path` in the course of a minute, answered with `answer`, if `another` happens at once each time.
async fn writes(path: &'static str, answer: u16, another: fn(&mut World) -> Concerned) -> usize {
    minute(path, answer, nothing, another).await.0
}

/// The same, after `before` has happened, with the reasons of `Reconciled` that were told.
async fn minute(
    path: &'static str,
    answer: u16,
    before: fn(&mut World) -> Concerned,
    another: fn(&mut World) -> Concerned,
) -> (usize, BTreeSet<String>) {
    let mut world = World::new(Settings::default(), Policy::default(), "own".to_owned());
    world.namespace_applied("a", Namespace::default());
    world.template_applied(&template(&Value::Null)).unwrap();
    before(&mut world);
    let observer = Arc::new(Observer::new(world));
    observer.health().iter().for_each(|health| health.succeeded());

    let written = Arc::new(AtomicUsize::new(0));
    let told = Arc::new(Mutex::new(BTreeSet::new()));
    let (other, count, reasons) = (Arc::clone(&observer), Arc::clone(&written), Arc::clone(&told));
    let answering = move |request: Request| {
        let (other, count, reasons) = (Arc::clone(&other), Arc::clone(&count), Arc::clone(&reasons));
        async move {
            let (head, body) = request.into_parts();
            let mut body = to_bytes(body, usize::MAX).await.unwrap();
            if head.uri.path().ends_with("/one/status") {
                let applied: Value = serde_json::from_slice(&body).unwrap();
                let reason = applied["status"]["conditions"][0]["reason"].as_str().unwrap().to_owned();
                reasons.lock().unwrap().insert(reason);
            }
            let mut code = if head.method == Method::GET { 404 } else { 200 };
            if head.uri.path().contains(path) {
                // Not for ever: a loop without a pause would never end here.
                if count.fetch_add(1, Ordering::Relaxed) < 500 {
                    let concerned = another(&mut other.world());
                    other.queue.add(concerned);
                }
                code = answer;
            }
            let reason = [(404, "NotFound"), (403, "Forbidden"), (409, "Conflict")]
                .into_iter()
                .find(|(of, _)| *of == code);
            if let Some((_, reason)) = reason {
                let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason});
                body = status.to_string().into();
            }
            Response::builder().status(code).body(Body::from(body)).unwrap()
        }
    };
    let client = Client::new(Router::new().fallback(answering), "own");
    let leadership = Leadership::held_for_long();
    let writer = Writer::new(client, leadership.clone(), Duration::from_secs(5));
    // Something happens to the template all the time, as in a rolling update.
    let happens = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            observer.queue.add([id()]);
        }
    };
    let reconciler =
        Reconciler::new(Arc::clone(&observer), writer, leadership, "own".to_owned(), Arc::default());
    let ended = tokio::time::timeout(Duration::from_secs(65), async {
        tokio::select! {
            ended = reconciler.run() => ended,
            () = happens => Ok(()),
        }
    });
    assert!(ended.await.is_err(), "it runs for ever");
    let told = told.lock().unwrap().clone();
    (written.load(Ordering::Relaxed), told)
}

fn id() -> TemplateId {
    TemplateId { namespace: "a".to_owned(), name: "one".to_owned() }
}

fn nothing(_: &mut World) -> Concerned {
    Concerned::new()
}

#[tokio::test(start_paused = true)]
async fn another_that_writes_the_status_otherwise_is_answered_every_ten_seconds() {
    let written = writes("/one/status", 200, |world| {
        let theirs = json!({"conditions": [{"type": "Available", "status": "Unknown"}]});
        world.template_applied(&template(&theirs)).unwrap()
    });
    let written = written.await;
    assert!((2..=7).contains(&written), "{written}");
}

#[tokio::test(start_paused = true)]
async fn another_that_writes_a_configuration_otherwise_is_answered_every_second() {
    let written = writes("/namespaces/a/configmaps", 200, |world| {
        let seen = Seen::default();
        let theirs = Observed { digest: digest("theirs"), marked: true, unused_since: None, seen };
        world.config_map_applied("a", &config_map_name(&id()), Some(id()), theirs)
    });
    let written = written.await;
    assert!((2..=66).contains(&written), "{written}");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_is_tried_again_later_and_later_whatever_happens() {
    let written = writes("/one/status", 403, nothing).await;
    assert!((3..=6).contains(&written), "{written}");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_refused_is_tried_again_later_and_later_whatever_happens() {
    // After 1, 2, 4, 8, 16, 32 s, and up to half of that more.
    let written = writes("/namespaces/a/configmaps", 403, nothing).await;
    assert!((5..=7).contains(&written), "{written}");
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_comes_too_late_is_tried_again_and_told_to_nobody() {
    // Unused until now; the one that is seen is not the newest.
    let used_again = |world: &mut World| {
        let steps = world.work(&id(), Timestamp::now()).steps.unwrap();
        let [Step::Create(object)] = &steps[..] else { panic!("{steps:?}") };
        let digest = digest(object["data"][names::CONFIG_KEY].as_str().unwrap());
        let observed = Observed {
            digest,
            marked: true,
            unused_since: Some(Timestamp::UNIX_EPOCH),
            seen: Seen::default(),
        };
        world.config_map_applied("a", &config_map_name(&id()), Some(id()), observed)
    };
    let (written, told) = minute("/namespaces/a/configmaps", 409, used_again, nothing).await;
    assert!((5..=7).contains(&written), "{written}");
    assert_eq!(told, BTreeSet::from(["Delivered".to_owned()]));
}
