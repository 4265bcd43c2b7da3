//! Our definitions on a real API server: they keep what they do not know, and prometheus-operator's take over.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
mod support;

use control_plane::controller::monitors_of;
use control_plane::definitions::agents;
use control_plane::https::until;
use control_plane::{ControlPlane, Printed};
use kustomize::folder;
use promsidecar::monitors::object::Kind;
use serde_json::{Value, json};

#[track_caller]
fn permitted(printed: &Printed) {
    assert_eq!(printed.code, 0, "{printed:?}");
}

/// What a definition says beside its schema.
fn face(definition: &Value) -> Value {
    let version = &definition["spec"]["versions"][0];
    let conditions = "/schema/openAPIV3Schema/properties/status/properties/conditions";
    let conditions = version.pointer(conditions).unwrap();
    json!([
        definition["spec"]["names"],
        definition["spec"]["scope"],
        version["name"],
        version["additionalPrinterColumns"],
        version["subresources"]["status"],
        conditions["x-kubernetes-list-type"],
        conditions["x-kubernetes-list-map-keys"],
        conditions["items"]["required"],
    ])
}

/// Whether everything in `part` is in `whole`; where it is not, otherwise.
fn lost(part: &Value, whole: &Value, path: &str, found: &mut Vec<String>) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in part {
                lost(value, whole.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            for (index, (part, whole)) in part.iter().zip(whole).enumerate() {
                lost(part, whole, &format!("{path}[{index}]"), found);
            }
        }
        _ if part == whole => {}
        _ => found.push(path.to_owned()),
    }
}

const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/prometheusagents.monitoring.coreos.com";

/// Path of a monitor of a kind.
fn monitor_path(kind: Kind) -> String {
    format!("{}/web", monitors_of(kind, "default"))
}

/// A monitor with much of what upstream knows, and what the controller writes into its status.
fn monitor(kind: Kind) -> Value {
    let condition = json!({
        "type": "Accepted", "status": "False", "reason": "InvalidConfiguration", "message": "too slow",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-02T03:04:05Z",
    });
    let binding = json!({
        "group": "monitoring.coreos.com", "resource": "prometheusagents", "namespace": "shop", "name": "shop",
        "conditions": [condition],
    });
    let endpoint = json!({
        "port": "web", "path": "/m", "scheme": "https", "params": {"a": ["b"]}, "interval": "10s",
        "scrapeTimeout": "5s", "honorLabels": true, "filterRunning": false, "followRedirects": false,
        "basicAuth": {"username": {"name": "s", "key": "u"}, "password": {"name": "s", "key": "p"}},
        "tlsConfig": {"insecureSkipVerify": true, "ca": {"configMap": {"name": "c", "key": "ca"}}},
        "relabelings": [{"action": "keep", "sourceLabels": ["a"], "regex": "b"}],
        "metricRelabelings": [{"action": "labeldrop", "regex": "b"}],
        "proxyConnectHeader": {"a": [{"name": "s", "key": "k"}]},
    });
    let mut monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind.word(),
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
            "selectorMechanism": "RoleSelector",
            "namespaceSelector": {"matchNames": ["a"]},
            "attachMetadata": {"node": true},
            "nativeHistogramMinBucketFactor": "1.5",
            "bodySizeLimit": "5MB",
        },
        "status": {"bindings": [binding]},
    });
    let more = match kind {
        Kind::Pod => json!({
            "podMetricsEndpoints": [endpoint, {"targetPort": 8080}, {"targetPort": "web", "portNumber": 81}],
        }),
        Kind::Service => json!({
            "endpoints": [endpoint, {"targetPort": 8080, "bearerTokenFile": "/token"}],
            "targetLabels": ["team"], "serviceDiscoveryRole": "EndpointSlice",
        }),
    };
    monitor["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    monitor
}

#[tokio::test(flavor = "multi_thread")]
async fn our_definition_keeps_everything_and_prometheus_operators_own_takes_over_without_a_loss() {
    let plane = ControlPlane::start(None).await;
    let definitions = folder("crds");
    let file = definitions.join("prometheusagents.yaml");
    let definitions = definitions.to_str().unwrap();
    permitted(&plane.kubectl(&["create", "-k", definitions], "").await);
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", file.to_str().unwrap()];
    permitted(&plane.kubectl(&wait, "").await);
    permitted(&plane.kubectl(&["replace", "-k", definitions], "").await);
    let own = plane.api.get(DEFINITION).await;

    // All that we read, and more that upstream knows.
    let mut agent = support::template::template(support::template::full_spec());
    agent["metadata"] = json!({"name": "shop", "namespace": "default"});
    let more = json!({
        "replicas": 2,
        "shards": 3,
        "podMetadata": {"labels": {"team": "a"}},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "web": {"pageTitle": "Agent", "maxConnections": 5},
        "probeSelector": {},
        "scrapeClasses": [{"name": "a", "default": true, "relabelings": [{"action": "drop", "regex": "a"}]}],
    });
    agent["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    plane.api.create(&agents("default"), &agent).await;
    let condition = json!({
        "type": "Reconciled", "status": "True", "reason": "Delivered", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-02T03:04:05Z",
    });
    let shard = json!({
        "shardID": "0", "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 0,
    });
    let status = json!({"status": {
        "paused": false, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 0,
        "selector": "a=b", "conditions": [condition], "shardStatuses": [shard],
    }});
    let path = format!("{}/shop", agents("default"));
    assert_eq!(plane.api.send("PATCH", &format!("{path}/status"), &status).await.status, 200);
    let stored = plane.api.get(&path).await;
    assert_eq!(stored["spec"], agent["spec"]);
    assert_eq!(stored["status"], status["status"]);

    // What nobody knows yet, on every level, of another object.
    let mut future = agent.clone();
    future["metadata"]["name"] = json!("future");
    future["spec"]["future"] = json!({"a": [1]});
    future["spec"]["remoteWrite"][0]["future"] = json!(1);
    future["spec"]["remoteWrite"][0]["queueConfig"] = json!({"future": {"b": true}});
    plane.api.create(&agents("default"), &future).await;
    assert_eq!(plane.api.get(&format!("{}/future", agents("default"))).await["spec"], future["spec"]);
    // And what cannot be read is refused early.
    let mut wrong = agent.clone();
    wrong["metadata"]["name"] = json!("wrong");
    wrong["spec"]["paused"] = json!("yes");
    assert_eq!(plane.api.send("POST", &agents("default"), &wrong).await.status, 422);

    let mut stored_monitors = Vec::new();
    for kind in Kind::ALL {
        let (monitor, path) = (monitor(kind), monitor_path(kind));
        plane.api.create(&monitors_of(kind, "default"), &monitor).await;
        let told = json!({"status": monitor["status"]});
        let told = plane.api.send("PATCH", &format!("{path}/status"), &told).await;
        assert_eq!(told.status, 200, "{}", told.body);
        let stored = plane.api.get(&path).await;
        assert_eq!([&stored["spec"], &stored["status"]], [&monitor["spec"], &monitor["status"]]);
        stored_monitors.push((kind, path, stored));
    }

    // Over ours, as their users install it.
    let module = support::oracle::module("github.com/prometheus-operator/prometheus-operator");
    for kind in ["podmonitors", "prometheusagents", "servicemonitors"] {
        let upstream = format!("example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml");
        let upstream = module.join(upstream);
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", upstream.to_str().unwrap()];
        permitted(&plane.kubectl(&apply, "").await);
    }
    until("upstream's defaults show that its definition is in force", || async {
        plane.api.get(&path).await["spec"]["portName"] == "web"
    })
    .await;
    let theirs = plane.api.get(DEFINITION).await;
    assert_eq!(face(&own), face(&theirs));
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-preserve-unknown-fields";
    assert_eq!(
        (own.pointer(spec), theirs.pointer(spec)),
        (Some(&json!(true)), None),
        "nothing of ours is left"
    );
    let mut found = Vec::new();
    lost(&stored, &plane.api.get(&path).await, "", &mut found);
    for (kind, path, stored) in &stored_monitors {
        until(&format!("upstream's definition of {kind} is in force"), || async {
            let endpoints = if *kind == Kind::Pod { "podMetricsEndpoints" } else { "endpoints" };
            let refused = json!({"spec": {(endpoints): [{"scheme": "gopher"}]}});
            plane.api.send("PATCH", &format!("{path}?dryRun=All"), &refused).await.status == 422
        })
        .await;
        lost(stored, &plane.api.get(path).await, "", &mut found);
    }
    assert_eq!(found, [""; 0]);
    // They are valid there too.
    let label = json!({"metadata": {"labels": {"touched": "true"}}});
    for path in [path].into_iter().chain(stored_monitors.into_iter().map(|(_, path, _)| path)) {
        let touched = plane.api.send("PATCH", &path, &label).await;
        assert_eq!(touched.status, 200, "{}", touched.body);
    }

    // Ours does not replace it.
    let refused = plane.kubectl(&["create", "-k", definitions], "").await;
    assert!(refused.code == 1 && refused.stderr.contains("AlreadyExists"), "{refused:?}");
}
