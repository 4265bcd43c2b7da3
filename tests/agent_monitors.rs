//! Real agents under `PodMonitor`s: what arrives at a real receiver is what upstream's configuration makes of the same pod by
//! pod discovery, in every version of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::BTreeSet;

use agent::app::App;
use agent::pods::{GENERATED, IPV6, NAMESPACE, STATEFUL, SYNTHETIC, monitored, pod, remote_write, template};
use agent::receiver::Receiver;
use agent::sidecar::Sidecar;
use agent::tools::versions;
use agent::upstream::{METRICS, assert_delivered, sent};
use serde_json::{Value, json};
use support::monitors::objects::monitor;

/// By port, by number, by nothing; with relabelings over what only a running pod knows.
fn monitors(port: u16) -> Vec<Value> {
    let copy = |from: &str, to: &str| json!({"sourceLabels": [from], "targetLabel": to});
    let identity = json!([
        copy("__meta_kubernetes_pod_node_name", "node"),
        copy("__meta_kubernetes_pod_ip", "ip"),
        copy("__meta_kubernetes_pod_uid", "uid"),
        copy("__meta_kubernetes_pod_host_ip", "host"),
        copy("__address__", "address"),
        {"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(.+)"},
    ]);
    let drop = json!([{"action": "drop", "sourceLabels": ["__name__"], "regex": "debug_.*"}, copy("pod", "pod_again")]);
    let app = json!({"matchLabels": {"app": "shop"}});
    let specs = [
        json!({"selector": app, "jobLabel": "app", "podMetricsEndpoints": [{"portNumber": port, "honorTimestamps": true}]}),
        json!({"selector": {}, "podTargetLabels": ["pod-template-hash"], "scrapeClass": "plain",
            "podMetricsEndpoints": [{"targetPort": port, "relabelings": identity, "metricRelabelings": drop}, {}]}),
        json!({"selector": {"matchLabels": {"app": "other"}}, "podMetricsEndpoints": [{}]}),
    ];
    let named = specs.into_iter().enumerate();
    named.map(|(index, spec)| monitor(NAMESPACE, &format!("m{index}"), json!({}), spec)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_monitors_arrive_as_upstream_would_have_sent_them() {
    let directory = tempfile::tempdir().unwrap();
    let app = App::start(METRICS).await;
    let monitors = monitors(app.port);
    let receiver = Receiver::start(directory.path());
    let (mut agents, mut all) = (Vec::new(), BTreeSet::new());
    for version in versions() {
        let class =
            json!({"name": "plain", "relabelings": [{"targetLabel": "class", "replacement": "plain"}]});
        let more = json!({"podMonitorSelector": {}, "replicaExternalLabelName": "", "scrapeClasses": [class],
            "enforcedNamespaceLabel": "tenant"});
        let template = template(&version, &remote_write(&receiver.url(), &json!({})), &more);
        for who in [GENERATED, STATEFUL, IPV6] {
            let pod = pod(who, &[app.port]);
            let series = sent(&template, &monitors, &[], who, &pod);
            // Three endpoints, two or three series and what a scrape says of itself.
            assert_eq!(series.len(), 3 * SYNTHETIC.len() + 3 + 2 + 3, "{series:#?}");
            all.extend(series);
            let kubelet = monitored(who, &pod, &template, &monitors);
            agents.push(Sidecar::start(kubelet, &directory.path().join(format!("{version}-{}", who.name))));
        }
    }
    assert!(agents.len() >= 12 && all.len() >= 12 * 23);
    assert_delivered(&receiver, agents, &all).await;
}
