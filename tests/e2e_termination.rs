//! How injected pods end, on a real node: in time whatever the receiver does, and with nothing lost where it answers.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use std::time::{Duration, Instant};

use control_plane::https::until;
use control_plane::injector::pods;
use node::receiver::Receiver;
use node::watch::{Event, Watch};
use node::workloads::{bare, namespace, pod, template};
use node::{Node, told};
use promsidecar::names::CONTAINER;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// How long the application takes to end.
const OWN_TIME: Duration = Duration::from_secs(3);
/// What may come on top of it and of the agent's deadline.
const SLACK: Duration = Duration::from_secs(2);

/// Each of these tests measures time, and so runs alone.
static ALONE: Mutex<()> = Mutex::const_new(());

fn objects() -> String {
    [
        namespace("ends", ""),
        template("ends/shop", &Receiver::remote(), "", ""),
        template("ends/silent", &Receiver::silent(), "", ""),
        template("ends/silent-container", &Receiver::silent(), "sidecar.prometheus.io/mode: container", ""),
    ]
    .concat()
}

/// Runs a pod with this request for an agent; gives its watch and the pod.
async fn start(node: &Node, app: &str, request: &str) -> (Watch, Value) {
    let watch = node.watch("ends", app);
    let flags = [&*format!("-linger={}s", OWN_TIME.as_secs())];
    node.plane.api.create(&pods("ends"), &bare("ends", &pod(app, request, &flags))).await;
    let running = watch.ready().await.pod;
    (watch, running)
}

/// Deletes a pod; gives the time until it was gone, and the last event.
async fn end(node: &Node, watch: &Watch, app: &str) -> (Duration, Event) {
    let began = Instant::now();
    let path = format!("{}/{app}", pods("ends"));
    assert_eq!(node.plane.api.send("DELETE", &path, &Value::Null).await.status, 200);
    let gone = watch.until("the pod is gone", |event| event.kind == "DELETED").await;
    told(
        &format!("the pod {app}, whose application takes {OWN_TIME:?} to end, is deleted, until it is gone"),
        began,
    );
    (gone.at.duration_since(began), gone)
}

/// Name of the pod beside this one that has no agent.
fn bare_name(app: &str) -> String {
    format!("{app}-bare")
}

/// Deletes a pod and, at the same time, the same without an agent: what that takes is the application's own time on this
/// machine, with all that kubelet and runtime need, which is up to 3 s more. Asserts that the agent adds its deadline and
/// the slack at most. Gives the pod's last event.
async fn end_in_time(node: &Node, app: &str, watch: &Watch, pod: &Value, bare: &Watch) -> Event {
    let name = bare_name(app);
    let ((took, last), (own, _)) = tokio::join!(end(node, watch, app), end(node, bare, &name));
    assert!(own >= OWN_TIME, "{}", bare.story());
    assert!(took <= own + flush_deadline(pod) + SLACK, "{took:?}, alone {own:?}\n{}", watch.story());
    last
}

/// How long the agent waits for its receiver in the end: what its flag says.
fn flush_deadline(pod: &Value) -> Duration {
    let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
    let containers = lists.into_iter().filter_map(Value::as_array).flatten();
    let agent = containers.into_iter().find(|container| container["name"] == CONTAINER).unwrap();
    let arguments = agent["args"].as_array().unwrap().iter().filter_map(Value::as_str);
    let mut values = arguments
        .filter_map(|flag| flag.strip_prefix("--storage.remote.flush-deadline=")?.strip_suffix("ms"));
    Duration::from_millis(values.next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_pod_whose_receiver_is_dead_ends_in_time() {
    let _alone = ALONE.lock().await;
    let node = Node::shared(&objects()).await;
    node.configure(&["ends/silent", "ends/silent-container"]).await;
    for app in ["silent", "silent-container"] {
        let (bare, _) = start(node, &bare_name(app), "false").await;
        let (watch, running) = start(node, app, app).await;
        assert_eq!(flush_deadline(&running), Duration::from_secs(2), "of a pod with the usual grace period");
        let address = running["status"]["podIP"].as_str().unwrap();
        until("samples are on their way", || async { node.receiver.keeps_waiting(address) }).await;
        let last = end_in_time(node, app, &watch, &running, &bare).await;
        let code = last.container(CONTAINER).map(|agent| agent["state"]["terminated"]["exitCode"].clone());
        assert_eq!(code, Some(json!(0)), "the agent was not killed:\n{}", watch.story());
    }
}

#[tokio::test]
async fn the_last_samples_of_a_pod_arrive() {
    let _alone = ALONE.lock().await;
    let node = Node::shared(&objects()).await;
    node.configure(&["ends/shop"]).await;
    let (bare, _) = start(node, &bare_name("healthy"), "false").await;
    let (watch, running) = start(node, "healthy", "shop").await;
    node.receiver.arrived("app_scrapes_total{pod=\"healthy\"}").await;
    let last = end_in_time(node, "healthy", &watch, &running, &bare).await;
    // Every scrape counts one up, those while the application ended included.
    let query =
        format!("last_over_time(app_scrapes_total{{pod=\"healthy\"}}[10m]) == {}", last.last_words("app"));
    node.receiver.arrived(&query).await;
}
