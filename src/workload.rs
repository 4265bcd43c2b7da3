//! Workloads: the pod that a manifest leads to. PURE.
//!
//! Input: a Pod, or any object with a pod template. Output: the pod as its controller would create it and as the API server
//! would send it to admission: generated name, owner reference and template hash in place, but nothing else made up.

use serde_json::{Map, Value, json};

use crate::admission::offline::Owner;

/// Stand-in for the hash of a pod template, as long as a real one.
const TEMPLATE_HASH: &str = "6d4cf56db6";
/// Stand-in for a `CronJob`'s scheduled minute since the epoch.
const SCHEDULED_MINUTE: &str = "29417040";

/// Whether an object of this kind has a pod in it.
pub fn has_pod(object: &Value) -> bool {
    pod_pointer(object).is_some()
}

/// Where the pod of an object stands (JSON pointer, empty for a Pod): `spec.template` of a workload of whatever kind, or
/// `spec.jobTemplate.spec.template` of a `CronJob`. `None` where there is no pod.
pub fn pod_pointer(object: &Value) -> Option<&'static str> {
    let pointer = match kind(object)? {
        "Pod" => return Some(""),
        "CronJob" => "/spec/jobTemplate/spec/template",
        "PodTemplate" => "/template",
        _ => "/spec/template",
    };
    object.pointer(pointer)?.pointer("/spec/containers").map(|_| pointer)
}

/// Who will own the pods of an object, as far as its manifest tells.
pub fn owner(object: &Value) -> Owner<'_> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    match (kind(object).unwrap_or_default(), name) {
        ("Pod", _) => Owner::Nobody,
        (
            kind @ ("StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job"),
            Some(name),
        ) => Owner::Workload { kind, name },
        _ => Owner::Unknown,
    }
}

fn kind(object: &Value) -> Option<&str> {
    object.get("kind").and_then(Value::as_str)
}

/// The first pod of a manifest; `None` where the object has none.
pub fn pod(object: &Value) -> Option<Value> {
    let pointer = pod_pointer(object)?;
    if pointer.is_empty() {
        return Some(object.clone());
    }
    let template = object.pointer(pointer)?;
    let kind = kind(object)?;
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("unnamed");
    let owner = controller(kind, name);
    let mut metadata = template.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    metadata.remove("name");
    if kind == "StatefulSet" {
        metadata.insert("name".to_owned(), json!(format!("{name}-0")));
    } else {
        metadata.insert("generateName".to_owned(), json!(format!("{}-", owner.name)));
    }
    if kind == "Deployment" {
        let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("pod-template-hash".to_owned(), json!(TEMPLATE_HASH));
        }
    }
    if let Some(namespace) = object.pointer("/metadata/namespace") {
        metadata.insert("namespace".to_owned(), namespace.clone());
    }
    let reference = json!({
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": "00000000-0000-4000-8000-000000000000",
        "controller": true,
        "blockOwnerDeletion": true,
    });
    metadata.insert("ownerReferences".to_owned(), json!([reference]));
    let mut spec = template.get("spec").cloned().unwrap_or_default();
    add_claims(object, &mut spec);
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

/// Adds the volumes that a `StatefulSet` makes of its claims to the spec of its first pod. As its controller does, it puts them in
/// place of volumes of the same names.
pub fn add_claims(object: &Value, spec: &mut Value) {
    if kind(object) != Some("StatefulSet") {
        return;
    }
    let set = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("unnamed");
    let claims = object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    let claims = claims.into_iter().flatten().filter_map(|claim| claim.pointer("/metadata/name")?.as_str());
    for name in claims {
        let claim = json!({"claimName": format!("{name}-{set}-0")});
        let volume = json!({"name": name, "persistentVolumeClaim": claim});
        match spec.get_mut("volumes") {
            Some(Value::Array(volumes)) => {
                volumes.retain(|other| other.get("name") != volume.get("name"));
                volumes.push(volume);
            }
            None | Some(Value::Null) => {
                if let Some(spec) = spec.as_object_mut() {
                    spec.insert("volumes".to_owned(), json!([volume]));
                }
            }
            // What is no list is told where the pod is read.
            Some(_) => {}
        }
    }
}

struct Controller {
    api_version: &'static str,
    kind: String,
    name: String,
}

/// The controller that creates the pods of this workload, with stand-ins for what it is named after.
fn controller(kind: &str, name: &str) -> Controller {
    let (api_version, kind, name) = match kind {
        "Deployment" => ("apps/v1", "ReplicaSet", format!("{name}-{TEMPLATE_HASH}")),
        "CronJob" => ("batch/v1", "Job", format!("{name}-{SCHEDULED_MINUTE}")),
        "Job" => ("batch/v1", "Job", name.to_owned()),
        "ReplicationController" => ("v1", "ReplicationController", name.to_owned()),
        other => ("apps/v1", other, name.to_owned()),
    };
    Controller { api_version, kind: kind.to_owned(), name }
}

#[cfg(test)]
mod tests {
    use super::{owner, pod, pod_pointer};
    use crate::admission::offline::Owner;
    use serde_json::{Value, json};

    #[test]
    fn the_pod_of_an_object_is_found_by_its_kind() {
        let template = json!({"spec": {"containers": []}});
        for (kind, spec, pointer) in [
            ("Deployment", json!({"template": template}), Some("/spec/template")),
            ("Rollout", json!({"template": template}), Some("/spec/template")),
            (
                "CronJob",
                json!({"jobTemplate": {"spec": {"template": template}}}),
                Some("/spec/jobTemplate/spec/template"),
            ),
            ("CronJob", json!({"template": template}), None),
            ("Certificate", json!({"template": {"spec": {}}}), None),
            ("Pod", json!(null), Some("")),
        ] {
            assert_eq!(pod_pointer(&json!({"kind": kind, "spec": spec})), pointer, "{kind}");
        }
        assert_eq!(pod_pointer(&json!({"kind": "PodTemplate", "template": template})), Some("/template"));
        assert_eq!(pod_pointer(&json!({"spec": {"template": template}})), None);
    }

    #[test]
    fn an_owner_is_known_where_the_workload_itself_is_it() {
        let of = |kind: &str| json!({"kind": kind, "metadata": {"name": "web"}});
        let (set, deployment) = (of("StatefulSet"), of("Deployment"));
        assert_eq!(owner(&set), Owner::Workload { kind: "StatefulSet", name: "web" });
        assert_eq!(owner(&deployment), Owner::Unknown);
        assert_eq!(owner(&json!({"kind": "Job", "metadata": {"generateName": "web-"}})), Owner::Unknown);
        assert_eq!(owner(&of("Pod")), Owner::Nobody);
    }

    fn first_pod(object: &Value) -> Value {
        pod(object).unwrap()
    }

    #[test]
    fn a_deployments_pod_belongs_to_a_replica_set_named_after_its_template() {
        let deployment = json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "team-a"},
            "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}}}});
        let pod = first_pod(&deployment);
        assert_eq!(pod["metadata"]["generateName"], "web-6d4cf56db6-");
        assert_eq!(pod["metadata"]["namespace"], "team-a");
        assert_eq!(pod["metadata"]["labels"], json!({"app": "web", "pod-template-hash": "6d4cf56db6"}));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "web-6d4cf56db6");
        assert_eq!(pod["spec"], json!({"containers": [{"name": "web"}]}));
    }

    #[test]
    fn a_cron_jobs_pod_belongs_to_a_scheduled_job_and_a_stateful_sets_has_a_name() {
        let template = json!({"spec": {"containers": [{"name": "c"}]}});
        let cron = json!({"kind": "CronJob", "metadata": {"name": "n"}, "spec": {"jobTemplate": {"spec": {"template": template}}}});
        assert_eq!(first_pod(&cron)["metadata"]["generateName"], "n-29417040-");
        let set = json!({"kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {"template": template}});
        assert_eq!(first_pod(&set)["metadata"]["name"], "db-0");
    }

    #[test]
    fn a_stateful_sets_pod_has_the_volumes_of_its_claims_and_none_else_of_their_names() {
        let claim = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
        let of = |volumes: &Value| {
            let spec = json!({"containers": [{"name": "db"}], "volumes": volumes});
            let claims = [claim("data"), claim("log"), json!({"metadata": {}})];
            let set = json!({"kind": "StatefulSet", "metadata": {"name": "db"},
                "spec": {"template": {"spec": spec}, "volumeClaimTemplates": claims}});
            first_pod(&set)["spec"]["volumes"].clone()
        };
        let volume = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": format!("{name}-db-0")}});
        let other = |name: &str| json!({"name": name, "emptyDir": {}});
        assert_eq!(of(&Value::Null), json!([volume("data"), volume("log")]));
        assert_eq!(
            of(&json!([other("tmp"), other("data")])),
            json!([other("tmp"), volume("data"), volume("log")])
        );
        assert_eq!(of(&json!("none")), "none");
        let deployment = json!({"kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"template": {"spec": {"containers": []}}, "volumeClaimTemplates": [claim("data")]}});
        assert_eq!(first_pod(&deployment)["spec"], json!({"containers": []}));
    }

    #[test]
    fn an_object_without_a_pod_has_none() {
        assert_eq!(pod(&json!({"kind": "Service", "spec": {"selector": {}}})), None);
        assert_eq!(pod(&json!([])), None);
    }
}
