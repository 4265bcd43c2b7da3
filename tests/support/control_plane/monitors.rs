//! Monitors of both kinds, and what controller and webhook make of them.
//!
//! Input: a control plane that knows the definitions. Output: objects to create; waits for what has to follow.

use promsidecar::monitors::object::{self, Kind};
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};

use super::ControlPlane;
use super::controller::{self, Controller, OWN_NAMESPACE, condition, path, template};
use super::https::until;
use super::injector::{Program, asking_pod, pods};

/// A controller that leads, and a webhook for the namespaces that ask.
pub(crate) struct Installed {
    pub(crate) plane: &'static ControlPlane,
    _controller: Controller,
    _webhook: Program,
}

/// Both, on the control plane of this test file.
pub(crate) async fn installed(asking: &[&str]) -> Installed {
    let plane = ControlPlane::shared().await;
    let webhook = Program::installed(plane, asking, OWN_NAMESPACE).await;
    let controller = Controller::leading(&plane.kubeconfig("admin"), &[]).await;
    Installed { plane, _controller: controller, _webhook: webhook }
}

/// A monitor of all pods, or Services, of its namespace with one endpoint.
pub(crate) fn monitor(kind: Kind, name: &str, endpoint: &Value) -> Value {
    let endpoints = match kind {
        Kind::Pod => "podMetricsEndpoints",
        Kind::Service => "endpoints",
    };
    json!({
        "apiVersion": object::API_VERSION,
        "kind": kind.word(),
        "metadata": {"name": name},
        "spec": {"selector": {}, (endpoints): [endpoint]},
    })
}

pub(crate) fn with_secret(kind: Kind, name: &str, secret: &str) -> Value {
    monitor(kind, name, &json!({"port": "web", "bearerTokenSecret": {"name": secret, "key": "token"}}))
}

/// A template that selects every monitor of namespaces with the label `tier: web`.
pub(crate) fn selecting(name: &str) -> Value {
    let mut object = template(name);
    for kind in ["podMonitor", "serviceMonitor"] {
        object["spec"][format!("{kind}Selector")] = json!({});
        object["spec"][format!("{kind}NamespaceSelector")] = json!({"matchLabels": {"tier": "web"}});
    }
    object
}

/// Waits until a template is delivered to a namespace as everything is by now, with these jobs of a kind of monitors.
pub(crate) async fn delivered(
    plane: &ControlPlane,
    id: &TemplateId,
    namespace: &str,
    kind: Kind,
    jobs: &[&str],
) {
    let found = controller::delivered(plane, id, namespace).await;
    let content = found["data"][names::CONFIG_KEY].as_str().unwrap();
    let prefix = match kind {
        Kind::Pod => "job_name: podMonitor/",
        Kind::Service => "job_name: serviceMonitor/",
    };
    let found = content.lines().filter_map(|line| line.split_once(prefix));
    assert_eq!(found.map(|(_, job)| job.trim_matches('"')).collect::<Vec<_>>(), jobs);
}

/// What the status says of the template's delivery.
pub(crate) async fn message(plane: &ControlPlane, id: &TemplateId) -> String {
    let object = plane.api.get(&path(id)).await;
    condition(&object, "Reconciled")["message"].as_str().unwrap_or_default().to_owned()
}

/// Waits for an Event on a monitor of the template's namespace that says so.
pub(crate) async fn told(plane: &ControlPlane, id: &TemplateId, kind: Kind, monitor: &str, line: &str) {
    until(&format!("an Event on {kind} {monitor} says {line}"), || async {
        let describe = ["describe", kind.word(), monitor, "-n", &id.namespace, "--show-events=true"];
        let printed = plane.kubectl(&describe, "").await.stdout;
        let events = printed.split_once("Events:").map_or("", |(_, events)| events);
        events.contains("InvalidConfiguration") && events.contains(&format!("template {id}: {line}"))
    })
    .await;
}

/// The binding of a monitor with a template; templates of other tests may select it too.
pub(crate) fn binding<'a>(monitor: &'a Value, id: &TemplateId) -> Option<&'a Value> {
    let mut bindings = monitor["status"]["bindings"].as_array()?.iter();
    bindings.find(|binding| {
        binding["resource"] == "prometheusagents"
            && binding["namespace"] == id.namespace
            && binding["name"] == id.name
    })
}

/// Waits until it has this status and reason, and a message that begins like this.
pub(crate) async fn bound(
    plane: &ControlPlane,
    path: &str,
    id: &TemplateId,
    [status, reason, message]: [&str; 3],
) {
    until(&format!("{path} is {status} {reason} {message}"), || async {
        let monitor = plane.api.get(path).await;
        binding(&monitor, id).map(|binding| &binding["conditions"][0]).is_some_and(|condition| {
            let text = |key: &str| condition[key].as_str().unwrap_or_default();
            condition["observedGeneration"] == monitor["metadata"]["generation"]
                && text("status") == status
                && text("reason") == reason
                && text("message").starts_with(message)
        })
    })
    .await;
}

/// Secrets that a pod mounts for its agent.
pub(crate) fn mounted(pod: &Value) -> Vec<&str> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == names::VOLUME_CONFIG).unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    sources.iter().filter_map(|source| source["secret"]["name"].as_str()).collect()
}

/// A pod that asks for the template `one`, without a hint: what its monitors say is enough.
pub(crate) fn without_hint(name: &str) -> Value {
    let mut pod = asking_pod(name);
    pod["metadata"]["annotations"] = json!({(names::INJECT): "one"});
    pod
}

/// Waits until the webhook has pods of a namespace mount these Secrets.
pub(crate) async fn mounts(plane: &ControlPlane, namespace: &str, secrets: &[&str]) {
    let path = format!("{}?dryRun=All", pods(namespace));
    until(&format!("pods mount {secrets:?}"), || async {
        let pod = plane.api.send("POST", &path, &without_hint("probe")).await.body;
        pod["metadata"]["annotations"].get(names::STATUS).is_some() && mounted(&pod) == secrets
    })
    .await;
}

/// Waits until the template counts so many pods, and so many that are up to date.
pub(crate) async fn counts(plane: &ControlPlane, id: &TemplateId, counts: [u64; 2]) {
    until(&format!("pods, and those up to date, are {counts:?}"), || async {
        let status = plane.api.get(&path(id)).await["status"].clone();
        [&status["replicas"], &status["updatedReplicas"]] == counts.map(|count| json!(count)).each_ref()
    })
    .await;
}
