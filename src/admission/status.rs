//! The `status` annotation: what was injected. PURE.
//!
//! Input: an injection. Output: one JSON object, versioned, from which a second pass recognises us, `uninject` takes back
//! exactly what was added, and a controller counts outdated pods. What other versions wrote is read as far as all agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::patch::{Parent, Was};
use super::sidecar::Mode;
use crate::release;
use crate::template::agent::TemplateId;

/// Version of the object.
pub const VERSION: u32 = release::STATUS;
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
    #[cfg_attr(feature = "next-version", serde(rename = "podHash", alias = "hash"))]
    pub hash: &'a str,
    /// Version of promsidecar.
    pub injector: &'a str,
    /// Native or container.
    pub mode: Mode,
    /// What was added, by place.
    pub added: Added<'a>,
    /// Parents that did not exist, and how they were found.
    pub created: BTreeMap<Parent, Was>,
    /// Version of the targets, which this release does not tell.
    #[cfg(feature = "next-version")]
    #[serde(default)]
    pub targets: u32,
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

/// What every version can ask of a status, whichever version wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its version; a later one than [`VERSION`] is of a newer promsidecar.
    pub version: u32,
    /// The template.
    pub template: TemplateId,
    /// Hash of the pod-level part; empty where a later version says it otherwise.
    pub hash: String,
    /// Generation of the template; 0 where a later version says it otherwise.
    pub generation: i64,
    /// Version of promsidecar; empty as the hash.
    pub injector: String,
    /// Native or container; empty as the hash.
    pub mode: String,
}

impl Written {
    /// Whether a newer promsidecar wrote it, so that not all of it need be known here.
    pub const fn is_newer(&self) -> bool {
        self.version > VERSION
    }

    /// By whom, as far as that is said: `a newer promsidecar (0.2.0, status version 2)`.
    pub fn newer(&self) -> String {
        newer(&self.injector, self.version)
    }
}

/// A newer promsidecar, by its version and that of its status.
pub(super) fn newer(injector: &str, version: u32) -> String {
    let comma = if injector.is_empty() { "" } else { ", " };
    format!("a newer promsidecar ({injector}{comma}status version {version})")
}

/// Reads an annotation; `None` where it is no status of any version.
pub fn read(annotation: &str) -> Option<Written> {
    let status: Value = serde_json::from_str(annotation).ok()?;
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let version = u32::try_from(status["version"].as_u64()?).ok()?;
    let hash = release::STATUS_HASH.iter().map(|key| text(key)).find(|hash| !hash.is_empty());
    let is_ours = version >= FIRST_VERSION && (hash.is_some() || version > VERSION);
    let template = TemplateId::parse(&text("template")).filter(|_| is_ours)?;
    Some(Written {
        version,
        template,
        hash: hash.unwrap_or_default(),
        generation: status["generation"].as_i64().unwrap_or_default(),
        injector: text("injector"),
        mode: text("mode"),
    })
}

#[cfg(test)]
mod tests {
    use super::{Written, read};
    use crate::template::agent::TemplateId;

    #[test]
    fn a_status_is_read_where_it_is_one_of_ours_and_a_later_one_as_far_as_it_says_the_same() {
        let one = || TemplateId { namespace: "a".to_owned(), name: "one".to_owned() };
        let first = r#"{"version":1,"template":"a/one","generation":3,"hash":"h","injector":"0.1.0","mode":"native","more":{}}"#;
        let written = Written {
            version: 1,
            template: one(),
            hash: "h".to_owned(),
            generation: 3,
            injector: "0.1.0".to_owned(),
            mode: "native".to_owned(),
        };
        assert_eq!(read(first), Some(written.clone()));
        assert!(!written.is_newer());
        let later = read(r#"{"version":2,"template":"a/one","hash":[7],"mode":{"kind":"native"}}"#).unwrap();
        let unsaid = || String::new();
        let bare = Written {
            version: 2,
            template: one(),
            hash: unsaid(),
            generation: 0,
            injector: unsaid(),
            mode: unsaid(),
        };
        assert_eq!(later, bare);
        assert!(later.is_newer());
        assert_eq!(later.newer(), "a newer promsidecar (status version 2)");
        for text in [
            "",
            "{}",
            "[]",
            r#"{"version":1,"template":"one","hash":"h"}"#,
            r#"{"version":1,"template":"a/one"}"#,
            r#"{"version":0,"template":"a/one","hash":"h"}"#,
            r#"{"template":"a/one","hash":"h"}"#,
            r#"{"version":4294967296,"template":"a/one"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
