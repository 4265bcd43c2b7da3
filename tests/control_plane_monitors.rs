//! `PodMonitor`s on a real API server with prometheus-operator's definitions: controller and webhook follow them, and whatever
//! holds of both kinds of monitors.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
mod support;

use control_plane::ControlPlane;
use control_plane::controller::{
    Controller, GOOD, OWN_NAMESPACE, conditions, edit, id, monitors, monitors_of, namespace, path,
};
use control_plane::definitions::{agents, define_monitors};
use control_plane::https::until;
use control_plane::injector::{Program, pods};
use control_plane::monitors::{
    Installed, binding, bound, counts, delivered, installed, message, monitor, mounted, mounts, selecting,
    told, with_secret, without_hint,
};
use kustomize::folder;
use promsidecar::monitors::object::Kind;
use promsidecar::names;
use serde_json::{Value, json};
use support::objects::patched;
use tokio::sync::OnceCell;

async fn shared() -> &'static Installed {
    static SHARED: OnceCell<Installed> = OnceCell::const_new();
    SHARED.get_or_init(|| installed(&["mounting-pods", "mounting-services"])).await
}

const POD: Kind = Kind::Pod;

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
        delivered(plane, &one, name, POD, &[]).await;
    }

    plane.api.create(&monitors("shop"), &monitor(POD, "web", &json!({"port": "web"}))).await;
    plane.api.create(&monitors("guest"), &monitor(POD, "hidden", &json!({"port": "web"}))).await;
    delivered(plane, &one, "shop", POD, &["shop/web/0"]).await;
    delivered(plane, &one, "guest", POD, &[]).await;

    let web = format!("{}/web", monitors("shop"));
    edit(plane, &web, &json!({"spec": {"podMetricsEndpoints": [{"port": "web", "path": "/other"}]}})).await;
    delivered(plane, &one, "shop", POD, &["shop/web/0"]).await;
    edit(plane, &web, &json!({"spec": {"namespaceSelector": {"matchNames": ["guest"]}}})).await;
    delivered(plane, &one, "shop", POD, &[]).await;
    delivered(plane, &one, "guest", POD, &["shop/web/0"]).await;

    // Labels of its namespace count, and of the monitor.
    edit(plane, "/api/v1/namespaces/guest", &json!({"metadata": {"labels": {"tier": "web"}}})).await;
    delivered(plane, &one, "guest", POD, &["guest/hidden/0", "shop/web/0"]).await;
    edit(plane, &path(&one), &json!({"spec": {"podMonitorSelector": {"matchLabels": {"team": "a"}}}})).await;
    delivered(plane, &one, "guest", POD, &[]).await;
    edit(plane, &web, &json!({"metadata": {"labels": {"team": "a"}}})).await;
    delivered(plane, &one, "guest", POD, &["shop/web/0"]).await;

    let gone = plane.api.send("DELETE", &web, &Value::Null).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    delivered(plane, &one, "guest", POD, &[]).await;
    conditions(plane, &one, GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_cannot_be_used_is_named_and_takes_nothing_else_down() {
    let plane = shared().await.plane;
    let one = id("rejects", "one");
    plane.api.create_namespace(&namespace("rejects", &json!({}), &json!({"tier": "web"}))).await;
    plane.api.create(&agents("rejects"), &selecting("one")).await;
    plane.api.create(&monitors("rejects"), &monitor(POD, "good", &json!({"port": "web"}))).await;
    let slow = json!({"port": "web", "interval": "10s", "scrapeTimeout": "1m"});
    plane.api.create(&monitors("rejects"), &monitor(POD, "slow", &slow)).await;

    delivered(plane, &one, "rejects", POD, &["rejects/good/0"]).await;
    let line = "rejected: PodMonitor rejects/slow: spec.podMetricsEndpoints[0].scrapeTimeout: \"1m\": ";
    until("the status names it", || async { message(plane, &one).await.starts_with(line) }).await;
    conditions(plane, &one, GOOD).await;
    told(plane, &one, POD, "slow", line).await;

    let slow = format!("{}/slow", monitors("rejects"));
    bound(plane, &slow, &one, ["False", "InvalidConfiguration", line]).await;
    bound(plane, &format!("{}/good", monitors("rejects")), &one, ["True", "", ""]).await;

    let mended = json!({"spec": {"podMetricsEndpoints": [{"port": "web", "interval": "10s"}]}});
    edit(plane, &slow, &mended).await;
    delivered(plane, &one, "rejects", POD, &["rejects/good/0", "rejects/slow/0"]).await;
    until("the status names it no longer", || async { !message(plane, &one).await.contains("rejected: ") })
        .await;
    bound(plane, &slow, &one, ["True", "", ""]).await;
    // Monitors that it selects no longer do not name it.
    edit(plane, &path(&one), &json!({"spec": {"podMonitorSelector": {"matchLabels": {"team": "a"}}}})).await;
    until("the monitors have no binding with it", || async {
        let all = plane.api.list(&monitors("rejects")).await;
        all.iter().all(|monitor| binding(monitor, &one).is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_mount_what_monitors_need_and_what_comes_later_makes_them_outdated() {
    let plane = shared().await.plane;
    // Nobody has a Service: what pods mount does not go by them.
    for (kind, name) in [(Kind::Pod, "mounting-pods"), (Kind::Service, "mounting-services")] {
        let (one, monitors) = (id(name, "one"), monitors_of(kind, name));
        let web = json!({"metadata": {"labels": {"tier": "web"}}});
        edit(plane, &format!("/api/v1/namespaces/{name}"), &web).await;
        plane.api.create(&monitors, &with_secret(kind, "first", "first")).await;
        plane.api.create(&agents(name), &selecting("one")).await;
        mounts(plane, name, &["first"]).await;
        plane.api.create(&pods(name), &without_hint("old")).await;
        counts(plane, &one, [1, 1]).await;

        plane.api.create(&monitors, &with_secret(kind, "second", "second")).await;
        mounts(plane, name, &["first", "second"]).await;
        let jobs: Vec<_> = ["first", "second"].map(|monitor| format!("{name}/{monitor}/0")).into();
        let jobs: Vec<_> = jobs.iter().map(|job| &**job).filter(|_| kind == Kind::Pod).collect();
        delivered(plane, &one, name, kind, &jobs).await;
        counts(plane, &one, [1, 0]).await;
        plane.api.create(&pods(name), &without_hint("new")).await;
        counts(plane, &one, [2, 1]).await;

        let gone = plane.api.send("DELETE", &format!("{monitors}/second"), &Value::Null).await;
        assert_eq!(gone.status, 200, "{}", gone.body);
        mounts(plane, name, &["first"]).await;
        counts(plane, &one, [2, 1]).await;
    }
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
    let service = json!({
        "metadata": {"name": "shop"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80}]},
    });
    plane.api.create("/api/v1/namespaces/late/services", &service).await;
    let kubeconfig = plane.kubeconfig("admin");
    let _controller = Controller::leading(&kubeconfig, &[]).await;
    let webhook =
        Program::start_with(&plane.directory("webhook"), &format!("--kubeconfig={}", kubeconfig.display()));
    until("the webhook is ready", || async {
        control_plane::https::get(webhook.admin, "/readyz").await.0 == 200
    })
    .await;
    conditions(&plane, &one, GOOD).await;

    let pod = without_hint("web");
    for (kind, job, secrets) in [
        (Kind::Pod, "late/web/0", &["a-pods"][..]),
        (Kind::Service, "late/web/0/shop", &["a-pods", "services"]),
    ] {
        define_monitors(&plane, kind).await;
        let secret = secrets.last().unwrap();
        plane.api.create(&monitors_of(kind, "late"), &with_secret(kind, "web", secret)).await;
        delivered(&plane, &one, "late", kind, &[job]).await;
        until(&format!("the webhook mounts {secrets:?}"), || async {
            let response = webhook.asked("/mutate/pod/no", "late", &pod).await;
            patched(&pod, json!({"response": response}).to_string().as_bytes())
                .is_some_and(|pod| mounted(&pod) == secrets)
        })
        .await;
    }
}
