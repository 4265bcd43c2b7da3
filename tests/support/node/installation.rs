//! promsidecar installed as its users do: the manifests of `webhook-config` by kubectl, with its image of this build.
//!
//! Input: a node without it. Output: Deployments that are up, and their removal.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Node;
use super::images::PROMSIDECAR;

/// Where it is installed.
pub(crate) const NAMESPACE: &str = "promsidecar-system";

/// A folder of the shipped manifests.
fn shipped(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config").join(folder)
}

/// A kustomization over an overlay, in a directory of the node's. It changes what a test node has otherwise: the image, and
/// how pods reach the API server, since nothing here leads the address of a Service to it.
fn kustomization(node: &Node, overlay: &str) -> PathBuf {
    let directory = node.path("installation");
    fs::create_dir(&directory).unwrap();
    let up: PathBuf = fs::canonicalize(&directory).unwrap().components().skip(1).map(|_| "..").collect();
    let overlay = up.join(shipped(overlay).strip_prefix("/").expect("an absolute path"));
    let (name, tag) = PROMSIDECAR.rsplit_once(':').expect("a tag");
    let api = node.plane.api.address;
    let variables = [
        ("KUBERNETES_SERVICE_HOST", api.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", api.port().to_string()),
    ];
    let patch = variables.map(|(name, value)| {
        json!({"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": name, "value": value}})
    });
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [overlay],
        "images": [{"name": "promsidecar", "newName": name, "newTag": tag}],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json!(patch).to_string()}],
    });
    fs::write(directory.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    directory
}

impl Node {
    /// Runs kubectl, which has to succeed; gives what it printed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let printed = self.plane.kubectl(arguments, "").await;
        assert_eq!(printed.code, 0, "kubectl {arguments:?}: {}\n{}", printed.stdout, printed.stderr);
        printed.stdout
    }

    /// Applies the definitions that come with promsidecar and this overlay, and waits until all of it is up. Gives what
    /// removes the overlay.
    pub(crate) async fn install(&self, overlay: &str) -> PathBuf {
        let definitions = shipped("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "-k", &definitions]).await;
        let definition = "crd/prometheusagents.monitoring.coreos.com";
        let established = ["wait", "--for=condition=Established", "--timeout=60s", definition];
        self.kubectl(&established).await;
        let directory = kustomization(self, overlay);
        self.kubectl(&["apply", "-k", &directory.display().to_string()]).await;
        for deployment in ["promsidecar-controller", "promsidecar-webhook"] {
            self.rolled_out(deployment).await;
        }
        directory
    }

    /// Waits until all pods of a Deployment of promsidecar are up.
    pub(crate) async fn rolled_out(&self, deployment: &str) {
        let deployment = format!("deployment/{deployment}");
        let arguments = ["--namespace", NAMESPACE, "rollout", "status", &deployment, "--timeout=120s"];
        let printed = self.plane.kubectl(&arguments, "").await;
        if printed.code != 0 {
            let described = self.kubectl(&["--namespace", NAMESPACE, "describe", "pods"]).await;
            panic!("{}\n{described}\n{}", printed.stderr, self.said().await);
        }
    }

    /// What the pods of promsidecar wrote.
    pub(crate) async fn said(&self) -> String {
        let pods = self.plane.api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods")).await;
        let log = |pod: &Value| {
            let container = pod["spec"]["containers"][0]["name"].as_str().expect("a name");
            format!("{}:\n{}", pod["metadata"]["name"], self.log(pod, container))
        };
        pods.iter().map(log).collect()
    }
}
