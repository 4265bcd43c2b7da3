//! The controller's Events on a real API server, as `kubectl describe` shows them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use control_plane::ControlPlane;
use control_plane::controller::{Controller, LEASE, OWN_NAMESPACE, edit, id, namespace, path, template};
use control_plane::definitions::{agents, define};
use control_plane::https::until;
use control_plane::injector::{Program, asking_pod, pods};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::names;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A control plane with a webhook for these namespaces, and a leader and a follower that tell.
struct Shared {
    plane: &'static ControlPlane,
    leader: Controller,
    follower: Controller,
    _webhook: Program,
}

const ASKING: [&str; 5] = ["web", "storm", "going", "guest", "later"];

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            let webhook = Program::installed(plane, &ASKING, OWN_NAMESPACE).await;
            let kubeconfig = plane.kubeconfig("admin");
            let leader = Controller::leading(&kubeconfig, &[]).await;
            let follower = Controller::start(&kubeconfig, &[]);
            until("the follower knows everything", || async { follower.is_ready().await }).await;
            Shared { plane, leader, follower, _webhook: webhook }
        })
        .await
}

/// Events of ours in a namespace.
async fn events(plane: &ControlPlane, namespace: &str) -> Vec<Value> {
    let found = plane.api.list(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")).await;
    found.into_iter().filter(|event| event["reportingController"] == "promsidecar-controller").collect()
}

/// Waits for an Event about an object; gives it.
async fn event(plane: &ControlPlane, namespace: &str, kind: &str, reason: &str) -> Value {
    let about = |event: &Value| event["regarding"]["kind"] == kind && event["reason"] == reason;
    until(&format!("{kind} in {namespace} has an Event {reason}"), || async {
        events(plane, namespace).await.iter().any(about)
    })
    .await;
    events(plane, namespace).await.into_iter().find(about).unwrap()
}

fn deployment(name: &str, replicas: u32) -> Value {
    let mut pod = asking_pod("x");
    pod["metadata"]["labels"] = json!({"app": name});
    pod["metadata"].as_object_mut().unwrap().remove("name");
    json!({
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod},
    })
}

/// What `kubectl describe` says after `Events:`.
async fn described(plane: &ControlPlane, namespace: &str, kind: &str) -> String {
    let printed = plane.kubectl(&["describe", kind, "-n", namespace, "--show-events=true"], "").await;
    let events = printed.stdout.split_once("Events:").map(|(_, events)| events.to_owned());
    events.unwrap_or_else(|| panic!("{printed:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_refused_is_told_on_its_pod_and_replica_set() {
    let shared = shared().await;
    let plane = shared.plane;
    plane.api.create("/apis/apps/v1/namespaces/web/deployments", &deployment("web", 1)).await;
    for kind in ["Pod", "ReplicaSet"] {
        let event = event(plane, "web", kind, "TemplateNotFound").await;
        assert_eq!(event["note"], "no template in web, and no default one");
        assert_eq!((&event["type"], &event["action"]), (&json!("Warning"), &json!("Inject")));
        let shown = described(plane, "web", kind).await;
        let line = shown.lines().find(|line| line.contains("TemplateNotFound"));
        let line = line.unwrap_or_else(|| panic!("{kind}: {shown}"));
        assert!(line.trim_start().starts_with("Warning"), "{line}");
        assert!(line.contains("promsidecar-controller") && line.ends_with("and no default one"), "{line}");
    }
    // The pod changes, and is told all the same only once.
    let pod = plane.api.list(&pods("web")).await.remove(0);
    let path = format!("{}/{}", pods("web"), pod["metadata"]["name"].as_str().unwrap());
    edit(plane, &path, &json!({"metadata": {"labels": {"changed": "yes"}}})).await;
    plane.api.create(&pods("web"), &asking_pod("bare")).await;
    until("a later pod is told", || async {
        events(plane, "web").await.iter().any(|event| event["regarding"]["name"] == "bare")
    })
    .await;
    let all = events(plane, "web").await;
    assert!(all.len() == 3 && all.iter().all(|event| event.get("series").is_none()), "{all:#?}");
    assert_eq!(shared.follower.metric("promsidecar_leader").await, 0);
    for result in ["written", "known", "failed"] {
        let count = format!("promsidecar_events_total{{result=\"{result}\"}}");
        assert_eq!(shared.follower.metric(&count).await, 0, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_edited_badly_or_finds_its_name_taken_says_so() {
    let plane = shared().await.plane;
    plane.api.create_namespace(&namespace("edits", &json!({}), &json!({}))).await;
    let foreign = json!({"metadata": {"name": config_map_name(&id("edits", "taken"))}, "data": {"a": "b"}});
    plane.api.create("/api/v1/namespaces/edits/configmaps", &foreign).await;
    plane.api.create(&agents("edits"), &template("taken")).await;
    let conflict = event(plane, "edits", "PrometheusAgent", "ConfigMapConflict").await;
    assert!(conflict["note"].as_str().unwrap().contains("is not ours"), "{conflict:#}");

    plane.api.create(&agents("edits"), &template("one")).await;
    for (version, generation) in [("v2.53.0", 2), ("v2.52.0", 3)] {
        edit(plane, &path(&id("edits", "one")), &json!({"spec": {"version": version}})).await;
        until(&format!("generation {generation} is told"), || async {
            let start = format!("generation {generation} is not used: spec.version: \"{version}\": ");
            events(plane, "edits").await.iter().any(|event| {
                event["reason"] == "TemplateInvalid" && event["note"].as_str().unwrap().starts_with(&start)
            })
        })
        .await;
    }
    let shown = described(plane, "edits", "prometheusagent").await;
    assert!(shown.contains("TemplateInvalid") && shown.contains("generation 3 is not used"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_guest_may_not_use_a_template_is_told_to_its_host_alone() {
    let plane = shared().await.plane;
    plane.api.create_namespace(&namespace("host", &json!({}), &json!({}))).await;
    let mut private = template("private");
    private["metadata"]["annotations"].as_object_mut().unwrap().remove(names::ALLOWED_NAMESPACES);
    plane.api.create(&agents("host"), &private).await;
    until("the guest's pod is refused and its host hears why", || async {
        let mut pod = asking_pod("x");
        pod["metadata"].as_object_mut().unwrap().remove("name");
        pod["metadata"]["generateName"] = json!("web-");
        pod["metadata"]["annotations"][names::INJECT] = json!("host/private");
        plane.api.create(&pods("guest"), &pod).await;
        !events(plane, "host").await.is_empty()
    })
    .await;
    let told = event(plane, "host", "PrometheusAgent", "TemplateNotPermitted").await;
    assert_eq!(
        told["note"],
        "pods of namespace guest asked: host/private does not list guest in allowed-namespaces"
    );
    let public = event(plane, "guest", "Pod", "TemplateNotFound").await;
    assert_eq!(public["note"], "no template host/private that guest may use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_starts_tells_nothing_twice() {
    let plane = &ControlPlane::start(None).await;
    define(plane).await;
    for name in [OWN_NAMESPACE, "again"] {
        plane.api.create_namespace(&namespace(name, &json!({}), &json!({}))).await;
    }
    let kubeconfig = plane.kubeconfig("admin");
    let first = Controller::leading(&kubeconfig, &[]).await;
    // As a webhook would have marked its pods.
    let mut marked = deployment("web", 3);
    let metadata = &mut marked["spec"]["template"]["metadata"];
    metadata["labels"][names::INJECTED] = json!("false");
    metadata["annotations"][names::SKIPPED] = json!("template-not-found: no template in again");
    plane.api.create("/apis/apps/v1/namespaces/again/deployments", &marked).await;
    until("three pods and their owner are told, and counted", || async {
        let all = events(plane, "again").await;
        all.len() == 4 && all.iter().any(|event| event["series"]["count"] == 3)
    })
    .await;
    let before = events(plane, "again").await;
    drop(first);
    // The dead one's lease would run out by itself.
    assert_eq!(plane.api.send("DELETE", LEASE, &Value::Null).await.status, 200);
    let second = Controller::leading(&kubeconfig, &[]).await;
    until("it finds what was told", || async {
        second.metric("promsidecar_events_total{result=\"known\"}").await == 4
    })
    .await;
    assert_eq!(second.metric("promsidecar_events_total{result=\"written\"}").await, 0);
    assert_eq!(events(plane, "again").await, before);
}

/// Pods of one owner, refused at once.
const STORM: u32 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_refused_pods_has_few_events_and_all_are_counted() {
    let Shared { plane, leader, .. } = shared().await;
    plane.api.create("/apis/apps/v1/namespaces/storm/deployments", &deployment("web", STORM)).await;
    until("the ReplicaSet's Event counts all of them", || async {
        events(plane, "storm").await.iter().any(|event| event["series"]["count"] == STORM)
    })
    .await;
    let shown = described(plane, "storm", "replicaset").await;
    assert!(shown.contains(&format!("(x{STORM} over")), "{shown}");
    let all = events(plane, "storm").await;
    // The burst for the pods of one owner, one more a minute, and the owner.
    assert!((6..=9).contains(&all.len()), "{}", all.len());
    assert_eq!(leader.metric("promsidecar_events_total{result=\"dropped\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_being_deleted_costs_no_failure() {
    let Shared { plane, leader, .. } = shared().await;
    // Holds the namespace in its deletion.
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/test"]}});
    plane.api.create("/api/v1/namespaces/going/configmaps", &held).await;
    plane.api.create(&agents("going"), &template("one")).await;
    until("the template is delivered", || async {
        plane.api.list("/api/v1/namespaces/going/configmaps").await.len() == 2
    })
    .await;
    let mut refused = deployment("web", 40);
    refused["spec"]["template"]["metadata"]["annotations"][names::INJECT] = json!("absent");
    plane.api.create("/apis/apps/v1/namespaces/going/deployments", &refused).await;
    until("its pods are there", || async { plane.api.list(&pods("going")).await.len() > 20 }).await;
    assert_eq!(plane.api.send("DELETE", "/api/v1/namespaces/going", &Value::Null).await.status, 200);
    until("all but what is held is gone", || async {
        let left = plane.api.list("/api/v1/namespaces/going/configmaps").await;
        left.len() == 1 && plane.api.list(&pods("going")).await.is_empty()
    })
    .await;
    // Whatever was queued for it was written or passed over when something later is told.
    plane.api.create(&pods("later"), &asking_pod("after")).await;
    event(plane, "later", "Pod", "TemplateNotFound").await;
    for metric in ["events_total{result=\"failed\"}", "reconciles_total{result=\"failed\"}"] {
        assert_eq!(leader.metric(&format!("promsidecar_{metric}")).await, 0, "{metric}");
    }
    let left = plane.api.list("/api/v1/namespaces/going/configmaps").await;
    assert_eq!(left.len(), 1, "nothing is made anew: {left:#?}");
    let path = "/api/v1/namespaces/going/configmaps/held";
    edit(plane, path, &json!({"metadata": {"finalizers": null}})).await;
    until("the namespace is gone", || async {
        plane.api.send("GET", "/api/v1/namespaces/going", &Value::Null).await.status == 404
    })
    .await;
}
