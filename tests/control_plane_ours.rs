//! What the controller leaves alone on a real API server: objects of others, and objects that came in place of ours.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::time::Duration;

use control_plane::ControlPlane;
use control_plane::controller::{
    Controller, GOOD, OWN_NAMESPACE, condition, conditions, config_map, delivered, edit, id, namespace, path,
    template,
};
use control_plane::definitions::{agents, define};
use control_plane::https::until;
use promsidecar::cluster::client::connect;
use promsidecar::controller::apply::Writer;
use promsidecar::controller::lease::{Candidate, Terms};
use promsidecar::controller::plan::{Seen, Step, config_map as desired};
use promsidecar::names;
use promsidecar::shutdown::Shutdown;
use promsidecar::store::last_good;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

async fn shared() -> &'static (&'static ControlPlane, Controller) {
    static SHARED: OnceCell<(&'static ControlPlane, Controller)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            define(plane).await;
            plane.api.create_namespace(&namespace(OWN_NAMESPACE, &json!({}), &json!({}))).await;
            (plane, Controller::leading(&plane.kubeconfig("admin"), &[]).await)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_place_of_ours_meanwhile_is_neither_deleted_nor_written_to() {
    let (plane, _) = shared().await;
    for name in ["stale", "stale-lease"] {
        plane.api.create_namespace(&namespace(name, &json!({}), &json!({}))).await;
    }
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let candidate =
        Candidate::new(client.clone(), "stale-lease", "test".to_owned(), Terms::default()).unwrap();
    let leadership = candidate.leadership();
    let shutdown = Shutdown::default();
    let task = tokio::spawn(candidate.follow(shutdown.clone()));
    until("it leads", || async { leadership.is_held() }).await;
    let writer = Writer::new(client, leadership, Duration::from_secs(5));

    // A template that no controller knows, so that nobody else writes.
    let one = id("stale", "unknown");
    let object = desired(&one, "stale", "ours");
    let path = config_map("stale", &one);
    let created = plane.api.create("/api/v1/namespaces/stale/configmaps", &object).await;
    let text = |key: &str| created["metadata"][key].as_str().unwrap().to_owned();
    let seen = Seen { uid: text("uid"), resource_version: text("resourceVersion") };
    let name = text("name");
    assert_eq!(plane.api.send("DELETE", &path, &Value::Null).await.status, 200);
    let foreign = json!({"metadata": {"name": name}, "data": {"key": "theirs"}});
    let theirs = plane.api.create("/api/v1/namespaces/stale/configmaps", &foreign).await;

    let namespace = "stale".to_owned();
    let mut apply = object;
    apply["metadata"]["uid"] = json!(seen.uid);
    let delete = Step::Delete { namespace: namespace.clone(), name: name.clone(), seen: seen.clone() };
    let mark = Step::Mark { namespace, name, unused_since: None, seen };
    // A conflict; of an apply, the API server says that no UID can be changed.
    for (step, code) in [(delete, "(409)"), (mark, "(409)"), (Step::Apply(apply), "(422)")] {
        let error = writer.step(step.clone()).await.unwrap_err();
        assert!(error.to_string().ends_with(code), "{step:?}: {error}");
        assert_eq!(plane.api.get(&path).await, theirs);
    }
    shutdown.drain();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_of_others_in_the_own_namespace_is_left_alone_and_the_status_says_so() {
    let (plane, _) = shared().await;
    let one = id("kept", "one");
    plane.api.create_namespace(&namespace("kept", &json!({}), &json!({}))).await;
    let folder = format!("/api/v1/namespaces/{OWN_NAMESPACE}/configmaps");
    let foreign = json!({"metadata": {"name": last_good::name(&one)}, "data": {"key": "theirs"}});
    let theirs = plane.api.create(&folder, &foreign).await;
    plane.api.create(&agents("kept"), &template("one")).await;
    let object = conditions(plane, &one, [["False", "ConfigMapConflict"], ["True", "Published"]]).await;
    let message = condition(&object, "Reconciled")["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("ConfigMap {OWN_NAMESPACE}/promsidecar-last-good-")), "{message}");
    // Its pods get what they need all the same.
    delivered(plane, &one, "kept").await;
    let found = format!("{folder}/{}", last_good::name(&one));
    assert_eq!(plane.api.get(&found).await, theirs);
    assert_eq!(plane.api.send("DELETE", &path(&one), &Value::Null).await.status, 200);
    plane.api.create(&agents("kept"), &template("two")).await;
    conditions(plane, &id("kept", "two"), GOOD).await;
    assert_eq!(plane.api.get(&found).await, theirs, "nor with the template");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_released_has_no_status_of_ours() {
    let (plane, _) = shared().await;
    let one = id("released", "one");
    plane.api.create_namespace(&namespace("released", &json!({}), &json!({}))).await;
    plane.api.create(&agents("released"), &template("one")).await;
    conditions(plane, &one, GOOD).await;
    edit(plane, &path(&one), &json!({"metadata": {"annotations": {(names::CONTROLLER_ID): null}}})).await;
    until("our status is taken back", || async {
        let object = plane.api.get(&path(&one)).await;
        object["status"].as_object().is_none_or(serde_json::Map::is_empty)
    })
    .await;
    // What was delivered stays for the pods that mount it.
    plane.api.get(&config_map("released", &one)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_no_config_map_holds_leaves_the_last_good_one_in_force() {
    let (plane, _) = shared().await;
    let one = id("large", "one");
    plane.api.create_namespace(&namespace("large", &json!({}), &json!({}))).await;
    plane.api.create(&agents("large"), &template("one")).await;
    conditions(plane, &one, GOOD).await;
    let before = delivered(plane, &one, "large").await;
    let mut labels = serde_json::Map::new();
    for number in 0..100 {
        labels.insert(format!("long_{number}"), json!("x".repeat(11_000)));
    }
    edit(plane, &path(&one), &json!({"spec": {"externalLabels": labels}})).await;
    let object = conditions(plane, &one, [["False", "Invalid"], ["Degraded", "LastGoodInForce"]]).await;
    let message = condition(&object, "Reconciled")["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("bytes of configuration") && message.contains("that a ConfigMap holds"),
        "{message}"
    );
    assert_eq!(plane.api.get(&config_map("large", &one)).await, before);

    let mended: serde_json::Map<_, _> = labels.keys().map(|name| (name.clone(), Value::Null)).collect();
    edit(plane, &path(&one), &json!({"spec": {"externalLabels": mended}})).await;
    conditions(plane, &one, GOOD).await;
}
