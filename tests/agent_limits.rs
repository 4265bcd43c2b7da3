//! An application that explodes costs its own metrics and nothing else: a scrape over a limit fails as a whole, and an agent
//! that grows all the same gives up by itself while its container has memory left.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::app::App;
use agent::kubelet::Kubelet;
use agent::pods::{GENERATED, Target, pod, remote_write, scheduled, template};
use agent::process::DEADLINE;
use agent::receiver::Receiver;
use agent::sidecar::Sidecar;
use agent::tools::{default_version, versions};
use agent::{container, until};
use promsidecar::names;
use promsidecar::template::quantity::Quantity;
use promsidecar::template::version::Version;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// New series of every scrape of the exploding application.
const NEW_SERIES: usize = 30_000;
/// Where the limit on the data segment stands in the command of the loop, in KiB.
const DATA_LIMIT: usize = 6;
/// How often an agent has to give up in the test.
const GIVEN_UP: usize = 2;

/// Text with this many samples.
fn samples(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "sample{{number=\"{number}\"}} 1").unwrap();
        text
    })
}

/// One sample in a text of this many bytes.
fn bytes(count: usize) -> String {
    let sample = "sample{number=\"0\"} 1\n";
    format!("#{}\n{sample}", " ".repeat(count - sample.len() - 2))
}

/// The derived limits in an agent's configuration.
fn derived_limits(kubelet: &Kubelet) -> (usize, usize) {
    let config = kubelet.config_maps.values().next().unwrap()[names::CONFIG_KEY].clone();
    let config: Value = serde_saphyr::from_str(&config).unwrap();
    let bytes = config["global"]["body_size_limit"].as_str().unwrap().strip_suffix("MiB").unwrap();
    let samples = config["global"]["sample_limit"].as_u64().unwrap();
    (samples.try_into().unwrap(), bytes.parse::<usize>().unwrap() << 20)
}

/// What an agent should say about an application that is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Samples,
    Bytes,
}

impl Limit {
    /// The least that is too much: a limit of samples is the most that there may be, a limit of bytes is one byte over.
    fn exceeded(self, (samples_limit, bytes_limit): (usize, usize)) -> String {
        match self {
            Self::Samples => samples(samples_limit + 1),
            Self::Bytes => bytes(bytes_limit),
        }
    }

    fn error(self) -> &'static str {
        match self {
            Self::Samples => "sample limit exceeded",
            Self::Bytes => "body size limit exceeded",
        }
    }
}

/// Each agent has two applications: one over its limit, and one with a single sample that is not.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_over_a_limit_delivers_nothing_until_it_shrinks_and_its_neighbour_delivers_on() {
    const STATED: (usize, usize) = (10, 1024);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let write = remote_write(&receiver.url(), &json!({}));
    let stated = json!({"sampleLimit": STATED.0, "bodySizeLimit": format!("{}B", STATED.1)});
    let neighbour = App::start(&samples(1)).await;

    let mut agents = Vec::new();
    let mut shrinking = Vec::new();
    let mut over = Vec::new();
    let mut expected = BTreeSet::new();
    let mut returning = BTreeSet::new();
    for (kind, spec) in [("stated", stated), ("derived", json!({}))] {
        for limit in [Limit::Samples, Limit::Bytes] {
            let app = App::start("").await;
            // What just fits; of derived limits that would be too many series for a test of a minute.
            let (count, fits) = match (kind, limit) {
                ("stated", Limit::Samples) => (STATED.0, samples(STATED.0)),
                ("stated", Limit::Bytes) => (1, bytes(STATED.1 - 1)),
                _ => (1, samples(1)),
            };
            for version in versions().iter().filter(|version| limit == Limit::Bytes || counts_right(version))
            {
                let cluster = format!("{version}-{kind}-{limit:?}");
                let mut template = template(version, &write, &spec);
                template["spec"]["externalLabels"]["cluster"] = json!(cluster);
                let kubelet = scheduled(GENERATED, &pod(GENERATED, &[app.port, neighbour.port]), &template);
                let limits = if kind == "stated" { STATED } else { derived_limits(&kubelet) };
                app.expose(&limit.exceeded(limits));
                let [large, small] = [&app, &neighbour].map(|app| Target {
                    who: GENERATED,
                    port: app.port,
                    cluster: cluster.clone(),
                });
                let sample = |target: &Target, number: usize| {
                    target.series("sample", &[("number", &number.to_string())])
                };
                over.push(large.series("up", &[]));
                expected.extend(large.with_synthetic(&[]));
                expected.extend(small.with_synthetic(&[sample(&small, 0)]));
                returning.extend((0..count).map(|number| sample(&large, number)));
                agents.push((Sidecar::start(kubelet, &directory.join(&cluster)), limit));
            }
            shrinking.push((app, fits));
        }
    }

    receiver.receives_value(&over, "0").await;
    receiver.receives(&expected).await;
    let mut errors = 0;
    for (sidecar, limit) in &mut agents {
        let targets = sidecar.targets().await;
        let mut told: Vec<&str> =
            targets.iter().map(|target| container::text(&target["lastError"])).collect();
        told.sort_unstable();
        assert_eq!(told, ["", limit.error()]);
        assert_eq!(
            sidecar.lines_with("limit exceeded"),
            [""; 0],
            "the log does not tell, as docs/failures.md says"
        );
        errors += 1;
    }

    for (app, text) in &shrinking {
        app.expose(text);
    }
    expected.extend(returning);
    receiver.receives(&expected).await;
    receiver.receives_value(&over, "1").await;
    for (sidecar, _) in &mut agents {
        assert_eq!(sidecar.lines_with("promsidecar:"), [""; 0], "the limits alone held it");
    }
    println!("{errors} scrapes over a limit");
    assert!(errors >= 14, "{errors}");
}

/// Whether a scrape over the limit is always told from others. Until 3.3 (prometheus#16174) the one after it takes the samples
/// that it has seen for duplicates, and may pass without them.
fn counts_right(version: &str) -> bool {
    Version::parse(version).unwrap() >= Version::new(3, 3, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_agent_lets_a_part_of_an_application_over_its_limit_pass_and_never_more_than_the_limit() {
    const LIMIT: usize = 10;
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let app = App::start(&samples(5 * LIMIT)).await;
    let write = remote_write(&receiver.url(), &json!({}));
    let versions: Vec<_> = versions().into_iter().filter(|version| !counts_right(version)).collect();
    let agents = versions.iter().map(|version| {
        let template = template(version, &write, &json!({"sampleLimit": LIMIT}));
        Sidecar::start(
            scheduled(GENERATED, &pod(GENERATED, &[app.port]), &template),
            &directory.join(version),
        )
    });
    let agents: Vec<_> = agents.collect();
    assert!(!agents.is_empty(), "no version left that this test is about");
    app.scraped(8 * agents.len()).await;
    let series = |cluster: &String| {
        Target { who: GENERATED, port: app.port, cluster: cluster.clone() }.series("up", &[])
    };
    let up: Vec<_> = versions.iter().map(series).collect();
    receiver.receives_value(&up, "0").await;
    receiver.receives_value(&up, "1").await;
    // count by (cluster) (last_over_time(sample[1h]))
    let delivered =
        receiver.query("count%20by%20%28cluster%29%20%28last_over_time%28sample%5B1h%5D%29%29").await;
    println!("{delivered:?}");
    assert_eq!(delivered.len(), agents.len());
    assert!(delivered.values().all(|count| count.parse::<usize>().unwrap() <= LIMIT), "{delivered:?}");
}

/// What the kernel counts for one process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// The most that was resident at any time, pages of files among it.
    peak: u64,
    /// Pages of files: of the program for the most part. The kernel takes them back when a container comes near its limit.
    files: u64,
    /// The data segment now, which the loop limits.
    data: u64,
}

impl Memory {
    /// `None` if the process has gone.
    fn of(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let kibibytes = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        let bytes = |name: &str| Some(kibibytes(name)? * 1024);
        Some(Self { peak: bytes("VmHWM:")?, files: bytes("RssFile:")?, data: bytes("VmData:")? })
    }

    /// What only the end of the process gives back.
    fn kept(self) -> u64 {
        self.peak.saturating_sub(self.files)
    }
}

/// A limit derived from memory is a promise: at the limit, agents live with memory left.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_carries_as_many_series_as_its_derived_limit_allows() {
    const SCRAPES: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let spec = json!({"scrapeInterval": "2s", "scrapeTimeout": "2s"});
    let mut agents = Vec::new();
    for version in versions() {
        let app = App::start("").await;
        let template = template(&version, &remote_write(&receiver.url(), &json!({})), &spec);
        let kubelet = scheduled(GENERATED, &pod(GENERATED, &[app.port]), &template);
        let (count, _) = derived_limits(&kubelet);
        app.expose(&samples(count));
        let sidecar = Sidecar::start(kubelet, &directory.join(&version));
        agents.push((version, count, app, sidecar, 0));
    }
    let end = Instant::now() + DEADLINE;
    while agents.iter().any(|(_, _, app, ..)| app.scrapes() < SCRAPES) {
        assert!(Instant::now() < end, "agents do not scrape");
        for (_, _, _, sidecar, peak) in &mut agents {
            *peak = sidecar.agent().and_then(Memory::of).map_or(0, |memory| memory.data).max(*peak);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (version, count, _, mut sidecar, peak) in agents {
        let limit = data_limit(&sidecar.kubelet);
        println!("{version}: {count} series, data segment {peak} of {limit} bytes");
        assert_eq!(sidecar.lines_with("promsidecar:"), [""; 0], "{version}");
        assert!(peak < limit / 100 * 95, "{version}: {peak} of {limit} bytes");
    }
}

/// Every series is new in every scrape.
fn explosion(scrape: usize) -> String {
    (0..NEW_SERIES).fold(String::new(), |mut text, series| {
        writeln!(text, "exploded_total{{id=\"{scrape}-{series}\"}} 1").unwrap();
        text
    })
}

/// The memory limit of the agent's container.
fn memory_limit(kubelet: &Kubelet) -> u64 {
    let limit = container::text(&container::agent(&kubelet.pod)["resources"]["limits"]["memory"]).to_owned();
    limit.parse::<Quantity>().unwrap().units()
}

/// The limit on the agent's data segment, in bytes.
fn data_limit(kubelet: &Kubelet) -> u64 {
    container::text(&container::agent(&kubelet.pod)["command"][DATA_LIMIT]).parse::<u64>().unwrap() * 1024
}

/// Watches the agents of a container until `GIVEN_UP` of them gave up. Gives the most memory that each of them held.
async fn watch(sidecar: &mut Sidecar) -> Vec<Memory> {
    let end = Instant::now() + DEADLINE;
    let mut peaks: BTreeMap<u32, Memory> = BTreeMap::new();
    let mut running = None;
    while sidecar.lines_with("promsidecar: agent exited").len() < GIVEN_UP {
        assert!(Instant::now() < end, "no {GIVEN_UP} exits: {peaks:?}, {:#?}", sidecar.log());
        // Looking for the next agent takes longer than a look at the one that is known.
        running = running.filter(|agent| Memory::of(*agent).is_some()).or_else(|| sidecar.agent());
        if let Some(agent) = running
            && let Some(now) = Memory::of(agent)
        {
            let most = peaks.entry(agent).or_default();
            let data = most.data.max(now.data);
            *most = Memory { data, ..if now.kept() > most.kept() { now } else { *most } };
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peaks.into_values().collect()
}

fn exploding(version: &str, app: &App, url: &str) -> Kubelet {
    let template = template(version, &remote_write(url, &json!({})), &json!({}));
    scheduled(GENERATED, &pod(GENERATED, &[app.port]), &template)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_gives_up_by_itself_before_its_container_has_no_memory_left_and_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let app = App::start("").await;
    app.generate(explosion);
    let mut tasks = JoinSet::new();
    for version in versions() {
        let kubelet = exploding(&version, &app, &receiver.url());
        let directory = directory.join(&version);
        tasks.spawn(async move {
            let (limit, data_limit) = (memory_limit(&kubelet), data_limit(&kubelet));
            let mut sidecar = Sidecar::start(kubelet, &directory);
            let agents = watch(&mut sidecar).await;
            let own = Memory::of(sidecar.process.id()).unwrap().peak;
            assert_eq!(agents.len(), GIVEN_UP);
            for agent in agents {
                let kept = agent.kept() + own;
                println!("{version}: {kept} bytes kept, {} with files", agent.peak + own);
                assert!(kept < limit / 100 * 90, "{version}: {kept} of {limit} bytes");
                // Otherwise something else ended it.
                assert!(agent.data > data_limit / 10 * 9, "{version}: {} of {data_limit} bytes", agent.data);
            }
            let exits: Vec<String> = (0..GIVEN_UP)
                .map(|exit| format!("promsidecar: agent exited with code 2, next start in {}s", 1 << exit))
                .collect();
            assert_eq!(sidecar.lines_with("promsidecar:"), exits, "{version}");
            let lives = sidecar.log().split(|line| line.starts_with("promsidecar: agent exited"));
            for life in lives.take(GIVEN_UP) {
                // Go reports what it was about when it got no memory, in many words: out of memory, cannot allocate memory,
                // out of memory allocating heap arena metadata.
                let (before, report) =
                    life.split_at(life.iter().position(|line| line.starts_with("goroutine ")).unwrap());
                let causes = before.iter().filter(|line| !line.starts_with("time="));
                println!(
                    "{version}: {:?}, {} lines of report",
                    causes.take(1).collect::<Vec<_>>(),
                    report.len()
                );
            }
            (version, sidecar)
        });
    }
    let mut agents = Vec::new();
    while let Some(watched) = tasks.join_next().await {
        agents.push(watched.unwrap());
    }
    // What was wiped is gone; the next agent begins with an application that is well again.
    app.expose("calm 1\n");
    let series: Vec<_> = agents
        .iter()
        .map(|(version, _)| {
            Target { who: GENERATED, port: app.port, cluster: version.clone() }.series("calm", &[])
        })
        .collect();
    receiver.receives_value(&series, "1").await;
    let arrived = receiver.series().await;
    assert!(
        arrived.keys().all(|labels| labels["__name__"] != "exploded_total"),
        "every scrape was over the limit"
    );
}

/// Otherwise the test above would not show that the loop's limit is what stops an agent.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_the_limit_of_the_loop_takes_more_than_its_container_has() {
    let directory = tempfile::tempdir().unwrap();
    let app = App::start("").await;
    app.generate(explosion);
    let mut kubelet = exploding(&default_version(), &app, "http://127.0.0.1:9/");
    let limit = memory_limit(&kubelet);
    kubelet.pod["spec"]["initContainers"][0]["command"][DATA_LIMIT] = json!("0");
    let sidecar = Sidecar::start(kubelet, &Path::new(directory.path()).join("agent"));
    let memory = until("agent over its limit", async || {
        let memory = sidecar.agent().and_then(Memory::of).ok_or(None)?;
        if memory.kept() > limit { Ok(memory) } else { Err(Some(memory)) }
    })
    .await;
    println!("{memory:?}");
}
