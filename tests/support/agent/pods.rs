//! The pods and templates of the agents' tests, and the series that should arrive from them.
//!
//! Input: what one test wants to differ. Output: JSON of pods and templates, a pod on its node, label sets.

use std::collections::BTreeSet;

use promsidecar::admission::sidecar::config_map_name;
use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::monitors::collect::Collector;
use promsidecar::template::{Settings, Template, render, validate};
use promsidecar::{manifest, names};
use serde_json::{Value, json};

use super::kubelet::{Kubelet, Objects};
use super::receiver::Labels;
use crate::support;

pub(crate) const NAMESPACE: &str = "team-a";
/// What every scrape adds to what the application exposes.
pub(crate) const SYNTHETIC: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// A pod's name and address, which its agent learns from its environment, and whether a controller generated the name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who {
    pub(crate) generate_name: &'static str,
    pub(crate) name: &'static str,
    /// Whether the pod asks for its name: a `StatefulSet`'s does, a `ReplicaSet`'s lets the API server generate one.
    pub(crate) named: bool,
    pub(crate) ip: &'static str,
}

/// A pod of a `ReplicaSet`.
pub(crate) const GENERATED: Who =
    Who { generate_name: "shop-6d4cf56db6-", name: "shop-6d4cf56db6-x7k2p", named: false, ip: "10.244.0.3" };
/// A pod of a `StatefulSet`.
pub(crate) const STATEFUL: Who = Who { generate_name: "db-", name: "db-0", named: true, ip: "10.244.0.4" };
/// A pod of a `ReplicaSet` in an IPv6 cluster.
pub(crate) const IPV6: Who = Who { name: "shop-6d4cf56db6-6666v", ip: "fd00::12", ..GENERATED };

/// A pod as its controller asks for it; each port is scraped.
pub(crate) fn pod(who: Who, ports: &[u16]) -> Value {
    let declared: Vec<_> = ports.iter().map(|port| json!({"containerPort": port})).collect();
    let hint = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": who.generate_name,
            "labels": {"app": "shop", "pod-template-hash": "6d4cf56db6"},
            "annotations": {(names::INJECT): "true", (names::PORT): hint},
        },
        "spec": {"containers": [{"name": "app", "image": "shop:1", "ports": declared}]},
    });
    if who.named {
        pod["metadata"]["name"] = json!(who.name);
    }
    pod
}

/// A template for this version, quick enough for a test; its external label `cluster` is the version. `spec` is merged in
/// (RFC 7386).
pub(crate) fn template(version: &str, remote_write: &Value, spec: &Value) -> Value {
    let mut template = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "name": "shop",
            "namespace": NAMESPACE,
            "annotations": {(names::CONTROLLER_ID): names::DEFAULT_CONTROLLER_ID},
        },
        "spec": {
            "version": version,
            "scrapeInterval": "1s",
            "scrapeTimeout": "1s",
            "externalLabels": {"cluster": version},
            "remoteWrite": [remote_write],
        },
    });
    json_patch::merge(&mut template["spec"], spec);
    template
}

/// A receiver in a template; `more` is merged in.
pub(crate) fn remote_write(url: &str, more: &Value) -> Value {
    let mut remote_write = json!({"url": url, "queueConfig": {"batchSendDeadline": "1s"}});
    json_patch::merge(&mut remote_write, more);
    remote_write
}

/// The pod after admission, stored, scheduled, and with the `ConfigMap` of its template beside it: what API server,
/// scheduler, kubelet and controller add.
pub(crate) fn scheduled(who: Who, pod: &Value, template: &Value) -> Kubelet {
    monitored(who, pod, template, &[])
}

/// The same with monitors and Services in the pod's namespace.
pub(crate) fn monitored(who: Who, pod: &Value, template: &Value, monitors: &[Value]) -> Kubelet {
    let pod = stored(who, &injected(pod, template, monitors));
    let (name, configuration) = config_map_with(template, monitors);
    let data = [(names::CONFIG_KEY.to_owned(), configuration)].into();
    Kubelet::new(pod, Objects::from([(name, data)]))
}

/// A pod as it is stored once it runs.
pub(crate) fn stored(who: Who, pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["name"] = json!(who.name);
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    pod["metadata"]["uid"] = json!("0b8f2f2e-6f0c-4c39-9a3c-0d3a6f6c1a55");
    pod["spec"]["nodeName"] = json!("node-7");
    pod["status"] = json!({"podIP": who.ip, "hostIP": "192.0.2.7"});
    pod
}

/// The pod after admission.
fn injected(pod: &Value, template: &Value, monitors: &[Value]) -> Value {
    let review = support::reviews::creation(pod, NAMESPACE);
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let documents: Vec<_> = std::iter::once(template).chain(monitors).map(Value::to_string).collect();
    let catalog = support::catalog(&documents.join("\n"));
    let answer = admit(&serde_json::to_vec(&review).unwrap(), &catalog, &policy);
    let Answer::Reviewed { body, .. } = answer else { panic!("{answer:?}") };
    support::patched(pod, &body).expect("the pod is injected")
}

/// Name and content of the `ConfigMap` that a controller would deliver.
pub(crate) fn config_map(template: &Value) -> (String, String) {
    config_map_with(template, &[])
}

fn config_map_with(template: &Value, monitors: &[Value]) -> (String, String) {
    let object = &manifest::read(&template.to_string()).unwrap()[0].object;
    let settings = Settings::default();
    let template = Template::read(object, &settings).unwrap();
    let agent = validate::validate(&template, &settings).unwrap();
    let mut collector = Collector::default();
    for monitor in monitors {
        collector.note(monitor, NAMESPACE).unwrap();
    }
    let selection = collector.into_monitors().select(&agent, NAMESPACE);
    assert_eq!(selection.rejected, [], "{monitors:?}");
    (config_map_name(&agent.id), render::render(&agent, NAMESPACE, &selection))
}

/// A target of a pod at its receiver.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) who: Who,
    pub(crate) port: u16,
    pub(crate) cluster: String,
}

impl Target {
    /// A series of it, with labels that the application gave it.
    pub(crate) fn series(&self, name: &str, own: &[(&str, &str)]) -> Labels {
        let Self { who, port, cluster } = self;
        let instance =
            if who.ip.contains(':') { format!("[{}]:{port}", who.ip) } else { format!("{}:{port}", who.ip) };
        let identity = [
            ("__name__", name),
            ("namespace", NAMESPACE),
            ("pod", who.name),
            ("container", "app"),
            ("instance", &instance),
            ("job", names::JOB_ANNOTATIONS),
            ("cluster", cluster),
            ("prometheus", "team-a/shop"),
        ];
        identity.iter().chain(own).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// These series and the synthetic ones.
    pub(crate) fn with_synthetic(&self, own: &[Labels]) -> BTreeSet<Labels> {
        SYNTHETIC.iter().map(|name| self.series(name, &[])).chain(own.iter().cloned()).collect()
    }
}
