//! The webhook under test: the real program with a folder of manifests, registered with the control plane by
//! `webhook-config/base/registration.yaml`.
//!
//! Input: namespaces and templates as one manifest. Output: the calls that the API server made, and the program's counters.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use axum::body::Bytes;
use base64::prelude::{BASE64_STANDARD, Engine};
use promsidecar::manifest;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::ControlPlane;
use super::hook::{Call, Hook, PROBE};
use super::https::{Client, get, tls, until};
use super::leash::Leash;

/// The registration as it is shipped.
const REGISTRATION: &str = include_str!("../../../webhook-config/base/registration.yaml");
/// Path of all registrations.
pub(crate) const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// The running program.
#[derive(Debug)]
pub(crate) struct Program {
    _process: Leash,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ca: String,
}

impl Program {
    /// With the manifests of a directory.
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, &format!("--templates={}", directory.display()))
    }

    /// With a flag that says where templates come from; its certificate is left in the directory.
    pub(crate) fn start_with(directory: &Path, source: &str) -> Self {
        Self::start_by(this_program(), directory, source)
    }

    /// The same of another program.
    pub(crate) fn start_by(program: &Path, directory: &Path, source: &str) -> Self {
        let ca = directory.join("ca.crt");
        let arguments = [
            "webhook".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            source.to_owned(),
            format!("--ca-out={}", ca.display()),
        ];
        let (process, started) = start_by(program, &arguments, "promsidecar webhook started");
        let address = |key: &str| started[key].as_str().unwrap().parse().unwrap();
        let ca = fs::read_to_string(ca).unwrap();
        Self { _process: process, listen: address("listen"), admin: address("admin"), ca }
    }

    /// One that follows a cluster with prometheus-operator's definitions, registered for these namespaces, which are made, as
    /// is promsidecar's own.
    pub(crate) async fn installed(plane: &ControlPlane, asking: &[&str], own_namespace: &str) -> Self {
        super::definitions::define(plane).await;
        for name in asking.iter().chain(&[own_namespace]) {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            plane.api.create_namespace(&namespace).await;
        }
        let source = format!("--kubeconfig={}", plane.kubeconfig("admin").display());
        let program = Self::start_with(&plane.directory("webhook"), &source);
        plane.api.create(CONFIGURATIONS, &registration(asking, &program.url(), &program.ca)).await;
        // Nobody has a template yet: whoever asks is told so.
        until("the registration is in force", || async {
            let path = format!("{}?dryRun=All", pods(asking[0]));
            !plane.api.send("POST", &path, &asking_pod(PROBE)).await.warnings.is_empty()
        })
        .await;
        program
    }

    /// For a registration.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.listen)
    }

    /// The response to a pod, asked of the program itself.
    pub(crate) async fn asked(&self, path: &str, namespace: &str, pod: &Value) -> Value {
        let (status, text) = self.answered(path, namespace, pod).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["response"].clone()
    }

    /// Status and body of the same.
    pub(crate) async fn answered(&self, path: &str, namespace: &str, pod: &Value) -> (u16, String) {
        let review = crate::support::reviews::creation(pod, namespace);
        let mut client = Client::new(tls(self.listen, "127.0.0.1", &self.ca).await.unwrap()).await;
        let body = serde_json::to_vec(&review).unwrap();
        let response = client.send("POST", path, &["content-type: application/json"], &body).await;
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    /// Reviews that the program counted, by outcome and reason; none is left out.
    pub(crate) async fn reviews(&self) -> BTreeMap<String, u64> {
        let (status, text) = get(self.admin, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        let lines = text.lines().filter_map(|line| line.strip_prefix("promsidecar_admission_reviews_total"));
        let counts = lines.map(|line| {
            let (labels, count) = line.rsplit_once(' ').unwrap();
            (labels.to_owned(), count.parse().unwrap())
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// A webhook that keeps every call and hands it to this program.
    fn recorder(&self) -> Hook {
        let line = self.line();
        Hook::start(move |path: String, body: Bytes| {
            let line = line.clone();
            async move { line.pass_on(&path, &body).await }
        })
    }

    /// A way to it for calls.
    pub(crate) fn line(&self) -> Line {
        Line { address: self.listen, ca: self.ca.clone(), client: Arc::default() }
    }
}

/// A kept connection to a webhook.
#[derive(Clone)]
pub(crate) struct Line {
    address: SocketAddr,
    ca: String,
    client: Arc<Mutex<Option<Client>>>,
}

impl Line {
    /// Passes a call on; gives status and body of the answer.
    pub(crate) async fn pass_on(&self, path: &str, body: &Bytes) -> (u16, Vec<u8>) {
        let mut client = self.client.lock().await;
        if client.is_none() {
            *client = Some(Client::new(tls(self.address, "127.0.0.1", &self.ca).await.unwrap()).await);
        }
        let client = client.as_mut().expect("it was just made");
        let response = client.send("POST", path, &["content-type: application/json"], body).await;
        (response.status().as_u16(), response.body().to_vec())
    }
}

/// The program under test.
pub(crate) fn this_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_promsidecar"))
}

/// Starts the program; gives it with the entry of its log that says that it has started.
pub(crate) fn start(arguments: &[String], message: &str) -> (Leash, Value) {
    start_by(this_program(), arguments, message)
}

/// The same of another program.
pub(crate) fn start_by(program: &Path, arguments: &[String], message: &str) -> (Leash, Value) {
    let mut process = Leash::program(program, arguments, (Stdio::null(), Stdio::piped()));
    let mut log = BufReader::new(process.stderr()).lines().map(Result::unwrap);
    let mut before = Vec::new();
    let started = log.by_ref().find_map(|line| {
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        let found = entry["message"] == message;
        before.push(line);
        found.then_some(entry)
    });
    let started = started.unwrap_or_else(|| panic!("the program does not start:\n{}", before.join("\n")));
    // The pipe must not fill up.
    std::thread::spawn(move || log.for_each(drop));
    (process, started)
}

/// The program, registered for the namespaces of one test.
#[derive(Debug)]
pub(crate) struct Injector {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) program: Program,
    pub(crate) recorder: Hook,
}

impl Injector {
    /// Makes the namespaces of `objects` in the cluster, gives all objects to the program, and registers it for these
    /// namespaces, behind a recorder.
    pub(crate) async fn start(objects: &str) -> Self {
        let injector = Self::start_unregistered(objects).await;
        register(injector.plane, &namespaces(objects), &injector.recorder).await;
        injector
    }

    /// The same without a registration.
    pub(crate) async fn start_unregistered(objects: &str) -> Self {
        let plane = ControlPlane::shared().await;
        create_namespaces(plane, objects).await;
        let directory = plane.directory(&namespaces(objects)[0]);
        fs::write(directory.join("objects.yaml"), objects).unwrap();
        let program = Program::start(&directory);
        let recorder = program.recorder();
        Self { plane, program, recorder }
    }

    /// The calls for pods of one name, or of a name that begins like this.
    pub(crate) fn calls(&self, name: &str) -> Vec<Call> {
        self.recorder.calls_for(name)
    }

    /// Creates a pod and gives it as it is stored.
    pub(crate) async fn create(&self, namespace: &str, pod: &Value) -> Value {
        self.plane.api.create(&pods(namespace), pod).await
    }

    /// Waits for the one pod of a namespace that matches a label selector.
    pub(crate) async fn pod_of(&self, namespace: &str, selector: &str) -> Value {
        let path = format!("{}?labelSelector={selector}", pods(namespace));
        let found = std::cell::RefCell::new(Value::Null);
        until(&format!("a controller makes the pod {selector}"), || async {
            let mut pods = self.plane.api.list(&path).await;
            pods.pop().is_some_and(|pod| {
                *found.borrow_mut() = pod;
                true
            })
        })
        .await;
        found.into_inner()
    }
}

/// Creates the namespaces of a manifest.
pub(crate) async fn create_namespaces(plane: &ControlPlane, objects: &str) {
    let documents = manifest::read(objects).unwrap();
    for document in documents.iter().filter(|document| document.object["kind"] == "Namespace") {
        plane.api.create_namespace(&document.object).await;
    }
}

/// Registers a hook as our webhook for these namespaces and waits until it is called.
pub(crate) async fn register(plane: &ControlPlane, namespaces: &[String], hook: &Hook) {
    plane.api.create(CONFIGURATIONS, &registration(namespaces, &hook.url(), &hook.ca)).await;
    called(plane, &namespaces[0], hook).await;
}

/// Waits until the API server calls a hook for the pods of a namespace.
async fn called(plane: &ControlPlane, namespace: &str, hook: &Hook) {
    until("the registration is in force", || async {
        let path = format!("{}?dryRun=All", pods(namespace));
        plane.api.send("POST", &path, &asking_pod(PROBE)).await;
        hook.probes() > 0
    })
    .await;
}

/// Names of the namespaces of a manifest, in order.
pub(crate) fn namespaces(objects: &str) -> Vec<String> {
    let documents = manifest::read(objects).unwrap();
    let namespaces = documents.iter().filter(|document| document.object["kind"] == "Namespace");
    namespaces.map(|document| document.object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Path of a namespace's pods.
pub(crate) fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A pod that asks by annotation for whichever template applies.
pub(crate) fn asking_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "annotations": {"sidecar.prometheus.io/inject": "true", "sidecar.prometheus.io/port": "8080"},
        },
        "spec": {"containers": [{"name": "web", "image": "registry.example.com/shop/web:1.4"}]},
    })
}

/// The shipped registration with the service replaced by an address that can be reached here, a CA, and one requirement
/// more, so that tests with namespaces of their own stand side by side.
pub(crate) fn registration(namespaces: &[impl AsRef<str>], url: &str, ca: &str) -> Value {
    let mut registration = shipped(namespaces);
    for entry in registration["webhooks"].as_array_mut().unwrap() {
        let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
        entry["clientConfig"] =
            json!({"url": format!("{url}{path}"), "caBundle": BASE64_STANDARD.encode(ca)});
    }
    registration
}

/// The shipped registration, limited to these namespaces and named after the first of them.
pub(crate) fn shipped(namespaces: &[impl AsRef<str>]) -> Value {
    let mut registration: Value = serde_saphyr::from_str(REGISTRATION).unwrap();
    registration["metadata"]["name"] = json!(format!("promsidecar-{}", namespaces[0].as_ref()));
    for entry in registration["webhooks"].as_array_mut().unwrap() {
        let requirements = entry["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap();
        requirements.push(only(namespaces));
    }
    registration
}

fn only(namespaces: &[impl AsRef<str>]) -> Value {
    let names: Vec<_> = namespaces.iter().map(AsRef::as_ref).collect();
    json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names})
}

/// Registers a webhook of somebody else for one namespace and waits until it is called. Configurations are called in the
/// order of their names; ours begin with `promsidecar`.
pub(crate) async fn register_foreign(plane: &ControlPlane, name: &str, namespace: &str, hook: &Hook) {
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": format!("{name}-{namespace}")},
        "webhooks": [{
            "name": format!("{name}.webhooks.example.com"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": {"url": format!("{}/", hook.url()), "caBundle": BASE64_STANDARD.encode(&hook.ca)},
            "namespaceSelector": {"matchExpressions": [only(&[namespace])]},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    plane.api.create(CONFIGURATIONS, &configuration).await;
    called(plane, namespace, hook).await;
}
