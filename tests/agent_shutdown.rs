//! How an agent ends: in time, although its receiver is dead, and with everything delivered where it is not. Every version
//! of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use agent::app::App;
use agent::pods::{GENERATED, Target, pod, remote_write, scheduled, template};
use agent::receiver::Receiver;
use agent::sidecar::Sidecar;
use agent::tools::versions;
use agent::{container, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Beyond the flush deadline, for a loaded machine; far below the 60 s that Prometheus would take by default.
const SLACK: Duration = Duration::from_secs(15);

/// An agent in a pod with this grace period.
fn start(version: &str, port: u16, write: &Value, grace: u64, directory: &Path) -> Sidecar {
    let mut pod = pod(GENERATED, &[port]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    let kubelet = scheduled(GENERATED, &pod, &template(version, write, &json!({})));
    Sidecar::start(kubelet, &directory.join(format!("{version}-{grace}")))
}

/// What the arguments of the agent say.
fn flush_deadline(sidecar: &Sidecar) -> Duration {
    let flag = container::flag(container::agent(&sidecar.kubelet.pod), "storage.remote.flush-deadline");
    Duration::from_millis(flag.strip_suffix("ms").unwrap().parse().unwrap())
}

/// The hardest way to end: samples are on their way to a receiver that accepts and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_ends_within_its_flush_deadline_although_its_receiver_is_dead() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let app = App::start("app 1\n").await;
    let receiver = Receiver::start(directory);
    let write = remote_write(&receiver.url(), &json!({}));
    let mut agents = Vec::new();
    let mut series = Vec::new();
    for version in versions() {
        for (grace, deadline) in [(30, 2000), (3, 1000)] {
            let sidecar = start(&version, app.port, &write, grace, directory);
            assert_eq!(flush_deadline(&sidecar), Duration::from_millis(deadline));
            agents.push((version.clone(), sidecar));
        }
        series.push(Target { who: GENERATED, port: app.port, cluster: version }.series("app", &[]));
    }
    receiver.receives_value(&series, "1").await;
    receiver.process.signal("STOP");
    app.scraped(3 * agents.len()).await;

    let mut ends = JoinSet::new();
    for (version, sidecar) in agents {
        let deadline = flush_deadline(&sidecar);
        ends.spawn_blocking(move || (version, deadline, sidecar.stop()));
    }
    let mut ended = 0;
    while let Some(end) = ends.join_next().await {
        let (version, deadline, end) = end.unwrap();
        println!("{version}: {:?} after SIGTERM, deadline {deadline:?}", end.after);
        assert_eq!(end.finished.code(), 0, "{version}");
        assert!(end.after < deadline + SLACK, "{version} ended only after {:?}", end.after);
        // Otherwise nothing was on its way, and the deadline was not tried.
        let lost = |line: &String| line.contains("failedSampleCount");
        assert!(end.finished.lines.iter().any(lost), "{version}: {:#?}", end.finished.lines);
        ended += 1;
    }
    assert_eq!(ended, 2 * versions().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_scraped_samples_arrive_before_an_agent_ends() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    // So long that nothing is sent before the end.
    let write = remote_write(&receiver.url(), &json!({"queueConfig": {"batchSendDeadline": "5m"}}));
    let mut agents = Vec::new();
    for version in versions() {
        let app = App::start("").await;
        app.generate(|scrape| format!("scrapes {scrape}\n"));
        let sidecar = start(&version, app.port, &write, 30, directory);
        agents.push((Target { who: GENERATED, port: app.port, cluster: version }, app, sidecar));
    }
    let mut expected = BTreeSet::new();
    for (target, app, mut sidecar) in agents {
        app.scraped(2).await;
        // A scrape whose samples are in the agent's log: it shows as the last one of the target.
        let scraped = app.scrapes();
        let last = async |sidecar: &mut Sidecar| sidecar.targets().await[0]["lastScrape"].clone();
        let before = last(&mut sidecar).await;
        until("another scrape", async || {
            let now = last(&mut sidecar).await;
            if now == before { Err(now) } else { Ok(()) }
        })
        .await;
        let mut clusters = receiver.series().await.into_keys().map(|labels| labels["cluster"].clone());
        assert!(clusters.all(|cluster| cluster != target.cluster), "sent before the end");

        let end = sidecar.stop();
        assert_eq!(end.finished.code(), 0);
        expected.extend(target.with_synthetic(&[target.series("scrapes", &[])]));
        let arrived = receiver.receives(&expected).await;
        let newest: usize = arrived[&target.series("scrapes", &[])].parse().unwrap();
        println!("{}: {newest} scrapes arrived {:?} after SIGTERM", target.cluster, end.after);
        // The newest may have been cut off on its way from the application, and no other.
        assert!((scraped..=app.scrapes()).contains(&newest), "{newest} of {scraped} and more");
        let all = receiver
            .query(&format!("count_over_time%28scrapes%7Bcluster%3D%22{}%22%7D%5B1h%5D%29", target.cluster))
            .await;
        assert_eq!(all.into_values().collect::<Vec<_>>(), [newest.to_string()]);
    }
}
