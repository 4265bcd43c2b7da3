//! promsidecar in the cluster: its image in a Deployment behind a Service, its certificate in a Secret, its templates in a
//! ConfigMap, and the registration as it is shipped. And, in place of a controller, what agents find as configuration.
//!
//! Input: namespaces and templates as one manifest. Output: a webhook that answers the API server.

use std::fs;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};
use promsidecar::manifest;
use serde_json::{Value, json};

use super::images::PROMSIDECAR;
use super::{Node, list};
use crate::control_plane::https::until;
use crate::control_plane::injector::{CONFIGURATIONS, asking_pod, pods};

const NAMESPACE: &str = "promsidecar-system";
const NAME: &str = "promsidecar-webhook";
const REGISTRATION: &str = include_str!("../../../webhook-config/base/registration.yaml");
/// Name of the file of [`Node::path`] with namespaces and templates.
const OBJECTS: &str = "objects.yaml";

/// Makes the namespaces of `objects`, and installs the webhook with all of it. Returns when it answers; the first namespace
/// has to admit an ordinary pod.
pub(crate) async fn install(node: &Node, objects: &str) {
    fs::write(node.path(OBJECTS), objects).unwrap();
    let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    node.plane.api.create_namespace(&own).await;
    let documents = manifest::read(objects).unwrap();
    let namespaces: Vec<&Value> = documents
        .iter()
        .map(|document| &document.object)
        .filter(|object| object["kind"] == "Namespace")
        .collect();
    for namespace in &namespaces {
        node.plane.api.create_namespace(namespace).await;
    }
    let (secret, ca) = certificate(node);
    node.apply(&list(&[secret, templates(objects), deployment(node.family.any()), service()])).await;
    let arguments =
        ["--namespace", NAMESPACE, "rollout", "status", &format!("deployment/{NAME}"), "--timeout=50s"];
    let printed = node.plane.kubectl(&arguments, "").await;
    if printed.code != 0 {
        let pods = node.plane.kubectl(&["--namespace", NAMESPACE, "describe", "pods"], "").await;
        panic!("{}\n{}", printed.stderr, pods.stdout);
    }

    let mut registration: Value = serde_saphyr::from_str(REGISTRATION).unwrap();
    for entry in registration["webhooks"].as_array_mut().unwrap() {
        entry["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(&ca));
    }
    node.plane.api.create(CONFIGURATIONS, &registration).await;
    let first = namespaces[0]["metadata"]["name"].as_str().unwrap();
    until("the webhook is called", || async {
        let path = format!("{}?dryRun=All", pods(first));
        let reply = node.plane.api.send("POST", &path, &asking_pod("probe")).await;
        reply.body["metadata"]["labels"].get("sidecar.prometheus.io/injected").is_some()
    })
    .await;
}

/// The Secret with what `promsidecar certs` makes, and the CA.
fn certificate(node: &Node) -> (Value, String) {
    let folder = node.path("certificate");
    let out = folder.display().to_string();
    run(&["certs", "--out", &out]);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "stringData": {"tls.crt": read("tls.crt"), "tls.key": read("tls.key")},
    });
    (secret, read("ca.crt"))
}

fn templates(objects: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {(OBJECTS): objects},
    })
}

/// It listens at `any`, its own port and that of its probes.
fn deployment(any: &str) -> Value {
    let labels = json!({"app": NAME});
    let container = json!({
        "name": "webhook",
        "image": PROMSIDECAR,
        // What the image runs, with flags.
        "args": [
            "webhook", "--templates=/templates", "--tls-cert-file=/certificate/tls.crt",
            "--tls-key-file=/certificate/tls.key", format!("--listen={any}:8443"),
            format!("--admin-listen={any}:8081"),
        ],
        "ports": [{"name": "https", "containerPort": 8443}, {"name": "admin", "containerPort": 8081}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 1},
        "securityContext": {
            "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "templates", "mountPath": "/templates", "readOnly": true},
            {"name": "certificate", "mountPath": "/certificate", "readOnly": true},
        ],
    });
    let spec = json!({
        "automountServiceAccountToken": false,
        "securityContext": {"fsGroup": 65532},
        "containers": [container],
        "volumes": [
            {"name": "templates", "configMap": {"name": NAME}},
            {"name": "certificate", "secret": {"secretName": NAME, "defaultMode": 0o440}},
        ],
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 443, "targetPort": "https"}]},
    })
}

impl Node {
    /// The `ConfigMap` that a controller would make for the pods of a namespace: what `promsidecar render` prints.
    pub(crate) fn configuration(&self, template: &str, namespace: &str) -> Value {
        let objects = self.path(OBJECTS).display().to_string();
        let printed = run(&["render", "-f", &objects, "--template", template, "--configmap", namespace]);
        serde_saphyr::from_str(&printed).unwrap()
    }

    /// Makes them for these templates, which the pods of their own namespaces use.
    pub(crate) async fn configure(&self, templates: &[&str]) {
        let made = templates.iter().map(|template| {
            let (namespace, _) = template.split_once('/').expect("namespace/name");
            self.configuration(template, namespace)
        });
        self.apply(&list(&made.collect::<Vec<_>>())).await;
    }
}

/// Runs the program under test; gives what it printed.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_promsidecar")).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promsidecar {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}
