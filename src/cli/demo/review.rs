//! The `AdmissionReview` that an API server would send for a pod. PURE.
//!
//! Input: a pod as its controller creates it. Output: the pod as it is when webhooks are called, and the review around it.

use serde_json::{Value, json};

/// Name of the volume that the `ServiceAccount` plugin adds; the suffix is random in a cluster.
const TOKEN_VOLUME: &str = "kube-api-access-7xk2q";

/// What the API server's defaults and its `ServiceAccount` plugin have done to a pod by then.
pub(super) fn admitted(mut pod: Value) -> Value {
    let spec = &mut pod["spec"];
    for (key, value) in [
        ("serviceAccountName", json!("default")),
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
    ] {
        if spec[key].is_null() {
            spec[key] = value;
        }
    }
    if spec["volumes"].is_null() {
        spec["volumes"] = json!([]);
    }
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(token_volume());
    }
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        let mount = json!({
            "name": TOKEN_VOLUME,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            "readOnly": true,
        });
        match container["volumeMounts"].as_array_mut() {
            Some(mounts) => mounts.push(mount),
            None => container["volumeMounts"] = json!([mount]),
        }
    }
    pod
}

fn token_volume() -> Value {
    let field = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({
        "name": TOKEN_VOLUME,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
            ],
        },
    })
}

/// The review of the pod's creation by its controller.
pub(super) fn of(pod: &Value) -> Value {
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": pod["metadata"]["namespace"],
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{TOKEN_VOLUME, admitted};

    #[test]
    fn the_token_is_mounted_beside_what_the_pod_has() {
        let pod = admitted(json!({"spec": {
            "restartPolicy": "Never",
            "volumes": [{"name": "own"}],
            "containers": [{"name": "a", "volumeMounts": [{"name": "own"}]}, {"name": "b"}],
        }}));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        let names = |path: &str| -> Vec<_> {
            let list = pod.pointer(path).unwrap().as_array().unwrap();
            list.iter().map(|item| item["name"].as_str().unwrap()).collect()
        };
        assert_eq!(names("/spec/volumes"), ["own", TOKEN_VOLUME]);
        assert_eq!(names("/spec/containers/0/volumeMounts"), ["own", TOKEN_VOLUME]);
        assert_eq!(names("/spec/containers/1/volumeMounts"), [TOKEN_VOLUME]);
    }
}
