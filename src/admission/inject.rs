//! The patches: the agent added to a pod, or the mark that says why it was not. PURE.
//!
//! Input: an injection that was decided. Output: the patch with its warnings, or `too-large` and `internal-error`, which
//! only show while it is written.

use std::collections::BTreeMap;

use super::decision::{Injection, Refusal};
use super::patch::{EscapedJson, Parent, Patch, PatchBytes, Unprovable, Was};
use super::pod::PodView;
use super::reason::Reason;
use super::sidecar::{Mode, SidecarFor};
use super::status::{self, Status};
use super::targets::{self, Discovery, Timing};
use crate::names;
use crate::release;

/// Most bytes of keys and values of all annotations (apimachinery `TotalAnnotationSizeLimitB`).
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// Bytes of them that stay free for whoever annotates the pod later: webhooks after ours, a network plugin. The API server
/// would refuse what they write beyond the limit, and with it the pod.
const HEADROOM: usize = 32 * 1024;
/// Most bytes of all annotations with ours.
const MAX_WITH_OURS: usize = MAX_ANNOTATIONS - HEADROOM;
/// Most characters of the `skipped` annotation.
const MAX_SKIPPED: usize = 1024;

/// A patch with what the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The patch.
    pub patch: PatchBytes,
    /// Warnings, each a sentence.
    pub warnings: Vec<String>,
}

/// Writes the patch of an injection.
pub fn build(
    injection: &Injection<'_>,
    namespace: &str,
    pod: &PodView<'_>,
    required: bool,
) -> Result<Injected, Refusal> {
    let sidecar = injection.sidecar.for_pod(pod, (namespace, injection.namespace), injection.mode, required);
    let timing =
        Timing::within(&injection.hints, injection.sidecar.scrape_interval, injection.sidecar.scrape_timeout);
    let mut patch = Patch::new(pod);
    let status = status(injection, namespace, pod, &patch);

    let spent = annotations_size(pod)
        + extra_annotations(pod).map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let spent = spent + names::STATUS.len() + status.len() + names::TARGETS.len();
    let discovery = Discovery {
        pod,
        namespace,
        hints: &injection.hints,
        timing,
        agent_port: sidecar.port().filter(|_| injection.sidecar.self_monitor),
    };
    let budget = MAX_WITH_OURS.saturating_sub(spent);
    // Nothing is written where nothing fits: a pod may have as many annotations as a body holds.
    let targets = if budget == 0 { None } else { targets::build(&discovery, budget) };
    let targets = targets.ok_or_else(|| {
        let detail = format!(
            "annotations may take {MAX_WITH_OURS} of {MAX_ANNOTATIONS} bytes, {budget} are left for the targets"
        );
        Refusal::new(Reason::TooLarge, detail)
    })?;
    if let Some(path) = pod.irregular_path() {
        return Err(internal(&format_args!("{path} is not what Kubernetes documents")));
    }
    write(&mut patch, pod, &sidecar, injection.mode, &status, &targets).map_err(|error| internal(&error))?;
    Ok(Injected { patch: patch.finish(), warnings: warnings(injection, namespace, pod, timing) })
}

fn internal(error: &impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::InternalError, error.to_string())
}

fn write(
    patch: &mut Patch,
    pod: &PodView<'_>,
    sidecar: &SidecarFor<'_>,
    mode: Mode,
    status: &str,
    targets: &EscapedJson,
) -> Result<(), Unprovable> {
    patch.member(Parent::Labels, names::INJECTED, "true")?;
    patch.member(Parent::Annotations, names::STATUS, status)?;
    patch.escaped_member(Parent::Annotations, names::TARGETS, targets)?;
    for (key, value) in extra_annotations(pod) {
        patch.member(Parent::Annotations, key, value)?;
    }
    for (_, volume) in sidecar.volumes() {
        patch.element(Parent::Volumes, volume)?;
    }
    patch.element(list(mode), |out| sidecar.write_container(out))
}

const fn list(mode: Mode) -> Parent {
    match mode {
        Mode::Native => Parent::InitContainers,
        Mode::Container => Parent::Containers,
    }
}

/// Annotations beside `status` and `targets`.
fn extra_annotations(pod: &PodView<'_>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let safe_to_evict =
        pod.annotation(names::SAFE_TO_EVICT).is_none().then_some((names::SAFE_TO_EVICT, names::VOLUME_WAL));
    // A pod copied with its annotations may carry an old refusal, which is no longer true.
    let skipped =
        pod.annotation(names::SKIPPED).filter(|value| !value.is_empty()).map(|_| (names::SKIPPED, ""));
    safe_to_evict.into_iter().chain(skipped)
}

/// Bytes of the pod's annotations that stay, by the API server's count.
fn annotations_size(pod: &PodView<'_>) -> usize {
    let replaced = [names::STATUS, names::TARGETS, names::SKIPPED];
    let staying = pod.annotations().filter(|(key, _)| !replaced.contains(key));
    staying.map(|(key, value)| key.len() + value.len()).sum()
}

fn status(injection: &Injection<'_>, namespace: &str, pod: &PodView<'_>, patch: &Patch) -> String {
    let parents = [Parent::Labels, Parent::Annotations, Parent::Volumes, list(injection.mode)];
    let created: BTreeMap<Parent, Was> = parents
        .into_iter()
        .filter_map(|parent| patch.would_create(parent).map(|was| (parent, was)))
        .collect();
    let mut annotations = vec![names::STATUS, names::TARGETS];
    annotations.extend(extra_annotations(pod).map(|(key, _)| key));
    Status {
        version: status::VERSION,
        template: injection.entry.id.to_string(),
        generation: injection.sidecar.generation,
        hash: injection.sidecar.hash_in(namespace),
        injector: release::PROGRAM,
        mode: injection.mode,
        added: status::Added {
            containers: vec![names::CONTAINER],
            volumes: injection.sidecar.volume_names().collect(),
            annotations,
            labels: vec![names::INJECTED],
        },
        created,
        #[cfg(feature = "next-version")]
        targets: release::STATUS,
    }
    .to_json()
}

/// What the owner of an injected pod should know.
fn warnings(injection: &Injection<'_>, namespace: &str, pod: &PodView<'_>, timing: Timing) -> Vec<String> {
    let mut warnings = Vec::new();
    let shares = pod.spec.value().and_then(|spec| spec.share_process_namespace.value()) == Some(&true);
    if shares && injection.sidecar.has_credentials(namespace) {
        warnings.push(
            "shareProcessNamespace lets the pod's other containers read the agent's credentials".to_owned(),
        );
    }
    let hints = &injection.hints;
    let pairs =
        [(names::INTERVAL, hints.interval, timing.interval), (names::TIMEOUT, hints.timeout, timing.timeout)];
    for (key, hinted, used) in pairs {
        if let (Some(hinted), Some(used)) = (hinted, used)
            && hinted != used
        {
            warnings.push(format!("{key} {hinted:?} is outside the template's bounds, {used:?} is used"));
        }
    }
    warnings.extend(hints.notes.iter().cloned());
    warnings
}

/// The patch that marks a pod which asked and was not injected, if there is something to write and it can be proven.
pub fn mark(pod: &PodView<'_>, reason: Reason, detail: &str) -> Option<PatchBytes> {
    let value = super::review::one_line(&format_args!("{}: {detail}", reason.word()), MAX_SKIPPED);
    let marked =
        pod.label(names::INJECTED) == Some("false") && pod.annotation(names::SKIPPED) == Some(&value);
    let fits = annotations_size(pod) + names::SKIPPED.len() + value.len() <= MAX_WITH_OURS;
    if marked || !fits || pod.irregular_path().is_some() {
        return None;
    }
    let mut patch = Patch::new(pod);
    patch.member(Parent::Labels, names::INJECTED, "false").ok()?;
    patch.member(Parent::Annotations, names::SKIPPED, &value).ok()?;
    Some(patch.finish())
}
