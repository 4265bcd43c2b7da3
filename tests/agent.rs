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

use std::collections::{BTreeMap, BTreeSet};
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
use promsidecar::names;
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

const SUPERVISOR: &str = include_str!("../src/admission/supervisor.sh");
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

    let pod = patched_pod(app.port);
    let running = on_node(pod);
    let kubelet = Kubelet {
        pod: &running,
        config_maps: Objects::from([(
            CONFIG_MAP,
            [(names::CONFIG_KEY, configuration(&receiver.url()))].into(),
        )]),
        secrets: Objects::from([("remote", [("token", "secret".to_owned())].into())]),
    };
    let agent = start_agent(&kubelet, directory);

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

/// The stored pod: what API server, scheduler and kubelet add to a pod of a ReplicaSet.
fn on_node(mut pod: Value) -> Value {
    pod["metadata"]["name"] = json!(NAME);
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    pod["metadata"]["uid"] = json!("0b8f2f2e-6f0c-4c39-9a3c-0d3a6f6c1a55");
    pod["spec"]["nodeName"] = json!("node-7");
    pod["status"] = json!({"podIP": POD_IP, "hostIP": "192.0.2.7"});
    pod
}

const CONFIG_MAP: &str = "promsidecar-default-0123abcd";

/// A pod with its agent.
fn patched_pod(port: u16) -> Value {
    let targets = json!([{
        "targets": [format!("localhost:{port}")],
        "labels": {
            (names::META_SOURCE): names::SOURCE_ANNOTATION,
            "__meta_kubernetes_namespace": NAMESPACE,
            "__meta_kubernetes_pod_name": names::POD_NAME.placeholder,
            "__meta_kubernetes_pod_ip": names::POD_IP.placeholder,
            "__meta_kubernetes_pod_container_name": "app",
            "__metrics_path__": "/metrics",
        },
    }, {
        // What pod discovery would have found; the annotations job must leave it alone.
        "targets": [format!("localhost:{port}")],
        "labels": {
            "__meta_kubernetes_namespace": NAMESPACE,
            "__meta_kubernetes_pod_name": names::POD_NAME.placeholder,
            "__meta_kubernetes_pod_container_name": "app",
        },
    }]);
    let fact = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let env: Vec<Value> = names::RUNTIME_FACTS
        .iter()
        .map(|known| fact(known.env, known.field_path))
        .chain([
            fact("POD_NAMESPACE", "metadata.namespace"),
            json!({"name": "GOGC", "value": "50"}),
            json!({"name": "GOMAXPROCS", "value": "1"}),
        ])
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "shop-6d4cf56db6-",
            "annotations": {(names::INJECT): "true", (names::TARGETS): targets.to_string()},
        },
        "spec": {
            "containers": [{"name": "app", "image": "shop:1"}],
            "initContainers": [{
                "name": names::CONTAINER,
                "restartPolicy": "Always",
                "command": [
                    "/bin/sh", "-c", SUPERVISOR, "promsidecar", names::CONFIG_FILE, names::WAL_DIR, "212992", "/bin/prometheus",
                ],
                "args": [
                    "--agent",
                    format!("--config.file={}", names::CONFIG_FILE),
                    "--config.auto-reload",
                    "--config.auto-reload-interval=5s",
                    format!("--storage.agent.path={}", names::WAL_DIR),
                    "--storage.agent.wal-segment-size=10MB",
                    "--storage.agent.wal-truncate-frequency=5m",
                    "--storage.agent.retention.max-time=1h",
                    "--storage.remote.flush-deadline=2000ms",
                    "--web.listen-address=127.0.0.1:0",
                ],
                "env": env,
                "volumeMounts": [
                    {"name": names::VOLUME_CONFIG, "mountPath": names::CONFIG_DIR, "readOnly": true},
                    {"name": names::VOLUME_WAL, "mountPath": names::WAL_DIR},
                    {"name": names::VOLUME_NO_TOKEN, "mountPath": names::TOKEN_DIR, "readOnly": true},
                ],
            }],
            "volumes": [
                {"name": names::VOLUME_CONFIG, "projected": {"sources": [
                    {"configMap": {"name": CONFIG_MAP, "optional": true, "items": [{"key": names::CONFIG_KEY, "path": names::CONFIG_KEY}]}},
                    {"secret": {"name": "remote", "optional": true, "items": [{"key": "token", "path": "secrets/remote/token"}]}},
                    {"downwardAPI": {"items": [{
                        "path": names::TARGETS_PATH,
                        "fieldRef": {"fieldPath": format!("metadata.annotations['{}']", names::TARGETS)},
                    }]}},
                ]}},
                {"name": names::VOLUME_WAL, "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": names::VOLUME_NO_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}},
            ],
        },
    })
}

/// The configuration of the agent.
fn configuration(url: &str) -> String {
    let facts: BTreeMap<&str, String> =
        names::RUNTIME_FACTS.iter().map(|fact| (fact.external_label, format!("${{{}}}", fact.env))).collect();
    let mut external_labels = json!(facts);
    external_labels["cluster"] = json!("c1");
    let copy = |from: &str, to: &str| json!({"source_labels": [from], "target_label": to});
    let internal = format!("{}.*", names::INTERNAL_LABEL_PREFIX);
    let loopback = r"(?:127\.0\.0\.1|localhost|\[::1\])";
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "external_labels": external_labels},
        "scrape_configs": [{
            "job_name": names::JOB_ANNOTATIONS,
            "file_sd_configs": [{"files": [names::TARGETS_GLOB]}],
            "relabel_configs": [
                {"source_labels": [names::META_SOURCE], "regex": names::SOURCE_ANNOTATION, "action": "keep"},
                copy("__meta_kubernetes_namespace", "namespace"),
                copy(names::POD_NAME.meta_label, "pod"),
                copy("__meta_kubernetes_pod_container_name", "container"),
                {"source_labels": ["__address__"], "regex": format!(r"{loopback}(:\d+)?"), "action": "keep"},
            ],
            "metric_relabel_configs": [{"regex": internal, "action": "labeldrop"}],
        }],
        "remote_write": [{
            "url": url,
            "authorization": {"credentials_file": "secrets/remote/token"},
            "queue_config": {"batch_send_deadline": "1s"},
            "write_relabel_configs": [
                {
                    "source_labels": ["pod", names::POD_NAME.external_label],
                    "regex": format!("{};(.+)", names::POD_NAME.placeholder),
                    "target_label": "pod",
                },
                {
                    "source_labels": ["instance", names::POD_IP.external_label],
                    "regex": format!(r"{loopback}(:\d+);([^:]+)"),
                    "target_label": "instance",
                    "replacement": "$2$1",
                },
                {
                    "source_labels": ["instance", names::POD_IP.external_label],
                    "regex": format!(r"{loopback}(:\d+);(.*:.*)"),
                    "target_label": "instance",
                    "replacement": "[$2]$1",
                },
                {"regex": internal, "action": "labeldrop"},
            ],
        }],
    })
    .to_string()
}
