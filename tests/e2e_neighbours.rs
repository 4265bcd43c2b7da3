//! What stands beside the agent, on a real node: a restricted namespace, somebody else's sidecar, the same ports and names,
//! and the mode for clusters without native sidecars.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use control_plane::https::until;
use control_plane::injector::pods;
use node::images::APP;
use node::receiver::Receiver;
use node::watch::Watch;
use node::workloads::{bare, job, namespace, pod, template, workload};
use node::{Node, processes};
use promsidecar::names;
use serde_json::{Value, json};

fn objects() -> String {
    let receiver = Receiver::remote();
    let fixed_port = "sidecar.prometheus.io/self-monitor: 'true'";
    [
        namespace("beside", ""),
        template("beside/shop", &receiver, "", ""),
        template("beside/silent", &Receiver::silent(), "", ""),
        template("beside/fixed", &receiver, fixed_port, ""),
        template("beside/container", &receiver, "sidecar.prometheus.io/mode: container", ""),
        namespace("strict", "pod-security.kubernetes.io/enforce: restricted"),
        template("strict/shop", &receiver, "", ""),
    ]
    .concat()
}

/// Creates a pod and waits until it is ready; gives its watch and the pod.
async fn start(node: &Node, namespace: &str, pod: &Value) -> (Watch, Value) {
    let watch = node.watch(namespace, pod["metadata"]["labels"]["app"].as_str().unwrap());
    node.plane.api.create(&pods(namespace), &bare(namespace, pod)).await;
    let running = watch.ready().await.pod;
    (watch, running)
}

/// The value of `up` is 1 for this many targets of a pod.
async fn up(node: &Node, pod: &str, targets: usize) {
    node.receiver.arrived(&format!("count(up{{pod=\"{pod}\"}} == 1) == {targets}")).await;
}

#[tokio::test]
async fn a_restricted_namespace() {
    let node = Node::shared(&objects()).await;
    node.configure(&["strict/shop"]).await;
    let mut template = pod("web", "shop", &[]);
    // Nothing but the application's own part is the application's business.
    template["spec"]["containers"][0]["securityContext"] = json!({
        "runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let watch = node.watch("strict", "web");
    node.apply(&workload("Deployment", "strict", &template)).await;
    let running = watch.ready().await.pod;
    up(node, running["metadata"]["name"].as_str().unwrap(), 1).await;
    watch.assert_undisturbed();
    let [agent] = processes(&running, "prometheus")[..] else { panic!("one agent runs") };
    let status = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
    assert_eq!(line("Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!((line("CapBnd:"), line("NoNewPrivs:"), line("Seccomp:")), ("0000000000000000", "1", "2"));

    // The level is enforced: without its own part the application's pod is refused.
    let refused = bare("strict", &pod("loose", "shop", &[]));
    let reply = node.plane.api.send("POST", &pods("strict"), &refused).await;
    assert_eq!(reply.status, 403, "{}", reply.body);
    let message = reply.body["message"].as_str().unwrap();
    assert!(message.contains("container \"app\""), "{message}");
    assert!(!message.contains(names::CONTAINER), "{message}");
}

/// A pod with a native sidecar of somebody else's, which takes two seconds to start and no time to end.
fn meshed(app: &str, template: &str) -> Value {
    let mut pod = pod(app, template, &["-linger=4s"]);
    pod["spec"]["initContainers"] = json!([{
        "name": "mesh",
        "image": APP,
        "restartPolicy": "Always",
        "args": ["app", "-listen=:15090"],
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": 15090}, "initialDelaySeconds": 2, "periodSeconds": 1,
        },
    }]);
    pod
}

#[tokio::test]
async fn a_native_sidecar_of_somebody_else_starts_before_the_agent_and_ends_after_it() {
    let node = Node::shared(&objects()).await;
    node.configure(&["beside/shop", "beside/silent"]).await;
    let (watch, running) = start(node, "beside", &meshed("meshed", "shop")).await;
    up(node, "meshed", 1).await;
    watch.assert_undisturbed();
    let names: Vec<_> =
        running["spec"]["initContainers"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["mesh", names::CONTAINER], "the agent comes last");

    // Times are in whole seconds, so each has to take its own: the application four to end, the agent two for a receiver
    // that does not answer. Told at once, the sidecar would end first and the application last.
    let (watch, running) = start(node, "beside", &meshed("meshed-silent", "silent")).await;
    let address = running["status"]["podIP"].as_str().unwrap();
    until("samples are on their way", || async { node.receiver.keeps_waiting(address) }).await;
    node.plane.api.send("DELETE", &format!("{}/meshed-silent", pods("beside")), &Value::Null).await;
    let gone = watch.until("the pod is gone", |event| event.kind == "DELETED").await;
    let time = |name: &str, what: &str| {
        let state = &gone.container(name).unwrap()["state"]["terminated"];
        state[what].as_str().unwrap_or_else(|| panic!("{name} has not ended: {state}")).to_owned()
    };
    assert!(time("mesh", "startedAt") < time(names::CONTAINER, "startedAt"), "{}", watch.story());
    assert!(time("app", "finishedAt") <= time(names::CONTAINER, "finishedAt"), "{}", watch.story());
    assert!(time(names::CONTAINER, "finishedAt") <= time("mesh", "finishedAt"), "{}", watch.story());
}

#[tokio::test]
async fn ports_and_names_that_the_agent_would_use() {
    let node = Node::shared(&objects()).await;
    node.configure(&["beside/shop", "beside/fixed"]).await;

    // Prometheus' own port, which the agent does not want.
    let mut prometheus = pod("own-port", "shop", &["-listen=:9090"]);
    prometheus["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    let (watch, _) = start(node, "beside", &prometheus).await;
    up(node, "own-port", 1).await;
    watch.assert_undisturbed();

    // The agent's first choice of a port, where it needs one.
    let mut taken = pod("taken", "fixed", &[&format!("-listen=:{}", names::PORT_NUMBER)]);
    taken["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(names::PORT_NUMBER);
    let (watch, _) = start(node, "beside", &taken).await;
    up(node, "taken", 2).await;
    let own = node.receiver.query("up{pod=\"taken\", job=\"promsidecar/agent\"}").await;
    let [(labels, value)] = &own[..] else { panic!("the agent scrapes itself: {own:?}") };
    let instance = &labels["instance"];
    assert!(instance.ends_with(&format!(":{}", names::PORT_NUMBER + 1)), "{instance}");
    assert_eq!(value, "1");
    watch.assert_undisturbed();

    // Its names: the pod runs without an agent and says so.
    let mut volume = pod("volume", "shop", &[]);
    volume["spec"]["volumes"] = json!([{"name": names::VOLUME_CONFIG, "emptyDir": {}}]);
    let (watch, running) = start(node, "beside", &volume).await;
    let skipped = &running["metadata"]["annotations"][names::SKIPPED];
    assert_eq!(skipped, "name-taken: the pod has a volume named promsidecar of its own");
    watch.assert_undisturbed();
    let mut named = pod("named", "shop", &[]);
    named["spec"]["containers"][0]["name"] = json!(names::CONTAINER);
    let (watch, running) = start(node, "beside", &named).await;
    let skipped = &running["metadata"]["annotations"][names::SKIPPED];
    assert_eq!(skipped, "name-taken: the pod has a container named prometheus-agent of its own");
    assert_eq!(running["metadata"]["labels"][names::INJECTED], "false");
    watch.assert_undisturbed();
}

#[tokio::test]
async fn an_agent_in_an_ordinary_container() {
    let node = Node::shared(&objects()).await;
    node.configure(&["beside/container"]).await;
    let (watch, running) = start(node, "beside", &pod("ordinary", "container", &[])).await;
    up(node, "ordinary", 1).await;
    watch.assert_undisturbed();
    let names: Vec<_> =
        running["spec"]["containers"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["app", names::CONTAINER]);
    assert_eq!(running["spec"].get("initContainers"), None);

    // It would keep a Job from ever completing, so the Job's pod goes without.
    let watch = node.watch("beside", "once");
    let once = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": "beside"},
        "spec": job(&pod("once", "container", &["-life=1s"]))});
    node.apply(&once).await;
    let ended = watch.until("the pod completes", |event| event.pod["status"]["phase"] == "Succeeded").await;
    let skipped = &ended.pod["metadata"]["annotations"][names::SKIPPED];
    assert_eq!(
        skipped,
        "needs-native-sidecar: restartPolicy Never and template beside/container in container mode"
    );
}
