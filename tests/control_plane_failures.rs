//! The webhook beside other webhooks and while it does not answer, on a real API server.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::path::Path;

use control_plane::capture;
use control_plane::hook::Hook;
use control_plane::https::{PATIENCE, until};
use control_plane::injector::{CONFIGURATIONS, Injector, asking_pod, pods, register_foreign, registration};
use promsidecar::names;
use serde_json::{Value, json};
use support::golden::compare;

/// A namespace with a template.
fn namespace(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
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

/// Names of a list of containers.
fn names_of(list: &Value) -> Vec<&str> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Position of our container among the init containers.
fn agent_position(pod: &Value) -> Option<usize> {
    names_of(&pod["spec"]["initContainers"]).iter().position(|name| *name == names::CONTAINER)
}

/// A pod that asks and requires its agent.
fn requiring_pod(name: &str) -> Value {
    let mut pod = asking_pod(name);
    pod["metadata"]["annotations"][names::REQUIRED] = json!("true");
    pod
}

/// Adds a container with a port, once.
fn mesh() -> Hook {
    Hook::patching(|pod| {
        if names_of(&pod["spec"]["containers"]).contains(&"mesh") {
            return Vec::new();
        }
        let mesh =
            json!({"name": "mesh", "image": "mesh:1", "ports": [{"name": "stats", "containerPort": 15020}]});
        vec![json!({"op": "add", "path": "/spec/containers/-", "value": mesh})]
    })
}

#[tokio::test]
async fn containers_of_a_webhook_before_ours_are_scraped_and_those_of_a_later_one_are_not() {
    // In the order of the names of their configurations; ours begins with a p.
    for (name, namespace_name, scraped) in [("a-mesh", "before", true), ("z-mesh", "after", false)] {
        let mesh = mesh();
        let injector = Injector::start(&namespace(namespace_name)).await;
        register_foreign(injector.plane, name, namespace_name, &mesh).await;
        let stored = injector.create(namespace_name, &asking_pod("web")).await;

        assert_eq!(names_of(&stored["spec"]["containers"]), ["web", "mesh"], "{name}");
        assert_eq!(names_of(&stored["spec"]["initContainers"]), [names::CONTAINER], "{name}");
        let targets = stored["metadata"]["annotations"][names::TARGETS].as_str().unwrap();
        assert_eq!(targets.contains("localhost:15020"), scraped, "{name}: {targets}");
        // The API server mounts the token into the new container afterwards, and so asks ours once more in any case.
        let calls = injector.calls("web");
        let [first, second] = &calls[..] else { panic!("{name}: {calls:?}") };
        assert_eq!(names_of(&first.pod()["spec"]["containers"]).contains(&"mesh"), scraped, "{name}");
        assert_eq!(names_of(&second.pod()["spec"]["containers"]), ["web", "mesh"], "{name}");
        assert_eq!(second.answer["response"].get("patch"), None, "{name}");
    }
}

#[tokio::test]
async fn a_webhook_after_ours_that_changes_the_agent_is_let_and_nothing_is_injected_twice() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/admission");
    let sizes = Hook::patching(|pod| {
        let Some(index) = agent_position(pod) else { return Vec::new() };
        let path = format!("/spec/initContainers/{index}/resources/limits/memory");
        let known = pod.pointer(&path) == Some(&json!("256Mi"));
        let grow = json!({"op": "replace", "path": path, "value": "256Mi"});
        if known { Vec::new() } else { vec![grow] }
    });
    let injector = Injector::start(&std::fs::read_to_string(goldens.join("objects.yaml")).unwrap()).await;
    register_foreign(injector.plane, "z-sizes", "team-a", &sizes).await;
    let stored = injector.create("team-a", &asking_pod("web")).await;

    assert_eq!(names_of(&stored["spec"]["initContainers"]), [names::CONTAINER]);
    assert_eq!(stored["spec"]["initContainers"][0]["resources"]["limits"]["memory"], "256Mi");
    let calls = injector.calls("web");
    let [first, second] = &calls[..] else { panic!("{calls:#?}") };
    assert_eq!((agent_position(first.pod()), agent_position(second.pod())), (None, Some(0)));
    let answer = json!({"uid": second.request("uid"), "allowed": true});
    assert_eq!(second.answer["response"], answer, "no patch, no warning, no annotation of the audit log");
    let mut wrong = Vec::new();
    let folder = goldens.join("review-reinvocation");
    std::fs::create_dir_all(&folder).unwrap();
    compare(&folder.join("review.json"), Some(&capture::review(&second.body)), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_webhook_that_drops_the_fields_it_does_not_know_is_named_in_a_warning() {
    // Knows no native sidecars, as whatever was built with the types of Kubernetes 1.27.
    let old = Hook::patching(|pod| {
        let Some(index) = agent_position(pod) else { return Vec::new() };
        let path = format!("/spec/initContainers/{index}/restartPolicy");
        let known = pod.pointer(&path).map(|_| json!({"op": "remove", "path": path}));
        known.into_iter().collect()
    });
    let injector = Injector::start(&namespace("stripped")).await;
    register_foreign(injector.plane, "z-old", "stripped", &old).await;
    let pod = asking_pod("web").to_string();
    let created = injector.plane.kubectl(&["create", "--namespace=stripped", "-f", "-"], &pod).await;
    assert_eq!(
        created.stderr,
        "Warning: promsidecar: another webhook or an old API server removed restartPolicy from prometheus-agent: the pod will not start\n"
    );
    assert_eq!(created.stdout, "pod/web created\n");
    let stored = injector.plane.api.get(&format!("{}/web", pods("stripped"))).await;
    assert_eq!(stored["spec"]["initContainers"][0].get("restartPolicy"), None, "it has the last word");
    assert_eq!(injector.calls("web").len(), 2);
}

/// How a webhook may fail to answer, by the answer of a hook in its place.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Busy,
    Broken,
    Silent,
}

#[tokio::test]
async fn while_the_webhook_fails_pods_start_without_an_agent_unless_they_require_one() {
    for (failure, reason) in [
        (Failure::Busy, "the server is currently unable to handle the request"),
        (Failure::Broken, "couldn't get version/kind; json parse error"),
        (Failure::Silent, "context deadline exceeded"),
    ] {
        let name = format!("{failure:?}").to_lowercase();
        let failing = Hook::start(move |_, _| async move {
            match failure {
                Failure::Busy => (503, Vec::new()),
                Failure::Broken => (200, b"no review".to_vec()),
                Failure::Silent => {
                    tokio::time::sleep(PATIENCE).await;
                    (503, Vec::new())
                }
            }
        });
        let injector = Injector::start_unregistered(&namespace(&name)).await;
        let registration = registration(&[&name], &failing.url(), &failing.ca);
        injector.plane.api.create(CONFIGURATIONS, &registration).await;
        fails(&injector, &name, reason).await;
    }
}

#[tokio::test]
async fn while_the_webhook_is_down_controllers_try_again_until_it_is_back() {
    let injector = Injector::start_unregistered(&namespace("down")).await;
    let api = &injector.plane.api;
    // Held and never listened at: a port that is let go may be another process's by now.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = held.local_addr().unwrap();
    let down = registration(&["down"], &format!("https://{closed}"), &injector.program.ca);
    api.create(CONFIGURATIONS, &down).await;
    fails(&injector, "down", "connect: connection refused").await;

    let mut template = requiring_pod("x");
    template["metadata"]["labels"] = json!({"app": "web"});
    template["metadata"].as_object_mut().unwrap().remove("name");
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    api.create("/apis/apps/v1/namespaces/down/deployments", &deployment).await;
    let sets = "/apis/apps/v1/namespaces/down/replicasets";
    until("the controller is told why it has no pod", || async {
        let sets = api.list(sets).await;
        let conditions = sets.first().and_then(|set| set["status"]["conditions"].as_array());
        conditions.is_some_and(|conditions| {
            conditions.iter().any(|condition| {
                condition["type"] == "ReplicaFailure"
                    && condition["message"]
                        .as_str()
                        .is_some_and(|message| message.contains("connection refused"))
            })
        })
    })
    .await;

    let back = registration(&["down"], &injector.recorder.url(), &injector.recorder.ca);
    let path = format!("{CONFIGURATIONS}/{}", back["metadata"]["name"].as_str().unwrap());
    let replaced = api.send("PATCH", &path, &back).await;
    assert_eq!(replaced.status, 200, "{}", replaced.body);
    let stored = injector.pod_of("down", "app=web").await;
    assert_eq!(names_of(&stored["spec"]["initContainers"]), [names::CONTAINER]);
}

/// Pods that ask are stored as they are, pods that require an agent are rejected with this reason.
async fn fails(injector: &Injector, namespace: &str, reason: &str) {
    let api = &injector.plane.api;
    until("the registration is in force", || async {
        let path = format!("{}?dryRun=All", pods(namespace));
        api.send("POST", &path, &requiring_pod("probe")).await.status == 500
    })
    .await;
    let reply = api.send("POST", &pods(namespace), &requiring_pod("requiring")).await;
    let message = reply.body["message"].as_str().unwrap();
    assert_eq!(reply.status, 500, "{message}");
    let expected = "failed calling webhook \"required-by-pod.asked-by-pod.sidecar.prometheus.io\": failed to call webhook: ";
    assert!(message.contains(expected) && message.contains(reason), "{namespace}: {message}");

    let reply = api.send("POST", &pods(namespace), &asking_pod("asking")).await;
    assert_eq!((reply.status, &reply.warnings[..]), (201, &[][..]), "{}", reply.body);
    assert_eq!(reply.body["spec"].get("initContainers"), None);
    assert_eq!(reply.body["metadata"].get("labels"), None);
    assert_eq!(reply.body["metadata"]["annotations"], asking_pod("asking")["metadata"]["annotations"]);

    // Nothing on the pod tells, but the API server counts it.
    let metrics = injector.plane.kubectl(&["get", "--raw", "/metrics"], "").await.stdout;
    let counter =
        "apiserver_admission_webhook_fail_open_count{name=\"best-effort.asked-by-pod.sidecar.prometheus.io\"";
    assert!(metrics.contains(counter), "{counter}");
}
