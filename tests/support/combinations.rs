//! Every combination of what a namespace's labels and a pod's annotations may say about injection.
//!
//! Input: nothing. Output: [`Combination`]s, and what the admission core says about each, so that it is written down nowhere
//! a second time.

use std::collections::BTreeMap;

use promsidecar::admission::catalog::{Catalog, NamespaceMeta};
use promsidecar::admission::reason::Reason;
use promsidecar::admission::{Answer, Outcome, Policy, admit};
use promsidecar::names;
use serde_json::json;

/// Label that every namespace has.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What a namespace's label or a pod's annotation may say; `None`: it is not there.
pub(crate) const VALUES: [Option<&str>; 8] = [
    None,
    Some("true"),
    Some("True"),
    Some("TRUE"),
    Some("false"),
    Some("False"),
    Some("FALSE"),
    Some("a-template"),
];
/// Spellings that no list of labels has, which CEL reads all the same, and values that nothing reads.
pub(crate) const ODD_VALUES: [Option<&str>; 3] = [Some("tRuE"), Some("fAlSe"), Some("")];

/// A namespace and a pod in the few keys that the registration looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Combination {
    pub(crate) label_inject: Option<&'static str>,
    pub(crate) label_required: Option<&'static str>,
    pub(crate) pod_inject: Option<&'static str>,
    pub(crate) pod_required: Option<&'static str>,
}

impl Combination {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let on_pod = || VALUES.into_iter().chain(ODD_VALUES);
        VALUES.into_iter().flat_map(move |label_inject| {
            VALUES.into_iter().flat_map(move |label_required| {
                on_pod().flat_map(move |pod_inject| {
                    on_pod().map(move |pod_required| Self {
                        label_inject,
                        label_required,
                        pod_inject,
                        pod_required,
                    })
                })
            })
        })
    }

    pub(crate) fn labels(&self, namespace: &'static str) -> BTreeMap<&'static str, &'static str> {
        let pairs = [
            (NAMESPACE_NAME, Some(namespace)),
            (names::INJECT, self.label_inject),
            (names::REQUIRED, self.label_required),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    pub(crate) fn annotations(&self) -> BTreeMap<&'static str, &'static str> {
        let pairs = [(names::INJECT, self.pod_inject), (names::REQUIRED, self.pod_required)];
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// What the admission core says, in a cluster without templates: whoever asks is refused for the lack of one, and
    /// denied where an agent is required.
    pub(crate) fn decided(&self, namespace: &str) -> Outcome {
        let labels = self.labels("unused");
        let meta = NamespaceMeta::new(|key| labels.get(key).copied(), |_| None);
        let mut catalog = Catalog::default();
        catalog.insert_namespace(namespace.to_owned(), meta);
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": namespace,
                "operation": "CREATE",
                "object": {
                    "metadata": {"name": "web", "annotations": self.annotations()},
                    "spec": {"containers": [{"name": "web"}]},
                },
            },
        });
        let body = serde_json::to_vec(&review).expect("a value serialises");
        match admit(&body, &catalog, &Policy::default()) {
            Answer::Reviewed { outcome, .. } => outcome,
            other => panic!("{self:?}: {other:?}"),
        }
    }

    /// Path of the one entry that the pod has to be sent to; none where the admission core has nothing to say about it.
    pub(crate) fn path(&self, decided: &Outcome) -> Option<String> {
        if matches!(decided.reason, Some(Reason::NotRequested | Reason::OptedOut)) {
            return None;
        }
        let asked = if self.pod_inject.is_some() { "pod" } else { "namespace" };
        let truthy = |value: Option<&str>| value.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let required = match (truthy(self.label_required), truthy(self.pod_required)) {
            (true, _) => "ns",
            (false, true) => "pod",
            (false, false) => "no",
        };
        Some(format!("/mutate/{asked}/{required}"))
    }
}
