//! prometheus-operator itself beside claimed templates, on a real API server with its own definitions.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use control_plane::definitions::{agents, define};
use control_plane::https::PATIENCE;
use control_plane::leash::Leash;
use serde_json::{Value, json};

const NAMESPACE: &str = "beside-the-operator";

#[tokio::test]
async fn prometheus_operator_leaves_a_template_alone_for_as_long_as_it_is_claimed() {
    let plane = ControlPlane::shared().await;
    let directory = plane.directory(NAMESPACE);
    define(plane).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    plane.api.create_namespace(&namespace).await;
    let claimed = create(plane, "claimed", Some("promsidecar")).await;
    create(plane, "plain", None).await;

    let mut operator = start(plane, &directory);
    wait_for_stateful_set(plane, &mut operator, "prom-agent-plain").await;
    // One that comes after an edit of the claimed one, so that the operator had every occasion to act on that.
    edit(plane, "claimed", &json!({"spec": {"scrapeInterval": "10s"}})).await;
    create(plane, "later", None).await;
    wait_for_stateful_set(plane, &mut operator, "prom-agent-later").await;

    assert_eq!(stateful_sets(plane).await, ["prom-agent-later", "prom-agent-plain"]);
    let secrets = names(&plane.api.list(&format!("/api/v1/namespaces/{NAMESPACE}/secrets")).await);
    assert!(secrets.iter().any(|name| name.starts_with("prom-agent-plain")), "{secrets:?}");
    assert!(!secrets.iter().any(|name| name.contains("claimed")), "{secrets:?}");
    let mut expected = claimed;
    expected["spec"]["scrapeInterval"] = json!("10s");
    let found = without_bookkeeping(plane.api.get(&agent_path("claimed")).await);
    // Nothing of it was written: no status, no finalizer, no annotation.
    assert_eq!(found, without_bookkeeping(expected));

    // The annotation is what did it.
    let released = json!({"metadata": {"annotations": {"operator.prometheus.io/controller-id": null}}});
    edit(plane, "claimed", &released).await;
    wait_for_stateful_set(plane, &mut operator, "prom-agent-claimed").await;

    // What it runs and is claimed then runs on as it was at that moment, and nobody looks after it: what
    // `promsidecar convert` warns of.
    let stateful_set = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/prom-agent-plain");
    let before = plane.api.get(&stateful_set).await;
    let claimed = json!({
        "metadata": {"annotations": {"operator.prometheus.io/controller-id": "promsidecar"}},
        "spec": {"replicas": 2},
    });
    edit(plane, "plain", &claimed).await;
    create(plane, "last", None).await;
    wait_for_stateful_set(plane, &mut operator, "prom-agent-last").await;
    assert_eq!(plane.api.get(&stateful_set).await["spec"], before["spec"]);
}

/// Creates an agent, claimed by the controller of this id; gives it as it is stored.
async fn create(plane: &ControlPlane, name: &str, controller: Option<&str>) -> Value {
    let mut agent = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"podMonitorSelector": {}, "remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]},
    });
    if let Some(id) = controller {
        agent["metadata"]["annotations"] = json!({"operator.prometheus.io/controller-id": id});
    }
    plane.api.create(&agents(NAMESPACE), &agent).await
}

async fn edit(plane: &ControlPlane, name: &str, change: &Value) {
    let reply = plane.api.send("PATCH", &agent_path(name), change).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

fn agent_path(name: &str) -> String {
    format!("{}/{name}", agents(NAMESPACE))
}

/// Without what the API server counts by itself.
fn without_bookkeeping(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["generation", "managedFields", "resourceVersion"] {
        metadata.remove(field);
    }
    object
}

/// The operator as administrator, and where it logs to.
struct Operator {
    process: Leash,
    log: PathBuf,
}

fn start(plane: &ControlPlane, directory: &Path) -> Operator {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/oracle/prometheus-operator");
    assert!(program.is_file(), "{} is missing: run `make tools` (needs Go)", program.display());
    let log = directory.join("operator.log");
    let output = File::create(&log).unwrap();
    let arguments = [
        format!("KUBECONFIG={}", plane.kubeconfig("admin").display()),
        program.display().to_string(),
        format!("--namespaces={NAMESPACE}"),
        "--web.listen-address=127.0.0.1:0".to_owned(),
    ];
    let outputs = (Stdio::from(output.try_clone().unwrap()), Stdio::from(output));
    Operator { process: Leash::program(Path::new("/usr/bin/env"), arguments, outputs), log }
}

async fn wait_for_stateful_set(plane: &ControlPlane, operator: &mut Operator, name: &str) {
    let end = Instant::now() + PATIENCE;
    while !stateful_sets(plane).await.iter().any(|found| found == name) {
        let log = || fs::read_to_string(&operator.log).unwrap_or_default();
        assert!(operator.process.ended().is_none(), "the operator ended:\n{}", log());
        assert!(Instant::now() < end, "no StatefulSet {name}; the operator says:\n{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn stateful_sets(plane: &ControlPlane) -> Vec<String> {
    names(&plane.api.list(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")).await)
}

/// Names of objects, in order.
fn names(objects: &[Value]) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let mut names: Vec<_> = objects.iter().map(name).collect();
    names.sort();
    names
}
