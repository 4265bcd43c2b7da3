//! The app comes first, on a real node: by the watch events of its pod, the application gets ready once and stays ready
//! whatever happens to its agent. The same without supervision, beside it, does not: that is the control. And where the
//! agent does hold the application back.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use control_plane::https::{PATIENCE, until};
use node::receiver::Receiver;
use node::watch::{Event, Watch};
use node::workloads::{namespace, pod, template, workload};
use node::{Node, list, processes, told};
use promsidecar::names::{CONTAINER, REQUIRED};
use serde_json::{Value, json};

/// Annotation of a template whose agents run without the loop.
const ALONE: &str = "sidecar.prometheus.io/supervise: never";
/// A Secret that is not there at first.
const LATE: &str = "authorization: {credentials: {name: late, key: token}}";
/// An image that no registry gives: nobody listens there.
const ABSENT_IMAGE: &str = "image: '127.0.0.1:1/prometheus:v3.13.5'";
const CONTAINER_MODE: &str = "sidecar.prometheus.io/mode: container";

fn objects() -> String {
    let receiver = Receiver::remote();
    let late = format!("{receiver}, {LATE}");
    let absent = "sidecar.prometheus.io/supervise: always".to_owned();
    let bad_flag = "additionalArgs: [{name: no-such-flag}]";
    [
        namespace("first", ""),
        template("first/plain", &receiver, "", ""),
        template("first/plain-alone", &receiver, ALONE, ""),
        template("first/flag", &receiver, "", bad_flag),
        template("first/flag-alone", &receiver, ALONE, bad_flag),
        template("first/silent", &Receiver::silent(), "", ""),
        template("first/silent-alone", &Receiver::silent(), ALONE, ""),
        template("first/late", &late, "", ""),
        template("first/late-alone", &late, ALONE, ""),
        template("first/edited", &receiver, "", ""),
        template("first/required", &receiver, "", ""),
        template("first/absent", &receiver, &absent, ABSENT_IMAGE),
        template("first/absent-container", &receiver, &format!("{absent}, {CONTAINER_MODE}"), ABSENT_IMAGE),
    ]
    .concat()
}

/// Runs the application with an agent of this template; the pod's name begins with `app`.
async fn run(node: &Node, app: &str, template: &str, flags: &[&str]) -> Watch {
    let watch = node.watch("first", app);
    node.apply(&workload("Deployment", "first", &pod(app, template, flags))).await;
    watch
}

/// The agent's process, once it runs and is not `before`.
async fn agent(pod: &Value, before: u32) -> u32 {
    let found = std::cell::Cell::new(0);
    until("the agent runs", || async {
        let others = processes(pod, "prometheus").into_iter().find(|id| *id != before);
        found.set(others.unwrap_or_default());
        others.is_some()
    })
    .await;
    found.into_inner()
}

fn kill(process: u32) {
    let kill = format!("kill -KILL {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

#[tokio::test]
async fn an_agent_that_is_killed_again_and_again() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/plain", "first/plain-alone"]).await;
    let supervised = run(node, "killed", "plain", &[]).await;
    let control = run(node, "killed-alone", "plain-alone", &[]).await;

    let running = supervised.ready().await.pod;
    let mut process = 0;
    for _ in 0..3 {
        process = agent(&running, process).await;
        kill(process);
    }
    let began = Instant::now();
    agent(&running, process).await;
    told("an agent is killed for the third time, until it runs again", began);

    let running = control.ready().await.pod;
    kill(agent(&running, 0).await);
    control.until("the kubelet starts it again", |event| event.restarts() > 0).await;
    control.until("it is ready again", |event| event.restarts() > 0 && event.is_ready()).await;
    assert_eq!(control.readiness(), [false, true, false, true], "{}", control.story());
    supervised.assert_undisturbed();
}

#[tokio::test]
async fn an_agent_that_does_not_know_a_flag() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/flag", "first/flag-alone"]).await;
    let supervised = run(node, "flag", "flag", &[]).await;
    let control = run(node, "flag-alone", "flag-alone", &[]).await;

    let running = supervised.ready().await.pod;
    node.logged(&running, CONTAINER, "unknown long flag '--no-such-flag'").await;
    node.logged(&running, CONTAINER, "next start in 4s").await;
    // Whether the application starts at all depends on whether the kubelet sees the agent run before it ends.
    let ended = control.until("the agent was started again, and ended again", |event| {
        let agent = event.container(CONTAINER);
        event.restarts() > 1 && agent.is_some_and(|agent| agent["state"].get("running").is_none())
    });
    assert!(!ended.await.is_ready(), "{}", control.story());
    supervised.assert_undisturbed();
}

#[tokio::test]
async fn a_receiver_that_never_answers() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/silent", "first/silent-alone"]).await;
    let supervised = run(node, "silent", "silent", &[]).await;
    let alone = run(node, "silent-alone", "silent-alone", &[]).await;
    for watch in [supervised, alone] {
        let running = watch.ready().await.pod;
        // Its requests time out after 30 s.
        node.logged(&running, CONTAINER, "context deadline exceeded").await;
        // Here supervision has nothing to do.
        watch.assert_undisturbed();
    }
}

/// Waits until the kubelet says that a volume's source is not there.
async fn cannot_mount(node: &Node, watch: &Watch) {
    let waiting = watch.until("there is a pod", |_| true).await.pod;
    let name = waiting["metadata"]["name"].as_str().unwrap();
    until("the kubelet cannot mount what is not there", || async {
        let events = format!("/api/v1/namespaces/first/events?fieldSelector=involvedObject.name={name}");
        let events = node.plane.api.list(&events).await;
        events.iter().any(|event| event["reason"] == "FailedMount")
    })
    .await;
}

#[tokio::test]
async fn a_secret_and_a_configmap_that_come_late() {
    let node = Node::shared(&objects()).await;
    let supervised = run(node, "late", "late", &[]).await;
    let control = run(node, "late-alone", "late-alone", &[]).await;

    let running = supervised.ready().await.pod;
    node.logged(&running, CONTAINER, "waiting for /etc/promsidecar/prometheus.yml").await;
    cannot_mount(node, &control).await;
    assert_eq!(control.readiness(), [false], "{}", control.story());

    let configurations =
        ["late", "late-alone"].map(|name| node.configuration(&format!("first/{name}"), "first"));
    let began = Instant::now();
    node.apply(&list(&configurations)).await;
    let starts = async {
        node.logged(&running, CONTAINER, "msg=\"Starting WAL watcher\"").await;
        told("a ConfigMap appears, until the agent that waited for it runs", began);
    };
    let control_starts = async {
        control.ready().await;
        told("the same without supervision, until the application that waited for it runs", began);
    };
    tokio::join!(starts, control_starts);

    // Its requests fail for lack of credentials, and are repeated.
    node.logged(&running, CONTAINER, "secrets/late/token: no such file or directory").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": "first"},
        "stringData": {"token": "secret"}});
    let began = Instant::now();
    node.apply(&secret).await;
    let name = running["metadata"]["name"].as_str().unwrap();
    node.receiver.arrived(&format!("up{{pod=\"{name}\"}} == 1")).await;
    told("a Secret appears, until a series of the agent that had none is at the receiver", began);
    supervised.assert_undisturbed();
}

#[tokio::test]
async fn an_application_with_200_000_series() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/plain", "first/plain-alone"]).await;
    let flags = ["-series=200000"];
    let supervised = run(node, "many", "plain", &flags).await;
    let alone = run(node, "many-alone", "plain-alone", &flags).await;
    for watch in [supervised, alone] {
        let name = watch.ready().await.pod["metadata"]["name"].as_str().unwrap().to_owned();
        // Scrapes fail, are told to the receiver as failed, and go on.
        let failed = format!("count_over_time(up{{pod=\"{name}\"}}[10m]) > 20 and up{{pod=\"{name}\"}} == 0");
        node.receiver.arrived(&failed).await;
        let own = node.receiver.query(&format!("app_constant{{pod=\"{name}\"}}")).await;
        assert_eq!(own, [], "none got through");
        // Here the limits of the configuration do it, not the loop.
        watch.assert_undisturbed();
    }
}

#[tokio::test]
async fn an_application_with_30_000_new_series_at_every_scrape() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/plain", "first/plain-alone"]).await;
    let flags = ["-new-series=30000"];
    let supervised = run(node, "new", "plain", &flags).await;
    let control = run(node, "new-alone", "plain-alone", &flags).await;

    let running = supervised.ready().await.pod;
    let began = Instant::now();
    let gives_up = async {
        let end = Instant::now() + 4 * PATIENCE;
        // Not 137, which would be the kernel.
        for exit in
            ["agent exited with code 2, next start in 1s", "agent exited with code 2, next start in 2s"]
        {
            while !node.log(&running, CONTAINER).contains(exit) {
                assert!(Instant::now() < end, "the agent never gave up:\n{}", supervised.story());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            told("30,000 new series at every scrape, until the agent gives up by itself", began);
        }
    };
    let is_killed = async {
        let killed = control.until("it is out of memory", |event| {
            event.container(CONTAINER).is_some_and(|agent| {
                ["state", "lastState"].iter().any(|state| agent[state]["terminated"]["reason"] == "OOMKilled")
            })
        });
        killed.await;
        told("the same without supervision, until the kernel kills the container", began);
    };
    tokio::join!(gives_up, is_killed);
    agent(&running, 0).await;
    let readiness = control.readiness();
    assert!(readiness.len() > 2, "{}", control.story());
    supervised.assert_undisturbed();
}

#[tokio::test]
async fn a_configuration_that_prometheus_refuses() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/edited"]).await;
    let supervised = run(node, "edited", "edited", &[]).await;
    let running = supervised.ready().await.pod;
    let name = running["metadata"]["name"].as_str().unwrap();
    node.receiver.arrived(&format!("up{{pod=\"{name}\"}} == 1")).await;

    let mut configuration = node.configuration("first/edited", "first");
    configuration["data"]["prometheus.yml"] = json!("no_such_section: {}");
    node.apply(&configuration).await;
    node.logged(&running, CONTAINER, "field no_such_section not found").await;
    // The agent goes on with the one before.
    let count = async || {
        let counted = node.receiver.query(&format!("count_over_time(up{{pod=\"{name}\"}}[10m])")).await;
        counted[0].1.parse::<u32>().unwrap()
    };
    let before = count().await;
    until("further samples arrive", || async { count().await > before + 5 }).await;
    supervised.assert_undisturbed();
}

#[tokio::test]
async fn a_pod_that_requires_its_agent_waits_for_the_configuration() {
    let node = Node::shared(&objects()).await;
    let mut template = pod("required", "required", &[]);
    template["metadata"]["annotations"][REQUIRED] = json!("true");
    let watch = node.watch("first", "required");
    node.apply(&workload("Deployment", "first", &template)).await;
    cannot_mount(node, &watch).await;
    assert_eq!(watch.readiness(), [false], "{}", watch.story());
    node.configure(&["first/required"]).await;
    watch.ready().await;
    watch.assert_undisturbed();
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_holds_the_application_back_unless_it_is_an_ordinary_container() {
    let node = Node::shared(&objects()).await;
    node.configure(&["first/absent", "first/absent-container"]).await;
    let native = run(node, "absent", "absent", &[]).await;
    let ordinary = run(node, "absent-container", "absent-container", &[]).await;
    let waits = |event: &Event| {
        event.container(CONTAINER).is_some_and(|it| it["state"]["waiting"]["reason"] == "ImagePullBackOff")
    };
    let held = native.until("the image cannot be pulled", waits).await;
    assert_eq!(held.container("app").unwrap()["state"]["waiting"]["reason"], "PodInitializing");
    let started = ordinary.until("the image cannot be pulled", |event| {
        waits(event) && event.container("app").is_some_and(|app| app["ready"] == true)
    });
    assert!(!started.await.is_ready(), "the pod is not");
}
