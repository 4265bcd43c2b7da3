//! Injection without a cluster: the decision and the patch of admission, applied to a manifest's pod, and the way back. PURE.
//!
//! Input: a Pod or a pod template as JSON, what is known around it, catalog and policy. Output: the same value with its agent
//! in it, or why not; for the way back, the value as it was before, with parents that were absent or `null` restored.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Policy;
use super::catalog::Catalog;
use super::decision::{self, Refusal, Verdict};
use super::json::Field;
use super::patch::{Parent, PatchBytes, Was};
use super::pod::PodView;
use super::reason::Reason;
use super::sidecar::Mode;
use super::status::{self, Status, VERSION};
use crate::names;
use crate::release::PROGRAM;
use crate::template::agent::TemplateId;

/// Whose pod it is, as far as a manifest tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A Pod of its own: its name is its name.
    Nobody,
    /// The workload itself creates the pods, such as a `StatefulSet`.
    Workload {
        /// Its kind.
        kind: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// An object that is created later and whose name nobody knows yet, such as a Deployment's `ReplicaSet`.
    Unknown,
}

/// What was injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The template.
    pub template: TemplateId,
    /// Where the agent stands.
    pub mode: Mode,
    /// What the user should know, each a sentence.
    pub warnings: Vec<String>,
}

/// Why nothing was injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Reason and detail, the true ones.
    pub refusal: Refusal,
    /// Whether the pod would be denied.
    pub denied: bool,
}

/// Injects the agent into a Pod or a pod template; a refusal leaves it as it is.
///
/// What a template does not have (name, owner made later) is left out of the targets as admission leaves out what it does
/// not know.
pub fn inject(
    pod: &mut Value,
    namespace: &str,
    owner: Owner<'_>,
    catalog: &Catalog,
    policy: &Policy,
) -> Result<Injected, Refused> {
    if let Some(refusal) = not_text(pod) {
        return Err(Refused { refusal, denied: false });
    }
    let seen = seen(pod, owner).to_string();
    let view: Field<PodView<'_>> = serde_json::from_str(&seen).unwrap_or_default();
    let missing = PodView::default();
    let decision = decision::decide(namespace, view.value().unwrap_or(&missing), catalog, policy);
    match decision.verdict {
        Verdict::Inject(injected) => {
            let (injection, injected) = *injected;
            let created = Was::of(pod.get("metadata"));
            let patched = patched(pod, created, &injected.patch).map_err(|error| {
                let refusal = Refusal::new(Reason::InternalError, error);
                Refused { refusal, denied: false }
            })?;
            *pod = patched;
            let template = injection.entry.id.clone();
            Ok(Injected { template, mode: injection.mode, warnings: injected.warnings })
        }
        Verdict::Refuse(refusal) => {
            let denied = decision.required && refusal.reason.denies_if_required();
            Err(Refused { refusal, denied })
        }
    }
}

/// A value that says something to us without being text: `inject: true` without quotes. The API server refuses such a pod
/// before admission sees it, so here it is said.
fn not_text(pod: &Value) -> Option<Refusal> {
    let spoken = |key: &str| key.starts_with(names::PREFIX) || key.starts_with(names::COMMUNITY_PREFIX);
    let found = [Parent::Annotations, Parent::Labels].into_iter().find_map(|parent| {
        let map = pod.pointer(parent.pointer())?.as_object()?;
        let (key, value) = map.iter().find(|(key, value)| spoken(key) && !value.is_string())?;
        Some(format!("{key} is {value}, which is no text; put it in quotes"))
    });
    found.map(|detail| Refusal::new(Reason::InvalidAnnotation, detail))
}

/// What admission would see of the pod.
fn seen(pod: &Value, owner: Owner<'_>) -> Value {
    let mut metadata = match pod.get("metadata") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(metadata) => metadata.clone(),
    };
    if let (Some(metadata), false) = (metadata.as_object_mut(), owner == Owner::Nobody) {
        // A template's name is not its pods' name.
        metadata.remove("name");
        if let Owner::Workload { kind, name } = owner {
            let reference = json!([{"kind": kind, "name": name, "controller": true}]);
            metadata.insert("ownerReferences".to_owned(), reference);
        }
    }
    json!({"metadata": metadata, "spec": pod.get("spec")})
}

/// The pod after the patch, applied by an engine that is not ours. `created`: how a missing `metadata` was found.
fn patched(pod: &Value, created: Option<Was>, patch: &PatchBytes) -> Result<Value, String> {
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).map_err(|error| error.to_string())?;
    let mut patched = pod.clone();
    if created.is_some() {
        patched["metadata"] = Value::Object(Map::new());
    }
    json_patch::patch(&mut patched, &patch).map_err(|error| error.to_string())?;
    if let Some(was) = created {
        // Only templates lack metadata, which admission never sees; so the status learns of it here.
        let status = &mut patched["metadata"]["annotations"][names::STATUS];
        let text = status.as_str().unwrap_or_default().to_owned();
        let mut written: Status<'_> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        written.created.insert(Parent::Metadata, was);
        *status = Value::String(written.to_json());
    }
    Ok(patched)
}

/// What was taken out of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Nothing of ours was there.
    Nothing,
    /// The mark of a pod that had asked and was not injected.
    Mark,
    /// The agent.
    Agent {
        /// The template that it came from.
        template: String,
    },
}

/// The status does not say what to take out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UninjectError {
    /// Not a status.
    #[error("annotation {key} cannot be read ({0}); take the agent out by hand", key = names::STATUS)]
    Unreadable(String),
    /// Made by a later version.
    #[error("annotation {key} is of {}, and {PROGRAM} knows versions up to {VERSION}: use that one", status::newer(injector, *version), key = names::STATUS)]
    Newer {
        /// Version of the status.
        version: u32,
        /// Version of promsidecar, if it is said as we say it.
        injector: String,
    },
    /// It lists something that we never add.
    #[error("annotation {key} lists {0}, which promsidecar never adds; take it out by hand", key = names::STATUS)]
    Foreign(String),
}

/// Annotations that nobody but promsidecar writes.
const OURS: [&str; 3] = [names::STATUS, names::TARGETS, names::SKIPPED];

/// Takes the agent, or the mark of a refusal, out of a Pod or a pod template.
///
/// After [`inject`] this gives the value that went in, but for what was ours already (a copied `status`, `targets`,
/// `skipped` or `injected`), which goes as well. An error leaves the value as it is.
pub fn uninject(pod: &mut Value) -> Result<Taken, UninjectError> {
    let status = pod.pointer("/metadata/annotations").and_then(|annotations| annotations.get(names::STATUS));
    let Some(status) = status else { return Ok(unmark(pod)) };
    let text =
        status.as_str().ok_or_else(|| UninjectError::Unreadable("it is no text".to_owned()))?.to_owned();
    let status = read(&text)?;
    let list = match status.mode {
        Mode::Native => Parent::InitContainers,
        Mode::Container => Parent::Containers,
    };
    drop_named(pod, list, &status.added.containers);
    drop_named(pod, Parent::Volumes, &status.added.volumes);
    drop_keys(pod, Parent::Annotations, &status.added.annotations);
    drop_keys(pod, Parent::Annotations, &OURS);
    drop_keys(pod, Parent::Labels, &[names::INJECTED]);
    // In the order of `Parent`, in which metadata comes after what it holds.
    for (parent, was) in &status.created {
        restore(pod, *parent, *was);
    }
    Ok(Taken::Agent { template: status.template })
}

/// Reads a status and refuses one that would take out what is not ours.
fn read(text: &str) -> Result<Status<'_>, UninjectError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
        injector: Option<Value>,
    }
    let unreadable = |error: serde_json::Error| UninjectError::Unreadable(error.to_string());
    let Versioned { version, injector } = serde_json::from_str(text).map_err(unreadable)?;
    if version > VERSION {
        let injector = injector.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        return Err(UninjectError::Newer { version, injector });
    }
    let status: Status<'_> = serde_json::from_str(text).map_err(unreadable)?;
    let ours_alone =
        |what: &str, names: &[&str], ours: &dyn Fn(&str) -> bool| match names.iter().find(|name| !ours(name))
        {
            Some(name) => Err(UninjectError::Foreign(format!("{what} {name}"))),
            None => Ok(()),
        };
    let added = &status.added;
    ours_alone("the container", &added.containers, &|name| name == names::CONTAINER)?;
    ours_alone("the volume", &added.volumes, &|name| {
        name.strip_prefix(names::VOLUME_CONFIG).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })?;
    ours_alone("the annotation", &added.annotations, &|key| {
        OURS.contains(&key) || key == names::SAFE_TO_EVICT
    })?;
    ours_alone("the label", &added.labels, &|key| key == names::INJECTED)?;
    Ok(status)
}

/// A mark does not say which parents were made for it, so one that held nothing else is taken for such.
fn unmark(pod: &mut Value) -> Taken {
    let label = pod.pointer(Parent::Labels.pointer()).and_then(|labels| labels.get(names::INJECTED));
    let marked = label.is_some_and(|value| value == "false");
    let skipped = drop_keys(pod, Parent::Annotations, &[names::SKIPPED]);
    if skipped {
        restore(pod, Parent::Annotations, Was::Absent);
    }
    if marked {
        drop_keys(pod, Parent::Labels, &[names::INJECTED]);
        restore(pod, Parent::Labels, Was::Absent);
    }
    if skipped || marked { Taken::Mark } else { Taken::Nothing }
}

fn drop_named(pod: &mut Value, list: Parent, names: &[&str]) {
    if let Some(items) = pod.pointer_mut(list.pointer()).and_then(Value::as_array_mut) {
        items.retain(|item| {
            item.get("name").and_then(Value::as_str).is_none_or(|name| !names.contains(&name))
        });
    }
}

/// Whether there was anything to drop.
fn drop_keys(pod: &mut Value, map: Parent, keys: &[&str]) -> bool {
    let Some(map) = pod.pointer_mut(map.pointer()).and_then(Value::as_object_mut) else { return false };
    let before = map.len();
    map.retain(|key, _| !keys.contains(&&**key));
    map.len() < before
}

/// Puts a parent that a patch created back to what it was, unless someone has used it since.
fn restore(pod: &mut Value, parent: Parent, was: Was) {
    let Some((above, key)) = parent.pointer().rsplit_once('/') else { return };
    let Some(above) = pod.pointer_mut(above).and_then(Value::as_object_mut) else { return };
    let unused = match above.get(key) {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => false,
    };
    match was {
        Was::Absent if unused => drop(above.remove(key)),
        Was::Null if unused => drop(above.insert(key.to_owned(), Value::Null)),
        _ => {}
    }
}

#[cfg(test)]
#[path = "offline_tests.rs"]
mod tests;
