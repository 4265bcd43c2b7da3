//! `promsidecar rollout` on a real API server with the real controllers of workloads. There is no kubelet: a task of the test says
//! that pods are ready, and looks whether ever two owners are under way at once.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/rollout.rs"]
mod owners;
mod support;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use asked::{Watched, ask, ask_by, is_golden};
use control_plane::ControlPlane;
use control_plane::controller::{OWN_NAMESPACE, edit, template};
use control_plane::definitions::agents;
use control_plane::https::until;
use control_plane::injector::{Program, asking_pod, pods};
use owners::{Kubelet, another_version, create, is_ready, workload};
use serde_json::{Value, json};

const APPS: &str = "/apis/apps/v1/namespaces/shop";

fn rollout(plane: &ControlPlane, arguments: &[&str]) -> control_plane::Printed {
    ask(plane, "admin", &[&["rollout"], arguments, &["-n", "shop"]].concat())
}

const RUN: [&str; 5] = ["rollout", "run", "-n", "shop", "--pause=100ms"];

/// A volume that its pods mount and its template does not have.
fn claim_data(set: &mut Value) {
    let asked = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": asked}]);
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
}

/// Everything that asks: made before there was a webhook, and after.
async fn workloads(plane: &'static ControlPlane) -> (Program, Kubelet) {
    plane.api.create_namespace(&json!({"metadata": {"name": "shop"}})).await;
    create(plane, &workload("Deployment", "shop", "early", 1)).await;
    until("early has its pod", || async { plane.api.list(&pods("shop")).await.len() == 1 }).await;
    let webhook = Program::installed(plane, &["shop"], OWN_NAMESPACE).await;
    let mut serves = workload("Deployment", "shop", "promsidecar-webhook", 0);
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
        let mut object = workload(kind, "shop", name, replicas);
        if name == "db" {
            claim_data(&mut object);
        }
        create(plane, &object).await;
    }
    plane.api.create(&pods("shop"), &asking_pod("bare")).await;
    let mut nightly = workload("Job", "shop", "nightly", 1);
    nightly["apiVersion"] = json!("batch/v1");
    nightly["spec"] = json!({"template": nightly["spec"]["template"]});
    nightly["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    create(plane, &nightly).await;
    let wanted = [("early", 1), ("web", 2), ("still", 1), ("db", 2), ("log", 1)];
    let wanted = wanted.into_iter().map(|(name, pods)| (("shop", name), pods)).collect();
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

    another_version(plane, "shop", "3.12.0").await;
    is_golden("rollout-plan.txt", &rollout(plane, &["plan"]), 0);
    let planned: Value = serde_json::from_str(&rollout(plane, &["plan", "-o", "json"]).stdout).unwrap();
    assert_eq!(
        planned["counts"],
        json!({"restart": 4, "wait": 0, "next-run": 1, "by-hand": 3, "cannot-tell": 0})
    );
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
    full(plane).await;
    somebody_else(plane).await;
    half_blind(plane).await;
    at_once();
    without_a_webhook(plane, &kubelet, webhook).await;
}

/// A run that is interrupted ends with the owner that it is at; the next one goes on with the others.
async fn interrupted(plane: &ControlPlane, kubelet: &Kubelet) {
    another_version(plane, "shop", "3.11.0").await;
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
    kubelet.counts.store(false, Ordering::SeqCst);
    another_version(plane, "shop", "3.10.0").await;
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
    begun_by_others(plane).await;
    kubelet.hold(false);
    until("both are complete", || async { !rollout(plane, &["plan"]).stdout.contains("once its rolling") })
        .await;
    let run = ask(plane, "admin", &RUN);
    assert!(run.code == 0 && run.stdout.ends_with("0 left alone\n"), "{run:?}");
    kubelet.counts.store(true, Ordering::SeqCst);
}

/// A rolling update that the run did not begin, and that does not come up, ends nothing: there is no restart to take back.
async fn begun_by_others(plane: &ControlPlane) {
    let stuck = [&RUN[..], &["--timeout=2s", "--except=daemonset/log"]].concat();
    let alone = [&stuck[..], &["--except=deployment/web", "--except=statefulset/db"]].concat();
    let left = "shop Deployment/early: left alone: its rolling update is not complete: pods of its old template that are left: 1";
    let run = ask(plane, "admin", &alone);
    let end = format!("{left}, after 2s\n0 restarted, 1 left alone\n");
    assert!(run.code == 1 && run.stdout.ends_with(&end), "{run:?}");

    // Its controller gives up.
    let early = format!("{APPS}/deployments/early");
    edit(plane, &early, &json!({"spec": {"progressDeadlineSeconds": 1}})).await;
    until("its deadline is over", || async {
        plane.api.get(&early).await["status"]["conditions"].to_string().contains("ProgressDeadlineExceeded")
    })
    .await;
    let run = ask(plane, "admin", &stuck);
    let left = format!("{left}; ReplicaSet \"early-");
    let end = "shop Deployment/web: its rolling update is not complete: 1 of 2 pods are of its present template, after 2s\n\
        stopped: nobody else is restarted. Mend it and run the same command again; or take its restart back: kubectl -n shop rollout \
        undo deployment/web; or go on without it: --except Deployment/web\n\
        1 restarted, 1 left alone\n";
    assert!(run.code == 1 && run.stdout.contains(&left) && run.stdout.ends_with(end), "{run:?}");
}

/// A quota without room for one more pod keeps nobody from a restart who deletes a pod first.
async fn full(plane: &ControlPlane) {
    another_version(plane, "shop", "3.8.0").await;
    let count = plane.api.list(&pods("shop")).await.len().to_string();
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": "shop"},
        "spec": {"hard": {"pods": count}},
    });
    create(plane, &quota).await;
    let quota = "/api/v1/namespaces/shop/resourcequotas/full";
    until("the quota is full", || async { plane.api.get(quota).await["status"]["used"]["pods"] == *count })
        .await;
    let run = ask(plane, "admin", &RUN);
    let full =
        format!("exceeded quota: full, requested: pods=1, used: pods={count}, limited: pods={count}\n");
    for owner in ["DaemonSet/log", "StatefulSet/db"] {
        let tried = format!("shop {owner}: no pod of it can be tried: ");
        let restarted = format!("{full}shop {owner}: restarted; waiting for its rolling update\n");
        assert!(run.stdout.contains(&tried) && run.stdout.contains(&restarted), "{run:?}");
    }
    for owner in ["early", "web"] {
        let left = format!("shop Deployment/{owner}: left alone: a pod of it would be refused now: ");
        assert!(run.stdout.contains(&left), "{run:?}");
    }
    assert!(run.code == 1 && run.stdout.ends_with("2 restarted, 2 left alone\n"), "{run:?}");
    assert_eq!(plane.api.send("DELETE", quota, &Value::Null).await.status, 200);
}

/// The kubeconfig of a user who may do this with these; all beside the cluster's own kinds with their groups.
async fn user(plane: &ControlPlane, name: &str, verbs: &str, resources: &[&str]) -> PathBuf {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "shop"}});
    create(plane, &account).await;
    let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={}", resources.join(",")));
    let (role, subject) = (format!("--clusterrole={name}"), format!("--serviceaccount=shop:{name}"));
    for arguments in [
        ["create", "clusterrole", name, &verbs, &resources],
        ["create", "clusterrolebinding", name, &role, &subject],
    ] {
        let created = plane.kubectl(&arguments, "").await;
        assert_eq!(created.code, 0, "{created:?}");
    }
    plane.service_account("shop", name).await
}

/// All that decides about pods but `ServiceMonitors`.
const DECIDING: [&str; 11] = [
    "pods",
    "namespaces",
    "configmaps",
    "nodes",
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "jobs.batch",
    "prometheusagents.monitoring.coreos.com",
    "podmonitors.monitoring.coreos.com",
];
const SERVICE_MONITORS: &str = "servicemonitors.monitoring.coreos.com";

/// Whoever may look and not change is told so, owner by owner.
async fn somebody_else(plane: &ControlPlane) {
    another_version(plane, "shop", "3.9.0").await;
    let reader = user(plane, "reader", "get,list", &[&DECIDING[..], &[SERVICE_MONITORS]].concat()).await;
    let run = ask_by(&reader, &RUN);
    let left = "shop Deployment/web: left alone: the API server does not take its restart: deployments.apps \"web\" is forbidden: ";
    assert!(run.code == 1 && run.stdout.contains(left), "{run:?}");
    assert!(run.stdout.ends_with("0 restarted, 4 left alone\n"), "{run:?}");
}

/// Whoever may change everything, and not see what a template selects, restarts nobody: their agents may be as they should be.
async fn half_blind(plane: &ControlPlane) {
    let blind = user(plane, "blind", "get,list,patch,create", &DECIDING).await;
    is_golden("rollout-plan-forbidden.txt", &ask_by(&blind, &["rollout", "plan", "-n", "shop"]), 0);
    let before = plane.api.list(&pods("shop")).await;
    let run = ask_by(&blind, &RUN);
    let why = "cannot tell, because you may not list servicemonitors.monitoring.coreos.com in all namespaces";
    let left = format!("shop StatefulSet/db: left alone: {why}\n0 restarted, 8 left alone\n");
    assert!(run.code == 1 && run.stdout.ends_with(&left), "{run:?}");
    assert_eq!(before, plane.api.list(&pods("shop")).await);
    let explained = ask_by(&blind, &["explain", "sts/db", "-n", "shop"]);
    let line = "cannot tell whether it is up to date, because you may not list servicemonitors.monitoring.coreos.com in all namespaces\n";
    assert_eq!(explained.stdout.matches(line).count(), 2, "{explained:?}");
    let note =
        "  note: cannot tell for sure what would be done now, because you may not list servicemonitors";
    assert!(explained.stdout.contains(note), "{explained:?}");

    // Those of the template's own namespace are all that it selects.
    let verbs = ["--verb=list", "--resource=servicemonitors.monitoring.coreos.com", "--namespace=shop"];
    let role = [&["create", "role", "monitors"][..], &verbs].concat();
    let subject = ["--role=monitors", "--serviceaccount=shop:blind", "--namespace=shop"];
    let binding = [&["create", "rolebinding", "monitors"][..], &subject].concat();
    for arguments in [role, binding] {
        assert_eq!(plane.kubectl(&arguments, "").await.code, 0, "{arguments:?}");
    }
    let seen = ask_by(&blind, &["rollout", "plan", "-n", "shop"]).stdout;
    let told = seen.lines().filter(|line| !line.starts_with("note: ")).map(|line| format!("{line}\n"));
    assert_eq!(told.collect::<String>(), rollout(plane, &["plan"]).stdout, "{seen}");
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
    for (flags, word) in [(&[][..], "restarted"), (&["--dry-run"], "would be restarted")] {
        let run = ask(plane, "admin", &[&RUN[..], flags].concat());
        // Nobody was restarted, so there is no way back.
        let end = format!(
            "shop DaemonSet/log: a pod of it would get no agent: no webhook answers; see promsidecar check\n\
             stopped: nobody else is restarted. Mend it and run the same command again; or go on without it: --except DaemonSet/log\n\
             0 {word}, 0 left alone\n"
        );
        assert!(run.code == 1 && run.stdout.ends_with(&end), "{run:?}");
    }
}
