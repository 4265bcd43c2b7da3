//! Webhook and controller while the API server, etcd, or the controller itself fails.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control_plane::ControlPlane;
use control_plane::controller::{
    Controller, GOOD, LEASE, OWN_NAMESPACE, condition, conditions, config_map, delivered, edit, id, monitors,
    namespace, path, template,
};
use control_plane::definitions::{agents, define};
use control_plane::faults::{Fault, Faults};
use control_plane::https::{get, until};
use control_plane::injector::{Program, asking_pod};
use promsidecar::names;
use promsidecar::store::last_good;
use serde_json::{Value, json};

async fn defined(plane: &ControlPlane) {
    define(plane).await;
    plane.api.create_namespace(&namespace(OWN_NAMESPACE, &json!({}), &json!({}))).await;
}

/// Namespace `name` with the template `one` and a monitor that it selects, and a guest that asks for it.
async fn with_template(plane: &ControlPlane, name: &str) {
    plane.api.create_namespace(&namespace(name, &json!({}), &json!({}))).await;
    let asks = (json!({(names::TEMPLATE): format!("{name}/one")}), json!({(names::INJECT): "true"}));
    plane.api.create_namespace(&namespace(&format!("{name}-guest"), &asks.0, &asks.1)).await;
    let mut template = template("one");
    template["spec"]["podMonitorSelector"] = json!({});
    plane.api.create(&agents(name), &template).await;
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "web"},
        "spec": {"selector": {}, "namespaceSelector": {"any": true}, "podMetricsEndpoints": [{"port": "web"}]},
    });
    plane.api.create(&monitors(name), &monitor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_and_etcd_restart_under_webhook_and_controller_and_nothing_is_lost() {
    let mut plane = ControlPlane::start(None).await;
    defined(&plane).await;
    let one = id("restart", "one");
    with_template(&plane, "restart").await;
    let kubeconfig = plane.kubeconfig("admin");
    let controller = Controller::leading(&kubeconfig, &[]).await;
    let source = format!("--kubeconfig={}", kubeconfig.display());
    let webhook = Program::start_with(&plane.directory("webhook"), &source);
    until("the webhook is ready", || async { get(webhook.admin, "/readyz").await.0 == 200 }).await;
    conditions(&plane, &one, GOOD).await;
    for (etcd, interval) in [(false, "11s"), (true, "12s")] {
        let before = delivered(&plane, &one, "restart-guest").await;
        if etcd {
            plane.end_etcd();
        } else {
            plane.end_apiserver();
        }
        let answer = webhook.asked("/mutate/namespace/no", "restart-guest", &asking_pod("web")).await;
        assert_eq!(answer["auditAnnotations"]["decision"], "injected", "{answer:#}");
        assert_eq!(
            (get(webhook.admin, "/readyz").await.0, get(controller.admin, "/readyz").await.0),
            (200, 200)
        );
        if etcd {
            plane.begin_etcd().await;
        } else {
            plane.begin_apiserver().await;
        }
        let after = plane.api.get(&config_map("restart-guest", &one)).await;
        assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
        edit(&plane, &path(&one), &json!({"spec": {"scrapeInterval": interval}})).await;
        delivered(&plane, &one, "restart-guest").await;
        conditions(&plane, &one, GOOD).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_expire_are_begun_anew_and_nothing_is_missed() {
    let plane = ControlPlane::start(None).await;
    defined(&plane).await;
    let one = id("expiry", "one");
    let faults = Faults::before(&plane, "expiry").await;
    // Of each kind, the first watch ends so, and the second does not begin.
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    faults.set(move |asked| {
        if !asked.is_watch() {
            return Fault::None;
        }
        let kind = asked.path.split('?').next().unwrap_or_default().to_owned();
        let count = seen.entry(kind).or_default();
        *count += 1;
        match count {
            1 => Fault::Expired,
            2 => Fault::Answer(410),
            _ => Fault::None,
        }
    });
    let _controller = Controller::leading(&faults.kubeconfig, &[]).await;
    with_template(&plane, "expiry").await;
    for interval in ["11s", "12s"] {
        edit(&plane, &path(&one), &json!({"spec": {"scrapeInterval": interval}})).await;
        delivered(&plane, &one, "expiry-guest").await;
    }
    conditions(&plane, &one, GOOD).await;
    let expired = faults.log().into_iter().filter(|(_, fault)| *fault == Fault::Expired).count();
    let kinds = "templates, PodMonitors, ServiceMonitors, Services, namespaces, ConfigMaps, last good versions, pods, the Secret, the registration";
    assert_eq!(expired, kinds.split(", ").count(), "{kinds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_asked_again_a_little_later() {
    let plane = ControlPlane::start(None).await;
    defined(&plane).await;
    let faults = Faults::before(&plane, "refuses").await;
    // Lists too, from the start.
    let mut lists = 0;
    faults.set(move |asked| {
        lists += usize::from(!asked.is_write() && !asked.is_watch());
        if (1..=6).contains(&lists) && !asked.is_watch() { Fault::Answer(429) } else { Fault::None }
    });
    let _controller = Controller::leading(&faults.kubeconfig, &[]).await;
    assert!(faults.log().iter().any(|(_, fault)| *fault == Fault::Answer(429)));
    for code in [409, 429, 500] {
        let name = format!("refuses-{code}");
        let mine = format!("/{name}");
        let mut refused = 0;
        faults.set(move |asked| {
            let counts = asked.is_write() && asked.path.contains(&mine) && !asked.path.contains("events");
            refused += usize::from(counts);
            if counts && refused <= 5 { Fault::Answer(code) } else { Fault::None }
        });
        with_template(&plane, &name).await;
        let one = id(&name, "one");
        delivered(&plane, &one, &name).await;
        delivered(&plane, &one, &format!("{name}-guest")).await;
        conditions(&plane, &one, GOOD).await;
        let log = faults.log();
        let answered = log.iter().filter(|(_, fault)| *fault == Fault::Answer(code)).count();
        let writes = log.iter().filter(|(asked, _)| asked.is_write()).count();
        assert_eq!(answered, 5, "{code}");
        assert!(writes < 20, "{code}: it is not asked without a pause: {log:#?}");
    }
}

/// What a round left, without what differs from round to round.
async fn left(plane: &ControlPlane, name: &str) -> Value {
    let one = id(name, "one");
    let object = conditions(plane, &one, GOOD).await;
    let mut status = object["status"].clone();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition.as_object_mut().unwrap().remove("lastTransitionTime");
    }
    let kept_name = last_good::name(&one);
    let kept = plane.api.get(&format!("/api/v1/namespaces/{OWN_NAMESPACE}/configmaps/{kept_name}")).await;
    let mut found = vec![status];
    let guest = format!("{name}-guest");
    for object in [delivered(plane, &one, name).await, delivered(plane, &one, &guest).await, kept] {
        let metadata = &object["metadata"];
        found.push(json!([object["data"], metadata["labels"], metadata["annotations"]]));
    }
    let text = Value::from(found).to_string().replace(object["metadata"]["uid"].as_str().unwrap(), "UID");
    serde_json::from_str(&text.replace(name, "NAME")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_at_any_write_leaves_nothing_half_done() {
    let plane = ControlPlane::start(None).await;
    defined(&plane).await;
    let faults = Faults::before(&plane, "killed").await;
    let mut controller = Controller::leading(&faults.kubeconfig, &[]).await;
    with_template(&plane, "k-whole").await;
    let whole = left(&plane, "k-whole").await;
    let mut killed = 0;
    for lost in [Fault::Lost, Fault::AnswerLost] {
        for step in 1.. {
            let name = format!("k-{}-{step}", if lost == Fault::Lost { "before" } else { "after" });
            let (mut count, fault) = (0, lost.clone());
            let struck = Arc::new(AtomicBool::new(false));
            let strikes = Arc::clone(&struck);
            faults.set(move |asked| {
                count += usize::from(asked.is_write());
                let now = asked.is_write() && count == step;
                strikes.fetch_or(now, Ordering::SeqCst);
                if now { fault.clone() } else { Fault::None }
            });
            with_template(&plane, &name).await;
            let one = id(&name, "one");
            until("the write is lost, or there are no more", || async {
                let object = plane.api.get(&path(&one)).await;
                struck.load(Ordering::SeqCst) || condition(&object, "Reconciled")["status"] == "True"
            })
            .await;
            if !struck.load(Ordering::SeqCst) {
                break;
            }
            until("it is lost, or has arrived", || async {
                faults.log().iter().any(|(_, fault)| *fault == lost)
            })
            .await;
            drop(controller);
            killed += 1;
            // The dead one's lease would run out by itself.
            assert_eq!(plane.api.send("DELETE", LEASE, &Value::Null).await.status, 200);
            faults.set(|_| Fault::None);
            controller = Controller::leading(&faults.kubeconfig, &[]).await;
            assert_eq!(left(&plane, &name).await, whole, "{name}");
        }
    }
    // What is kept, two ConfigMaps, and the status: before and after each.
    assert!(killed >= 8, "{killed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_that_both_lead_come_to_rest() {
    let plane = ControlPlane::start(None).await;
    defined(&plane).await;
    plane.api.create_namespace(&namespace("another-system", &json!({}), &json!({}))).await;
    let kubeconfig = plane.kubeconfig("admin");
    // Each by a Lease of its own.
    let both = [
        Controller::leading(&kubeconfig, &[]).await,
        Controller::leading(&kubeconfig, &["--own-namespace=another-system"]).await,
    ];
    with_template(&plane, "both").await;
    let one = id("both", "one");
    let versions = async || {
        let mut found = Vec::new();
        for place in ["both", "both-guest"] {
            let object = delivered(&plane, &one, place).await;
            found.push(object["metadata"]["resourceVersion"].clone());
        }
        found
    };
    conditions(&plane, &one, GOOD).await;
    let (before, status) = (versions().await, plane.api.get(&path(&one)).await["status"].clone());
    for round in 0..5 {
        let done = async |controller: &Controller| {
            controller.metric("promsidecar_reconciles_total{result=\"done\"}").await
        };
        let counts = [done(&both[0]).await, done(&both[1]).await];
        let label = json!({"metadata": {"labels": {"round": round.to_string()}}});
        edit(&plane, &path(&one), &label).await;
        until("both looked at it", || async {
            done(&both[0]).await > counts[0] && done(&both[1]).await > counts[1]
        })
        .await;
    }
    assert_eq!(versions().await, before);
    assert_eq!(plane.api.get(&path(&one)).await["status"], status);
}
