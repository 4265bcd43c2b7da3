//! One workload of each kind, whose pods ask.
//!
//! Input: nothing. Output: objects, and where to create them.

use serde_json::{Value, json};

/// The pod template of the recorded workloads.
pub(crate) fn template(app: &str, restart_policy: &str) -> Value {
    json!({
        "metadata": {
            "labels": {"app": app},
            "annotations": {"sidecar.prometheus.io/inject": "true", "sidecar.prometheus.io/port": "metrics"},
        },
        "spec": {
            "restartPolicy": restart_policy,
            "containers": [{
                "name": "web",
                "image": "registry.example.com/shop/web:1.4",
                "args": ["serve", ":8080"],
                "ports": [{"name": "metrics", "containerPort": 8080}],
            }],
        },
    })
}

/// One of each kind, with the folder of its golden, its path and its object.
pub(crate) fn workloads() -> [(&'static str, &'static str, Value); 6] {
    let apps = |kind: &str, app: &str, more: Value| {
        let mut template = template(app, "Always");
        // There is no kubelet that would call the node ready.
        template["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        let mut spec = json!({"selector": {"matchLabels": {"app": app}}, "template": template});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app}, "spec": spec})
    };
    let job = json!({"template": template("once", "Never")});
    // At the turn of the year, so that no second run is due soon after the first.
    let yearly = json!({
        "schedule": "0 0 1 1 *",
        "jobTemplate": {"spec": {"template": template("yearly", "Never")}},
    });
    let mut bare = template("bare", "Always");
    bare["metadata"]["name"] = json!("bare");
    [
        (
            "review-replicaset",
            "apis/apps/v1/namespaces/team-a/deployments",
            apps("Deployment", "web", json!({})),
        ),
        (
            "review-statefulset",
            "apis/apps/v1/namespaces/team-a/statefulsets",
            apps("StatefulSet", "db", json!({"serviceName": "db"})),
        ),
        (
            "review-daemonset",
            "apis/apps/v1/namespaces/team-a/daemonsets",
            apps("DaemonSet", "node", json!({})),
        ),
        (
            "review-job",
            "apis/batch/v1/namespaces/team-a/jobs",
            json!({"metadata": {"name": "once"}, "spec": job}),
        ),
        (
            "review-cronjob",
            "apis/batch/v1/namespaces/team-a/cronjobs",
            json!({"metadata": {"name": "yearly"}, "spec": yearly}),
        ),
        ("review-bare", "api/v1/namespaces/team-a/pods", bare),
    ]
}
