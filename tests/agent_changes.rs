//! What may change under a running agent: targets, configuration, credentials, objects that were missing. Volumes are
//! swapped as a kubelet does; no agent is started anew. Every version of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use agent::app::App;
use agent::kubelet::Kubelet;
use agent::pods::{
    GENERATED, NAMESPACE, Target, config_map, monitored, pod, remote_write, scheduled, template,
};
use agent::receiver::{FIRST_PASSWORD, Labels, Receiver, SECOND_PASSWORD};
use agent::sidecar::Sidecar;
use agent::tools::versions;
use agent::until;
use promsidecar::names;
use serde_json::{Value, json};
use support::monitors::objects::{monitor, secret_value};
use tokio::net::TcpListener;

/// An agent of each version on pods of these ports, each with its version in the label `cluster`.
fn start_all(directory: &Path, ports: &[u16], template: impl Fn(&str) -> Value) -> Vec<(String, Sidecar)> {
    let start = |version: String| {
        let kubelet = scheduled(GENERATED, &pod(GENERATED, ports), &template(&version));
        let sidecar = Sidecar::start(kubelet, &directory.join(&version));
        (version, sidecar)
    };
    versions().into_iter().map(start).collect()
}

/// One series of an application, as each agent delivers it.
fn delivered(agents: &[(String, Sidecar)], port: u16, name: &str) -> Vec<Labels> {
    let series =
        |cluster: &str| Target { who: GENERATED, port, cluster: cluster.to_owned() }.series(name, &[]);
    agents.iter().map(|(cluster, _)| series(cluster)).collect()
}

/// Process ids of the agents.
fn processes(agents: &[(String, Sidecar)]) -> Vec<u32> {
    agents
        .iter()
        .map(|(version, sidecar)| sidecar.agent().unwrap_or_else(|| panic!("no agent {version}")))
        .collect()
}

/// How often each agent refused a configuration.
fn complaints(agents: &mut [(String, Sidecar)]) -> Vec<usize> {
    agents.iter_mut().map(|(_, sidecar)| sidecar.lines_with("Error reloading config").len()).collect()
}

/// Puts a configuration into the `ConfigMap` of a pod.
fn configure(kubelet: &mut Kubelet, configuration: &str) {
    let data = kubelet.config_maps.values_mut().next().unwrap();
    data.insert(names::CONFIG_KEY.to_owned(), configuration.to_owned());
}

/// Puts a value into the Secret `remote`.
fn keep_secret(kubelet: &mut Kubelet, key: &str, value: &str) {
    kubelet.secrets.entry("remote".to_owned()).or_default().insert(key.to_owned(), value.to_owned());
}

fn annotate(kubelet: &mut Kubelet, targets: &str) {
    kubelet.pod["metadata"]["annotations"][names::TARGETS] = json!(targets);
}

/// The hinted group of a pod.
fn hinted_group(kubelet: &Kubelet) -> Value {
    let targets = kubelet.pod["metadata"]["annotations"][names::TARGETS].as_str().unwrap();
    let groups: Vec<Value> = serde_json::from_str(targets).unwrap();
    let is_hinted = |group: &Value| group["labels"][names::META_SOURCE] == names::SOURCE_ANNOTATION;
    groups.into_iter().find(is_hinted).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_targets_are_followed_within_the_pod_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let [first, second, third] =
        [App::start("first 1\n").await, App::start("second 1\n").await, App::start("third 1\n").await];
    // Not the pod's loopback address, although this machine has it; and the same application by another spelling.
    let foreign = App::listen("127.0.0.2:0".parse().unwrap(), "foreign 1\n").await;
    let spelled = App::start("spelled 1\n").await;
    let write = remote_write(&receiver.url(), &json!({}));
    let mut agents = start_all(directory, &[first.port], |version| template(version, &write, &json!({})));
    receiver.receives_value(&delivered(&agents, first.port, "first"), "1").await;
    let running = processes(&agents);
    let group = hinted_group(&agents[0].1.kubelet);
    let edit = |agents: &mut [(String, Sidecar)], addresses: &[String]| {
        let groups = addresses.iter().map(|address| {
            let mut group = group.clone();
            group["targets"] = json!([address]);
            group
        });
        let text = groups.collect::<Value>().to_string();
        for (_, sidecar) in agents {
            sidecar.change(|kubelet| annotate(kubelet, &text));
        }
    };

    let local = |app: &App| format!("localhost:{}", app.port);
    // One is added, and two that are elsewhere.
    let elsewhere = [format!("127.0.0.2:{}", foreign.port), format!("LOCALHOST:{}", spelled.port)];
    let edited = Instant::now();
    edit(&mut agents, &[&[local(&first), local(&second)][..], &elsewhere].concat());
    receiver.receives_value(&delivered(&agents, second.port, "second"), "1").await;
    println!("an added port arrives after {:?}", edited.elapsed());

    // One is taken away.
    let edited = Instant::now();
    edit(&mut agents, &[&[local(&second)][..], &elsewhere].concat());
    until("end of scrapes", async || {
        let before = first.scrapes();
        // Each agent scrapes about once in this time.
        second.scraped(2 * versions().len()).await;
        if first.scrapes() == before { Ok(()) } else { Err(first.scrapes()) }
    })
    .await;
    println!("a removed port is left after less than {:?}", edited.elapsed());
    let last = first.scrapes();

    // Broken text changes nothing.
    for (_, sidecar) in &mut agents {
        sidecar.change(|kubelet| annotate(kubelet, r#"[{"targets": ["localhost:1"]"#));
    }
    for (_, sidecar) in &mut agents {
        sidecar.says("Error reading file").await;
    }
    second.expose("second 2\n");
    receiver.receives_value(&delivered(&agents, second.port, "second"), "2").await;

    second.scraped(5 * versions().len()).await;
    // Mended.
    edit(&mut agents, &[local(&third)]);
    receiver.receives_value(&delivered(&agents, third.port, "third"), "1").await;
    assert_eq!(first.scrapes(), last);
    assert_eq!((foreign.scrapes(), spelled.scrapes()), (0, 0), "scrapes of what is not the pod");
    assert_eq!(processes(&agents), running, "no agent was started anew");
}

/// A port of an address that is not the pod's loopback address, although this machine has it, and how often it was connected to.
async fn elsewhere() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_edited_targets_lead_no_scrape_out_of_the_pod() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let [first, second] = [App::start("first 1\n").await, App::start("second 1\n").await];
    let (port, connections) = elsewhere().await;
    let write = remote_write(&receiver.url(), &json!({}));
    let mut agents = start_all(directory, &[first.port], |version| template(version, &write, &json!({})));
    receiver.receives_value(&delivered(&agents, first.port, "first"), "1").await;
    let group = hinted_group(&agents[0].1.kubelet);
    let foreign = format!("127.0.0.2:{port}");
    let labels = [
        ("__scheme__", format!("http://{foreign}/?x=")),
        ("__scheme__", format!("http://{foreign}/#")),
        ("__scheme__", format!("https://{foreign}/?x=")),
        ("__metrics_path__", format!("@{foreign}/metrics")),
        ("__metrics_path__", format!("//{foreign}/metrics")),
        ("__param_x", format!("@{foreign}/")),
        // Nothing at all, so that the edit is seen to be in force.
        ("tmp", String::new()),
    ];
    let groups = labels.iter().map(|(label, value)| {
        let mut group = group.clone();
        group["targets"] = json!([format!("localhost:{}", second.port)]);
        group["labels"][label] = json!(value);
        group
    });
    let text = groups.collect::<Value>().to_string();
    for (_, sidecar) in &mut agents {
        sidecar.change(|kubelet| annotate(kubelet, &text));
    }
    receiver.receives_value(&delivered(&agents, second.port, "second"), "1").await;
    // The plain group and the one with a parameter once each, for longer than an agent takes from one scrape to the next.
    second.scraped(6 * versions().len()).await;
    assert_eq!(connections.load(Ordering::Relaxed), 0, "connections to what is not the pod");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_followed_a_broken_one_is_not_and_every_good_one_after_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let app = App::start("app 1\n").await;
    let write = remote_write(&receiver.url(), &json!({}));
    let in_stage = |version: &str, stage: &str| {
        let interval = if stage == "two" { "2s" } else { "1s" };
        let labels = json!({"cluster": format!("{version}-{stage}")});
        template(version, &write, &json!({"scrapeInterval": interval, "externalLabels": labels}))
    };
    let mut agents = start_all(directory, &[app.port], |version| in_stage(version, "one"));
    let of_stage = |agents: &[(String, Sidecar)], stage: &str| -> Vec<Labels> {
        let series = |version: &String| {
            Target { who: GENERATED, port: app.port, cluster: format!("{version}-{stage}") }
                .series("app", &[])
        };
        agents.iter().map(|(version, _)| series(version)).collect()
    };
    receiver.receives_value(&of_stage(&agents, "one"), "1").await;
    let running = processes(&agents);
    let good = |version: &str, stage: &str| config_map(&in_stage(version, stage)).1;

    // Changed.
    app.expose("app 2\n");
    let changed = Instant::now();
    for (version, sidecar) in &mut agents {
        sidecar.change(|kubelet| configure(kubelet, &good(version, "two")));
    }
    receiver.receives_value(&of_stage(&agents, "two"), "2").await;
    println!("a changed label arrives after {:?}", changed.elapsed());
    for (_, sidecar) in &mut agents {
        until("new interval", async || {
            let interval = sidecar.targets().await[0]["scrapeInterval"].clone();
            if interval == "2s" { Ok(()) } else { Err(interval) }
        })
        .await;
    }
    println!("a changed interval is in force after {:?}", changed.elapsed());

    // Broken: the one before stays in force.
    for (version, sidecar) in &mut agents {
        sidecar.change(|kubelet| configure(kubelet, &format!("{}no_such_key: 1\n", good(version, "broken"))));
    }
    for (_, sidecar) in &mut agents {
        let said = sidecar.says("Error reloading config").await;
        assert!(said.contains("no_such_key"), "{said}");
    }
    app.expose("app 3\n");
    receiver.receives_value(&of_stage(&agents, "two"), "3").await;

    // Mended by the content that was good before: it was in force all the time, and is no longer complained about.
    for (version, sidecar) in &mut agents {
        sidecar.change(|kubelet| configure(kubelet, &good(version, "two")));
    }
    until("end of complaints", async || {
        let before = complaints(&mut agents);
        // Longer than the 5 s between two looks of an agent, at a scrape every 2 s.
        app.scraped(4 * versions().len()).await;
        let after = complaints(&mut agents);
        if after == before { Ok(()) } else { Err(after) }
    })
    .await;
    app.expose("app 4\n");
    receiver.receives_value(&of_stage(&agents, "two"), "4").await;

    // Broken and mended by another content.
    let before = complaints(&mut agents);
    for (version, sidecar) in &mut agents {
        sidecar.change(|kubelet| configure(kubelet, &format!("{}: [\n", good(version, "broken"))));
    }
    until("another complaint of each", async || {
        let now = complaints(&mut agents);
        if now.iter().zip(&before).all(|(now, before)| now > before) { Ok(()) } else { Err(now) }
    })
    .await;
    app.expose("app 5\n");
    for (version, sidecar) in &mut agents {
        sidecar.change(|kubelet| configure(kubelet, &good(version, "three")));
    }
    receiver.receives_value(&of_stage(&agents, "three"), "5").await;
    assert_eq!(processes(&agents), running, "no agent was started anew");
    let stages: BTreeSet<_> =
        receiver.series().await.into_keys().map(|labels| labels["cluster"].clone()).collect();
    let expected = versions()
        .into_iter()
        .flat_map(|version| ["one", "two", "three"].map(|stage| format!("{version}-{stage}")));
    assert_eq!(stages, expected.collect(), "nothing of a broken configuration arrives");
}

/// An agent of each version beside an application of its own, whose series counts its scrapes.
async fn start_each(directory: &Path, write: &Value, secret: &[(&str, &str)]) -> Vec<(Sidecar, Target)> {
    let mut agents = Vec::new();
    for version in versions() {
        let app = App::start("").await;
        app.generate(|scrape| format!("scrapes {scrape}\n"));
        let mut kubelet =
            scheduled(GENERATED, &pod(GENERATED, &[app.port]), &template(&version, write, &json!({})));
        for (key, value) in secret {
            keep_secret(&mut kubelet, key, value);
        }
        let sidecar = Sidecar::start(kubelet, &directory.join(&version));
        agents.push((sidecar, Target { who: GENERATED, port: app.port, cluster: version }));
    }
    agents
}

fn all_series(agents: &[(Sidecar, Target)]) -> BTreeSet<Labels> {
    let series = |target: &Target| target.with_synthetic(&[target.series("scrapes", &[])]);
    agents.iter().flat_map(|(_, target)| series(target)).collect()
}

/// How many scrapes of each agent, from the first to the newest that arrived, did not arrive.
async fn lost(receiver: &Receiver) -> Vec<i64> {
    // max_over_time(scrapes[1h]) - count_over_time(scrapes[1h])
    let query = "max_over_time%28scrapes%5B1h%5D%29%20-%20count_over_time%28scrapes%5B1h%5D%29";
    receiver.query(query).await.values().map(|count| count.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_used_at_once_and_what_was_refused_before_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::with_password(directory, &FIRST_PASSWORD);
    let key = |key: &str| json!({"name": "remote", "key": key});
    let more = json!({"basicAuth": {"username": key("user"), "password": key("password")}});
    let write = remote_write(&receiver.url(), &more);
    let secret = [("user", "agent"), ("password", FIRST_PASSWORD.text)];
    let mut agents = start_each(directory, &write, &secret).await;
    receiver.receives(&all_series(&agents)).await;
    let running: Vec<_> = agents.iter().map(|(sidecar, _)| sidecar.agent()).collect();
    assert_eq!(lost(&receiver).await, [0; 4]);

    receiver.rotate(&SECOND_PASSWORD);
    for (sidecar, _) in &mut agents {
        sidecar.says("401 Unauthorized").await;
    }
    let rotated = Instant::now();
    let arrived = receiver.series().await;
    for (sidecar, _) in &mut agents {
        sidecar.change(|kubelet| keep_secret(kubelet, "password", SECOND_PASSWORD.text));
    }
    until("newer samples of each", async || {
        let now = receiver.series().await;
        let is_newer = |labels: &Labels| now.get(labels) != arrived.get(labels);
        let mut series = agents.iter().map(|(_, target)| target.series("scrapes", &[]));
        if series.all(|labels| is_newer(&labels)) { Ok(()) } else { Err(now) }
    })
    .await;
    println!("samples arrive {:?} after the password", rotated.elapsed());
    // Remote write takes 401 for an answer.
    let lost = lost(&receiver).await;
    println!("lost {lost:?}");
    assert!(lost.len() == 4 && lost.iter().all(|lost| *lost > 0), "{lost:?}");
    let after: Vec<_> = agents.iter().map(|(sidecar, _)| sidecar.agent()).collect();
    assert_eq!(after, running, "no agent was started anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_its_token_scrapes_and_delivers_everything_once_the_token_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let more = json!({"authorization": {"credentials": {"name": "remote", "key": "token"}}});
    let mut agents = start_each(directory, &remote_write(&receiver.url(), &more), &[]).await;
    for (sidecar, _) in &mut agents {
        sidecar.says("secrets/remote/token: no such file or directory").await;
        let targets = sidecar.targets().await;
        assert_eq!((targets.len(), &targets[0]["health"]), (1, &json!("up")));
    }
    assert_eq!(receiver.series().await.len(), 0);
    let running: Vec<_> = agents.iter().map(|(sidecar, _)| sidecar.agent()).collect();
    let found = Instant::now();
    for (sidecar, _) in &mut agents {
        sidecar.change(|kubelet| keep_secret(kubelet, "token", "secret"));
    }
    receiver.receives(&all_series(&agents)).await;
    println!("samples arrive {:?} after the token", found.elapsed());
    // What could not be sent was tried again.
    assert_eq!(lost(&receiver).await, [0; 4]);
    let after: Vec<_> = agents.iter().map(|(sidecar, _)| sidecar.agent()).collect();
    assert_eq!(after, running, "no agent was started anew");
}

/// Waits until the agent has these jobs, with a target each, and no others.
async fn has_jobs(sidecar: &mut Sidecar, jobs: &[&str]) {
    until("jobs", async || {
        let targets = sidecar.targets().await;
        let mut found: Vec<_> =
            targets.iter().map(|target| target["scrapePool"].as_str().unwrap().to_owned()).collect();
        found.sort_unstable();
        if found == jobs { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_authority_is_missing_is_begun_once_it_is_there_and_targets_are_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(directory.path());
    let app = App::start("app 1\n").await;
    let ca = json!({"ca": {"secret": {"name": "remote", "key": "ca.crt"}}});
    let endpoints =
        json!([{"portNumber": app.port}, {"portNumber": app.port, "scheme": "https", "tlsConfig": ca}]);
    let monitor =
        monitor(NAMESPACE, "m", json!({}), json!({"selector": {}, "podMetricsEndpoints": endpoints}));
    let write = remote_write(&receiver.url(), &json!({}));
    let settings = json!({"podMonitorSelector": {}});
    let [plain, guarded] = [0, 1].map(|index| format!("podMonitor/{NAMESPACE}/m/{index}"));
    let start = |version: String| {
        let template = template(&version, &write, &settings);
        let kubelet =
            monitored(GENERATED, &pod(GENERATED, &[app.port]), &template, std::slice::from_ref(&monitor));
        Sidecar::start(kubelet, &directory.path().join(version))
    };
    let mut agents: Vec<_> = versions().into_iter().map(start).collect();
    for sidecar in &mut agents {
        sidecar.says("ca.crt: no such file or directory").await;
        has_jobs(sidecar, &[&plain]).await;
        let running = sidecar.agent();
        sidecar.change(|kubelet| keep_secret(kubelet, "ca.crt", &secret_value(NAMESPACE, "ca.crt")));
        // What the agent does by itself every five minutes, it does at once where the file is another.
        sidecar.change(|kubelet| {
            let targets = kubelet.pod["metadata"]["annotations"][names::TARGETS].as_str().unwrap().to_owned();
            annotate(kubelet, &(targets + "\n"));
        });
        has_jobs(sidecar, &[&plain, &guarded]).await;
        assert_eq!(sidecar.agent(), running, "no agent was started anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_receivers_authority_is_missing_is_tried_again_until_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let more = json!({"tlsConfig": {"ca": {"secret": {"name": "remote", "key": "ca.crt"}}}});
    let mut agents = start_each(directory, &remote_write(&receiver.url(), &more), &[]).await;
    for (sidecar, _) in &mut agents {
        sidecar.says("ca.crt: no such file or directory").await;
        sidecar.says("agent exited with code").await;
    }
    assert_eq!(receiver.series().await.len(), 0);
    for (sidecar, _) in &mut agents {
        sidecar.change(|kubelet| keep_secret(kubelet, "ca.crt", &secret_value(NAMESPACE, "ca.crt")));
    }
    receiver.receives(&all_series(&agents)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_for_its_configuration_and_starts_once_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let app = App::start("app 1\n").await;
    let write = remote_write(&receiver.url(), &json!({}));
    let mut agents = Vec::new();
    for version in versions() {
        let mut kubelet =
            scheduled(GENERATED, &pod(GENERATED, &[app.port]), &template(&version, &write, &json!({})));
        let config_maps = std::mem::take(&mut kubelet.config_maps);
        let mut sidecar = Sidecar::start(kubelet, &directory.join(&version));
        let said = sidecar.says("promsidecar: waiting for ").await;
        assert!(said.ends_with(names::CONFIG_KEY), "{said}");
        assert_eq!(sidecar.agent(), None);
        sidecar.change(|kubelet| kubelet.config_maps = config_maps);
        agents.push((version, sidecar));
    }
    receiver.receives_value(&delivered(&agents, app.port, "app"), "1").await;
    for (_, sidecar) in &mut agents {
        assert_eq!(sidecar.lines_with("promsidecar:").len(), 1, "it said so once, and no start failed");
    }
}
