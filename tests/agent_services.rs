//! Real agents under `ServiceMonitor`s: what arrives at a real receiver is what upstream's configuration makes of the same pod
//! by discovery of the endpoints of its Services, in every version of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use agent::app::App;
use agent::pods::{
    GENERATED, IPV6, NAMESPACE, STATEFUL, SYNTHETIC, Who, monitored, pod, remote_write, template,
};
use agent::receiver::Receiver;
use agent::sidecar::Sidecar;
use agent::tools::versions;
use agent::upstream::{METRICS, assert_delivered, sent};
use serde_json::{Value, json};
use support::monitors::objects::{service, service_monitor};

/// Ports of the application: one has a name, one has none, and one is not declared.
#[derive(Debug, Clone, Copy)]
struct Ports {
    named: u16,
    numbered: u16,
    undeclared: u16,
}

/// The Services of a pod's namespace: three select it, one of them headless, and one does not.
fn services(who: Who, ports: Ports) -> Vec<Value> {
    let family = if who.ip.contains(':') { "IPv6" } else { "IPv4" };
    let of = |name: &str, address: &str, app: &str, ports: Value| {
        let spec =
            json!({"selector": {"app": app}, "clusterIP": address, "ipFamilies": [family], "ports": ports});
        service(NAMESPACE, name, json!({"team": "shop", "kind": name}), spec)
    };
    let address = if family == "IPv6" { "fd00:10::7" } else { "10.96.0.7" };
    vec![
        of("headless", "None", "shop", json!([{"name": "http", "port": 80, "targetPort": "metrics"}])),
        of("numbered", address, "shop", json!([{"name": "http", "port": 80, "targetPort": ports.numbered}])),
        of(
            "undeclared",
            address,
            "shop",
            json!([{"name": "http", "port": 80, "targetPort": ports.undeclared, "appProtocol": "http"},
                {"name": "named", "port": 81, "targetPort": "metrics"}]),
        ),
        of("other", address, "other", json!([{"name": "http", "port": 80, "targetPort": ports.named}])),
    ]
}

/// By the Service's port, by the pod's, by none; with relabelings over what only a running pod knows. Each endpoint tells its
/// series from those of the others.
fn monitors(ports: Ports) -> Vec<Value> {
    let copy = |from: &str, to: &str| json!({"sourceLabels": [from], "targetLabel": to});
    let as_ = |name: &str| json!({"targetLabel": "endpoint_of", "replacement": name});
    let identity = json!([
        as_("identity"),
        copy("__meta_kubernetes_pod_node_name", "node"),
        copy("__meta_kubernetes_pod_ip", "ip"),
        copy("__meta_kubernetes_pod_uid", "uid"),
        copy("__address__", "address"),
        copy("__meta_kubernetes_endpointslice_port_name", "port_name"),
        copy("__meta_kubernetes_endpointslice_address_target_name", "target"),
        {"action": "labelmap", "regex": "__meta_kubernetes_service_label_(.+)"},
    ]);
    let older = json!([as_("older"), copy("__meta_kubernetes_endpoint_port_name", "port_name")]);
    let drop = json!([{"action": "drop", "sourceLabels": ["__name__"], "regex": "debug_.*"}]);
    let specs = [
        json!({"selector": {}, "jobLabel": "kind", "targetLabels": ["team"], "podTargetLabels": ["pod-template-hash"],
            "endpoints": [{"port": "http", "relabelings": [as_("port")], "metricRelabelings": drop}]}),
        json!({"selector": {"matchLabels": {"kind": "undeclared"}}, "serviceDiscoveryRole": "EndpointSlice",
            "endpoints": [{"relabelings": identity, "honorLabels": true}]}),
        json!({"selector": {"matchExpressions": [{"key": "kind", "operator": "NotIn", "values": ["other"]}]},
            "endpoints": [{"targetPort": ports.numbered, "relabelings": older},
                {"targetPort": "metrics", "relabelings": [as_("name")]}]}),
    ];
    let named = specs.into_iter().enumerate();
    named.map(|(index, spec)| service_monitor(NAMESPACE, &format!("m{index}"), json!({}), spec)).collect()
}

/// The pod, whose ports have names of their own or none.
fn declared(who: Who, ports: Ports) -> Value {
    let mut pod = pod(who, &[ports.named]);
    pod["spec"]["containers"][0]["ports"] =
        json!([{"name": "metrics", "containerPort": ports.named}, {"containerPort": ports.numbered}]);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_service_monitors_arrive_as_upstream_would_have_sent_them() {
    let directory = tempfile::tempdir().unwrap();
    let [named, numbered, undeclared] =
        [App::start(METRICS).await, App::start(METRICS).await, App::start(METRICS).await];
    let ports = Ports { named: named.port, numbered: numbered.port, undeclared: undeclared.port };
    let monitors = monitors(ports);
    let receiver = Receiver::start(directory.path());
    let (mut agents, mut all) = (Vec::new(), BTreeSet::new());
    for version in versions() {
        let more = json!({"serviceMonitorSelector": {}, "replicaExternalLabelName": "",
            "enforcedNamespaceLabel": "tenant"});
        let template = template(&version, &remote_write(&receiver.url(), &json!({})), &more);
        for who in [GENERATED, STATEFUL, IPV6] {
            let (pod, services) = (declared(who, ports), services(who, ports));
            let series = sent(&template, &monitors, &services, who, &pod);
            let mut targets: BTreeMap<_, usize> = BTreeMap::new();
            for labels in series.iter().filter(|labels| labels["__name__"] == "up") {
                *targets.entry(labels["endpoint_of"].as_str()).or_default() += 1;
            }
            // A port of each Service; every port of one, declared or not; a number and a name, whichever Service has it.
            assert_eq!(
                targets,
                [("identity", 3), ("name", 3), ("older", 3), ("port", 3)].into(),
                "{series:#?}"
            );
            assert_eq!(series.len(), 12 * (SYNTHETIC.len() + 3) - 3, "{series:#?}");
            all.extend(series);
            let kubelet = monitored(who, &pod, &template, &[&monitors[..], &services].concat());
            agents.push(Sidecar::start(kubelet, &directory.path().join(format!("{version}-{}", who.name))));
        }
    }
    assert!(agents.len() >= 12 && all.len() >= 12 * 93);
    assert_delivered(&receiver, agents, &all).await;
}
