//! A pod that asked and was not injected, as it says itself. PURE.
//!
//! Input: metadata of a pod. Output: why not, and whom to tell: the pod, and its direct owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::event::{MAX_NOTE, Regarding};
use crate::admission::reason::Reason;
use crate::admission::review::one_line;
use crate::names;

/// Such a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The pod.
    pub pod: Regarding,
    /// What made it, where something did.
    pub owner: Option<Regarding>,
    /// When the API server created it.
    pub created: Timestamp,
    /// Why it was not injected, as its owner may know it.
    pub reason: Reason,
    /// The same in words.
    pub detail: String,
    /// Its annotation `inject`.
    pub inject: Option<String>,
}

/// Reads a pod; `None` for one that does not bear our mark. Anybody can write that: it is good for Events in the pod's own
/// namespace, no more.
pub fn read(metadata: &ObjectMeta) -> Option<Refused> {
    let annotation = |key: &str| metadata.annotations.as_ref()?.get(key);
    if metadata.labels.as_ref()?.get(names::INJECTED)? != "false" {
        return None;
    }
    let (word, detail) = annotation(names::SKIPPED)?.split_once(": ")?;
    let reason = Reason::from_word(word).filter(|reason| reason.marks_pod())?;
    let namespace = metadata.namespace.clone()?;
    let regarding = |api_version: &str, kind: &str, name: &str, uid: &str| Regarding {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.clone(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    };
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    Some(Refused {
        pod: regarding("v1", "Pod", metadata.name.as_deref()?, metadata.uid.as_deref()?),
        owner: owner.map(|owner| regarding(&owner.api_version, &owner.kind, &owner.name, &owner.uid)),
        created: metadata.creation_timestamp.as_ref()?.0,
        reason,
        detail: one_line(&detail, MAX_NOTE),
        inject: annotation(names::INJECT).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Refused, Regarding, read};
    use crate::admission::reason::Reason;

    fn metadata() -> Value {
        json!({
            "namespace": "a", "name": "web-1", "uid": "p", "creationTimestamp": "2026-11-25T12:00:00Z",
            "labels": {"sidecar.prometheus.io/injected": "false"},
            "annotations": {
                "sidecar.prometheus.io/inject": "true",
                "sidecar.prometheus.io/skipped": "template-not-found: no template in a: none\u{7}",
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "x"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true},
            ],
        })
    }

    fn of(metadata: Value) -> Option<Refused> {
        read(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn reason_detail_and_owner_are_read_from_the_mark() {
        let regarding = |api_version: &str, kind: &str, name: &str, uid: &str| Regarding {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: "a".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        let expected = Refused {
            pod: regarding("v1", "Pod", "web-1", "p"),
            owner: Some(regarding("apps/v1", "ReplicaSet", "web", "r")),
            created: "2026-11-25T12:00:00Z".parse().unwrap(),
            reason: Reason::TemplateNotFound,
            detail: "no template in a: none ".to_owned(),
            inject: Some("true".to_owned()),
        };
        assert_eq!(of(metadata()), Some(expected));
    }

    #[test]
    fn what_is_not_our_mark_is_passed_over() {
        for (pointer, value) in [
            ("/labels", json!({})),
            ("/labels/sidecar.prometheus.io~1injected", json!("true")),
            ("/annotations", json!({})),
            ("/annotations/sidecar.prometheus.io~1skipped", json!("")),
            ("/annotations/sidecar.prometheus.io~1skipped", json!("no-such-reason: x")),
            ("/annotations/sidecar.prometheus.io~1skipped", json!("mirror-pod: never marks a pod")),
        ] {
            let mut metadata = metadata();
            *metadata.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(of(metadata), None, "{pointer} {value}");
        }
    }
}
