//! A cluster around monitors: namespaces, and the Secrets and ConfigMaps that they may refer to.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// Namespaces of the cluster, with their labels.
pub(crate) const NAMESPACES: [(&str, &str); 3] = [("shop", "a"), ("shop-b", "a"), ("web", "b")];
/// The Secret that every namespace has.
pub(crate) const SECRET: &str = "credentials";
/// The ConfigMap that every namespace has.
pub(crate) const CONFIG_MAP: &str = "authorities";
/// Versions of the agents.
pub(crate) const VERSIONS: [&str; 4] = ["v3.0.1", "v3.5.2", "v3.13.5", "v3.16.0"];

/// What a key of the Secret holds.
pub(crate) fn secret_value(namespace: &str, key: &str) -> String {
    static PAIR: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> = LazyLock::new(|| {
        rcgen::generate_simple_self_signed(["pod.example".to_owned()]).expect("a self-signed certificate")
    });
    match key {
        "ca.crt" | "tls.crt" => PAIR.cert.pem(),
        "tls.key" => PAIR.signing_key.serialize_pem(),
        _ => format!("{namespace}/{key}"),
    }
}

/// Every object but the template and its monitors.
pub(crate) fn surroundings() -> Vec<Value> {
    let keys = ["user", "password", "token", "id", "secret", "ca.crt", "tls.crt", "tls.key"];
    let mut objects = Vec::new();
    for (namespace, tier) in NAMESPACES {
        let labels = json!({"tier": tier, "kubernetes.io/metadata.name": namespace});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}));
        let data: serde_json::Map<_, _> =
            keys.iter().map(|key| ((*key).to_owned(), json!(secret_value(namespace, key)))).collect();
        let metadata = |name: &str| json!({"name": name, "namespace": namespace});
        objects.push(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(SECRET), "stringData": data}),
        );
        let data = json!({"ca.crt": secret_value(namespace, "ca.crt"), "id": format!("{namespace}/id")});
        objects.push(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(CONFIG_MAP), "data": data}),
        );
    }
    objects
}

/// A template of ours with this spec.
pub(crate) fn agent(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": "agent", "namespace": "shop", "annotations": {
            "operator.prometheus.io/controller-id": "promsidecar",
        }},
    });
    object["spec"] = spec;
    object
}

/// A monitor with this spec.
pub(crate) fn monitor(namespace: &str, name: &str, labels: Value, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": name, "namespace": namespace},
    });
    object["metadata"]["labels"] = labels;
    object["spec"] = spec;
    object
}

/// A `ServiceMonitor` with this spec.
pub(crate) fn service_monitor(namespace: &str, name: &str, labels: Value, spec: Value) -> Value {
    let mut object = monitor(namespace, name, labels, spec);
    object["kind"] = json!("ServiceMonitor");
    object
}

/// A Service with this spec.
pub(crate) fn service(namespace: &str, name: &str, labels: Value, spec: Value) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}});
    object["metadata"]["labels"] = labels;
    object["spec"] = spec;
    object
}

/// A reference to a key of the Secret.
pub(crate) fn secret(key: &str) -> Value {
    json!({"name": SECRET, "key": key})
}

/// A reference to a key of the ConfigMap.
pub(crate) fn config_map(key: &str) -> Value {
    json!({"name": CONFIG_MAP, "key": key})
}
