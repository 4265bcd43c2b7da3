//! What users see, on a real node: injected pods of every kind of workload run, scrape and deliver, and what is edited
//! reaches the running agent.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use control_plane::https::until;
use node::receiver::{Labels, Receiver};
use node::settings::NODE_IP;
use node::watch::{Event, Watch};
use node::workloads::{job, namespace, pod, template, workload};
use node::{Node, list, told};
use promsidecar::names;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Port of [`Gate`].
const GATE: u16 = 9100;

fn objects() -> String {
    let gate = format!(
        "url: 'http://{NODE_IP}:{GATE}/write', authorization: {{credentials: {{name: remote, key: token}}}}"
    );
    [
        namespace("kinds", ""),
        template("kinds/shop", &Receiver::remote(), "", ""),
        namespace("edits", ""),
        template("edits/shop", &Receiver::remote(), "", ""),
        template("edits/gated", &gate, "", ""),
    ]
    .concat()
}

/// The labels of a pod's series, but for what is the series' own.
fn identity(pod: &Value) -> Labels {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let namespace = text(&pod["metadata"]["namespace"]);
    [
        ("cluster", "c1".to_owned()),
        ("container", "app".to_owned()),
        ("instance", format!("{}:8080", text(&pod["status"]["podIP"]))),
        ("job", names::JOB_ANNOTATIONS.to_owned()),
        ("pod", text(&pod["metadata"]["name"])),
        ("prometheus", format!("{namespace}/shop")),
        ("namespace", namespace),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Waits for `up` of a pod, and compares the whole of its labels.
async fn delivered(node: &Node, pod: &Value) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    // An application that has ended was up before.
    let arrived = node.receiver.arrived(&format!("max_over_time(up{{pod=\"{name}\"}}[10m]) == 1")).await;
    let labels: Vec<Labels> = arrived.into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(labels, [identity(pod)], "{name}");
}

#[tokio::test]
async fn pods_that_stay_become_ready_and_deliver() {
    let node = Node::shared(&objects()).await;
    node.configure(&["kinds/shop"]).await;
    let one = async |kind: &str, app: &str| {
        let began = Instant::now();
        let watch = node.watch("kinds", app);
        node.apply(&workload(kind, "kinds", &pod(app, "shop", &[]))).await;
        let ready = watch.ready().await;
        told(&format!("a {kind} is applied, until its pod is ready"), began);
        delivered(node, &ready.pod).await;
        told(&format!("a {kind} is applied, until its first series is at the receiver"), began);
        watch.assert_undisturbed();
    };
    // One after another, so that the times are those of one.
    one("Deployment", "web").await;
    one("StatefulSet", "db").await;
    one("DaemonSet", "log").await;
}

/// Waits until the pod has done its work; gives it as it was last.
async fn completed(watch: &Watch) -> Event {
    watch.until("the pod completes", |event| event.pod["status"]["phase"] == "Succeeded").await
}

/// Runs what makes pods that end; gives the last event of one.
async fn run_to_the_end(node: &Node, app: &str, object: &Value) -> Event {
    let watch = node.watch("kinds", app);
    node.apply(object).await;
    let began = watch.until("there is a pod", |_| true).await.at;
    let ended = completed(&watch).await;
    told(&format!("the pod of {} {app} completes", object["kind"].as_str().unwrap()), began);
    assert_eq!(ended.restarts(), 0, "{}", watch.story());
    ended
}

#[tokio::test]
async fn pods_that_end_complete_and_have_delivered_all_that_was_scraped() {
    let node = Node::shared(&objects()).await;
    node.configure(&["kinds/shop"]).await;
    let run = async |app: &str, object: Value| {
        let ended = run_to_the_end(node, app, &object).await;
        delivered(node, &ended.pod).await;
        let name = ended.pod["metadata"]["name"].as_str().unwrap();
        let last = ended.last_words("app");
        node.receiver
            .arrived(&format!("last_over_time(app_scrapes_total{{pod=\"{name}\"}}[10m]) == {last}"))
            .await;
    };
    let of_12_s = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "of-12-s", "namespace": "kinds"},
        "spec": job(&pod("of-12-s", "shop", &["-life=12s"]))});
    let minutely = json!({"apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "minutely", "namespace": "kinds"},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": job(&pod("minutely", "shop", &["-life=12s"]))}}});
    tokio::join!(run("of-12-s", of_12_s), run("minutely", minutely));
    until("the Job is complete", || async {
        let job = node.plane.api.get("/apis/batch/v1/namespaces/kinds/jobs/of-12-s").await;
        job["status"]["succeeded"] == 1
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_ends_before_its_first_scrape_completes_all_the_same() {
    let node = Node::shared(&objects()).await;
    node.configure(&["kinds/shop"]).await;
    let brief = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "brief", "namespace": "kinds"},
        "spec": job(&pod("brief", "shop", &["-life=1s"]))});
    let ended = run_to_the_end(node, "brief", &brief).await;
    // Prometheus takes its first look at the targets after five seconds.
    assert_eq!(ended.last_words("app"), "0", "scrapes");
}

#[tokio::test]
async fn edits_of_the_annotation_and_of_the_configuration_reach_the_running_agent() {
    let node = Node::shared(&objects()).await;
    node.configure(&["edits/shop"]).await;
    let watch = node.watch("edits", "web");
    node.apply(&workload("Deployment", "edits", &pod("web", "shop", &[]))).await;
    let running = watch.ready().await.pod;
    delivered(node, &running).await;
    let name = running["metadata"]["name"].as_str().unwrap();

    // A path that the pod did not name at its creation.
    let targets = running["metadata"]["annotations"][names::TARGETS].as_str().unwrap();
    let mut targets: Vec<Value> = serde_json::from_str(targets).unwrap();
    for group in &mut targets {
        group["labels"]["__metrics_path__"] = json!("/other");
    }
    let edited = serde_json::to_string(&targets).unwrap();
    let patch = json!({"metadata": {"annotations": {(names::TARGETS): edited}}});
    let began = Instant::now();
    let reply = node.plane.api.send("PATCH", &format!("/api/v1/namespaces/edits/pods/{name}"), &patch).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    node.receiver.arrived(&format!("app_other{{pod=\"{name}\"}}")).await;
    told("an edit of the targets annotation, until a series of it is at the receiver", began);

    let mut configuration = node.configuration("edits/shop", "edits");
    let text = configuration["data"]["prometheus.yml"].as_str().unwrap();
    let edited = text.replace("cluster: c1", "cluster: c2");
    assert_ne!(edited, text);
    configuration["data"]["prometheus.yml"] = json!(edited);
    let began = Instant::now();
    node.apply(&configuration).await;
    node.receiver.arrived(&format!("app_other{{pod=\"{name}\", cluster=\"c2\"}}")).await;
    told("an edit of the ConfigMap, until a series of it is at the receiver", began);
    watch.assert_undisturbed();
}

/// A receiver that keeps who writes: the credentials of every request.
struct Gate(Arc<Mutex<Vec<String>>>);

impl Gate {
    async fn open() -> Self {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&seen);
        let handler = move |headers: HeaderMap| {
            let credentials = headers.get("authorization").and_then(|value| value.to_str().ok());
            kept.lock().unwrap().push(credentials.unwrap_or("none").to_owned());
            async { StatusCode::NO_CONTENT }
        };
        let listener = TcpListener::bind((NODE_IP, GATE)).await.unwrap();
        tokio::spawn(async { axum::serve(listener, Router::new().fallback(handler)).await });
        Self(seen)
    }

    async fn sees(&self, credentials: &str) {
        until(&format!("somebody writes as {credentials}"), || async {
            self.0.lock().unwrap().last().is_some_and(|last| last == credentials)
        })
        .await;
    }
}

#[tokio::test]
async fn a_rotated_secret_reaches_the_running_agent() {
    let node = Node::shared(&objects()).await;
    let gate = Gate::open().await;
    let secret = |token: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "remote", "namespace": "edits"},
            "stringData": {"token": token}})
    };
    let watch = node.watch("edits", "gated");
    let deployment = workload("Deployment", "edits", &pod("gated", "gated", &[]));
    node.apply(&list(&[secret("first"), node.configuration("edits/gated", "edits"), deployment])).await;
    gate.sees("Bearer first").await;

    let began = Instant::now();
    node.apply(&secret("second")).await;
    gate.sees("Bearer second").await;
    told("a Secret is rotated, until the agent writes with it", began);
    watch.assert_undisturbed();
}
