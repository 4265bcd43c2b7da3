//! What becomes of pods that ask on a real API server, from the call to the stored object. Each pod that is stored here went
//! through defaulting, the other admission plugins and validation of Kubernetes.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::path::Path;

use control_plane::capture;
use control_plane::https::until;
use control_plane::injector::{Injector, asking_pod, pods};
use control_plane::workloads::{template, workloads};
use promsidecar::names;
use serde_json::{Value, json};
use support::additive::losses;
use support::golden::compare;

/// A namespace with its labels in YAML's flow style, and a template in it.
fn namespace(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{{labels}}}}}
---
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: {name}
  annotations: {{operator.prometheus.io/controller-id: promsidecar}}
spec:
  remoteWrite:
  - url: https://metrics.example.com/api/v1/write
---
"
    )
}

/// Containers of a pod by name, from both lists.
fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let list = |key: &str| pod["spec"][key].as_array().map_or(&[][..], Vec::as_slice);
    let mut all = list("initContainers").iter().chain(list("containers"));
    all.find(|container| container["name"] == name).unwrap_or_else(|| panic!("no {name} in {pod}"))
}

fn has_agent(pod: &Value) -> bool {
    let list = |key: &str| pod["spec"][key].as_array().map_or(&[][..], Vec::as_slice);
    list("initContainers")
        .iter()
        .chain(list("containers"))
        .any(|container| container["name"] == names::CONTAINER)
}

/// What mounts a path of a container.
fn mounted<'a>(container: &'a Value, path: &str) -> Vec<&'a str> {
    let mounts = container["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
    mounts
        .iter()
        .filter(|mount| mount["mountPath"] == path)
        .map(|mount| mount["name"].as_str().unwrap())
        .collect()
}

/// All that a stored pod of these has beyond the patched one. The volume before ours is the one with the token.
const SET_BY_THE_API_SERVER: [&str; 9] = [
    "/metadata/creationTimestamp is gone",
    "/metadata/generation is gone",
    "/metadata/uid is gone",
    "/spec/initContainers/0/imagePullPolicy is gone",
    "/spec/initContainers/0/terminationMessagePath is gone",
    "/spec/initContainers/0/terminationMessagePolicy is gone",
    "/spec/volumes/1/projected/defaultMode is gone",
    "/status/phase is gone",
    "/status/qosClass is gone",
];

/// What is in one of the two pods alone, or not the same, except for who manages which field.
fn differences(patched: &Value, stored: Value) -> Vec<String> {
    let mut pods = [patched.clone(), stored];
    for pod in &mut pods {
        // Items of a list do not repeat what they are.
        for key in ["apiVersion", "kind"] {
            pod.as_object_mut().unwrap().remove(key);
        }
        // What a dry run shows has no version.
        for key in ["managedFields", "resourceVersion"] {
            pod["metadata"].as_object_mut().unwrap().remove(key);
        }
    }
    let [mut patched, stored] = pods;
    // A name is made from its prefix after admission.
    if let Some(prefix) =
        patched["metadata"]["generateName"].as_str().filter(|_| patched["metadata"]["name"].is_null())
    {
        let name = stored["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with(prefix), "{name} {prefix}");
        patched["metadata"]["name"] = json!(name);
    }
    [losses(&patched, &stored), losses(&stored, &patched)].concat()
}

#[tokio::test]
async fn pods_of_every_kind_of_workload_are_sent_once_and_stored_as_patched() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/admission");
    let injector = Injector::start(&std::fs::read_to_string(goldens.join("objects.yaml")).unwrap()).await;
    let api = &injector.plane.api;
    api.create("/api/v1/nodes", &json!({"metadata": {"name": "node-1"}})).await;
    let mut wrong = Vec::new();
    for (folder, path, object) in workloads() {
        api.create(&format!("/{path}"), &object).await;
        if folder == "review-cronjob" {
            // It ran long ago for the last time, so it is due at once.
            let long_ago = json!({"status": {"lastScheduleTime": "2024-01-01T00:00:00Z"}});
            let told = api.send("PATCH", &format!("/{path}/yearly/status"), &long_ago).await;
            assert_eq!(told.status, 200, "{}", told.body);
        }
        let app = object.pointer("/metadata/name").and_then(Value::as_str).unwrap();
        let stored = injector.pod_of("team-a", &format!("app={app}")).await;

        let calls = injector.calls(app);
        let [call] = &calls[..] else { panic!("{folder}: {calls:#?}") };
        assert_eq!(call.path, "/mutate/pod/no", "{folder}");
        let patched = call.patched();
        assert_ne!(&patched, call.pod(), "{folder}");
        assert_eq!(differences(&patched, stored), SET_BY_THE_API_SERVER, "{folder}");

        let folder = goldens.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        compare(&folder.join("review.json"), Some(&capture::review(&call.body)), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_token_of_the_application_stays_out_of_the_agent() {
    let injector = Injector::start(&namespace("token", "")).await;
    let stored = injector.create("token", &asking_pod("web")).await;
    let token = mounted(container(&stored, "web"), names::TOKEN_DIR);
    assert!(matches!(token[..], [name] if name.starts_with("kube-api-access-")), "{token:?}");
    assert_eq!(mounted(container(&stored, names::CONTAINER), names::TOKEN_DIR), [names::VOLUME_NO_TOKEN]);
    assert_eq!(
        injector.calls("web").len(),
        1,
        "nothing was added to the agent, so there is nothing to ask again"
    );
}

#[tokio::test]
async fn a_pod_keeps_its_class_of_service_or_gains_one() {
    let injector = Injector::start(&namespace("classes", "")).await;
    let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let burstable = json!({"requests": {"cpu": "100m"}});
    let pod_level = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    for (name, resources, whole, class, ours) in [
        (
            "best-effort",
            json!({}),
            json!({}),
            "Burstable",
            json!({
                "requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"},
            }),
        ),
        (
            "burstable",
            burstable,
            json!({}),
            "Burstable",
            json!({
                "requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"},
            }),
        ),
        (
            "guaranteed",
            guaranteed,
            json!({}),
            "Guaranteed",
            json!({
                "requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "100m", "memory": "128Mi"},
            }),
        ),
        ("pod-level", json!({}), pod_level, "Guaranteed", json!({})),
    ] {
        let mut pod = asking_pod(name);
        pod["spec"]["containers"][0]["resources"] = resources;
        pod["spec"]["resources"] = whole;
        let stored = injector.create("classes", &pod).await;
        assert_eq!(stored["status"]["qosClass"], class, "{name}");
        assert_eq!(container(&stored, names::CONTAINER)["resources"], ours, "{name}");
    }
}

#[tokio::test]
async fn a_restricted_namespace_takes_the_pod_with_its_agent() {
    let labels =
        "pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted";
    let injector = Injector::start(&namespace("restricted", labels)).await;
    let mut pod = asking_pod("web");
    pod["spec"]["containers"][0]["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let reply = injector.plane.api.send("POST", &pods("restricted"), &pod).await;
    assert_eq!((reply.status, &reply.warnings[..]), (201, &[][..]), "{}", reply.body);
    assert!(has_agent(&reply.body), "{}", reply.body);

    // A pod that breaks the rules by itself is refused for itself alone.
    let reply = injector.plane.api.send("POST", &pods("restricted"), &asking_pod("lax")).await;
    let message = reply.body["message"].as_str().unwrap();
    assert_eq!(reply.status, 403, "{message}");
    assert!(
        message.contains("container \"web\" must set") && !message.contains(names::CONTAINER),
        "{message}"
    );
    assert_eq!(injector.calls("lax").len(), 1);
}

#[tokio::test]
async fn defaults_of_a_limit_range_are_met_and_its_maximum_refuses_the_pod() {
    let objects = ["defaults", "memory", "cpu"].map(|name| namespace(name, ""));
    let injector = Injector::start(&objects.concat()).await;
    let default = json!({"cpu": "200m", "memory": "256Mi", "ephemeral-storage": "2Gi"});
    let mut request = default.clone();
    request["cpu"] = json!("50m");
    for (namespace, mut limits) in [
        ("defaults", json!({"default": default, "defaultRequest": {"cpu": "50m"}})),
        ("memory", json!({"max": {"memory": "100Mi"}})),
        ("cpu", json!({"max": {"cpu": "200m"}})),
    ] {
        limits["type"] = json!("Container");
        let range = json!({"metadata": {"name": "range"}, "spec": {"limits": [limits]}});
        injector.plane.api.create(&format!("/api/v1/namespaces/{namespace}/limitranges"), &range).await;
    }
    let stored = injector.create("defaults", &asking_pod("web")).await;
    assert_eq!(container(&stored, "web")["resources"], json!({"limits": default, "requests": request}));
    // Where every other container has a limit, ours states one, so that nothing is left to fill in and to ask again for.
    let ours = json!({
        "limits": {"cpu": "500m", "memory": "128Mi", "ephemeral-storage": "1152Mi"},
        "requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
    });
    assert_eq!(container(&stored, names::CONTAINER)["resources"], ours);
    assert_eq!(injector.calls("web").len(), 1);

    for (resource, maximum, limit) in [("memory", "100Mi", "128Mi"), ("cpu", "200m", "500m")] {
        let refused = injector.plane.api.send("POST", &pods(resource), &asking_pod("small")).await;
        let message = format!(
            "pods \"small\" is forbidden: maximum {resource} usage per Container is {maximum}, but limit is {limit}"
        );
        assert_eq!((refused.status, refused.body["message"].as_str().unwrap()), (403, message.as_str()));
    }
}

#[tokio::test]
async fn a_quota_that_the_application_satisfies_is_satisfied_by_the_agent() {
    let injector = Injector::start(&namespace("quota", "")).await;
    let api = &injector.plane.api;
    let hard = json!({
        "requests.cpu": "1", "limits.cpu": "2", "requests.memory": "1Gi", "limits.memory": "1Gi",
        "requests.ephemeral-storage": "4Gi", "limits.ephemeral-storage": "4Gi",
    });
    let quotas = "/api/v1/namespaces/quota/resourcequotas";
    api.create(quotas, &json!({"metadata": {"name": "all"}, "spec": {"hard": hard}})).await;
    let quota = format!("{quotas}/all");
    until("the controller computes the quota", || async { api.get(&quota).await["status"]["hard"] == hard })
        .await;

    let mut pod = asking_pod("web");
    pod["spec"]["containers"][0]["resources"] = json!({
        "requests": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
        "limits": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
    });
    assert!(has_agent(&injector.create("quota", &pod).await));
    let used = json!({
        "requests.cpu": "60m", "limits.cpu": "600m", "requests.memory": "128Mi", "limits.memory": "256Mi",
        "requests.ephemeral-storage": "128Mi", "limits.ephemeral-storage": "1280Mi",
    });
    assert_eq!(api.get(&quota).await["status"]["used"], used);

    // Refused as without an agent: for the application first, and where it states nothing, ours states no limit either.
    let refused = api.send("POST", &pods("quota"), &asking_pod("careless")).await;
    let message = "pods \"careless\" is forbidden: failed quota: all: must specify limits.cpu for: \
        prometheus-agent,web; limits.memory for: web; requests.cpu for: web; requests.memory for: web";
    assert_eq!((refused.status, refused.body["message"].as_str().unwrap()), (403, message));
}

#[tokio::test]
async fn applying_again_changes_nothing_and_a_dry_run_shows_the_agent() {
    let injector = Injector::start(&namespace("applied", "")).await;
    let plane = injector.plane;
    let kubectl = async |arguments: &[&str], pod: &Value| plane.kubectl(arguments, &pod.to_string()).await;
    let stored = async |name: &str| plane.api.get(&format!("{}/{name}", pods("applied"))).await;

    for (name, flags) in [("by-client", &[][..]), ("by-server", &["--server-side"])] {
        let pod = asking_pod(name);
        let apply = [&["apply", "--namespace=applied", "-f", "-"], flags].concat();
        let first = kubectl(&apply, &pod).await;
        assert_eq!((first.code, first.stderr.as_str()), (0, ""), "{name}");
        let before = stored(name).await;
        assert!(has_agent(&before), "{name}");
        let second = kubectl(&apply, &pod).await;
        assert_eq!((second.code, second.stderr.as_str()), (0, ""), "{name}: {}", second.stdout);
        assert_eq!(stored(name).await["spec"], before["spec"], "{name}");
        assert_eq!(stored(name).await["metadata"]["uid"], before["metadata"]["uid"], "{name}");
        assert_eq!(injector.calls(name).len(), 1, "{name}");
    }

    let pod = asking_pod("dry");
    let create = ["create", "--namespace=applied", "--dry-run=server", "-o", "json", "-f", "-"];
    let shown = kubectl(&create, &pod).await;
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let calls = injector.calls("dry");
    let [call] = &calls[..] else { panic!("{calls:#?}") };
    assert_eq!(call.request("dryRun"), true);
    assert_eq!(differences(&call.patched(), shown.clone()), SET_BY_THE_API_SERVER);
    assert!(has_agent(&shown), "{shown}");
    assert_eq!(plane.api.send("GET", &format!("{}/dry", pods("applied")), &Value::Null).await.status, 404);
}

#[tokio::test]
async fn kubectl_prints_why_a_pod_got_no_agent_or_was_denied() {
    let strict = namespace("strict", "sidecar.prometheus.io/required: \"true\"");
    let injector = Injector::start(&[namespace("told", ""), strict].concat()).await;
    let mut pod = asking_pod("web");
    pod["metadata"]["annotations"]["sidecar.prometheus.io/inject"] = json!("shopp");
    let create = async |namespace: &str, pod: &Value| {
        let namespace = format!("--namespace={namespace}");
        injector.plane.kubectl(&["create", &namespace, "-f", "-"], &pod.to_string()).await
    };

    let told = create("told", &pod).await;
    assert_eq!(
        told.stderr,
        "Warning: promsidecar: not injected: template-not-found: no template shopp in told; near: shop\n"
    );
    assert_eq!((told.code, told.stdout.as_str()), (0, "pod/web created\n"));
    let stored = injector.plane.api.get(&format!("{}/web", pods("told"))).await;
    assert_eq!(stored["metadata"]["labels"], json!({"sidecar.prometheus.io/injected": "false"}));
    assert_eq!(
        stored["metadata"]["annotations"][names::SKIPPED],
        "template-not-found: no template shopp in told; near: shop"
    );
    assert!(!has_agent(&stored));

    let mut sharing = asking_pod("sharing");
    sharing["spec"]["shareProcessNamespace"] = json!(true);
    assert_eq!(create("told", &sharing).await.stderr, "");

    let denial = |entry: &str, namespace: &str| {
        let denial = format!(
            "template-not-found: no template shopp in {namespace}; near: shop; correct the reference (near misses are \
             named), create the PrometheusAgent, or ask its owner to allow the namespace"
        );
        format!(
            "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"{entry}.sidecar.prometheus.io\" denied the request: {denial}\n"
        )
    };
    let denied = create("strict", &pod).await;
    assert_eq!((denied.code, denied.stderr), (1, denial("required-by-namespace.asked-by-pod", "strict")));
    pod["metadata"]["annotations"]["sidecar.prometheus.io/required"] = json!("true");
    pod["metadata"]["name"] = json!("requiring");
    let denied = create("told", &pod).await;
    assert_eq!((denied.code, denied.stderr), (1, denial("required-by-pod.asked-by-pod", "told")));
    let absent = injector.plane.api.send("GET", &format!("{}/requiring", pods("told")), &Value::Null).await;
    assert_eq!(absent.status, 404);
}

#[tokio::test]
async fn the_status_of_a_denied_workload_says_why() {
    let strict = namespace("denied", "sidecar.prometheus.io/required: \"true\"");
    let injector = Injector::start(&strict).await;
    let api = &injector.plane.api;
    let mut template = template("web", "Always");
    template["metadata"]["annotations"]["sidecar.prometheus.io/port"] = json!("https");
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    api.create("/apis/apps/v1/namespaces/denied/deployments", &deployment).await;
    let expected = "admission webhook \"required-by-namespace.asked-by-pod.sidecar.prometheus.io\" denied the request: \
        invalid-annotation: port \"https\": want port numbers or names of declared ports; correct the value: the \
        message names the key, the value and the grammar";
    until("the deployment tells the denial", || async {
        let deployment = api.get("/apis/apps/v1/namespaces/denied/deployments/web").await;
        let conditions = deployment["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let failure = conditions.iter().find(|condition| condition["type"] == "ReplicaFailure");
        failure.is_some_and(|condition| {
            assert_eq!(condition["message"], expected);
            true
        })
    })
    .await;
    assert_eq!(api.list(&pods("denied")).await, [Value::Null; 0]);
}
