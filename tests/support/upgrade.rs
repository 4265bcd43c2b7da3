//! Two releases beside each other in one cluster.
//!
//! Input: a control plane. Output: programs of both releases for it, and what each of them writes.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::Path;

use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::control_plane::controller::{
    Controller, OWN_NAMESPACE, config_map, edit, monitors, namespace, path, rendered, template,
};
use crate::control_plane::definitions::{agents, define};
use crate::control_plane::faults::{Fault, Faults};
use crate::control_plane::https::{get, until};
use crate::control_plane::injector::{self, CONFIGURATIONS, asking_pod, pods, shipped};
use crate::release::Release;
use crate::support::patched;

/// Which registration a controller looks after.
pub(crate) const REGISTRATION: &str = "--registration=promsidecar-nobody";

/// A controller of a release, by way of a proxy or of none.
pub(crate) fn start_controller(release: Release, kubeconfig: &Path, flags: &[&str]) -> Controller {
    Controller::start_by(&release.program(), kubeconfig, &[&[REGISTRATION], flags].concat())
}

/// A cluster with one template that everybody may use, `shop/one`, and a monitor that it selects; `guest` asks for it, and pods
/// of `far` and `spare` may.
pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start(None).await;
        define(&plane).await;
        let asks = (json!({(names::TEMPLATE): "shop/one"}), json!({(names::INJECT): "true"}));
        let none = || (json!({}), json!({}));
        for (name, (annotations, labels)) in
            [(OWN_NAMESPACE, none()), ("shop", none()), ("guest", asks), ("far", none()), ("spare", none())]
        {
            plane.api.create_namespace(&namespace(name, &annotations, &labels)).await;
        }
        // Nobody is called by it: there is nobody behind its Service.
        plane.api.create(CONFIGURATIONS, &shipped(&["nobody"])).await;
        let mut one = template("one");
        one["spec"]["podMonitorSelector"] = json!({});
        plane.api.create(&agents("shop"), &one).await;
        let monitor = json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "web"},
            "spec": {"selector": {}, "namespaceSelector": {"any": true}, "podMetricsEndpoints": [{"port": "web"}]},
        });
        plane.api.create(&monitors("shop"), &monitor).await;
        Self { plane }
    }

    /// A webhook that knows the template.
    pub(crate) async fn webhook(&self, release: Release, name: &str) -> injector::Program {
        let source = format!("--kubeconfig={}", self.plane.kubeconfig("admin").display());
        let webhook = injector::Program::start_by(&release.program(), &self.plane.directory(name), &source);
        until("the webhook is ready", || async { get(webhook.admin, "/readyz").await.0 == 200 }).await;
        webhook
    }

    /// A pod as a release injects it from `shop/one`, in a namespace.
    pub(crate) async fn create_injected(&self, release: Release, place: &str, name: &str) -> Value {
        let webhook = self.webhook(release, &format!("webhook-{place}-{name}")).await;
        let mut pod = asking_pod(name);
        pod["metadata"]["annotations"][names::INJECT] = json!("shop/one");
        let answer = json!({"response": webhook.asked("/mutate/pod/no", place, &pod).await});
        let injected = patched(&pod, &serde_json::to_vec(&answer).unwrap()).expect("the pod is injected");
        self.plane.api.create(&pods(place), &injected).await
    }

    /// Waits until a release's configuration of a template is in these namespaces.
    pub(crate) async fn delivered(&self, release: Release, id: &TemplateId, places: &[&str]) {
        for place in places {
            let content = rendered(&self.plane, id, place).await;
            self.holds(release, &config_map(place, id), &content).await;
        }
    }

    /// Waits until a ConfigMap has what a release makes of this configuration of this one.
    pub(crate) async fn holds(&self, release: Release, path: &str, rendered: &str) {
        let content = release.configuration(rendered);
        until(&format!("{path} is {release:?}'s"), || async {
            let found = self.plane.api.send("GET", path, &Value::Null).await;
            found.body["data"][names::CONFIG_KEY] == content
        })
        .await;
    }

    /// Waits until a template's status has these counts of pods, and of those that are up to date.
    pub(crate) async fn counted(&self, id: &TemplateId, all: u64, updated: u64) -> Value {
        until(&format!("{id} has {all} pods, {updated} up to date"), || async {
            let status = self.plane.api.get(&path(id)).await["status"].clone();
            status["replicas"] == all && status["updatedReplicas"] == updated
        })
        .await;
        self.plane.api.get(&path(id)).await["status"].clone()
    }

    /// Has a controller look at a template again and again, so that whatever it would still write, it has written.
    pub(crate) async fn looks_again(&self, controller: &Controller, id: &TemplateId) {
        for round in 0..5 {
            let done = async || controller.metric("promsidecar_reconciles_total{result=\"done\"}").await;
            let before = done().await;
            let label = json!({"metadata": {"labels": {"round": round.to_string()}}});
            edit(&self.plane, &path(id), &label).await;
            until("the controller looks at it", || async { done().await > before }).await;
        }
    }

    /// The leader is gone without a word; its lease would run out by itself.
    pub(crate) async fn kill(&self, leader: Controller) {
        drop(leader);
        let lease = crate::control_plane::controller::LEASE;
        assert_eq!(self.plane.api.send("DELETE", lease, &Value::Null).await.status, 200);
    }
}

/// What was written by way of a proxy since its rule was set, and how often; neither Events nor the Lease.
pub(crate) fn writes(proxy: &Faults) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (asked, _) in proxy.log() {
        let path = asked.path.split('?').next().unwrap_or_default();
        if asked.is_write() && !path.contains("/events") {
            *counts.entry(format!("{} {path}", asked.method)).or_default() += 1;
        }
    }
    counts
}

/// Forgets what was written.
pub(crate) fn forget(proxy: &Faults) {
    proxy.set(|_| Fault::None);
}
