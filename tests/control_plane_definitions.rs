//! The controller beside the oldest definitions that leave claimed objects alone, and beside the newest: what it tells is
//! stored, and shown by kubectl.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/installation.rs"]
mod installation;
mod support;

use control_plane::ControlPlane;
use control_plane::definitions::{agents, define_release};
use control_plane::https::until;
use installation::Installation;
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};

/// In the order of an upgrade.
const RELEASES: [&str; 2] = ["0.73.2", "0.94.1"];
const NAMESPACE: &str = "team";

fn template(name: &str, cluster: &str) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": {(names::CONTROLLER_ID): "promsidecar"}},
        "spec": {
            "version": "v3.13.5",
            "externalLabels": {"cluster": cluster},
            "remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}],
        },
    })
}

/// Waits until its configuration is delivered with this label, and its status tells of the generation that says so.
async fn delivered(plane: &ControlPlane, name: &str, cluster: &str) {
    let id = TemplateId { namespace: NAMESPACE.to_owned(), name: name.to_owned() };
    let config_map = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{}", config_map_name(&id));
    until(&format!("{id} is delivered"), || async {
        let reply = plane.api.send("GET", &config_map, &Value::Null).await;
        let text = reply.body["data"][names::CONFIG_KEY].as_str().unwrap_or_default().to_owned();
        text.contains(&format!("cluster: {cluster}"))
    })
    .await;
    until(&format!("{id} has a status"), || async {
        let object = plane.api.get(&format!("{}/{name}", agents(NAMESPACE))).await;
        let generation = &object["metadata"]["generation"];
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.len() == 2 && conditions.iter().all(|it| it["observedGeneration"] == *generation)
    })
    .await;
}

/// What kubectl shows of the templates, but for their age.
async fn shown(plane: &ControlPlane) -> Vec<Vec<String>> {
    let printed =
        plane.kubectl(&["get", "prometheusagents", "--namespace", NAMESPACE, "--no-headers"], "").await;
    assert_eq!(printed.code, 0, "{printed:?}");
    let row = |line: &str| {
        let mut row: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        row.pop();
        row
    };
    printed.stdout.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_tells_is_shown_by_old_and_new_definitions_and_outlives_their_upgrade() {
    let [old, new] = RELEASES;
    let installation = Installation::new(NAMESPACE).await;
    let plane = installation.plane;
    define_release(plane, old).await;
    let controller = installation.controller(&["--certificate=external"]);
    controller.leads().await;

    plane.api.create(&agents(NAMESPACE), &template("old", "c1")).await;
    delivered(plane, "old", "c1").await;
    let row = |name: &str| [name, "v3.13.5", "0", "True", "True"].map(str::to_owned).to_vec();
    assert_eq!(shown(plane).await, [row("old")]);

    define_release(plane, new).await;
    plane.api.create(&agents(NAMESPACE), &template("new", "c1")).await;
    delivered(plane, "new", "c1").await;
    let edit = json!({"spec": {"externalLabels": {"cluster": "c2"}}});
    let reply = plane.api.send("PATCH", &format!("{}/old", agents(NAMESPACE)), &edit).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    delivered(plane, "old", "c2").await;
    assert_eq!(shown(plane).await, [row("new"), row("old")]);
}
