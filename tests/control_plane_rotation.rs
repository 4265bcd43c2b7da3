//! Certificates and replicas that change under load, on a real API server: pods are created all the time, and what the API
//! server counts says that no call failed.
//!
//! The registration leads to a load balancer as a Service has one; a stand-in for the kubelet brings the Secret to each
//! replica's volume, late.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/installation.rs"]
mod installation;
#[path = "support/rotation/load.rs"]
mod load;
#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
#[path = "support/rotation/replicas.rs"]
mod replicas;
mod support;
#[path = "support/volume.rs"]
mod volume;

use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use control_plane::controller::template;
use control_plane::definitions::{agents, define};
use control_plane::https::{tls, until};
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods};
use installation::{Installation, data};
use load::{Counts, Load, injected, requiring_pod};
use promsidecar::{names, x509};
use replicas::{Balancer, Replica};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

/// Pods a second.
const RATE: u32 = 200;

/// One at a time: the API server counts for all.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// An installation whose registration leads to a balancer, with a template.
async fn installed(name: &str) -> (Installation, Balancer) {
    let installation = Installation::new(name).await;
    define(installation.plane).await;
    let balancer = Balancer::start().await;
    let mut manifest = installation.manifest();
    for entry in manifest["webhooks"].as_array_mut().unwrap() {
        let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
        entry["clientConfig"] = json!({"url": format!("https://{}{path}", balancer.address)});
    }
    installation.plane.api.create(CONFIGURATIONS, &manifest).await;
    installation.plane.api.create(&agents(&installation.app), &template("one")).await;
    (installation, balancer)
}

/// Waits until pods of both policies are injected through every entry in use.
async fn in_force(installation: &Installation) {
    let path = format!("{}?dryRun=All", pods(&installation.app));
    until("the registration is in force", || async {
        for pod in [asking_pod("first"), requiring_pod("first")] {
            if !injected(&installation.plane.api.send("POST", &path, &pod).await) {
                return false;
            }
        }
        true
    })
    .await;
}

/// What the API server must be able to count: with nobody who answers, one pod is rejected, and one starts without an agent.
async fn failures_are_counted(plane: &ControlPlane, installation: &Installation) {
    let before = Counts::of(plane).await;
    let path = format!("{}?dryRun=All", pods(&installation.app));
    let reply = plane.api.send("POST", &path, &asking_pod("open")).await;
    assert_eq!((reply.status, injected(&reply)), (201, false));
    assert_eq!(plane.api.send("POST", &path, &requiring_pod("closed")).await.status, 500);
    let after = Counts::of(plane).await;
    assert_eq!((after.failed_open - before.failed_open, after.rejected - before.rejected), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_200_creations_a_second_fails_no_call_though_its_leader_is_killed_and_a_backup_put_back()
 {
    let _alone = alone().await;
    let (installation, balancer) = installed("rotated").await;
    let plane = installation.plane;
    // Longer than API servers and these volumes are late; as long as the defaults it would take an hour.
    let flags = ["--rotation-wait=5s", "--rotation-overlap=30s"];
    let leader = installation.controller(&flags);
    leader.leads().await;
    let follower = installation.controller(&flags);
    let signed = |secret: &Value| !data(secret, "tls.crt").is_empty();
    let first = installation.secret_that("the certificate is made", signed).await;
    installation.published(&data(&first, "ca.crt")).await;

    let late = [1, 6].map(Duration::from_secs);
    let replicas = late.map(|late| Replica::start(&installation, &first, late));
    for replica in &replicas {
        balancer.add(replica).await;
    }
    in_force(&installation).await;
    let before = Counts::of(plane).await;
    let load = Load::start(plane, &installation.app, RATE).await;
    load.goes_on(2 * RATE).await;

    let asked = json!({"metadata": {"annotations": {(names::ROTATE): "the key leaked"}}});
    assert_eq!(plane.api.send("PATCH", &installation.secret_path(), &asked).await.status, 200);
    let is_next = |secret: &Value| !data(secret, "ca-next.key").is_empty();
    let prepared = installation.secret_that("the next authority is made", is_next).await;
    assert_eq!(prepared["data"]["tls.crt"], first["data"]["tls.crt"]);
    // In the middle of it; the other one goes on from the Secret.
    drop(leader);
    let switched = installation.secret_that("the next authority signs", |secret| !is_next(secret)).await;
    assert_eq!(switched["data"]["ca.key"], prepared["data"]["ca-next.key"]);
    assert_eq!(x509::certificates(&data(&switched, "ca.crt")).unwrap().len(), 2);
    let alone = |secret: &Value| x509::certificates(&data(secret, "ca.crt")).unwrap().len() == 1;
    let settled = installation.secret_that("the authority before is gone", alone).await;
    installation.published(&data(&settled, "ca.crt")).await;
    // Whoever trusts the new authority alone is served by both, and whoever trusts the one before by none.
    let ca = |secret: &Value| String::from_utf8(data(secret, "ca.crt")).unwrap();
    for replica in &replicas {
        assert!(tls(replica.program.webhook, "127.0.0.1", &ca(&settled)).await.is_ok());
        assert!(tls(replica.program.webhook, "127.0.0.1", &ca(&first)).await.is_err());
    }
    assert_eq!(follower.metric("promsidecar_managed_certificate_rotation{phase=\"settled\"}").await, "1");

    // The backup of before it, of an authority that nobody trusts any more.
    installation.edit_secret(&first["data"]).await;
    let began = Instant::now();
    for replica in &replicas {
        until("the replica serves what was put back", || async {
            tls(replica.program.webhook, "127.0.0.1", &ca(&first)).await.is_ok()
        })
        .await;
    }
    eprintln!("backup: served by both after {:.0} s", began.elapsed().as_secs_f64());
    let registration = installation.registration().await;
    assert_eq!(registration["metadata"]["annotations"].get(names::CERTIFICATE), None);
    load.goes_on(2 * RATE).await;

    let done = load.end().await;
    let after = Counts::of(plane).await;
    eprintln!("rotation: {done}, {} calls of the webhook", after.calls - before.calls);
    assert_eq!(done.wrong, Vec::<String>::new());
    assert_eq!((after.rejected, after.failed_open), (before.rejected, before.failed_open));
    assert!(after.calls - before.calls >= done.answered, "each pod is one call at least");

    drop(balancer);
    drop(replicas);
    failures_are_counted(plane, &installation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_two_replicas_behind_kept_connections_fails_no_call() {
    let _alone = alone().await;
    let (installation, balancer) = installed("rolled").await;
    let plane = installation.plane;
    let _controller = installation.controller(&[]);
    let signed = |secret: &Value| !data(secret, "tls.crt").is_empty();
    let secret = installation.secret_that("the certificate is made", signed).await;
    installation.published(&data(&secret, "ca.crt")).await;
    let replica = || Replica::start(&installation, &secret, Duration::ZERO);
    let mut old = vec![replica(), replica()];
    for replica in &old {
        balancer.add(replica).await;
    }
    in_force(&installation).await;
    let before = Counts::of(plane).await;
    let load = Load::start(plane, &installation.app, RATE).await;
    load.goes_on(2 * RATE).await;

    // As a Deployment does it: one more, then one less.
    let mut new = Vec::new();
    while let Some(ends) = old.pop() {
        let begins = replica();
        balancer.add(&begins).await;
        new.push(begins);
        let open = ends.connections();
        ends.program.signal("TERM");
        balancer.remove(&ends).await;
        let ended = ends.program.ended();
        assert_eq!(ended.0, Some(0), "{:?}", ended.1);
        eprintln!("rolling restart: a replica with {open} kept connections has ended");
        load.goes_on(2 * RATE).await;
    }

    let done = load.end().await;
    let after = Counts::of(plane).await;
    eprintln!("rolling restart: {done}, {} calls of the webhook", after.calls - before.calls);
    assert_eq!(done.wrong, Vec::<String>::new());
    assert_eq!((after.rejected, after.failed_open), (before.rejected, before.failed_open));
    assert!(after.calls - before.calls >= done.answered, "each pod is one call at least");

    drop(balancer);
    drop(new);
    failures_are_counted(plane, &installation).await;
}
