//! The loop before an API server in this process that takes everything, with a clock that does not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use kube::Client;
use serde_json::{Value, json};

use super::Reconciler;
use crate::admission::Policy;
use crate::admission::sidecar::config_map_name;
use crate::controller::apply::Writer;
use crate::controller::lease::Leadership;
use crate::controller::observe::Observer;
use crate::controller::plan::{Observed, Seen, digest};
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

/// How often the loop writes to `path` in the course of a minute, if another does so at once each time.
async fn writes(path: &'static str, another: fn(&mut World) -> Concerned) -> usize {
    let mut world = World::new(Settings::default(), Policy::default(), "own".to_owned());
    world.namespace_applied("a", Namespace::default());
    world.template_applied(&template(&Value::Null)).unwrap();
    let observer = Arc::new(Observer::new(world));
    observer.health().iter().for_each(|health| health.succeeded());

    let written = Arc::new(AtomicUsize::new(0));
    let (other, count) = (Arc::clone(&observer), Arc::clone(&written));
    let answer = move |request: Request| {
        let (other, count) = (Arc::clone(&other), Arc::clone(&count));
        async move {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            // Not for ever: a loop without a pause would never end here.
            if head.uri.path().contains(path) && count.fetch_add(1, Ordering::Relaxed) < 500 {
                let concerned = another(&mut other.world());
                other.queue.add(concerned);
            }
            Response::new(Body::from(body))
        }
    };
    let client = Client::new(Router::new().fallback(answer), "own");
    let leadership = Leadership::held_for_long();
    let writer = Writer::new(client, leadership.clone(), Duration::from_secs(5));
    let reconciler = Reconciler::new(observer, writer, leadership, "own".to_owned(), Arc::default());
    let ended = tokio::time::timeout(Duration::from_secs(65), reconciler.run()).await;
    assert!(ended.is_err(), "it runs for ever");
    written.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn another_that_writes_the_status_otherwise_is_answered_every_ten_seconds() {
    let written = writes("/one/status", |world| {
        let theirs = json!({"conditions": [{"type": "Available", "status": "Unknown"}]});
        world.template_applied(&template(&theirs)).unwrap()
    });
    let written = written.await;
    assert!((2..=7).contains(&written), "{written}");
}

#[tokio::test(start_paused = true)]
async fn another_that_writes_a_configuration_otherwise_is_answered_every_second() {
    let written = writes("/namespaces/a/configmaps", |world| {
        let id = TemplateId { namespace: "a".to_owned(), name: "one".to_owned() };
        let seen = Seen::default();
        let theirs = Observed { digest: digest("theirs"), marked: true, unused_since: None, seen };
        world.config_map_applied("a", &config_map_name(&id), Some(id), theirs)
    });
    let written = written.await;
    assert!((2..=66).contains(&written), "{written}");
}
