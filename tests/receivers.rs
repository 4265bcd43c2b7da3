//! Real agents that deliver to receivers which are no Prometheus: the same series as beside it at a Prometheus, by remote write 1.0
//! and 2.0. `make receivers` builds them and runs this; `make test` does not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
#[path = "support/receivers.rs"]
mod receivers;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent::app::App;
use agent::pods::{GENERATED, IPV6, NAMESPACE, STATEFUL, monitored, pod, remote_write, template};
use agent::receiver::Labels;
use agent::sidecar::Sidecar;
use agent::tools::versions;
use agent::upstream::{METRICS, sent};
use agent::{receiver, until};
use receivers::{Receiver, Start};
use serde_json::{Value, json};
use support::monitors::objects::monitor;

/// What an agent says in its log of a receiver that does not take a message.
type Refusal = &'static str;

/// A receiver that takes anything for remote write 1.0 answers that all is well, and stores nothing. The agents notice.
const NOTHING_TAKEN: Refusal = "got 2xx, but PRW 2.0 response header statistics indicate 0 samples, 0 histograms and 0 exemplars were accepted";

/// By number; with relabelings over what only a running pod knows, and labels of the pod.
fn monitors(port: u16) -> Vec<Value> {
    let copy = |from: &str, to: &str| json!({"sourceLabels": [from], "targetLabel": to});
    let identity = json!([
        copy("__meta_kubernetes_pod_node_name", "node"),
        copy("__meta_kubernetes_pod_ip", "ip"),
        copy("__meta_kubernetes_pod_uid", "uid"),
        {"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(.+)"},
    ]);
    let specs = [
        json!({"selector": {}, "podMetricsEndpoints": [{"portNumber": port}]}),
        json!({"selector": {}, "podMetricsEndpoints": [{"portNumber": port, "relabelings": identity}]}),
    ];
    let named = specs.into_iter().enumerate();
    named.map(|(index, spec)| monitor(NAMESPACE, &format!("m{index}"), json!({}), spec)).collect()
}

/// Agents of every version that write to a Prometheus by 1.0 and to another receiver by `message`; with the series that upstream
/// would have sent.
struct Agents {
    prometheus: receiver::Receiver,
    sidecars: Vec<Sidecar>,
    expected: BTreeSet<Labels>,
}

impl Agents {
    fn start(receiver: &Receiver, message: &str, app: &App, directory: &Path) -> Self {
        let prometheus = receiver::Receiver::start(directory);
        let monitors = monitors(app.port);
        let (mut sidecars, mut expected) = (Vec::new(), BTreeSet::new());
        for version in versions() {
            let more = json!({"podMonitorSelector": {}, "replicaExternalLabelName": ""});
            let mut template = template(&version, &remote_write(&prometheus.url(), &json!({})), &more);
            let other = remote_write(&receiver.write, &json!({"messageVersion": message}));
            template["spec"]["remoteWrite"].as_array_mut().unwrap().push(other);
            for who in [GENERATED, STATEFUL, IPV6] {
                let pod = pod(who, &[app.port]);
                expected.extend(sent(&template, &monitors, &[], who, &pod));
                let kubelet = monitored(who, &pod, &template, &monitors);
                sidecars.push(Sidecar::start(kubelet, &directory.join(format!("{version}-{}", who.name))));
            }
        }
        assert_eq!(expected.len(), sidecars.len() * 2 * 8);
        Self { prometheus, sidecars, expected }
    }
}

/// Delivers by both messages; `refusal` is what agents say of 2.0, if the receiver does not take that.
#[expect(clippy::print_stdout, reason = "what came out is for whoever runs it")]
async fn deliver(name: &str, start: Start, refusal: Option<Refusal>) {
    let directory = tempfile::tempdir().unwrap();
    let app = App::start(METRICS).await;
    for message in ["V1.0", "V2.0"] {
        let directory = directory.path().join(message);
        fs::create_dir(&directory).unwrap();
        let mut receiver = start(&directory);
        receiver.is_ready().await;
        let mut agents = Agents::start(&receiver, message, &app, &directory);
        agents.prometheus.receives(&agents.expected).await;
        if let (Some(refusal), "V2.0") = (refusal, message) {
            for sidecar in &mut agents.sidecars {
                sidecar.says(refusal).await;
            }
            assert_eq!(receiver.series().await, BTreeSet::new(), "{name} by {message}");
            println!("{name} by {message}: refused, {refusal:?}");
        } else {
            until("series", async || {
                let series = receiver.series().await;
                let missing: Vec<_> = agents.expected.difference(&series).cloned().collect();
                if missing.is_empty() { Ok(()) } else { Err((missing, receiver.log())) }
            })
            .await;
            // Equal as a whole, as at the Prometheus.
            assert_eq!(receiver.series().await, agents.expected, "{name} by {message}");
            println!(
                "{name} by {message}: {} agents, {} series",
                agents.sidecars.len(),
                agents.expected.len()
            );
        }
        for agent in agents.sidecars {
            assert_eq!(agent.stop().finished.code(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thanos_receive_has_the_series_of_a_prometheus() {
    deliver("Thanos Receive", Receiver::thanos, Some(NOTHING_TAKEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_has_the_series_of_a_prometheus() {
    deliver("VictoriaMetrics", Receiver::victoria_metrics, Some(NOTHING_TAKEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cortex_has_the_series_of_a_prometheus() {
    deliver("Cortex", Receiver::cortex, None).await;
}
