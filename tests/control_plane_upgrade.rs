//! Two releases beside each other on a real API server, as they are during an upgrade: whoever is asked, each pod is injected
//! once; whoever leads, each object is written once.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
#[path = "support/release.rs"]
mod release;
mod support;
#[path = "support/upgrade.rs"]
mod upgrade;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use control_plane::controller::{config_map, edit, id, path, template};
use control_plane::definitions::agents;
use control_plane::faults::Faults;
use control_plane::hook::{Call, Hook};
use control_plane::https::{get, until};
use control_plane::injector::{asking_pod, pods, register, register_foreign};
use program::{Program, program_by};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::names;
use release::{BOTH, Release, next};
use serde_json::{Value, json};
use upgrade::{Cluster, REGISTRATION, forget, start_controller, writes};

/// A webhook behind which both releases are: the pod's name says who answers its first call, and the other one answers the next.
fn both(lines: HashMap<Release, control_plane::injector::Line>) -> Hook {
    let calls: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    Hook::start(move |path: String, body: Bytes| {
        let (lines, calls) = (lines.clone(), Arc::clone(&calls));
        async move {
            let review: Value = serde_json::from_slice(&body).unwrap();
            let name = review["request"]["name"].as_str().unwrap().to_owned();
            let count = {
                let mut calls = calls.lock().unwrap();
                let count = calls.entry(name.clone()).or_default();
                *count += 1;
                *count
            };
            let order = if name.starts_with("next") { [Release::Next, Release::This] } else { BOTH };
            lines[&order[(count - 1) % 2]].pass_on(&path, &body).await
        }
    })
}

/// Another webhook after ours, whose change has the API server ask again.
fn other() -> Hook {
    Hook::patching(|pod| {
        let annotations = &pod["metadata"]["annotations"];
        let change = json!({"op": "add", "path": "/metadata/annotations/other", "value": "was here"});
        if annotations["other"].is_null() { vec![change] } else { Vec::new() }
    })
}

/// What is said of a pod that has its agent: nothing.
fn silent(call: &Call) -> Value {
    json!({"uid": call.request("uid"), "allowed": true})
}

fn status(pod: &Value) -> Value {
    let text = pod["metadata"]["annotations"][names::STATUS].as_str().expect("the pod has a status");
    serde_json::from_str(text).unwrap()
}

/// How many agents a pod has.
fn agents_of(pod: &Value) -> usize {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array().cloned());
    let containers = lists.into_iter().flatten().flatten();
    containers.filter(|container| container["name"] == names::CONTAINER).count()
}

/// A pod as it is stored, to be created again under another name.
fn again(pod: &Value, name: &str) -> Value {
    let metadata = &pod["metadata"];
    let mut annotations = metadata["annotations"].clone();
    annotations.as_object_mut().unwrap().remove("other");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations, "labels": metadata["labels"]},
        "spec": pod["spec"],
    })
}

/// The ConfigMaps of a pod's projected volumes, with keys.
fn mounted(pod: &Value) -> Vec<(String, String)> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    let ours = volumes.filter(|volume| volume["name"] == names::VOLUME_CONFIG);
    let sources = ours.flat_map(|volume| volume["projected"]["sources"].as_array().unwrap());
    let maps = sources.map(|source| &source["configMap"]).filter(|map| !map.is_null());
    let keys = maps.flat_map(|map| {
        let name = map["name"].as_str().unwrap();
        map["items"].as_array().unwrap().iter().map(move |item| (name, item["key"].as_str().unwrap()))
    });
    keys.map(|(name, key)| (name.to_owned(), key.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_two_releases_inject_each_pod_once_and_whoever_leads_delivers_to_it() {
    let cluster = Cluster::start().await;
    let plane = &cluster.plane;
    let mut webhooks = HashMap::new();
    for release in BOTH {
        webhooks.insert(release, cluster.webhook(release, &format!("webhook-{release:?}")).await);
    }
    let lines = webhooks.iter().map(|(release, webhook)| (*release, webhook.line())).collect();
    let (hook, other) = (both(lines), other());
    register(plane, &["shop".to_owned()], &hook).await;
    register_foreign(plane, "z-other", "shop", &other).await;

    let mut stored = Vec::new();
    for first in BOTH {
        let name = format!("{first:?}-first").to_lowercase();
        let pod = plane.api.create(&pods("shop"), &asking_pod(&name)).await;
        let calls = hook.calls_for(&name);
        assert_eq!(calls.len(), 2, "it was asked again: {calls:?}");
        assert_ne!(calls[0].answer["response"]["patch"], Value::Null, "{calls:?}");
        assert_eq!(calls[1].answer["response"], silent(&calls[1]), "{calls:?}");
        assert_eq!(agents_of(&pod), 1);
        assert_eq!(status(&pod)["version"], first.status());
        let targets = pod["metadata"]["annotations"][names::TARGETS].as_str().unwrap();
        assert_eq!(targets.contains(next::TARGET_LABEL.unwrap().0), first == Release::Next, "{targets}");
        // Created again as it is, with the other release asked first.
        let second = format!("{:?}-again", first.other()).to_lowercase();
        let sent = again(&pod, &second);
        let kept = plane.api.create(&pods("shop"), &sent).await;
        let calls = hook.calls_for(&second);
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(calls.iter().all(|call| call.answer["response"] == silent(call)), "{calls:?}");
        assert_eq!(kept["spec"], pod["spec"]);
        for key in [names::STATUS, names::TARGETS] {
            assert_eq!(kept["metadata"]["annotations"][key], pod["metadata"]["annotations"][key]);
        }
        stored.extend([pod, kept]);
    }

    let one = id("shop", "one");
    for leader in [Release::This, Release::Next, Release::This] {
        let controller = start_controller(leader, &plane.kubeconfig("admin"), &[]);
        controller.leads().await;
        cluster.delivered(leader, &one, &["shop", "guest"]).await;
        // What each of them mounts is there, whoever injected it.
        for (name, key) in stored.iter().flat_map(mounted) {
            assert_eq!((config_map_name(&one), names::CONFIG_KEY), (name, &*key));
        }
        cluster.kill(controller).await;
    }
}

/// Paths that are written to where a leader delivers otherwise than the one before.
fn once_each(status: bool) -> BTreeMap<String, usize> {
    let one = id("shop", "one");
    let places = ["shop", "guest", "far"].map(|place| config_map(place, &one));
    let two = config_map("shop", &id("shop", "two"));
    let status = status.then(|| format!("{}/status", path(&one)));
    places.into_iter().chain([two]).chain(status).map(|path| (format!("PATCH {path}"), 1)).collect()
}

/// A template without pods beside the one that has a pod of each release.
async fn with_pods(cluster: &Cluster) {
    cluster.plane.api.create(&agents("shop"), &template("two")).await;
    cluster.create_injected(Release::This, "shop", "this").await;
    cluster.create_injected(Release::Next, "far", "next").await;
}

/// Waits until everything is as this release leaves it, whoever of these leads.
async fn settled(cluster: &Cluster, release: Release) {
    let (one, two) = (id("shop", "one"), id("shop", "two"));
    cluster.delivered(release, &one, &["shop", "guest", "far"]).await;
    cluster.delivered(release, &two, &["shop"]).await;
    // Each counts as up to date what a pod would have that it injected now.
    let status = cluster.counted(&one, 2, 1).await;
    let message = status["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message.starts_with("newer: a newer promsidecar injected some of its pods"),
        release == Release::This
    );
    cluster.counted(&two, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_the_leaders_release_writes_each_object_once_and_nothing_else_does() {
    let cluster = Cluster::start().await;
    let plane = &cluster.plane;
    let (one, two) = (id("shop", "one"), id("shop", "two"));
    let mut leads = Release::This;
    let mut proxy = Faults::before(plane, "first").await;
    let mut leader = start_controller(leads, &proxy.kubeconfig, &[]);
    leader.leads().await;
    with_pods(&cluster).await;
    settled(&cluster, leads).await;
    for next in [Release::Next, Release::This] {
        let beside = Faults::before(plane, &format!("{next:?}")).await;
        let follower = start_controller(next, &beside.kubeconfig, &[]);
        until("the follower knows everything", || follower.is_ready()).await;
        let newer = "promsidecar_injected_pods{state=\"newer\"}";
        until("the follower knows the pods", || async {
            follower.metric("promsidecar_injected_pods{state=\"all\"}").await == 2
        })
        .await;
        assert_eq!(follower.metric(newer).await, u64::from(next == Release::This));
        // Nothing is written while the leader stays: not by it, and not by the one that would write otherwise.
        forget(&proxy);
        for id in [&one, &two] {
            cluster.looks_again(&leader, id).await;
        }
        assert_eq!((writes(&proxy), writes(&beside)), (BTreeMap::new(), BTreeMap::new()));
        // A write would have been seen.
        edit(plane, &config_map("guest", &one), &json!({"data": {(names::CONFIG_KEY): "stolen"}})).await;
        cluster.delivered(leads, &one, &["guest"]).await;
        let seen = BTreeMap::from([(format!("PATCH {}", config_map("guest", &one)), 1)]);
        assert_eq!((writes(&proxy), writes(&beside)), (seen, BTreeMap::new()));

        cluster.kill(leader).await;
        (leads, leader, proxy) = (next, follower, beside);
        leader.leads().await;
        settled(&cluster, leads).await;
        for id in [&one, &two] {
            cluster.looks_again(&leader, id).await;
        }
        assert_eq!(writes(&proxy), once_each(true), "{leads:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_rolled_one_by_one_write_each_object_once_in_all() {
    let cluster = Cluster::start().await;
    let plane = &cluster.plane;
    // All of them by way of one, which counts for all.
    let proxy = Faults::before(plane, "all").await;
    let replica = |release: Release| {
        let kubeconfig = format!("--kubeconfig={}", proxy.kubeconfig.display());
        let flags = ["controller", "--admin-listen=127.0.0.1:0", REGISTRATION, &kubeconfig];
        Program::start(&mut program_by(&release.program(), &flags))
    };
    let ready = async |replica: &Program| {
        until("the replica is ready", || async { get(replica.admin, "/readyz").await.0 == 200 }).await;
    };
    let mut old = Vec::new();
    for _ in 0..2 {
        old.push(replica(Release::This));
        ready(old.last().unwrap()).await;
    }
    with_pods(&cluster).await;
    settled(&cluster, Release::This).await;
    forget(&proxy);
    // As a Deployment does it: one more, then one less, the leader first.
    let mut new = Vec::new();
    for ends in old {
        let begins = replica(Release::Next);
        ready(&begins).await;
        new.push(begins);
        ends.signal("TERM");
        assert_eq!(ends.ended().0, Some(0));
    }
    settled(&cluster, Release::Next).await;
    for id in [id("shop", "one"), id("shop", "two")] {
        let round = json!({"metadata": {"labels": {"round": "last"}}});
        let done = async || {
            let mut sum = 0;
            for replica in &new {
                let (_, text) = get(replica.admin, "/metrics").await;
                let name = "promsidecar_reconciles_total{result=\"done\"} ";
                sum += text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u64>().unwrap();
            }
            sum
        };
        let before = done().await;
        edit(plane, &path(&id), &round).await;
        until("the leader looks at it", || async { done().await > before }).await;
    }
    assert_eq!(writes(&proxy), once_each(true));
}
