//! Real agents of a template that states what hardly any does: objects mounted as a whole, traces, OTLP, storage, a log of failed
//! scrapes, a path of its own; under a monitor whose application wants a client certificate and a token. Every version of
//! Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::container::{self, flag};
use agent::guarded::Guarded;
use agent::kubelet::Kubelet;
use agent::pods::{GENERATED, NAMESPACE, SYNTHETIC, Target, monitored, pod, remote_write, template};
use agent::receiver::{Labels, Receiver, get, send};
use agent::sidecar::Sidecar;
use agent::tools::versions;
use agent::traces::Traces;
use agent::upstream::METRICS;
use agent::{process, until};
use hyper::{Request, StatusCode};
use promsidecar::names;
use serde_json::{Value, json};
use support::monitors::objects::{CONFIG_MAP, SECRET, config_map, monitor, secret, secret_value};

/// What of the template is not as by default; `stage` is an external label.
fn settings(traces: u16, stage: &str) -> Value {
    json!({
        "externalLabels": {"stage": stage},
        "podMonitorSelector": {},
        "secrets": ["whole"],
        "configMaps": ["extra", "absent"],
        "tracingConfig": {"endpoint": format!("127.0.0.1:{traces}"), "clientType": "http", "insecure": true,
            "samplingFraction": "1", "headers": {"x-tenant": "shop"}, "compression": "gzip", "timeout": "5s"},
        "otlp": {"promoteResourceAttributes": ["team"], "translationStrategy": "UnderscoreEscapingWithSuffixes"},
        "tsdb": {"outOfOrderTimeWindow": "10m"},
        "scrapeFailureLogFile": "failures.log",
        "web": {"pageTitle": "shop", "maxConnections": 20},
        "externalUrl": "http://agents.example/of/shop",
        "routePrefix": "/shop",
        "logLevel": "debug",
        "logFormat": "json",
        "walCompression": false,
        "runtime": {"goGC": 60},
    })
}

/// The template and its monitor: an application that is guarded, and a port where nobody listens.
struct Objects {
    template: Value,
    monitor: Value,
}

impl Objects {
    fn of(version: &str, receiver: &Receiver, settings: &Value, app: u16) -> Self {
        let mut template = template(version, &remote_write(&receiver.url(), &json!({})), settings);
        template["metadata"]["annotations"][names::SELF_MONITOR] = json!("true");
        let endpoints = json!([
            {"portNumber": app, "scheme": "https", "authorization": {"credentials": secret("token")},
                "tlsConfig": {"serverName": "pod.example", "ca": {"configMap": config_map("ca.crt")},
                    "cert": {"secret": secret("tls.crt")}, "keySecret": secret("tls.key")}},
            {"port": "closed"},
        ]);
        let spec = json!({"selector": {}, "podMetricsEndpoints": endpoints});
        Self { template, monitor: monitor(NAMESPACE, "m", json!({}), spec) }
    }
}

/// A pod on its node. Agents that take samples have a port of their own, the first that the pod does not declare: `others` are
/// the ports of other tests' agents on this machine.
fn on_node(objects: &Objects, app: u16, others: &[u16]) -> Kubelet {
    let mut pod = pod(GENERATED, &[app]);
    pod["metadata"]["annotations"].as_object_mut().unwrap().remove(names::PORT);
    let ports = pod["spec"]["containers"][0]["ports"].as_array_mut().unwrap();
    // Nobody listens at port 1.
    ports.push(json!({"name": "closed", "containerPort": 1}));
    ports.extend(others.iter().map(|port| json!({"containerPort": port})));
    let mut kubelet = monitored(GENERATED, &pod, &objects.template, std::slice::from_ref(&objects.monitor));
    let data =
        |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), secret_value(NAMESPACE, key))).collect();
    kubelet.secrets.insert(SECRET.to_owned(), data(&["token", "tls.crt", "tls.key"]));
    kubelet.secrets.insert("whole".to_owned(), data(&["user", "password"]));
    kubelet.config_maps.insert(CONFIG_MAP.to_owned(), data(&["ca.crt"]));
    kubelet.config_maps.insert("extra".to_owned(), data(&["id"]));
    kubelet
}

/// An agent that runs.
struct Agent {
    version: String,
    sidecar: Sidecar,
    address: SocketAddr,
}

impl Agent {
    fn start(version: &str, kubelet: Kubelet, directory: &Path) -> Self {
        let address = flag(container::agent(&kubelet.pod), "web.listen-address").parse().unwrap();
        let sidecar = Sidecar::start(kubelet, &directory.join(version));
        Self { version: version.to_owned(), sidecar, address }
    }

    /// Labels of a series of the monitor's endpoints.
    fn series(
        &self,
        port: u16,
        endpoint: Option<&str>,
        stage: &str,
        name: &str,
        own: &[(&str, &str)],
    ) -> Labels {
        let target = Target { who: GENERATED, port, cluster: self.version.clone() };
        let mut labels = target.series(name, own);
        labels.insert("job".to_owned(), format!("{NAMESPACE}/m"));
        labels.insert("stage".to_owned(), stage.to_owned());
        labels.extend(endpoint.map(|endpoint| ("endpoint".to_owned(), endpoint.to_owned())));
        labels
    }

    /// What arrives of the guarded application, and of the port where nobody listens.
    fn delivers(&self, app: u16, stage: &str) -> BTreeSet<Labels> {
        let exported = [
            ("exported_pod", "worker-1"),
            ("exported_namespace", "elsewhere"),
            ("exported_instance", "10.9.9.9:1"),
            ("exported_job", "j"),
        ];
        let of_app = |name: &str, own: &[(&str, &str)]| self.series(app, None, stage, name, own);
        let synthetic = SYNTHETIC
            .iter()
            .flat_map(|name| [of_app(name, &[]), self.series(1, Some("closed"), stage, name, &[])]);
        let exposed = [
            of_app("requests_total", &[("code", "200")]),
            of_app("jobs_total", &exported),
            of_app("debug_total", &[]),
        ];
        synthetic.chain(exposed).collect()
    }

    async fn status_of(&self, path: &str) -> StatusCode {
        send(self.address, Request::get(path), String::new()).await.0
    }

    /// Gives the agent a sample by OTLP, `age` old; gives its answer.
    async fn push(&self, name: &str, age: Duration) -> (StatusCode, String) {
        let at = SystemTime::now().checked_sub(age).unwrap().duration_since(UNIX_EPOCH).unwrap();
        let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let point = json!({"timeUnixNano": at.as_nanos().to_string(), "asDouble": 7.0});
        let metrics = json!([{"name": name, "unit": "s", "gauge": {"dataPoints": [point]}}]);
        let resource = json!({"attributes": [attribute("team", "shop"), attribute("other", "x"),
            attribute("service.name", "pushing"), attribute("service.instance.id", &self.version)]});
        let body =
            json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]});
        let request =
            Request::post("/shop/api/v1/otlp/v1/metrics").header("content-type", "application/json");
        send(self.address, request, body.to_string()).await
    }
}

/// Waits until all of these series are at the receiver; others may be.
async fn arrive(receiver: &Receiver, expected: &BTreeSet<Labels>) {
    until("series", async || {
        let series = receiver.series().await;
        let missing: Vec<_> = expected.iter().filter(|labels| !series.contains_key(*labels)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:#?} among {:#?}", series.keys())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_a_template_with_every_setting_run_scrape_deliver_reload_and_recover() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let traces = Traces::start("x-tenant", "shop").await;
    let [pair, key, token] = ["tls.crt", "tls.key", "token"].map(|key| secret_value(NAMESPACE, key));
    let app = Guarded::start(METRICS, &pair, &key, &token).await;
    let mut agents = Vec::new();
    let mut ports = Vec::new();
    for version in versions() {
        let objects = Objects::of(&version, &receiver, &settings(traces.port, "first"), app.port);
        let agent = Agent::start(&version, on_node(&objects, app.port, &ports), directory);
        ports.push(agent.address.port());
        agents.push(agent);
    }

    first_series(&agents, &receiver, &app).await;
    for agent in &agents {
        answers_below_its_prefix(agent).await;
        let mounted = ["secrets/whole/password", "configmaps/extra/id", "configmaps/absent/id"];
        let mounted = mounted.map(|file| agent.sidecar.file(&format!("/etc/prometheus/{file}")));
        assert_eq!(
            mounted,
            [Some(secret_value(NAMESPACE, "password")), Some(secret_value(NAMESPACE, "id")), None]
        );
    }
    for agent in &mut agents {
        // In the format of the log: a scrape that failed, of which job. Prometheus 3.0 names every job there, in any order.
        until("failed scrape in the log", async || {
            let refused = agent.sidecar.lines_with("connect: connection refused");
            let is_its = |line: &String| line.contains(r#""job_name":"podMonitor/team-a/m/1""#);
            if refused.iter().any(is_its) { Ok(()) } else { Err(refused) }
        })
        .await;
        let texts = ["Remote Send Batch", agent.version.trim_start_matches('v')];
        let found = async || if traces.have(&texts) { Ok(()) } else { Err(texts) };
        until("span of a request to the receiver", found).await;
    }
    pushed_samples_arrive(&agents, &receiver).await;
    reloads(&mut agents, &receiver, &traces, &app).await;
    recovers(&mut agents, &app).await;
    assert_eq!(app.counts().1, 0, "whoever scrapes has certificate and token");
    for agent in agents {
        assert_eq!(agent.sidecar.stop().finished.code(), 0, "{}", agent.version);
    }
}

/// What arrives is of the monitor, or of the agents themselves.
async fn first_series(agents: &[Agent], receiver: &Receiver, app: &Guarded) {
    let mut expected: BTreeSet<_> =
        agents.iter().flat_map(|agent| agent.delivers(app.port, "first")).collect();
    for agent in agents {
        let target = Target { who: GENERATED, port: agent.address.port(), cluster: agent.version.clone() };
        let own = [("container", names::CONTAINER), ("job", names::JOB_AGENT), ("stage", "first")];
        expected.insert(target.series("up", &own));
    }
    arrive(receiver, &expected).await;
    for (labels, value) in receiver.series().await {
        let is_closed = labels.get("endpoint").is_some_and(|endpoint| endpoint == "closed");
        if labels["__name__"] == "up" {
            assert_eq!(value, if is_closed { "0" } else { "1" }, "{labels:?}");
        }
        assert!(expected.contains(&labels) || labels["job"] == names::JOB_AGENT, "{labels:?}");
    }
}

/// Its own pages are where the template says, and its flags are the template's.
async fn answers_below_its_prefix(agent: &Agent) {
    let statuses = [agent.status_of("/shop/-/ready").await, agent.status_of("/-/ready").await];
    assert_eq!(statuses, [StatusCode::OK, StatusCode::NOT_FOUND], "{}", agent.version);
    let flags = get(agent.address, "/shop/api/v1/status/flags", None).await;
    let names = [
        "web.external-url",
        "web.max-connections",
        "web.page-title",
        "storage.agent.wal-compression",
        "log.format",
    ];
    let values = names.map(|name| flags["data"][name].as_str().unwrap_or_default().to_owned());
    assert_eq!(values, ["http://agents.example/of/shop", "20", "shop", "false", "json"], "{}", agent.version);
    let config = get(agent.address, "/shop/api/v1/status/config", None).await;
    let config: Value = serde_saphyr::from_str(config["data"]["yaml"].as_str().unwrap()).unwrap();
    assert_eq!(config["runtime"]["gogc"], 60, "{config}");
    assert_eq!(config["storage"]["tsdb"]["out_of_order_time_window"], "10m", "{config}");
}

/// What an application gives to the agent of its pod arrives with the attribute that is promoted; a late sample is taken.
async fn pushed_samples_arrive(agents: &[Agent], receiver: &Receiver) {
    let mut expected = BTreeSet::new();
    for agent in agents {
        // The second is older than the first; without a window it is refused with 400.
        for age in [0, 60] {
            let answer = agent.push("pushed", Duration::from_secs(age)).await;
            assert_eq!(answer, (StatusCode::OK, String::new()), "{}", agent.version);
        }
        let labels = [
            ("__name__", "pushed_seconds"),
            ("cluster", &agent.version),
            ("instance", &agent.version),
            ("job", "pushing"),
            ("prometheus", "team-a/shop"),
            ("stage", "first"),
            ("team", "shop"),
        ];
        expected.insert(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
    arrive(receiver, &expected).await;
}

/// An edit of the template is followed without a restart.
async fn reloads(agents: &mut [Agent], receiver: &Receiver, traces: &Traces, app: &Guarded) {
    let processes = |agents: &[Agent]| -> Vec<_> {
        agents.iter().map(|agent| agent.sidecar.agent().expect("an agent runs")).collect()
    };
    let running = processes(agents);
    for agent in &mut *agents {
        let objects = Objects::of(&agent.version, receiver, &settings(traces.port, "second"), app.port);
        let other = on_node(&objects, app.port, &[]);
        agent.sidecar.change(|kubelet| kubelet.config_maps = other.config_maps);
    }
    arrive(receiver, &agents.iter().flat_map(|agent| agent.delivers(app.port, "second")).collect()).await;
    assert_eq!(processes(agents), running, "nobody was started anew");
}

/// One that dies is started again, by the same settings.
async fn recovers(agents: &mut [Agent], app: &Guarded) {
    for agent in &mut *agents {
        let before = agent.sidecar.agent().expect("an agent runs");
        process::signal(before, "KILL");
        agent.sidecar.says("agent exited with code 137").await;
        until("new agent", async || match agent.sidecar.agent() {
            Some(now) if now != before => Ok(()),
            other => Err(other),
        })
        .await;
        until("agent that is ready", async || match tokio::net::TcpStream::connect(agent.address).await {
            Ok(_) if agent.status_of("/shop/-/ready").await == StatusCode::OK => Ok(()),
            other => Err(other.map(drop)),
        })
        .await;
    }
    let (before, goal) = (app.counts().0, 3 * agents.len());
    until("further scrapes", async || {
        let scrapes = app.counts().0 - before;
        if scrapes >= goal { Ok(()) } else { Err(scrapes) }
    })
    .await;
}
