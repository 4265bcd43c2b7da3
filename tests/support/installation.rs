//! One installation of promsidecar on a control plane: its namespace, its registration, and controllers for it.
//!
//! Input: a name. Output: both objects, how they are, and what a controller tells of them.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use promsidecar::names;
use promsidecar::x509;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::control_plane::https::{get, until};
use crate::control_plane::injector::{CONFIGURATIONS, shipped, start};
use crate::control_plane::leash::Leash;

/// The objects of one test: a namespace of our own, and a registration for a namespace of the application's.
pub(crate) struct Installation {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) own: String,
    pub(crate) app: String,
}

/// The running program.
pub(crate) struct Controller {
    _process: Leash,
    pub(crate) admin: SocketAddr,
}

impl Installation {
    pub(crate) async fn new(name: &str) -> Self {
        let plane = ControlPlane::shared().await;
        let this = Self { plane, own: format!("{name}-own"), app: name.to_owned() };
        for namespace in [&this.own, &this.app] {
            plane.api.create_namespace(&json!({"metadata": {"name": namespace}})).await;
        }
        this
    }

    /// As it is shipped, with the Service in our own namespace.
    pub(crate) fn manifest(&self) -> Value {
        let mut registration = shipped(&[&self.app]);
        for entry in registration["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["service"]["namespace"] = json!(self.own);
        }
        registration
    }

    pub(crate) fn controller(&self, flags: &[&str]) -> Controller {
        self.controller_by(&self.plane.kubeconfig("admin"), flags)
    }

    pub(crate) fn controller_by(&self, kubeconfig: &Path, flags: &[&str]) -> Controller {
        let mut arguments = vec![
            "controller".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--own-namespace={}", self.own),
            format!("--registration=promsidecar-{}", self.app),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let (process, started) = start(&arguments, "promsidecar controller started");
        Controller { _process: process, admin: started["admin"].as_str().unwrap().parse().unwrap() }
    }

    pub(crate) fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.own, names::TLS_SECRET)
    }

    pub(crate) fn registration_path(&self) -> String {
        format!("{CONFIGURATIONS}/promsidecar-{}", self.app)
    }

    pub(crate) async fn secret(&self) -> Value {
        self.plane.api.get(&self.secret_path()).await
    }

    pub(crate) async fn edit_secret(&self, data: &Value) {
        let reply = self.plane.api.send("PATCH", &self.secret_path(), &json!({"data": data})).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    pub(crate) async fn registration(&self) -> Value {
        self.plane.api.get(&self.registration_path()).await
    }

    /// Waits until a Secret is there that is `so`; gives it.
    pub(crate) async fn secret_that(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(what, || async {
            let reply = self.plane.api.send("GET", &self.secret_path(), &Value::Null).await;
            reply.status == 200 && so(&reply.body)
        })
        .await;
        self.secret().await
    }

    /// Waits until all six entries have this bundle.
    pub(crate) async fn published(&self, bundle: &[u8]) {
        self.published_to(6, bundle).await;
    }

    /// Waits until there are so many entries with this bundle, and no others.
    pub(crate) async fn published_to(&self, count: usize, bundle: &[u8]) {
        let bundle = json!(BASE64_STANDARD.encode(bundle));
        until("every entry has the bundle", || async {
            let entries = self.registration().await["webhooks"].as_array().unwrap().clone();
            entries.len() == count && entries.iter().all(|entry| entry["clientConfig"]["caBundle"] == bundle)
        })
        .await;
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str], object: &Value) {
        let printed = self.plane.kubectl(arguments, &object.to_string()).await;
        assert_eq!(printed.code, 0, "{printed:?}");
    }
}

impl Controller {
    pub(crate) async fn metric(&self, name: &str) -> String {
        let (_, text) = get(self.admin, "/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}")).trim().to_owned()
    }

    pub(crate) async fn leads(&self) {
        until("the controller leads", || async { self.metric("promsidecar_leader").await == "1" }).await;
    }

    pub(crate) async fn has(&self, problem: &str) {
        until(problem, || async {
            let name = format!("promsidecar_managed_certificate_problem{{problem=\"{problem}\"}}");
            self.metric(&name).await == "1"
        })
        .await;
    }

    pub(crate) async fn issued(&self) -> String {
        self.metric("promsidecar_managed_certificates_issued_total{certificate=\"leaf\"}").await
    }
}

pub(crate) fn data(secret: &Value, key: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap()
}

pub(crate) fn called(secret: &Value) -> Vec<String> {
    let mut names = x509::names(&x509::certificates(&data(secret, "tls.crt")).unwrap()[0]).unwrap();
    names.sort();
    names
}

pub(crate) fn service_names(own: &str) -> Vec<String> {
    ["", ".cluster.local"].map(|end| format!("promsidecar-webhook.{own}.svc{end}")).to_vec()
}

/// What `docs/security.md` says about permissions, for a controller.
pub(crate) async fn grant(installation: &Installation, account: &str) {
    let Installation { plane, own, app } = installation;
    let registration = format!("promsidecar-{app}");
    let rule = |group: &str, resource: &str, verbs: &[&str], named: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs, "resourceNames": named});
    let watch = ["list", "watch"];
    let everywhere = [
        rule("monitoring.coreos.com", "prometheusagents", &watch, &[]),
        rule("monitoring.coreos.com", "prometheusagents/status", &["patch"], &[]),
        rule("monitoring.coreos.com", "podmonitors", &watch, &[]),
        rule("monitoring.coreos.com", "podmonitors/status", &["patch"], &[]),
        rule("monitoring.coreos.com", "servicemonitors", &watch, &[]),
        rule("monitoring.coreos.com", "servicemonitors/status", &["patch"], &[]),
        rule("", "namespaces", &watch, &[]),
        rule("", "services", &watch, &[]),
        rule("", "pods", &watch, &[]),
        rule("", "configmaps", &["get", "list", "watch", "create", "patch", "delete"], &[]),
        rule(
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations",
            &["list", "watch", "patch"],
            &[&registration],
        ),
    ];
    let here = [
        rule("coordination.k8s.io", "leases", &["get", "create", "update"], &[]),
        rule("", "secrets", &["create"], &[]),
        rule("", "secrets", &["list", "watch", "patch"], &[names::TLS_SECRET]),
    ];
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let here_path = format!("{rbac}/namespaces/{own}/");
    for (path, kind, rules) in
        [(format!("{rbac}/cluster"), "ClusterRole", json!(everywhere)), (here_path, "Role", json!(here))]
    {
        let metadata = json!({"name": own});
        plane.api.create(&format!("{path}roles"), &json!({"metadata": metadata, "rules": rules})).await;
        let subject = json!({"kind": "ServiceAccount", "namespace": own, "name": account});
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": own});
        let binding = json!({"metadata": metadata, "subjects": [subject], "roleRef": reference});
        plane.api.create(&format!("{path}rolebindings"), &binding).await;
    }
}
