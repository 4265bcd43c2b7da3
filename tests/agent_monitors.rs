//! Real agents under `PodMonitor`s: what arrives at a real receiver is what upstream's configuration makes of the same pod by
//! pod discovery, in every version of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::BTreeSet;

use agent::app::App;
use agent::pods::{
    GENERATED, IPV6, NAMESPACE, STATEFUL, SYNTHETIC, Who, monitored, pod, remote_write, stored, template,
};
use agent::receiver::{Labels, Receiver};
use agent::sidecar::Sidecar;
use agent::tools::versions;
use serde_json::{Value, json};
use support::monitors::objects::{monitor, surroundings};
use support::oracle::{self, Surroundings};

const METRICS: &str = "
requests_total{code=\"200\"} 42
jobs_total{pod=\"worker-1\",namespace=\"elsewhere\",instance=\"10.9.9.9:1\",job=\"j\"} 7
debug_total 1
";

/// The same as labels.
fn exposed() -> Vec<Labels> {
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    vec![
        labels(&[("__name__", "requests_total"), ("code", "200")]),
        labels(&[
            ("__name__", "jobs_total"),
            ("pod", "worker-1"),
            ("namespace", "elsewhere"),
            ("instance", "10.9.9.9:1"),
            ("job", "j"),
        ]),
        labels(&[("__name__", "debug_total")]),
    ]
}

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

/// What a central Prometheus with upstream's configuration would have sent.
fn expected(template: &Value, monitors: &[Value], who: Who, pod: &Value) -> BTreeSet<Labels> {
    let mut objects = surroundings();
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
    objects.push(template.clone());
    objects.extend(monitors.iter().cloned());
    let generated = oracle::config(&objects, false).unwrap();
    assert_eq!((generated.selected.len(), generated.rejected.len()), (monitors.len(), 0));
    let around = Surroundings {
        pods: vec![stored(who, &oracle::sent(pod).unwrap().pod)],
        series: exposed(),
        reports: SYNTHETIC.map(str::to_owned).to_vec(),
        ..Surroundings::default()
    };
    let labelled = oracle::labels(&generated.config.replace("$(SHARD)", "0"), &around).unwrap();
    let series = labelled.targets.into_iter().flat_map(|target| target.series);
    series.filter_map(|series| series.sent.into_iter().next().flatten()).collect()
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
            let series = expected(&template, &monitors, who, &pod);
            // Three endpoints, two or three series and what a scrape says of itself.
            assert_eq!(series.len(), 3 * SYNTHETIC.len() + 3 + 2 + 3, "{series:#?}");
            all.extend(series);
            let kubelet = monitored(who, &pod, &template, &monitors);
            agents.push(Sidecar::start(kubelet, &directory.path().join(format!("{version}-{}", who.name))));
        }
    }
    let arrived = receiver.receives(&all).await;
    let labels: BTreeSet<_> = arrived.into_keys().collect();
    println!(
        "{} agents, {} series, unexplained differences: {}",
        agents.len(),
        labels.len(),
        labels.symmetric_difference(&all).count()
    );
    assert_eq!(labels, all);
    assert!(agents.len() >= 12 && labels.len() >= 12 * 23);
    for agent in agents {
        assert_eq!(agent.stop().finished.code(), 0);
    }
}
