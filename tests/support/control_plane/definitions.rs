//! The definitions (CRDs) that come with prometheus-operator.
//!
//! Input: a control plane. Output: one that knows the operator's kinds.

use std::path::{Path, PathBuf};

use promsidecar::monitors::object::Kind;
use serde_json::{Value, json};

use super::ControlPlane;

const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";

/// Installs them and waits until they are served.
pub(crate) async fn define(plane: &ControlPlane) {
    define_of(plane, OPERATOR).await;
}

/// The same of a release such as `0.73.2`, also over those of another.
pub(crate) async fn define_release(plane: &ControlPlane, release: &str) {
    define_of(plane, &format!("{OPERATOR}@v{release}")).await;
}

/// The definition of a kind of monitors alone.
pub(crate) async fn define_monitors(plane: &ControlPlane, kind: Kind) {
    let file = format!("monitoring.coreos.com_{}s.yaml", kind.word().to_ascii_lowercase());
    define_from(plane, &definitions(OPERATOR).join(file)).await;
}

async fn define_of(plane: &ControlPlane, module: &str) {
    define_from(plane, &definitions(module)).await;
}

fn definitions(module: &str) -> PathBuf {
    crate::support::oracle::module(module).join("example/prometheus-operator-crd")
}

async fn define_from(plane: &ControlPlane, path: &Path) {
    let path = path.to_str().unwrap();
    let applied = plane.kubectl(&["apply", "--server-side", "-f", path], "").await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", path];
    let established = plane.kubectl(&wait, "").await;
    assert_eq!(established.code, 0, "{established:?}");
}

/// Templates of a large cluster.
pub(crate) const MANY: usize = 500;
/// The one among them that passes the schema of the definition and is malformed all the same.
pub(crate) const MALFORMED: usize = MANY / 2;

/// Name of one of [`MANY`].
pub(crate) fn one_of_many(number: usize) -> String {
    format!("agent-{number}")
}

/// Creates all of them in a namespace; `template` makes a good one of a name.
pub(crate) async fn create_many(plane: &ControlPlane, namespace: &str, template: impl Fn(&str) -> Value) {
    let mut api = plane.api.connect().await;
    for number in 0..MANY {
        let mut template = template(&one_of_many(number));
        if number == MALFORMED {
            template["spec"] =
                json!({"version": "\u{7}", "scrapeInterval": "0", "image": " ", "podMetadata": {}});
            template["metadata"]["annotations"]["sidecar.prometheus.io/mode"] = json!("sideways");
        }
        let reply = api.send("POST", &agents(namespace), &template).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
}

/// Path of the templates of a namespace.
pub(crate) fn agents(namespace: &str) -> String {
    format!("/apis/monitoring.coreos.com/v1alpha1/namespaces/{namespace}/prometheusagents")
}
