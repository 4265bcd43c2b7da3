//! One template, a pod that asks for it, and reviews of pods like it.

use std::sync::LazyLock;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::reason::Reason;
use promsidecar::admission::{Answer, Policy, RefusalLog, admit};
use serde_json::{Value, json};

use super::contract::faults;
use super::{catalog, patched, reviews, strict};

/// A template that any pod of its namespace gets.
pub(crate) const TEMPLATE: &str = "
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: team-a
  annotations: {operator.prometheus.io/controller-id: promsidecar}
spec:
  podMonitorSelector: {}
";
pub(crate) const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| catalog(TEMPLATE));

pub(crate) fn answer(review: &[u8]) -> Answer {
    admit(review, &CATALOG, &Policy { native_sidecars: true, ..Policy::default() })
}

/// The response of a review that is answered, checked.
pub(crate) fn response(answer: &Answer) -> Value {
    let Answer::Reviewed { body, .. } = answer else { unreachable!("{answer:?}") };
    assert_eq!(faults(UID, body), [""; 0], "{}", String::from_utf8_lossy(body));
    let review: Value = serde_json::from_slice(body).expect("an answer is JSON");
    review["response"].clone()
}

pub(crate) fn reason(answer: &Answer) -> Option<Reason> {
    match answer {
        Answer::Reviewed { outcome, .. } | Answer::Failed { outcome, .. } => outcome.reason,
        Answer::Unreadable { message } => unreachable!("{message}"),
    }
}

pub(crate) fn log(answer: &Answer) -> Option<&RefusalLog> {
    match answer {
        Answer::Reviewed { outcome, .. } | Answer::Failed { outcome, .. } => outcome.refusal.as_ref(),
        Answer::Unreadable { message } => unreachable!("{message}"),
    }
}

/// A pod that asks and is injected.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"sidecar.prometheus.io/inject": "true"}},
        "spec": {"containers": [{"name": "web", "image": "web", "ports": [{"containerPort": 8080}]}]},
    })
}

pub(crate) fn review(pod: &Value) -> Vec<u8> {
    serde_json::to_vec(&reviews::creation(pod, "team-a")).expect("a value serialises")
}

/// The labels of each group in the targets of the patched pod, read as one who minds repetitions.
pub(crate) fn target_labels(answer: &Answer, pod: &Value) -> Vec<Value> {
    let Answer::Reviewed { body, .. } = answer else { unreachable!("{answer:?}") };
    let patched = patched(pod, body).unwrap_or_else(|| unreachable!("not patched: {answer:?}"));
    let targets = patched["metadata"]["annotations"]["sidecar.prometheus.io/targets"].as_str();
    let targets = targets.unwrap_or_else(|| unreachable!("not injected: {patched}"));
    let groups = strict::parse(targets.as_bytes()).expect("targets are JSON");
    groups.as_array().expect("targets are a list").iter().map(|group| group["labels"].clone()).collect()
}
