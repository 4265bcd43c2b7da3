//! `ServiceMonitor`s and the Services that they select on a real API server: the controller follows both.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use control_plane::ControlPlane;
use control_plane::controller::{
    Controller, GOOD, OWN_NAMESPACE, conditions, edit, id, monitors_of, namespace, path,
};
use control_plane::definitions::{agents, define};
use control_plane::https::until;
use control_plane::monitors::{binding, bound, delivered, message, monitor, selecting, told};
use promsidecar::monitors::object::Kind;
use promsidecar::names;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A control plane that knows the definitions, with a controller that leads.
async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<(&ControlPlane, Controller)> = OnceCell::const_new();
    let set_up = || async {
        let plane = ControlPlane::shared().await;
        define(plane).await;
        plane.api.create_namespace(&namespace(OWN_NAMESPACE, &json!({}), &json!({}))).await;
        (plane, Controller::leading(&plane.kubeconfig("admin"), &[]).await)
    };
    SHARED.get_or_init(set_up).await.0
}

const SERVICE: Kind = Kind::Service;

fn services(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}

fn monitors(namespace: &str) -> String {
    monitors_of(SERVICE, namespace)
}

/// A Service with a label, whose selector may be absent.
fn service(name: &str, label: &str, selector: &Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": label}},
        "spec": {"selector": selector, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]},
    })
}

/// A monitor of the Services with the label `app: web`.
fn of_web(name: &str, endpoint: &Value) -> Value {
    let mut monitor = monitor(SERVICE, name, endpoint);
    monitor["spec"]["selector"] = json!({"matchLabels": {"app": "web"}});
    monitor
}

async fn delete(plane: &ControlPlane, path: &str) {
    let gone = plane.api.send("DELETE", path, &Value::Null).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_follow_monitors_and_services_as_they_come_change_and_go() {
    let plane = shared().await;
    let (one, web) = (id("shop", "one"), json!({"app": "web"}));
    plane.api.create_namespace(&namespace("shop", &json!({}), &json!({"tier": "web"}))).await;
    let (named, asks) = (json!({(names::TEMPLATE): "shop/one"}), json!({(names::INJECT): "true"}));
    plane.api.create_namespace(&namespace("guest", &named, &asks)).await;
    plane.api.create(&agents("shop"), &selecting("one")).await;
    plane.api.create(&services("shop"), &service("shop", "web", &web)).await;
    plane.api.create(&services("guest"), &service("guest", "web", &web)).await;
    delivered(plane, &one, "shop", SERVICE, &[]).await;

    plane.api.create(&monitors("shop"), &of_web("web", &json!({"port": "web"}))).await;
    delivered(plane, &one, "shop", SERVICE, &["shop/web/0/shop"]).await;
    delivered(plane, &one, "guest", SERVICE, &[]).await;
    let monitor = format!("{}/web", monitors("shop"));
    edit(plane, &monitor, &json!({"spec": {"namespaceSelector": {"matchNames": ["shop", "guest"]}}})).await;
    delivered(plane, &one, "guest", SERVICE, &["shop/web/0/guest"]).await;

    // Of a Service: labels, selector and ports count. What is delivered is all that is rendered of the objects as they are.
    let shop = format!("{}/shop", services("shop"));
    for (change, jobs) in [
        (json!({"metadata": {"labels": {"app": "other"}}}), &[][..]),
        (json!({"metadata": {"labels": {"app": "web"}}}), &["shop/web/0/shop"]),
        (json!({"spec": {"selector": {"app": null, "tier": "db"}}}), &["shop/web/0/shop"]),
        (json!({"spec": {"ports": [{"name": "web", "port": 80, "targetPort": 8080}]}}), &["shop/web/0/shop"]),
        (json!({"spec": {"ports": [{"name": "other", "port": 80}]}}), &[]),
        (json!({"spec": {"ports": [{"name": "web", "port": 80}]}}), &["shop/web/0/shop"]),
    ] {
        edit(plane, &shop, &change).await;
        delivered(plane, &one, "shop", SERVICE, jobs).await;
    }
    plane.api.create(&services("shop"), &service("second", "web", &web)).await;
    delivered(plane, &one, "shop", SERVICE, &["shop/web/0/second", "shop/web/0/shop"]).await;
    delete(plane, &shop).await;
    delivered(plane, &one, "shop", SERVICE, &["shop/web/0/second"]).await;
    delivered(plane, &one, "guest", SERVICE, &["shop/web/0/guest"]).await;

    delete(plane, &monitor).await;
    for name in ["shop", "guest"] {
        delivered(plane, &one, name, SERVICE, &[]).await;
    }
    conditions(plane, &one, GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_cannot_be_used_is_named_and_takes_nothing_else_down() {
    let plane = shared().await;
    let one = id("rejects", "one");
    plane.api.create_namespace(&namespace("rejects", &json!({}), &json!({"tier": "web"}))).await;
    plane.api.create(&services("rejects"), &service("shop", "web", &json!({"app": "web"}))).await;
    plane.api.create(&agents("rejects"), &selecting("one")).await;
    plane.api.create(&monitors("rejects"), &of_web("good", &json!({"port": "web"}))).await;
    let slow = json!({"port": "web", "interval": "10s", "scrapeTimeout": "1m"});
    plane.api.create(&monitors("rejects"), &of_web("slow", &slow)).await;

    delivered(plane, &one, "rejects", SERVICE, &["rejects/good/0/shop"]).await;
    let line = "rejected: ServiceMonitor rejects/slow: spec.endpoints[0].scrapeTimeout: \"1m\": ";
    until("the status names it", || async { message(plane, &one).await.starts_with(line) }).await;
    conditions(plane, &one, GOOD).await;
    told(plane, &one, SERVICE, "slow", line).await;
    let slow = format!("{}/slow", monitors("rejects"));
    bound(plane, &slow, &one, ["False", "InvalidConfiguration", line]).await;
    bound(plane, &format!("{}/good", monitors("rejects")), &one, ["True", "", ""]).await;

    edit(plane, &slow, &json!({"spec": {"endpoints": [{"port": "web", "interval": "10s"}]}})).await;
    delivered(plane, &one, "rejects", SERVICE, &["rejects/good/0/shop", "rejects/slow/0/shop"]).await;
    bound(plane, &slow, &one, ["True", "", ""]).await;
    // Monitors that it selects no longer do not name it.
    let other = json!({"spec": {"serviceMonitorSelector": {"matchLabels": {"team": "a"}}}});
    edit(plane, &path(&one), &other).await;
    until("the monitors have no binding with it", || async {
        let all = plane.api.list(&monitors("rejects")).await;
        all.iter().all(|monitor| binding(monitor, &one).is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_endpoints_nobody_can_know_is_refused_with_the_reason() {
    let plane = shared().await;
    let one = id("refuses", "one");
    plane.api.create_namespace(&namespace("refuses", &json!({}), &json!({"tier": "web"}))).await;
    plane.api.create(&agents("refuses"), &selecting("one")).await;
    plane.api.create(&monitors("refuses"), &of_web("web", &json!({"port": "web"}))).await;
    let lacks = "warning: ServiceMonitor refuses/web: spec.selector: selects no Service of namespace refuses";
    until("the status says that there is none", || async { message(plane, &one).await.contains(lacks) })
        .await;

    plane.api.create(&services("refuses"), &service("bare", "web", &Value::Null)).await;
    plane.api.create(&services("refuses"), &service("good", "web", &json!({"app": "web"}))).await;
    delivered(plane, &one, "refuses", SERVICE, &["refuses/web/0/good"]).await;
    let line = "refused: ServiceMonitor refuses/web: Service refuses/bare has no selector: ";
    until("the status says why", || async {
        let message = message(plane, &one).await;
        message.starts_with(line) && !message.contains(lacks)
    })
    .await;
    conditions(plane, &one, GOOD).await;
    told(plane, &one, SERVICE, "web", line).await;
    let web = format!("{}/web", monitors("refuses"));
    bound(plane, &web, &one, ["True", "", line]).await;

    edit(plane, &format!("{}/bare", services("refuses")), &json!({"spec": {"selector": {"app": "web"}}}))
        .await;
    delivered(plane, &one, "refuses", SERVICE, &["refuses/web/0/bare", "refuses/web/0/good"]).await;
    until("the status says so no longer", || async { !message(plane, &one).await.contains("refused: ") })
        .await;
    until("nor does the monitor", || async {
        let monitor = plane.api.get(&web).await;
        binding(&monitor, &one).is_some_and(|binding| binding["conditions"][0].get("message").is_none())
    })
    .await;
}
