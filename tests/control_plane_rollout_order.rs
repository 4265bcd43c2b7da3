//! `promsidecar rollout run` over two namespaces of a real API server: one namespace after the other, interrupted in the middle and gone
//! on with, and ended by the first owner that does not come up.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/rollout.rs"]
mod owners;
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use asked::{Watched, ask};
use control_plane::ControlPlane;
use control_plane::controller::{OWN_NAMESPACE, template};
use control_plane::definitions::agents;
use control_plane::https::until;
use control_plane::injector::{Program, pods};
use owners::{Kubelet, Wanted, another_version, create, is_ready, workload};
use serde_json::json;

const PLACES: [&str; 2] = ["bank", "shop"];
/// In the order of a run.
const OWNERS: [(&str, &str, &str); 4] = [
    ("bank", "Deployment", "api"),
    ("bank", "StatefulSet", "db"),
    ("shop", "DaemonSet", "log"),
    ("shop", "Deployment", "web"),
];
const RUN: [&str; 4] = ["rollout", "run", "-A", "--pause=100ms"];

/// What a run prints whose turn these owners have, without its plan.
fn restarted(owners: &[(&str, &str, &str)]) -> String {
    let lines = owners.iter().map(|(place, kind, name)| {
        format!(
            "{place} {kind}/{name}: restarted; waiting for its rolling update\n\
             {place} {kind}/{name}: complete: its pods are up to date\n"
        )
    });
    lines.collect()
}

/// The plan of a run that restarts these.
fn planned(plane: &ControlPlane, owners: &[(&str, &str, &str)]) -> String {
    let rows = owners.iter().map(|(place, kind, name)| format!("{place}\t{kind}/{name}\t1\t1\t0\trestart\n"));
    let count = owners.len();
    let end =
        format!("{count} to restart, 0 to restart once they are complete, 0 with the next run, 0 by hand\n");
    let cluster = format!("cluster: context test, https://{}\n", plane.api.address);
    let heading = cluster + "NAMESPACE\tOWNER\tPODS\tOUTDATED\tWITHOUT-AGENT\tWHAT\n";
    std::iter::once(heading).chain(rows).chain([end]).collect()
}

/// UIDs of a namespace's pods.
async fn uids(plane: &ControlPlane, namespace: &str) -> BTreeSet<String> {
    let all = plane.api.list(&pods(namespace)).await;
    all.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect()
}

async fn edit_both(plane: &ControlPlane, version: &str) {
    for place in PLACES {
        another_version(plane, place, version).await;
    }
}

async fn workloads(plane: &'static ControlPlane) -> (Program, Kubelet) {
    let webhook = Program::installed(plane, &PLACES, OWN_NAMESPACE).await;
    let mut serves = workload("Deployment", OWN_NAMESPACE, "promsidecar-webhook", 0);
    serves["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["webhook"]);
    create(plane, &serves).await;
    create(plane, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})).await;
    for place in PLACES {
        plane.api.create(&agents(place), &template("one")).await;
    }
    edit_both(plane, "3.13.5").await;
    let mut wanted = Wanted::new();
    for (place, kind, name) in OWNERS {
        create(plane, &workload(kind, place, name, 1)).await;
        wanted.insert((place, name), 1);
    }
    let kubelet = Kubelet::start(plane, wanted);
    until("everything is complete", || async {
        let mut all = plane.api.list(&pods("bank")).await;
        all.extend(plane.api.list(&pods("shop")).await);
        all.len() == 4 && all.iter().all(is_ready)
    })
    .await;
    kubelet.counts.store(true, Ordering::SeqCst);
    (webhook, kubelet)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_namespace_has_its_turn_after_the_other_and_a_run_that_ended_in_the_middle_goes_on_there() {
    let plane = ControlPlane::shared().await;
    let (_webhook, kubelet) = workloads(plane).await;
    let complete = || async {
        let plan = ask(plane, "admin", &["rollout", "plan", "-A"]).stdout;
        plan == planned(plane, &OWNERS)
    };

    // Interrupted in the middle of the first namespace: the second has not been touched.
    edit_both(plane, "3.12.0").await;
    until("all owners are outdated, and complete", complete).await;
    let shop = uids(plane, "shop").await;
    kubelet.hold_only("bank/db");
    let mut run = Watched::start(plane, &RUN);
    run.until("bank Deployment/api: complete: its pods are up to date\n").await;
    run.until("bank StatefulSet/db: restarted; waiting for its rolling update\n").await;
    run.interrupt();
    run.until("interrupted: this one is waited for; a second signal ends the run at once\n").await;
    kubelet.hold(false);
    run.until("interrupted: run the same command again to go on\n2 restarted, 0 left alone\n").await;
    assert_eq!(run.ended().await, Some(1));
    assert_eq!(uids(plane, "shop").await, shop);
    // The same command goes on with the second.
    let bank = uids(plane, "bank").await;
    let rest = ask(plane, "admin", &RUN);
    let end = "2 restarted, 0 left alone\n";
    let expected = [planned(plane, &OWNERS[2..]), restarted(&OWNERS[2..]), end.to_owned()].concat();
    assert_eq!((rest.code, rest.stdout, &*rest.stderr), (0, expected, ""));
    assert_eq!(uids(plane, "bank").await, bank);

    // The first owner that does not come up ends the run, for the other namespace too.
    edit_both(plane, "3.11.0").await;
    until("all owners are outdated, and complete", complete).await;
    let shop = uids(plane, "shop").await;
    kubelet.hold(true);
    let stuck = ask(plane, "admin", &[&RUN[..], &["--timeout=2s"]].concat());
    let end = "bank Deployment/api: restarted; waiting for its rolling update\n\
        bank Deployment/api: its rolling update is not complete: pods of its old template that are left: 1, after 2s\n\
        stopped: nobody else is restarted. Mend it and run the same command again; or take its restart back: kubectl -n bank rollout \
        undo deployment/api; or go on without it: --except Deployment/api\n\
        1 restarted, 0 left alone\n";
    let expected = [planned(plane, &OWNERS), end.to_owned()].concat();
    assert_eq!((stuck.code, stuck.stdout), (1, expected));
    assert_eq!(uids(plane, "shop").await, shop);
    // Mended, it is waited for, and all the others follow in order.
    kubelet.hold(false);
    let mended = ask(plane, "admin", &RUN);
    let end = [restarted(&OWNERS[1..]), "3 restarted, 0 left alone\n".to_owned()].concat();
    assert!(mended.code == 0 && mended.stdout.ends_with(&end), "{mended:?}");
    assert_eq!(kubelet.most.load(Ordering::SeqCst), 1, "owners that were under way at once");
}
