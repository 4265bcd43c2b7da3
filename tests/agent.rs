//! The whole way with a real agent: a patched pod, laid out on disk as a kubelet does, run with the sidecar's own command,
//! arguments and environment, scrapes an application and delivers its series to a real receiver.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent/container.rs"]
mod container;
#[path = "support/agent/kubelet.rs"]
mod kubelet;
#[path = "support/agent/process.rs"]
mod process;
#[path = "support/agent/receiver.rs"]
mod receiver;
#[path = "support/agent/tools.rs"]
mod tools;

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use kubelet::{Kubelet, Objects};
use process::{DEADLINE, Process};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::template::{Settings, Template, render, validate};
use promsidecar::{manifest, names};
use receiver::{Labels, Receiver, Series};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the application exposes. The third tries to be another pod by honest labels, the fourth by one of ours.
const METRICS: &str = r#"
requests_total{code="200"} 42
requests_total{code="500"} 1
jobs_total{pod="worker-1",namespace="elsewhere",instance="10.9.9.9:1",container="c",job="j"} 7
forged_total{__promsidecar_pod_name="evil",__promsidecar_pod_ip="6.6.6.6"} 3
"#;

const NAMESPACE: &str = "team-a";
const NAME: &str = "shop-6d4cf56db6-x7k2p";
const POD_IP: &str = "10.244.0.3";

/// The default flush deadline of Prometheus is 60 s; what we set ends far below this.
const SHUTDOWN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn series_arrive_under_the_identity_of_the_pod_and_the_agent_ends_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let app = App::start().await;
    let receiver = Receiver::start(directory);

    let template = template(&receiver.url());
    let running = on_node(injected(&pod(app.port), &template));
    let (config_map, configuration) = config_map(&template);
    let kubelet = Kubelet {
        pod: &running,
        config_maps: Objects::from([(&*config_map, [(names::CONFIG_KEY, configuration)].into())]),
        secrets: Objects::from([("remote", [("token", "secret".to_owned())].into())]),
    };
    let mut agent = start_agent(&kubelet, directory);

    let expected = expected_series(app.port);
    let arrived = match wait_for(&receiver, &expected).await {
        Ok(series) => series,
        Err(series) => {
            agent.signal("TERM");
            let log = agent.finish().lines.join("\n");
            panic!("expected {expected:#?}\narrived {series:#?}\nthe agent's log:\n{log}");
        }
    };
    // Equal as a whole: nothing is missing, no placeholder and no internal label is left anywhere.
    assert_eq!(arrived.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let values: BTreeSet<_> = arrived
        .iter()
        .map(|(labels, value)| (labels["__name__"].as_str(), value.as_str()))
        .filter(|(name, _)| !name.starts_with("scrape_"))
        .collect();
    let exposed = [
        ("up", "1"),
        ("requests_total", "42"),
        ("requests_total", "1"),
        ("jobs_total", "7"),
        ("forged_total", "3"),
    ];
    assert_eq!(values, exposed.into());

    // The hardest way to end: samples are on their way to a receiver that accepts and never answers.
    receiver.process.signal("STOP");
    let scrapes = app.scrapes();
    let end = Instant::now() + DEADLINE;
    while app.scrapes() < scrapes + 3 {
        assert!(Instant::now() < end, "the agent scrapes no longer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(agent.is_running(), "the agent ended before it was told to");
    let told = Instant::now();
    agent.signal("TERM");
    let finished = agent.finish();
    assert!(told.elapsed() < SHUTDOWN, "ended only after {:?}", told.elapsed());
    assert_eq!((finished.code(), &finished.left[..]), (0, &[][..]), "exit code, processes left");
    // Otherwise nothing was on its way, and the deadline was not tried.
    assert!(finished.lines.iter().any(|line| line.contains("failedSampleCount")), "{:#?}", finished.lines);
    let elsewhere: Vec<_> = fs::read_dir(directory.join("cwd")).unwrap().collect();
    assert!(elsewhere.is_empty(), "the agent writes to its log alone: {elsewhere:?}");
}

/// Runs the sidecar as a kubelet would: with its own environment, its mounts, and the shell of the image.
fn start_agent(kubelet: &Kubelet<'_>, directory: &Path) -> Process {
    let volumes = directory.join("volumes");
    let cwd = directory.join("cwd");
    fs::create_dir(&volumes).unwrap();
    fs::create_dir(&cwd).unwrap();
    let sidecar = container::agent(kubelet.pod);
    let mounts = kubelet.mount(sidecar, &volumes);
    let program = tools::tool("prometheus");
    let paths: Vec<(&str, &Path)> = mounts
        .iter()
        .map(|(path, directory)| (path.as_str(), directory.as_path()))
        .chain([("/bin/prometheus", program.as_path())])
        .collect();
    let words = container::command_line(sidecar, &["busybox", "sh"], &paths);
    Process::start(
        Command::new(&words[0])
            .args(&words[1..])
            .current_dir(cwd)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(kubelet.environment(sidecar)),
    )
}

/// Asks the receiver until all of `expected` are there, and gives what is. The error is what was there in the end.
async fn wait_for(receiver: &Receiver, expected: &BTreeSet<Labels>) -> Result<Series, Series> {
    let end = Instant::now() + DEADLINE;
    loop {
        let series = receiver.series().await;
        if expected.iter().all(|labels| series.contains_key(labels)) {
            return Ok(series);
        }
        if Instant::now() > end {
            return Err(series);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn expected_series(port: u16) -> BTreeSet<Labels> {
    let series = |name: &str, own: &[(&str, &str)]| -> Labels {
        let instance = format!("{POD_IP}:{port}");
        let identity = [
            ("__name__", name),
            ("namespace", NAMESPACE),
            ("pod", NAME),
            ("container", "app"),
            ("instance", &instance),
            ("job", names::JOB_ANNOTATIONS),
            ("cluster", "c1"),
            ("prometheus", "team-a/shop"),
        ];
        identity.iter().chain(own).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let own = [
        ("exported_pod", "worker-1"),
        ("exported_namespace", "elsewhere"),
        ("exported_instance", "10.9.9.9:1"),
        ("exported_container", "c"),
        ("exported_job", "j"),
    ];
    let synthetic = [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    ];
    synthetic
        .map(|name| series(name, &[]))
        .into_iter()
        .chain([
            series("requests_total", &[("code", "200")]),
            series("requests_total", &[("code", "500")]),
            series("jobs_total", &own),
            series("forged_total", &[]),
        ])
        .collect()
}

/// The application: a loopback server that counts how often it was scraped.
struct App {
    port: u16,
    scrapes: Arc<AtomicUsize>,
}

impl App {
    async fn start() -> Self {
        let scrapes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&scrapes);
        let metrics = get(async move || {
            counter.fetch_add(1, Ordering::Relaxed);
            METRICS
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        tokio::spawn(async { axum::serve(listener, Router::new().route("/metrics", metrics)).await });
        Self { port, scrapes }
    }

    fn scrapes(&self) -> usize {
        self.scrapes.load(Ordering::Relaxed)
    }
}

/// The stored pod: what API server, scheduler and kubelet add to a pod of a `ReplicaSet`.
fn on_node(mut pod: Value) -> Value {
    pod["metadata"]["name"] = json!(NAME);
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    pod["metadata"]["uid"] = json!("0b8f2f2e-6f0c-4c39-9a3c-0d3a6f6c1a55");
    pod["spec"]["nodeName"] = json!("node-7");
    pod["status"] = json!({"podIP": POD_IP, "hostIP": "192.0.2.7"});
    pod
}

/// The template that the pod is injected from.
fn template(url: &str) -> String {
    format!(
        r"
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: {NAMESPACE}
  annotations: {{operator.prometheus.io/controller-id: promsidecar}}
spec:
  scrapeInterval: 1s
  scrapeTimeout: 1s
  externalLabels: {{cluster: c1}}
  remoteWrite:
  - url: {url}
    authorization: {{credentials: {{name: remote, key: token}}}}
    queueConfig: {{batchSendDeadline: 1s}}
"
    )
}

/// The pod as its controller asks for it.
fn pod(port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "shop-6d4cf56db6-",
            "labels": {"app": "shop", "pod-template-hash": "6d4cf56db6"},
            "annotations": {(names::INJECT): "true", (names::PORT): "metrics"},
        },
        "spec": {
            "containers": [
                {"name": "app", "image": "shop:1", "ports": [{"name": "metrics", "containerPort": port}]},
            ],
        },
    })
}

/// The pod after admission.
fn injected(pod: &Value, template: &str) -> Value {
    let review = support::reviews::creation(pod, NAMESPACE);
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let answer = admit(&serde_json::to_vec(&review).unwrap(), &support::catalog(template), &policy);
    let Answer::Reviewed { body, .. } = answer else { panic!("{answer:?}") };
    support::patched(pod, &body).expect("the pod is injected")
}

/// Name and content of the ConfigMap that a controller would deliver.
fn config_map(template: &str) -> (String, String) {
    let object = &manifest::read(template).unwrap()[0].object;
    let settings = Settings::default();
    let template = Template::read(object, &settings).unwrap();
    let agent = validate::validate(&template, &settings).unwrap();
    (config_map_name(&agent.id), render::render(&agent, NAMESPACE))
}
