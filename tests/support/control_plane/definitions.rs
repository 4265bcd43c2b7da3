//! The definitions (CRDs) that come with prometheus-operator.
//!
//! Input: a control plane. Output: one that knows the operator's kinds.

use super::ControlPlane;

/// Installs them and waits until they are served.
pub(crate) async fn define(plane: &ControlPlane) {
    let module = crate::support::oracle::module("github.com/prometheus-operator/prometheus-operator");
    let definitions = module.join("example/prometheus-operator-crd");
    let folder = definitions.to_str().unwrap();
    let applied = plane.kubectl(&["apply", "--server-side", "-f", folder], "").await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", folder];
    let established = plane.kubectl(&wait, "").await;
    assert_eq!(established.code, 0, "{established:?}");
}

/// Path of the templates of a namespace.
pub(crate) fn agents(namespace: &str) -> String {
    format!("/apis/monitoring.coreos.com/v1alpha1/namespaces/{namespace}/prometheusagents")
}
