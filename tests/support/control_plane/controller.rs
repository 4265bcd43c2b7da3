//! The controller as a program, and what it works on.
//!
//! Input: a control plane. Output: the running program with its admin port; templates and namespaces for it.

use std::net::SocketAddr;
use std::path::Path;

use promsidecar::admission::sidecar::config_map_name;
use promsidecar::monitors::any::AnyMonitor;
use promsidecar::monitors::collect::surroundings;
use promsidecar::monitors::object::{self, Kind};
use promsidecar::monitors::selection::Monitors;
use promsidecar::monitors::service::Service;
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use promsidecar::template::{Settings, Template, render, validate};
use serde_json::{Value, json};

use super::ControlPlane;
use super::definitions::agents;
use super::https::{get, until};
use super::injector::{start_by, this_program};
use super::leash::Leash;

/// Where the Lease is, and what is kept.
pub(crate) const OWN_NAMESPACE: &str = "promsidecar-system";
/// Where the Lease is.
pub(crate) const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/promsidecar-system/leases/promsidecar-controller";
const MONITORING: &str = "/apis/monitoring.coreos.com/v1";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Reconciled and Available, with reasons, of a template that is in force.
pub(crate) const GOOD: [[&str; 2]; 2] = [["True", "Delivered"], ["True", "Published"]];

/// The running program; it is killed when this is dropped.
pub(crate) struct Controller {
    _process: Leash,
    pub(crate) admin: SocketAddr,
}

impl Controller {
    /// One that reaches the API server by this kubeconfig.
    pub(crate) fn start(kubeconfig: &Path, more: &[&str]) -> Self {
        Self::start_by(this_program(), kubeconfig, more)
    }

    /// The same of another program.
    pub(crate) fn start_by(program: &Path, kubeconfig: &Path, more: &[&str]) -> Self {
        let mut arguments = vec![
            "controller".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let (process, started) = start_by(program, &arguments, "promsidecar controller started");
        Self { _process: process, admin: started["admin"].as_str().unwrap().parse().unwrap() }
    }

    /// The same, once it leads and knows everything.
    pub(crate) async fn leading(kubeconfig: &Path, more: &[&str]) -> Self {
        let controller = Self::start(kubeconfig, more);
        controller.leads().await;
        controller
    }

    /// Waits until it leads and knows everything.
    pub(crate) async fn leads(&self) {
        until("the controller leads", || async {
            self.is_ready().await && self.metric("promsidecar_leader").await == 1
        })
        .await;
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.ready().await.0 == 200
    }

    /// What `/readyz` says.
    pub(crate) async fn ready(&self) -> (u16, String) {
        get(self.admin, "/readyz").await
    }

    /// A metric that is a whole number.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = get(self.admin, "/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}")).parse().unwrap()
    }
}

pub(crate) fn namespace(name: &str, annotations: &Value, labels: &Value) -> Value {
    let metadata = json!({"name": name, "annotations": annotations, "labels": labels});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

/// A template that any namespace may use.
pub(crate) fn template(name: &str) -> Value {
    let annotations = json!({(names::CONTROLLER_ID): "promsidecar", (names::ALLOWED_NAMESPACES): "*"});
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "externalLabels": {"cluster": "c1"},
            "remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}],
        },
    })
}

pub(crate) fn id(namespace: &str, name: &str) -> TemplateId {
    TemplateId { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Path of a template.
pub(crate) fn path(id: &TemplateId) -> String {
    format!("{}/{}", agents(&id.namespace), id.name)
}

/// Path of the ConfigMap of a template in a namespace.
pub(crate) fn config_map(namespace: &str, id: &TemplateId) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{}", config_map_name(id))
}

/// Path of the `PodMonitor`s of a namespace.
pub(crate) fn monitors(namespace: &str) -> String {
    monitors_of(Kind::Pod, namespace)
}

/// The same of a kind.
pub(crate) fn monitors_of(kind: Kind, namespace: &str) -> String {
    format!("{MONITORING}/namespaces/{namespace}/{}", resource(kind))
}

fn resource(kind: Kind) -> String {
    format!("{}s", kind.word().to_ascii_lowercase())
}

/// The monitors of a kind, of all namespaces.
async fn listed(plane: &ControlPlane, kind: Kind) -> Vec<Value> {
    // The kind need not be known; one that is takes a while until it is served again after a restart.
    let definition = format!("{DEFINITIONS}/{}.monitoring.coreos.com", resource(kind));
    if plane.api.send("GET", &definition, &Value::Null).await.status != 200 {
        return Vec::new();
    }
    let path = format!("{MONITORING}/{}", resource(kind));
    until(&format!("{} are served", kind.plural()), || async {
        plane.api.send("GET", &path, &Value::Null).await.status == 200
    })
    .await;
    plane.api.list(&path).await
}

/// What a template renders to for the pods of a namespace, with every monitor, Service and namespace as the API server has them.
pub(crate) async fn rendered(plane: &ControlPlane, id: &TemplateId, namespace: &str) -> String {
    let mut all = Monitors::default();
    // An item of a list need not say what it is.
    let typed = |mut object: Value, api_version: &str, kind: &str| {
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        object
    };
    for kind in Kind::ALL {
        for object in listed(plane, kind).await {
            let object = typed(object, object::API_VERSION, kind.word());
            all.insert(AnyMonitor::read(kind, &object).unwrap());
        }
    }
    for object in plane.api.list("/api/v1/services").await {
        all.services_mut().insert(Service::read(&typed(object, "v1", "Service")).unwrap());
    }
    for object in plane.api.list("/api/v1/namespaces").await {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        all.insert_namespace(name, surroundings(&object["metadata"]));
    }
    let object = plane.api.get(&path(id)).await;
    let settings = Settings::default();
    let agent = validate::validate(&Template::read(&object, &settings).unwrap(), &settings).unwrap();
    render::render(&agent, namespace, &all.select(&agent, namespace))
}

/// Waits until a template as it is stored is delivered to a namespace; gives the ConfigMap.
pub(crate) async fn delivered(plane: &ControlPlane, id: &TemplateId, namespace: &str) -> Value {
    let content = rendered(plane, id, namespace).await;
    let path = config_map(namespace, id);
    until(&format!("{path} is delivered"), || async {
        let reply = plane.api.send("GET", &path, &Value::Null).await;
        reply.body["data"][names::CONFIG_KEY] == content
    })
    .await;
    plane.api.get(&path).await
}

pub(crate) async fn edit(plane: &ControlPlane, path: &str, change: &Value) {
    let reply = plane.api.send("PATCH", path, change).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
}

/// Waits until both conditions of a template are these, for its present generation; gives the template.
pub(crate) async fn conditions(plane: &ControlPlane, id: &TemplateId, expected: [[&str; 2]; 2]) -> Value {
    until(&format!("{id} is {expected:?}"), || async {
        let object = plane.api.get(&path(id)).await;
        ["Reconciled", "Available"].iter().zip(expected).all(|(kind, [status, reason])| {
            let found = condition(&object, kind);
            found["observedGeneration"] == object["metadata"]["generation"]
                && found["status"] == status
                && found["reason"] == reason
        })
    })
    .await;
    plane.api.get(&path(id)).await
}

pub(crate) fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}
