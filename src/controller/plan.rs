//! What has to be done so that a template's ConfigMaps are as they should be. PURE.
//!
//! Input: the version in force with monitors and Services, the namespaces that need it, the ConfigMaps that are there, and the time. Output: steps; none
//! where everything is as it should be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rendered::{InForce, Rendered};
use crate::admission::sidecar::config_map_name;
use crate::names;
use crate::template::agent::TemplateId;
use crate::template::render;

/// How long a ConfigMap is kept after its last use: longer than the pause of a weekly job.
pub const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A ConfigMap of ours, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Of its content, [`digest`].
    pub digest: [u8; 32],
    /// Whether labels and annotations say what it is.
    pub marked: bool,
    /// Since when nobody uses it.
    pub unused_since: Option<Timestamp>,
    /// Which object it is.
    pub seen: Seen,
}

/// An object as it was seen, for the API server to compare: what came in its place meanwhile is not written to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// There is none: create this one, but do not touch one that is not ours.
    Create(Value),
    /// There is one of ours that differs: apply this one, which says by its UID in whose place.
    Apply(Value),
    /// Note since when nobody uses it, or that somebody does again; all else stays.
    Mark {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Absent: it is in use.
        unused_since: Option<Timestamp>,
        /// Which one.
        seen: Seen,
    },
    /// Nobody has used it for long.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Which one.
        seen: Seen,
    },
}

impl Step {
    /// The namespace that it writes to.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Create(object) | Self::Apply(object) => {
                object["metadata"]["namespace"].as_str().unwrap_or_default()
            }
            Self::Mark { namespace, .. } | Self::Delete { namespace, .. } => namespace,
        }
    }

    /// Whether it concerns the version that was seen and no other: of a newer one, the watch tells.
    pub const fn is_of_one_version(&self) -> bool {
        matches!(self, Self::Mark { .. } | Self::Delete { .. })
    }
}

/// Why a configuration cannot be delivered at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the configuration has {bytes} bytes, more than the {} that a ConfigMap holds: shorten the template",
    render::MAX_BYTES
)]
pub struct TooLarge {
    /// Its size.
    pub bytes: usize,
}

/// Digest of a content, for comparison.
pub fn digest(content: &str) -> [u8; 32] {
    Sha256::digest(content).into()
}

/// The steps for one template; `in_force` is absent for a template that is gone: what it delivered is kept for as long as it is
/// used. `observed` has its ConfigMaps by namespace.
pub fn plan(
    id: &TemplateId,
    in_force: Option<InForce<'_>>,
    rendered: &mut Rendered,
    needed: &BTreeSet<&str>,
    observed: &BTreeMap<&str, &Observed>,
    now: Timestamp,
) -> Result<Vec<Step>, TooLarge> {
    let mut steps = Vec::new();
    if let Some(in_force) = in_force {
        rendered.follow(in_force);
        rendered.keep(needed);
    }
    for namespace in needed {
        let found = observed.get(namespace);
        let step = match in_force {
            Some(in_force) => deliver(id, in_force, rendered, namespace, found.copied())?,
            None => None,
        };
        // One write at a time: what is applied is another version, of which the watch will tell.
        let used_again = found.filter(|found| found.unused_since.is_some());
        steps.extend(step.or_else(|| used_again.map(|found| mark(id, namespace, found, None))));
    }
    let unused = observed.iter().filter(|(namespace, _)| !needed.contains(*namespace));
    steps.extend(unused.filter_map(|(namespace, found)| retire(id, namespace, found, now)));
    Ok(steps)
}

/// Brings what is delivered to a namespace up to date, if it is not.
fn deliver(
    id: &TemplateId,
    in_force: InForce<'_>,
    rendered: &mut Rendered,
    namespace: &str,
    found: Option<&Observed>,
) -> Result<Option<Step>, TooLarge> {
    let as_rendered = rendered.digest(namespace);
    if found.is_some_and(|found| found.marked && as_rendered == Some(found.digest)) {
        return Ok(None);
    }
    let (content, digest) = rendered.render(in_force, namespace)?;
    Ok(match found {
        None => Some(Step::Create(config_map(id, namespace, &content))),
        Some(found) if found.marked && found.digest == digest => None,
        Some(found) => {
            let mut object = config_map(id, namespace, &content);
            object["metadata"]["uid"] = json!(found.seen.uid);
            Some(Step::Apply(object))
        }
    })
}

/// Notes the beginning of disuse, then waits for its end. The content stays what it was.
fn retire(id: &TemplateId, namespace: &str, found: &Observed, now: Timestamp) -> Option<Step> {
    match found.unused_since {
        None => Some(mark(id, namespace, found, Some(now))),
        Some(since) if now.duration_since(since) >= KEPT => Some(Step::Delete {
            namespace: namespace.to_owned(),
            name: config_map_name(id),
            seen: found.seen.clone(),
        }),
        Some(_) => None,
    }
}

/// When the next ConfigMap of a template has been out of use for long enough.
pub fn next_deletion(observed: &BTreeMap<&str, &Observed>) -> Option<Timestamp> {
    observed.values().filter_map(|found| found.unused_since?.checked_add(KEPT).ok()).min()
}

fn mark(id: &TemplateId, namespace: &str, found: &Observed, unused_since: Option<Timestamp>) -> Step {
    let seen = found.seen.clone();
    Step::Mark { namespace: namespace.to_owned(), name: config_map_name(id), unused_since, seen }
}

/// The object as it is created and applied.
pub fn config_map(id: &TemplateId, namespace: &str, content: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(id),
            "namespace": namespace,
            "labels": {(names::MANAGED_BY): names::MANAGER},
            "annotations": {(names::TEMPLATE): id.to_string()},
        },
        "data": {(names::CONFIG_KEY): content},
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
