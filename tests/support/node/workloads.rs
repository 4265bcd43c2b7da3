//! Workloads whose pods run the tests' own application and ask for an agent. PURE: functions from names to objects.

use serde_json::{Value, json};

use super::images::APP;

/// A PrometheusAgent for the pods of its own namespace, as YAML: `name` as in `namespace/name`; `remote` says where to write
/// to, `annotations` and `spec` what else there is, all in YAML's flow style without the braces.
pub(crate) fn template(name: &str, remote: &str, annotations: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    format!(
        "apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: {name}
  namespace: {namespace}
  annotations: {{operator.prometheus.io/controller-id: promsidecar, {annotations}}}
spec: {{
  scrapeInterval: 1s, scrapeTimeout: 1s, externalLabels: {{cluster: c1}},
  remoteWrite: [{{queueConfig: {{batchSendDeadline: 1s}}, {remote}}}], {spec}}}
---
"
    )
}

/// A namespace with these labels, in YAML's flow style without the braces.
pub(crate) fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
}

/// A pod's template: the application with these flags, ready when it answers, asking for `template`.
pub(crate) fn pod(app: &str, template: &str, flags: &[&str]) -> Value {
    let arguments: Vec<&str> = ["app"].iter().chain(flags).copied().collect();
    json!({
        "metadata": {
            "labels": {"app": app},
            "annotations": {"sidecar.prometheus.io/inject": template, "sidecar.prometheus.io/port": "metrics"},
        },
        "spec": {
            "containers": [{
                "name": "app",
                "image": APP,
                "args": arguments,
                "ports": [{"name": "metrics", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 1},
            }],
        },
    })
}

/// A workload of the group `apps` around such a template.
pub(crate) fn workload(kind: &str, namespace: &str, pod: &Value) -> Value {
    let app = &pod["metadata"]["labels"]["app"];
    let mut workload = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": app, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": pod},
    });
    if kind == "StatefulSet" {
        workload["spec"]["serviceName"] = app.clone();
    }
    workload
}

/// The Job's specification around such a template, whose application ends by itself.
pub(crate) fn job(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["spec"]["restartPolicy"] = json!("Never");
    json!({"backoffLimit": 0, "template": pod})
}

/// The pod itself.
pub(crate) fn bare(namespace: &str, pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["namespace"] = json!(namespace);
    pod["metadata"]["name"] = pod["metadata"]["labels"]["app"].clone();
    pod
}
