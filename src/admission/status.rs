//! The `status` annotation: what was injected. PURE.
//!
//! Input: an injection. Output: one JSON object, versioned, from which a second pass recognises us, `uninject` takes back
//! exactly what was added, and a controller counts outdated pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::patch::{Parent, Was};
use super::sidecar::Mode;

/// Version of the object.
pub const VERSION: u32 = 1;
/// Oldest version that counts as ours; newer ones do as well, so that a pod injected by a newer promsidecar stays as it is.
pub const FIRST_VERSION: u32 = 1;

/// Content of the annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status<'a> {
    /// [`VERSION`].
    pub version: u32,
    /// `namespace/name` of the template.
    pub template: String,
    /// Generation of the template.
    pub generation: i64,
    /// Hash of the pod-level part.
    pub hash: &'a str,
    /// Version of promsidecar.
    pub injector: &'a str,
    /// Native or container.
    pub mode: Mode,
    /// What was added, by place.
    pub added: Added<'a>,
    /// Parents that did not exist, and how they were found.
    pub created: BTreeMap<Parent, Was>,
}

/// Names and keys of everything that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Added<'a> {
    /// Containers, in the list that the mode says.
    pub containers: Vec<&'a str>,
    /// Volumes.
    #[serde(borrow)]
    pub volumes: Vec<&'a str>,
    /// Annotation keys.
    pub annotations: Vec<&'a str>,
    /// Label keys.
    pub labels: Vec<&'a str>,
}

impl Status<'_> {
    /// The annotation's value.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("invariant: strings, numbers and maps with string keys serialise")
    }
}
