//! The whole way with real agents: patched pods, run with the sidecar's own command, arguments and environment, scrape an
//! application and deliver its series to a real receiver. Every version of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent::app::App;
use agent::kubelet::Objects;
use agent::pods::{GENERATED, IPV6, STATEFUL, Target, Who, pod, remote_write, scheduled, template};
use agent::receiver::{Labels, Receiver};
use agent::sidecar::Sidecar;
use agent::tools::{default_version, versions};
use serde_json::{Value, json};

/// What the application exposes. The third tries to be another pod by honest labels, the fourth by one of ours.
const METRICS: &str = r#"
requests_total{code="200"} 42
requests_total{code="500"} 1
jobs_total{pod="worker-1",namespace="elsewhere",instance="10.9.9.9:1",container="c",job="j"} 7
forged_total{__promsidecar_pod_name="evil",__promsidecar_pod_ip="6.6.6.6"} 3
"#;

/// Remote write 1.0 and 2.0: as templates name them, and as a receiver does that takes no other.
const MESSAGES: [(&str, &str); 2] =
    [("V1.0", "prometheus.WriteRequest"), ("V2.0", "io.prometheus.write.v2.Request")];

/// Series with the values of [`METRICS`], and those that every scrape adds.
fn expected_series(target: &Target) -> BTreeSet<Labels> {
    let own = [
        ("exported_pod", "worker-1"),
        ("exported_namespace", "elsewhere"),
        ("exported_instance", "10.9.9.9:1"),
        ("exported_container", "c"),
        ("exported_job", "j"),
    ];
    target.with_synthetic(&[
        target.series("requests_total", &[("code", "200")]),
        target.series("requests_total", &[("code", "500")]),
        target.series("jobs_total", &own),
        target.series("forged_total", &[]),
    ])
}

fn start(who: Who, port: u16, template: &Value, directory: &Path) -> Sidecar {
    let mut kubelet = scheduled(who, &pod(who, &[port]), template);
    kubelet.secrets =
        Objects::from([("remote".to_owned(), [("token".to_owned(), "secret".to_owned())].into())]);
    Sidecar::start(kubelet, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn series_arrive_under_the_identity_of_their_pod_from_every_version_by_both_protocols() {
    let directory = tempfile::tempdir().unwrap();
    let app = App::start(METRICS).await;
    let mut delivered = 0;
    for (message, protobuf) in MESSAGES {
        let directory = directory.path().join(message);
        fs::create_dir(&directory).unwrap();
        // What does not speak this protocol is refused.
        let receiver = Receiver::of_message(&directory, protobuf);
        let mut agents = Vec::new();
        let mut expected = BTreeSet::new();
        for version in versions() {
            let credentials = json!({"credentials": {"name": "remote", "key": "token"}});
            let more = json!({"messageVersion": message, "authorization": credentials});
            let template = template(&version, &remote_write(&receiver.url(), &more), &json!({}));
            for who in [GENERATED, STATEFUL, IPV6] {
                agents.push(start(
                    who,
                    app.port,
                    &template,
                    &directory.join(format!("{version}-{}", who.name)),
                ));
                expected.extend(expected_series(&Target { who, port: app.port, cluster: version.clone() }));
            }
        }
        let arrived = receiver.receives(&expected).await;
        for (labels, value) in &arrived {
            let exposed = match (labels["__name__"].as_str(), labels.get("code").map(String::as_str)) {
                ("requests_total", Some("200")) => "42",
                ("jobs_total", _) => "7",
                ("forged_total", _) => "3",
                ("requests_total" | "up", _) => "1",
                _ => continue,
            };
            assert_eq!(value, exposed, "{labels:?}");
        }
        delivered += arrived.len();
        for agent in agents {
            assert_eq!(agent.stop().finished.code(), 0);
        }
    }
    println!("{delivered} series");
    assert!(delivered >= 2 * 4 * 3 * 9, "{delivered} series");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_one_protocol_takes_nothing_of_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let app = App::start(METRICS).await;
    for ((_, protobuf), (other, _)) in MESSAGES.into_iter().zip(MESSAGES.into_iter().rev()) {
        let directory = directory.path().join(other);
        fs::create_dir(&directory).unwrap();
        let receiver = Receiver::of_message(&directory, protobuf);
        let more = json!({"messageVersion": other});
        let template = template(&default_version(), &remote_write(&receiver.url(), &more), &json!({}));
        let mut agent = start(GENERATED, app.port, &template, &directory.join("agent"));
        agent.says("415 Unsupported Media Type").await;
        assert_eq!(receiver.series().await.len(), 0);
    }
}
