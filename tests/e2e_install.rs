//! promsidecar from its manifests to its removal, on a real node: both programs run as pods under the permissions that are
//! shipped, and nothing else delivers what agents need.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use std::path::Path;
use std::time::Instant;

use asked::ask;
use control_plane::definitions::agents;
use control_plane::https::until;
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods};
use node::installation::NAMESPACE;
use node::receiver::Receiver;
use node::settings::Family;
use node::watch::Watch;
use node::workloads::{bare, namespace, pod, template, workload};
use node::{Node, list, told};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};

/// The template of a team, which other namespaces may use.
fn shop(cluster: &str) -> Value {
    let annotations = "sidecar.prometheus.io/allowed-namespaces: '*'";
    let yaml = template("shop/shop", &Receiver::remote(), annotations, "");
    let yaml = yaml.replace("cluster: c1", &format!("cluster: {cluster}"));
    let mut object: Value = serde_saphyr::from_str(yaml.trim_end_matches("---\n")).unwrap();
    object["spec"]["podMonitorSelector"] = json!({});
    object["spec"]["serviceMonitorSelector"] = json!({});
    object
}

/// A monitor of the pods of `web`, whose series say how often it was changed.
fn monitor(version: &str) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "podMetricsEndpoints": [{
                "port": "metrics",
                "relabelings": [{"targetLabel": "version", "replacement": version}],
            }],
        },
    })
}

/// A Service of the pods of `web`, whose label `version` their series have, and the monitor that says so.
fn service(version: &str) -> [Value; 2] {
    let metadata = json!({"namespace": "shop", "name": "web", "labels": {"app": "web", "version": version}});
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "scraped", "port": 80, "targetPort": "metrics"}],
        },
    });
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"namespace": "shop", "name": "by-service"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "targetLabels": ["version"],
            "endpoints": [{"port": "scraped"}],
        },
    });
    [service, monitor]
}

fn opted_in(name: &str) -> Value {
    let yaml = namespace(name, "sidecar.prometheus.io/inject: 'true'");
    let mut object: Value = serde_saphyr::from_str(yaml.trim_end_matches("---\n")).unwrap();
    object["metadata"]["annotations"] = json!({(names::TEMPLATE): "shop/shop"});
    object
}

/// A Deployment whose pods ask by their namespace.
fn deployment(namespace: &str, app: &str) -> Value {
    let mut template = pod(app, "", &[]);
    template["metadata"]["annotations"].as_object_mut().unwrap().remove(names::INJECT);
    workload("Deployment", namespace, &template)
}

fn config_map(namespace: &str) -> String {
    let id = TemplateId { namespace: "shop".to_owned(), name: "shop".to_owned() };
    format!("/api/v1/namespaces/{namespace}/configmaps/{}", config_map_name(&id))
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

/// Waits until series of a pod arrive that were scraped after now, under this external label.
async fn delivers(node: &Node, pod: &Value, cluster: &str) {
    delivers_with(node, pod, &format!("cluster=\"{cluster}\"")).await;
}

/// The same with these labels.
async fn delivers_with(node: &Node, pod: &Value, labels: &str) {
    let series = format!("app_scrapes_total{{pod=\"{}\", {labels}}}", name(pod));
    let now = node.receiver.query("vector(time())").await;
    let now = now.first().map_or_else(String::new, |(_, now)| now.clone());
    node.receiver.arrived(&format!("{series} and timestamp({series}) > {now}")).await;
}

/// Status, reason and message of a condition of the template.
async fn condition(node: &Node, kind: &str) -> [String; 3] {
    let template = node.plane.api.get(&format!("{}/shop", agents("shop"))).await;
    let conditions = template["status"]["conditions"].as_array().into_iter().flatten();
    let current = conditions.filter(|it| it["observedGeneration"] == template["metadata"]["generation"]);
    let found = current.into_iter().find(|it| it["type"] == kind).cloned().unwrap_or_default();
    ["status", "reason", "message"].map(|key| found[key].as_str().unwrap_or_default().to_owned())
}

/// Everything is applied at once, as a folder is: nothing of it has a configuration yet.
async fn the_first_pod_starts_although_nothing_was_delivered(node: &Node) -> (Watch, Value) {
    let watch = node.watch("shop", "web");
    let began = Instant::now();
    node.apply(&list(&[opted_in("shop"), shop("c1"), deployment("shop", "web")])).await;
    let ready = watch.ready().await.pod;
    told("namespace, template and Deployment are applied at once, until the pod is ready", began);
    assert_eq!(ready["metadata"]["labels"][names::INJECTED], "true", "{ready:#}");
    delivers(node, &ready, "c1").await;
    told("and until its series are at the receiver", began);
    (watch, ready)
}

async fn an_edit_reaches_the_agent_without_a_restart(node: &Node, pod: &Value) {
    let began = Instant::now();
    node.apply(&shop("c2")).await;
    delivers(node, pod, "c2").await;
    told("the template is edited, until a series of it is at the receiver", began);
}

/// Until then the pod is scraped for its hint.
async fn a_monitor_comes_changes_and_goes_under_a_running_agent(node: &Node, pod: &Value) {
    delivers_with(node, pod, "job=\"promsidecar/annotations\"").await;
    for (what, version) in [("is applied", "1"), ("is changed", "2")] {
        let began = Instant::now();
        node.apply(&monitor(version)).await;
        delivers_with(node, pod, &format!("job=\"shop/web\", container=\"app\", version=\"{version}\""))
            .await;
        told(&format!("a PodMonitor {what}, until a series of it is at the receiver"), began);
    }
    let began = Instant::now();
    node.kubectl(&["delete", "podmonitor", "web", "--namespace=shop"]).await;
    delivers_with(node, pod, "job=\"promsidecar/annotations\"").await;
    told("the PodMonitor is deleted, until the pod is scraped for its hint again", began);
}

/// Asked at the receiver, a pod whose agent writes where nobody answers is told from those that deliver, by its log.
async fn what_does_not_arrive_is_told(node: &Node) {
    let verify = || {
        let url = Receiver::query_url();
        ask(&node.plane, "admin", &["verify", "-n", "shop", "--grace=0s", "--query-url", &url])
    };
    let printed = verify();
    let all = "0 missing, 0 down, 0 failing, 0 no-target, 0 starting, 0 ended, 1 delivering\n";
    assert_eq!((printed.code, &*printed.stdout), (0, all), "{printed:?}");

    let silent = template("shop/silent", &Receiver::silent(), "", "");
    node.apply(&serde_saphyr::from_str(silent.trim_end_matches("---\n")).unwrap()).await;
    let watch = node.watch("shop", "mute");
    node.apply(&bare("shop", &pod("mute", "silent", &[]))).await;
    let mute = watch.ready().await.pod;
    node.logged(&mute, names::CONTAINER, "Listening on").await;
    let printed = verify();
    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert!(
        lines[0].starts_with("missing   shop/mute: nothing arrived, and its agent has run for "),
        "{printed:?}"
    );
    assert!(lines[0].ends_with("; template shop/silent"), "{printed:?}");
    let log: Vec<_> = lines[1..].iter().take_while(|line| line.starts_with("          | time=")).collect();
    assert_eq!(log.len(), 5, "{printed:?}");
    // Its `up`, then any series of it.
    let asked = lines.iter().filter(|line| line.starts_with("asked: ")).count();
    assert_eq!((asked, lines.len()), (2, 1 + 5 + 2 + 1), "{printed:?}");
    let sum = "1 missing, 0 down, 0 failing, 0 no-target, 0 starting, 0 ended, 1 delivering";
    assert_eq!((printed.code, lines[lines.len() - 1]), (1, sum), "{printed:?}");
    for object in ["pod/mute", "prometheusagent/silent"] {
        node.kubectl(&["delete", object, "--namespace=shop"]).await;
    }
}

/// A Service and its monitor do as the PodMonitor did.
async fn a_service_comes_changes_and_goes_under_a_running_agent(node: &Node, pod: &Value) {
    for (what, version) in [("and its monitor are applied", "1"), ("is labelled otherwise", "2")] {
        let began = Instant::now();
        node.apply(&list(&service(version))).await;
        let labels = "job=\"web\", service=\"web\", endpoint=\"scraped\", container=\"app\"";
        delivers_with(node, pod, &format!("{labels}, version=\"{version}\"")).await;
        told(&format!("a Service {what}, until a series of it is at the receiver"), began);
    }
    let began = Instant::now();
    node.kubectl(&["delete", "service/web", "servicemonitor/by-service", "--namespace=shop"]).await;
    delivers_with(node, pod, "job=\"promsidecar/annotations\"").await;
    told("Service and monitor are deleted, until the pod is scraped for its hint again", began);
}

async fn a_bad_edit_is_told_and_changes_nothing(node: &Node, pod: &Value) {
    let before = node.plane.api.get(&config_map("shop")).await;
    let began = Instant::now();
    let mut bad = shop("c3");
    bad["spec"]["scrapeTimeout"] = json!("1m");
    node.apply(&bad).await;
    until("the status says why", || async { condition(node, "Reconciled").await[0] == "False" }).await;
    told("the template is edited badly, until its status says why", began);
    let [_, reason, message] = condition(node, "Reconciled").await;
    assert_eq!(reason, "Invalid");
    assert!(message.contains("spec.scrapeTimeout"), "{message}");
    assert_eq!(condition(node, "Available").await[0], "Degraded");
    assert_eq!(node.plane.api.get(&config_map("shop")).await, before);
    delivers(node, pod, "c2").await;
    // A new pod gets what was good.
    let watch = node.watch("shop", "later");
    node.apply(&deployment("shop", "later")).await;
    delivers(node, &watch.ready().await.pod, "c2").await;
    node.apply(&shop("c2")).await;
    until("the status says that it is well", || async {
        condition(node, "Reconciled").await[0] == "True" && condition(node, "Available").await[0] == "True"
    })
    .await;
}

async fn scale(node: &Node, deployment: &str, replicas: u32) {
    let replicas = format!("--replicas={replicas}");
    node.kubectl(&["--namespace", NAMESPACE, "scale", &format!("deployment/{deployment}"), &replicas]).await;
}

async fn without_a_controller_new_pods_start_and_are_injected(node: &Node) {
    let began = Instant::now();
    scale(node, "promsidecar-controller", 0).await;
    let of_controller = "app.kubernetes.io/component=controller";
    let waits =
        ["--namespace", NAMESPACE, "wait", "pods", "-l", of_controller, "--for=delete", "--timeout=60s"];
    node.kubectl(&waits).await;
    told("the controller is scaled to zero, until it is gone", began);
    let began = Instant::now();
    let known = node.watch("shop", "orphan");
    let new = node.watch("nobody", "orphan");
    node.apply(&list(&[opted_in("nobody"), deployment("nobody", "orphan"), deployment("shop", "orphan")]))
        .await;
    delivers(node, &known.ready().await.pod, "c2").await;
    told("without a controller: a pod is applied, until its series are at the receiver", began);
    // The pod of a namespace that has no configuration starts as well, and scrapes once a controller is back.
    let waiting = new.ready().await.pod;
    assert_eq!(waiting["metadata"]["labels"][names::INJECTED], "true");
    node.logged(&waiting, names::CONTAINER, "waiting for").await;
    let began = Instant::now();
    scale(node, "promsidecar-controller", 1).await;
    delivers(node, &waiting, "c2").await;
    told("the controller is back, until series of a pod that waited for it are at the receiver", began);
    known.assert_undisturbed();
    new.assert_undisturbed();
}

/// As docs/operations.md has it: the registration first.
async fn the_removal_leaves_pods_as_they_are(node: &Node, directory: &Path, pod: &Value) {
    let began = Instant::now();
    node.kubectl(&["delete", "mutatingwebhookconfiguration", "promsidecar"]).await;
    node.kubectl(&["delete", "-k", &directory.display().to_string(), "--ignore-not-found", "--timeout=120s"])
        .await;
    told("kubectl delete, until nothing is left but running pods", began);
    assert_eq!(node.plane.api.list(CONFIGURATIONS).await, [Value::Null; 0]);
    let of_ours = "app.kubernetes.io/name=promsidecar";
    let kinds =
        "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    assert_eq!(node.kubectl(&["get", kinds, "-l", of_ours, "-o", "name"]).await, "");
    let reply = node.plane.api.send("POST", &pods("shop"), &asking_pod("after")).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(reply.body["metadata"]["labels"].get(names::INJECTED), None);
    delivers(node, pod, "c2").await;
}

#[tokio::test]
async fn it_is_installed_works_without_a_controller_and_is_removed_without_a_trace_in_running_pods() {
    let node = Node::start(Family::V4).await;
    let began = Instant::now();
    let directory = node.install("overlays/self-managed").await;
    told("kubectl apply -k, until both Deployments are up", began);
    until("the caBundle is published", || async {
        let registration = node.plane.api.get(&format!("{CONFIGURATIONS}/promsidecar")).await;
        let entries = registration["webhooks"].as_array().unwrap().clone();
        entries.iter().all(|entry| entry["clientConfig"]["caBundle"].is_string())
    })
    .await;
    let (watch, pod) = the_first_pod_starts_although_nothing_was_delivered(&node).await;
    an_edit_reaches_the_agent_without_a_restart(&node, &pod).await;
    a_monitor_comes_changes_and_goes_under_a_running_agent(&node, &pod).await;
    what_does_not_arrive_is_told(&node).await;
    a_service_comes_changes_and_goes_under_a_running_agent(&node, &pod).await;
    a_bad_edit_is_told_and_changes_nothing(&node, &pod).await;
    without_a_controller_new_pods_start_and_are_injected(&node).await;
    the_removal_leaves_pods_as_they_are(&node, &directory, &pod).await;
    watch.assert_undisturbed();
}
