//! `PodMonitor`s on a real API server with prometheus-operator's definitions: controller and webhook follow them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
mod support;

use control_plane::ControlPlane;
use control_plane::controller::{
    self, Controller, GOOD, OWN_NAMESPACE, condition, conditions, edit, id, monitors, namespace, path,
    template,
};
use control_plane::definitions::{agents, define_monitors};
use control_plane::https::until;
use control_plane::injector::{Program, asking_pod, pods};
use kustomize::folder;
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};
use support::objects::patched;
use tokio::sync::OnceCell;

/// A control plane that knows the definitions, with a controller that leads and a webhook for the namespaces that ask.
struct Shared {
    plane: &'static ControlPlane,
    _controller: Controller,
    _webhook: Program,
}

const ASKING: [&str; 1] = ["mounting"];

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            let webhook = Program::installed(plane, &ASKING, OWN_NAMESPACE).await;
            let kubeconfig = plane.kubeconfig("admin");
            let controller = Controller::leading(&kubeconfig, &[]).await;
            Shared { plane, _controller: controller, _webhook: webhook }
        })
        .await
}

/// A monitor of all pods with one endpoint.
fn monitor(name: &str, endpoint: &Value) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": name},
        "spec": {"selector": {}, "podMetricsEndpoints": [endpoint]},
    })
}

fn with_secret(name: &str, secret: &str) -> Value {
    monitor(name, &json!({"port": "web", "bearerTokenSecret": {"name": secret, "key": "token"}}))
}

/// A template that selects every monitor of namespaces with the label `tier: web`.
fn selecting(name: &str) -> Value {
    let mut object = template(name);
    object["spec"]["podMonitorSelector"] = json!({});
    object["spec"]["podMonitorNamespaceSelector"] = json!({"matchLabels": {"tier": "web"}});
    object
}

/// Waits until a template is delivered to a namespace as everything is by now, with these jobs of monitors.
async fn delivered(plane: &ControlPlane, id: &TemplateId, namespace: &str, jobs: &[&str]) {
    let found = controller::delivered(plane, id, namespace).await;
    let content = found["data"][names::CONFIG_KEY].as_str().unwrap();
    let found = content.lines().filter_map(|line| line.split_once("job_name: podMonitor/"));
    assert_eq!(found.map(|(_, job)| job.trim_matches('"')).collect::<Vec<_>>(), jobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_are_delivered_as_they_come_change_and_go() {
    let plane = shared().await.plane;
    let one = id("shop", "one");
    plane.api.create_namespace(&namespace("shop", &json!({}), &json!({"tier": "web"}))).await;
    let asks = json!({(names::INJECT): "true", "tier": "db"});
    let named = json!({(names::TEMPLATE): "shop/one"});
    plane.api.create_namespace(&namespace("guest", &named, &asks)).await;
    plane.api.create(&agents("shop"), &selecting("one")).await;
    for name in ["shop", "guest"] {
        delivered(plane, &one, name, &[]).await;
    }

    plane.api.create(&monitors("shop"), &monitor("web", &json!({"port": "web"}))).await;
    plane.api.create(&monitors("guest"), &monitor("hidden", &json!({"port": "web"}))).await;
    delivered(plane, &one, "shop", &["shop/web/0"]).await;
    delivered(plane, &one, "guest", &[]).await;

    let web = format!("{}/web", monitors("shop"));
    edit(plane, &web, &json!({"spec": {"podMetricsEndpoints": [{"port": "web", "path": "/other"}]}})).await;
    delivered(plane, &one, "shop", &["shop/web/0"]).await;
    edit(plane, &web, &json!({"spec": {"namespaceSelector": {"matchNames": ["guest"]}}})).await;
    delivered(plane, &one, "shop", &[]).await;
    delivered(plane, &one, "guest", &["shop/web/0"]).await;

    // Labels of its namespace count, and of the monitor.
    edit(plane, "/api/v1/namespaces/guest", &json!({"metadata": {"labels": {"tier": "web"}}})).await;
    delivered(plane, &one, "guest", &["guest/hidden/0", "shop/web/0"]).await;
    edit(plane, &path(&one), &json!({"spec": {"podMonitorSelector": {"matchLabels": {"team": "a"}}}})).await;
    delivered(plane, &one, "guest", &[]).await;
    edit(plane, &web, &json!({"metadata": {"labels": {"team": "a"}}})).await;
    delivered(plane, &one, "guest", &["shop/web/0"]).await;

    let gone = plane.api.send("DELETE", &web, &Value::Null).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    delivered(plane, &one, "guest", &[]).await;
    conditions(plane, &one, GOOD).await;
}

/// What the status says of the template's delivery.
async fn message(plane: &ControlPlane, id: &TemplateId) -> String {
    let object = plane.api.get(&path(id)).await;
    condition(&object, "Reconciled")["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_cannot_be_used_is_named_and_takes_nothing_else_down() {
    let plane = shared().await.plane;
    let one = id("rejects", "one");
    plane.api.create_namespace(&namespace("rejects", &json!({}), &json!({"tier": "web"}))).await;
    plane.api.create(&agents("rejects"), &selecting("one")).await;
    plane.api.create(&monitors("rejects"), &monitor("good", &json!({"port": "web"}))).await;
    let slow = json!({"port": "web", "interval": "10s", "scrapeTimeout": "1m"});
    plane.api.create(&monitors("rejects"), &monitor("slow", &slow)).await;

    delivered(plane, &one, "rejects", &["rejects/good/0"]).await;
    let told = "rejected: PodMonitor rejects/slow: spec.podMetricsEndpoints[0].scrapeTimeout: \"1m\": ";
    until("the status names it", || async { message(plane, &one).await.starts_with(told) }).await;
    conditions(plane, &one, GOOD).await;
    until("so does an Event on the monitor", || async {
        let describe = ["describe", "podmonitor", "slow", "-n", "rejects", "--show-events=true"];
        let printed = plane.kubectl(&describe, "").await.stdout;
        let events = printed.split_once("Events:").map_or("", |(_, events)| events);
        events.contains("InvalidConfiguration") && events.contains(&format!("template rejects/one: {told}"))
    })
    .await;

    let slow = format!("{}/slow", monitors("rejects"));
    bound(plane, &slow, "False", "InvalidConfiguration").await;
    bound(plane, &format!("{}/good", monitors("rejects")), "True", "").await;

    let mended = json!({"spec": {"podMetricsEndpoints": [{"port": "web", "interval": "10s"}]}});
    edit(plane, &slow, &mended).await;
    delivered(plane, &one, "rejects", &["rejects/good/0", "rejects/slow/0"]).await;
    until("the status names it no longer", || async { !message(plane, &one).await.contains("rejected: ") })
        .await;
    bound(plane, &slow, "True", "").await;
    // Monitors that it selects no longer do not name it.
    edit(plane, &path(&one), &json!({"spec": {"podMonitorSelector": {"matchLabels": {"team": "a"}}}})).await;
    until("the monitors have no binding with it", || async {
        plane.api.list(&monitors("rejects")).await.iter().all(|monitor| binding(monitor).is_none())
    })
    .await;
}

/// The binding of a monitor with the template `one` of `rejects`; templates of other tests select it too.
fn binding(monitor: &Value) -> Option<&Value> {
    let mut bindings = monitor["status"]["bindings"].as_array()?.iter();
    bindings.find(|binding| {
        binding["resource"] == "prometheusagents"
            && binding["namespace"] == "rejects"
            && binding["name"] == "one"
    })
}

/// Waits until it has this status and reason.
async fn bound(plane: &ControlPlane, path: &str, status: &str, reason: &str) {
    until(&format!("{path} is {status}"), || async {
        let monitor = plane.api.get(path).await;
        binding(&monitor).map(|binding| &binding["conditions"][0]).is_some_and(|condition| {
            condition["observedGeneration"] == monitor["metadata"]["generation"]
                && condition["status"] == status
                && condition["reason"].as_str().unwrap_or_default() == reason
        })
    })
    .await;
}

/// Secrets that a pod mounts for its agent.
fn mounted(pod: &Value) -> Vec<&str> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == names::VOLUME_CONFIG).unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    sources.iter().filter_map(|source| source["secret"]["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_mount_what_monitors_need_and_what_comes_later_makes_them_outdated() {
    let plane = shared().await.plane;
    let one = id("mounting", "one");
    edit(plane, "/api/v1/namespaces/mounting", &json!({"metadata": {"labels": {"tier": "web"}}})).await;
    plane.api.create(&monitors("mounting"), &with_secret("first", "first")).await;
    plane.api.create(&agents("mounting"), &selecting("one")).await;
    // Without a hint: what its monitors say is enough.
    let pod = |name: &str| {
        let mut pod = asking_pod(name);
        pod["metadata"]["annotations"] = json!({(names::INJECT): "one"});
        pod
    };
    let mounts = |secrets: &'static [&'static str]| async move {
        let path = format!("{}?dryRun=All", pods("mounting"));
        let probe = async || plane.api.send("POST", &path, &pod("probe")).await.body;
        until(&format!("pods mount {secrets:?}"), || async {
            let pod = probe().await;
            pod["metadata"]["annotations"].get(names::STATUS).is_some() && mounted(&pod) == secrets
        })
        .await;
    };
    mounts(&["first"]).await;
    let counts = |counts: [u64; 2]| async move {
        until(&format!("pods, and those up to date, are {counts:?}"), || async {
            let status = plane.api.get(&path(&id("mounting", "one"))).await["status"].clone();
            [&status["replicas"], &status["updatedReplicas"]] == counts.map(|count| json!(count)).each_ref()
        })
        .await;
    };
    plane.api.create(&pods("mounting"), &pod("old")).await;
    counts([1, 1]).await;

    plane.api.create(&monitors("mounting"), &with_secret("second", "second")).await;
    mounts(&["first", "second"]).await;
    delivered(plane, &one, "mounting", &["mounting/first/0", "mounting/second/0"]).await;
    counts([1, 0]).await;
    plane.api.create(&pods("mounting"), &pod("new")).await;
    counts([2, 1]).await;

    let gone = plane.api.send("DELETE", &format!("{}/second", monitors("mounting")), &Value::Null).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    counts([2, 1]).await;
    mounts(&["first"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_their_definition_has_no_monitors_until_it_is_installed() {
    let plane = ControlPlane::start(None).await;
    let templates = folder("crds").join("prometheusagents.yaml");
    let applied = plane.kubectl(&["apply", "-f", templates.to_str().unwrap()], "").await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    assert_eq!(plane.kubectl(&established, "").await.code, 0);
    for name in [OWN_NAMESPACE, "late"] {
        plane.api.create_namespace(&namespace(name, &json!({}), &json!({"tier": "web"}))).await;
    }
    let one = id("late", "one");
    plane.api.create(&agents("late"), &selecting("one")).await;
    let kubeconfig = plane.kubeconfig("admin");
    let _controller = Controller::leading(&kubeconfig, &[]).await;
    let webhook =
        Program::start_with(&plane.directory("webhook"), &format!("--kubeconfig={}", kubeconfig.display()));
    until("the webhook is ready", || async {
        control_plane::https::get(webhook.admin, "/readyz").await.0 == 200
    })
    .await;
    conditions(&plane, &one, GOOD).await;

    define_monitors(&plane).await;
    plane.api.create(&monitors("late"), &with_secret("web", "scrape")).await;
    delivered(&plane, &one, "late", &["late/web/0"]).await;
    let mut pod = asking_pod("web");
    pod["metadata"]["annotations"] = json!({(names::INJECT): "one"});
    until("the webhook mounts what it needs", || async {
        let response = webhook.asked("/mutate/pod/no", "late", &pod).await;
        patched(&pod, json!({"response": response}).to_string().as_bytes())
            .is_some_and(|pod| mounted(&pod) == ["scrape"])
    })
    .await;
}
