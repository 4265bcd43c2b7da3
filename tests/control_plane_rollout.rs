//! `promsidecar rollout` on a real API server with the real controllers of workloads. There is no kubelet: a task of the test says
//! that pods are ready, and looks whether ever two owners are under way at once.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use asked::{Watched, ask, ask_by, is_golden};
use control_plane::ControlPlane;
use control_plane::controller::{OWN_NAMESPACE, edit, id, path, template};
use control_plane::definitions::agents;
use control_plane::https::until;
use control_plane::injector::{Program, asking_pod, pods};
use promsidecar::names;
use serde_json::{Value, json};

const APPS: &str = "/apis/apps/v1/namespaces/shop";

/// A workload of this kind whose pods ask.
fn workload(kind: &str, name: &str, replicas: u64) -> Value {
    let labels = json!({"app": name});
    let asks = json!({(names::INJECT): "true", (names::PORT): "8080"});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
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
struct Kubelet {
    /// Whether it does not for now.
    holds: Arc<AtomicBool>,
    /// Whether owners are counted: not while they are made.
    counts: Arc<AtomicBool>,
    /// Most owners that had a pod too few, or one that is not ready, at the same time.
    most: Arc<AtomicUsize>,
}

impl Kubelet {
    fn start(plane: &'static ControlPlane, wanted: BTreeMap<&'static str, usize>) -> Self {
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

    async fn look(&self, plane: &ControlPlane, wanted: &BTreeMap<&str, usize>) {
        let all = plane.api.list(&pods("shop")).await;
        let of = |app: &str| all.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).collect();
        let mut under_way = 0;
        for (app, count) in wanted {
            let its: Vec<&Value> = of(app);
            under_way += usize::from(its.len() != *count || !its.iter().all(|pod| is_ready(pod)));
        }
        if self.counts.load(Ordering::SeqCst) {
            self.most.fetch_max(under_way, Ordering::SeqCst);
        }
        if self.holds.load(Ordering::SeqCst) {
            return;
        }
        for pod in all.iter().filter(|pod| !is_ready(pod)) {
            let path = format!("{}/{}/status", pods("shop"), pod["metadata"]["name"].as_str().unwrap());
            let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
            // It may have gone meanwhile.
            plane.api.send("PATCH", &path, &json!({"status": ready})).await;
        }
    }

    fn hold(&self, holds: bool) {
        self.holds.store(holds, Ordering::SeqCst);
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

async fn create(plane: &ControlPlane, object: &Value) {
    let created = plane.kubectl(&["create", "-f", "-"], &object.to_string()).await;
    assert_eq!(created.code, 0, "{created:?}");
}

fn rollout(plane: &ControlPlane, arguments: &[&str]) -> control_plane::Printed {
    ask(plane, "admin", &[&["rollout"], arguments, &["-n", "shop"]].concat())
}

const RUN: [&str; 5] = ["rollout", "run", "-n", "shop", "--pause=100ms"];

/// Edits the template, and waits until the webhook has it: until a restart would bring it.
async fn another_version(plane: &ControlPlane, version: &str) {
    edit(plane, &path(&id("shop", "one")), &json!({"spec": {"version": version}})).await;
    until("the webhook has the template", || async {
        let tried =
            plane.api.send("POST", &format!("{}?dryRun=All", pods("shop")), &asking_pod("tried")).await;
        tried.body["spec"].to_string().contains(&format!("prometheus:v{version}"))
    })
    .await;
}

/// Everything that asks: made before there was a webhook, and after.
async fn workloads(plane: &'static ControlPlane) -> (Program, Kubelet) {
    plane.api.create_namespace(&json!({"metadata": {"name": "shop"}})).await;
    create(plane, &workload("Deployment", "early", 1)).await;
    until("early has its pod", || async { plane.api.list(&pods("shop")).await.len() == 1 }).await;
    let webhook = Program::installed(plane, &["shop"], OWN_NAMESPACE).await;
    let mut serves = workload("Deployment", "promsidecar-webhook", 0);
    serves["metadata"]["namespace"] = json!(OWN_NAMESPACE);
    serves["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["webhook"]);
    create(plane, &serves).await;
    create(plane, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})).await;
    let mut one = template("one");
    one["spec"]["serviceMonitorSelector"] = json!({});
    plane.api.create(&agents("shop"), &one).await;
    // Whose Secret every agent of the template mounts.
    let key = json!({"name": "scrape", "key": "token"});
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {}, "endpoints": [{"port": "http", "authorization": {"credentials": key}}]},
    });
    create(plane, &monitor).await;
    for (kind, name, replicas) in [
        ("Deployment", "web", 2),
        ("Deployment", "still", 1),
        ("StatefulSet", "db", 2),
        ("DaemonSet", "log", 1),
        ("ReplicaSet", "alone", 1),
    ] {
        create(plane, &workload(kind, name, replicas)).await;
    }
    plane.api.create(&pods("shop"), &asking_pod("bare")).await;
    let mut nightly = workload("Job", "nightly", 1);
    nightly["apiVersion"] = json!("batch/v1");
    nightly["spec"] = json!({"template": nightly["spec"]["template"]});
    nightly["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    create(plane, &nightly).await;
    let wanted = BTreeMap::from([("early", 1), ("web", 2), ("still", 1), ("db", 2), ("log", 1)]);
    let kubelet = Kubelet::start(plane, wanted);
    until("everything is complete", || async {
        let all = plane.api.list(&pods("shop")).await;
        let plan = rollout(plane, &["plan"]);
        let early = "shop\tDeployment/early\t1\t0\t1\trestart\n";
        all.len() == 10 && all.iter().all(is_ready) && plan.stdout.contains(early)
    })
    .await;
    edit(plane, &format!("{APPS}/deployments/still"), &json!({"spec": {"paused": true}})).await;
    until("the others are complete", || async {
        let status = |path: &'static str| async move {
            plane.api.get(&format!("{APPS}/{path}")).await["status"].clone()
        };
        status("deployments/web").await["availableReplicas"] == 2
            && status("statefulsets/db").await["availableReplicas"] == 2
            && status("daemonsets/log").await["numberAvailable"] == 1
    })
    .await;
    kubelet.counts.store(true, Ordering::SeqCst);
    (webhook, kubelet)
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_of_outdated_pods_are_restarted_one_at_a_time_and_nobody_after_one_that_fails() {
    let plane = ControlPlane::shared().await;
    let (webhook, kubelet) = workloads(plane).await;

    another_version(plane, "3.12.0").await;
    is_golden("rollout-plan.txt", &rollout(plane, &["plan"]), 0);
    let planned: Value = serde_json::from_str(&rollout(plane, &["plan", "-o", "json"]).stdout).unwrap();
    assert_eq!(planned["counts"], json!({"restart": 4, "wait": 0, "next-run": 1, "by-hand": 3}));
    let versions = || async {
        let all = plane.api.list(&pods("shop")).await;
        let mut uids: Vec<String> = all.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    let before = versions().await;
    let tried = rollout(plane, &["run", "--dry-run", "--pause=0s"]);
    assert!(
        tried
            .stdout
            .ends_with("shop StatefulSet/db: would be restarted\n4 would be restarted, 0 left alone\n")
    );
    assert_eq!((tried.code, &*tried.stderr, before), (0, "", versions().await));
    let all_done = ask(plane, "admin", &RUN);
    let at_once = || assert_eq!(kubelet.most.load(Ordering::SeqCst), 1, "owners that were under way at once");
    at_once();
    is_golden("rollout-run.txt", &all_done, 0);
    let after = rollout(plane, &["plan"]);
    let rest = "0 to restart, 0 to restart once they are complete, 1 with the next run, 3 by hand\n";
    assert!(after.code == 0 && after.stdout.ends_with(rest), "{after:?}");

    interrupted(plane, &kubelet).await;
    stuck(plane, &kubelet).await;
    somebody_else(plane).await;
    at_once();
    without_a_webhook(plane, &kubelet, webhook).await;
}

/// A run that is interrupted ends with the owner that it is at; the next one goes on with the others.
async fn interrupted(plane: &ControlPlane, kubelet: &Kubelet) {
    another_version(plane, "3.11.0").await;
    kubelet.hold(true);
    let mut run = Watched::start(plane, &RUN);
    run.until("shop DaemonSet/log: restarted; waiting for its rolling update\n").await;
    run.interrupt();
    run.until("interrupted: this one is waited for; a second signal ends the run at once\n").await;
    kubelet.hold(false);
    run.until(
        "shop DaemonSet/log: complete: its pods are up to date\ninterrupted: run the same command again",
    )
    .await;
    assert_eq!(run.ended().await, Some(1));

    // A second signal ends it at once; its owner is waited for by the next run.
    kubelet.hold(true);
    let mut run = Watched::start(plane, &RUN);
    run.until("shop Deployment/early: restarted; waiting for its rolling update\n").await;
    run.interrupt();
    run.until("a second signal").await;
    run.interrupt();
    run.until("interrupted: a rolling update that has begun goes on by itself.").await;
    assert_eq!(run.ended().await, Some(1));
    let mut run = Watched::start(plane, &RUN);
    run.until("shop Deployment/early: waiting for its present rolling update: ").await;
    kubelet.hold(false);
    run.until("shop Deployment/early: complete, and up to date by that\nshop Deployment/web: restarted")
        .await;
    run.until("shop StatefulSet/db: complete: its pods are up to date\n2 restarted, 0 left alone\n").await;
    assert_eq!(run.ended().await, Some(0));
}

/// An owner whose pods do not become ready ends the run.
async fn stuck(plane: &ControlPlane, kubelet: &Kubelet) {
    another_version(plane, "3.10.0").await;
    kubelet.hold(true);
    let run = ask(plane, "admin", &[&RUN[..], &["--timeout=2s", "--except=daemonset/log"]].concat());
    let end = "shop Deployment/early: restarted; waiting for its rolling update\n\
        shop Deployment/early: its rolling update is not complete: pods of its old template that are left: 1, after 2s\n\
        stopped: nobody else is restarted. Mend it and run the same command again; or take its restart back: kubectl -n shop rollout \
        undo deployment/early; or go on without it: --except Deployment/early\n\
        1 restarted, 0 left alone\n";
    assert!(run.code == 1 && run.stdout.ends_with(end), "{run:?}");
    let planned = rollout(plane, &["plan"]).stdout;
    let waits = "restart, once its rolling update is complete: pods of its old template that are left: 1\n";
    assert!(planned.contains(waits), "{planned}");
    kubelet.hold(false);
    let run = ask(plane, "admin", &RUN);
    assert!(run.code == 0 && run.stdout.ends_with("0 left alone\n"), "{run:?}");
}

/// Whoever may look and not change is told so, owner by owner.
async fn somebody_else(plane: &ControlPlane) {
    another_version(plane, "3.9.0").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "shop"}});
    create(plane, &account).await;
    let resources = "--resource=pods,namespaces,configmaps,nodes,deployments.apps,statefulsets.apps,daemonsets.apps,\
        replicasets.apps,jobs.batch,prometheusagents.monitoring.coreos.com,podmonitors.monitoring.coreos.com,\
        servicemonitors.monitoring.coreos.com";
    for arguments in [
        &["create", "clusterrole", "reader", "--verb=get,list", resources][..],
        &["create", "clusterrolebinding", "reader", "--clusterrole=reader", "--serviceaccount=shop:reader"],
    ] {
        let created = plane.kubectl(arguments, "").await;
        assert_eq!(created.code, 0, "{created:?}");
    }
    let reader = plane.service_account("shop", "reader").await;
    let run = ask_by(&reader, &RUN);
    let left = "shop Deployment/web: left alone: the API server does not take its restart: deployments.apps \"web\" is forbidden: ";
    assert!(run.code == 1 && run.stdout.contains(left), "{run:?}");
    assert!(run.stdout.ends_with("0 restarted, 4 left alone\n"), "{run:?}");
}

/// A webhook that does not answer any more ends the run, and the next one restarts nobody.
async fn without_a_webhook(plane: &ControlPlane, kubelet: &Kubelet, webhook: Program) {
    kubelet.hold(true);
    let others = ["--except=DaemonSet/log", "--except=Deployment/early"];
    let mut run = Watched::start(plane, &[&RUN[..], &others].concat());
    run.until("shop Deployment/web: restarted; waiting for its rolling update\n").await;
    until("its first new pod is there", || async {
        let path = format!("{}?labelSelector=app%3Dweb", pods("shop"));
        plane.api.list(&path).await.len() == 3
    })
    .await;
    drop(webhook);
    kubelet.hold(false);
    run.until("shop Deployment/web: of its 2 new pods 0 have an outdated agent and 1 have none: ").await;
    run.until("stopped: nobody else is restarted.").await;
    assert_eq!(run.ended().await, Some(1));
    let run = ask(plane, "admin", &RUN);
    // To undo what it did not do would take back what others did.
    let end = "shop DaemonSet/log: a pod of it would get no agent: no webhook answers; see promsidecar check\n\
        stopped: nobody else is restarted. Mend it and run the same command again; or go on without it: --except DaemonSet/log\n\
        0 restarted, 0 left alone\n";
    assert!(run.code == 1 && run.stdout.ends_with(end), "{run:?}");
}
