//! Owners whose pods ask, and what stands for the kubelet of their pods.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promsidecar::names;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::control_plane::controller::{edit, id, path};
use crate::control_plane::https::until;
use crate::control_plane::injector::{asking_pod, pods};

/// Owners by namespace and name, and how many pods each should have.
pub(crate) type Wanted = BTreeMap<(&'static str, &'static str), usize>;

/// A workload of this kind whose pods ask.
pub(crate) fn workload(kind: &str, place: &str, name: &str, replicas: u64) -> Value {
    let labels = json!({"app": name});
    let asks = json!({(names::INJECT): "true", (names::PORT): "8080"});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": place},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": asks},
                "spec": {
                    "containers": [{"name": "web", "image": "registry.example.com/shop/web:1.4"}],
                    // Nothing calls the node ready.
                    "tolerations": [{"operator": "Exists"}],
                },
            },
        },
    });
    if kind == "DaemonSet" {
        object["spec"].as_object_mut().unwrap().remove("replicas");
    }
    object
}

/// Says of pods that they are ready, as a kubelet would.
#[derive(Clone, Default)]
pub(crate) struct Kubelet {
    /// Whose pods it does not look after for now, by namespace and name; `*` is everybody.
    held: Arc<Mutex<String>>,
    /// Whether owners are counted: not while they are made.
    pub(crate) counts: Arc<AtomicBool>,
    /// Most owners that had a pod too few, or one that is not ready, at the same time.
    pub(crate) most: Arc<AtomicUsize>,
}

impl Kubelet {
    /// `wanted` are owners by namespace and name, and how many pods each should have.
    pub(crate) fn start(plane: &'static ControlPlane, wanted: Wanted) -> Self {
        let kubelet = Self::default();
        let running = kubelet.clone();
        tokio::spawn(async move {
            loop {
                running.look(plane, &wanted).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        kubelet
    }

    async fn look(&self, plane: &ControlPlane, wanted: &Wanted) {
        let mut all = Vec::new();
        for place in wanted.keys().map(|(place, _)| place).collect::<BTreeSet<_>>() {
            all.extend(plane.api.list(&pods(place)).await);
        }
        let of = |place: &str, app: &str| {
            let is_its =
                |metadata: &Value| metadata["namespace"] == place && metadata["labels"]["app"] == app;
            all.iter().filter(|pod| is_its(&pod["metadata"])).collect()
        };
        let mut under_way = 0;
        for ((place, app), count) in wanted {
            let its: Vec<&Value> = of(place, app);
            under_way += usize::from(its.len() != *count || !its.iter().all(|pod| is_ready(pod)));
        }
        if self.counts.load(Ordering::SeqCst) {
            self.most.fetch_max(under_way, Ordering::SeqCst);
        }
        for pod in all.iter().filter(|pod| !is_ready(pod)) {
            let of = |key: &str| pod["metadata"][key].as_str().unwrap();
            let owner = format!(
                "{}/{}",
                of("namespace"),
                pod["metadata"]["labels"]["app"].as_str().unwrap_or_default()
            );
            if ["*", &owner].contains(&self.held.lock().unwrap().as_str()) {
                continue;
            }
            let path = format!("{}/{}/status", pods(of("namespace")), of("name"));
            let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
            // It may have gone meanwhile.
            plane.api.send("PATCH", &path, &json!({"status": ready})).await;
        }
    }

    pub(crate) fn hold(&self, holds: bool) {
        self.hold_only(if holds { "*" } else { "" });
    }

    pub(crate) fn hold_only(&self, owner: &str) {
        owner.clone_into(&mut self.held.lock().unwrap());
    }
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub(crate) async fn create(plane: &ControlPlane, object: &Value) {
    let created = plane.kubectl(&["create", "-f", "-"], &object.to_string()).await;
    assert_eq!(created.code, 0, "{created:?}");
}

/// Edits the template, and waits until the webhook has it: until a restart would bring it.
pub(crate) async fn another_version(plane: &ControlPlane, namespace: &str, version: &str) {
    edit(plane, &path(&id(namespace, "one")), &json!({"spec": {"version": version}})).await;
    until("the webhook has the template", || async {
        let tried =
            plane.api.send("POST", &format!("{}?dryRun=All", pods(namespace)), &asking_pod("tried")).await;
        tried.body["spec"].to_string().contains(&format!("prometheus:v{version}"))
    })
    .await;
}
