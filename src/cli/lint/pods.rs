//! What a pod template and a Namespace say, judged value by value. PURE.
//!
//! Input: a workload's pod template, or a Namespace's metadata. Output: values that cannot be read, by the grammar of
//! admission; hints that nobody asked for.

use serde_json::{Map as Object, Value, json};

use super::finding::{Finding, Rule, path};
use crate::admission::catalog::{NamespaceMeta, UNKNOWN_NAMESPACE};
use crate::admission::hints::{self, InvalidValue};
use crate::admission::json::Field;
use crate::admission::pod::PodView;
use crate::admission::request::{self, Wanted};
use crate::names;
use crate::template::violation::Path;

/// Kinds that have a pod template even where a manifest (a patch, say) leaves its containers out.
const WORKLOADS: [&str; 7] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"];
/// Keys that are judged one by one, so that nothing hides behind the first mistake.
const HINTS: [&str; 5] = [names::PORT, names::PATH, names::SCHEME, names::INTERVAL, names::TIMEOUT];

/// The pod of a Pod or the template of a workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodTemplate<'a> {
    /// Where it stands in the object.
    pub(super) path: &'static [&'static str],
    /// Metadata and spec.
    pub(super) value: &'a Value,
}

impl<'a> PodTemplate<'a> {
    /// That of the object, if it has one.
    pub(super) fn of(object: &'a Value) -> Option<Self> {
        let kind = object.get("kind").and_then(Value::as_str)?;
        let path: &[&str] = match kind {
            "Pod" => &[],
            "PodTemplate" => &["template"],
            "CronJob" => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        };
        let value = path.iter().try_fold(object, |value, segment| value.get(segment))?;
        let is_pod = path.is_empty() || WORKLOADS.contains(&kind) || has_containers(value);
        is_pod.then_some(Self { path, value })
    }

    /// Path of its metadata.
    pub(super) fn metadata_path(&self) -> Path {
        path(&[self.path, &["metadata"]].concat())
    }

    /// Path of an annotation.
    pub(super) fn field(&self, key: &str) -> String {
        self.metadata_path().key("annotations").key(key).to_string()
    }

    /// An annotation, if it is a text.
    pub(super) fn annotation(&self, key: &str) -> Option<&'a str> {
        self.value.pointer("/metadata/annotations")?.get(key)?.as_str()
    }

    /// The pod with these annotations alone.
    fn with_only(&self, keys: &[&str]) -> Value {
        let annotations: Object<String, Value> =
            keys.iter().filter_map(|key| Some(((*key).to_owned(), self.annotation(key)?.into()))).collect();
        json!({"metadata": {"annotations": annotations}, "spec": self.value.get("spec")})
    }
}

fn has_containers(pod: &Value) -> bool {
    pod.pointer("/spec/containers").is_some()
}

/// Whether the agent's container is in the object's pod.
pub(super) fn has_agent(object: &Value) -> bool {
    let Some(pod) = PodTemplate::of(object) else { return false };
    let of = |list: &str| pod.value.pointer(list).and_then(Value::as_array).into_iter().flatten();
    of("/spec/containers")
        .chain(of("/spec/initContainers"))
        .any(|container| container.get("name").and_then(Value::as_str) == Some(names::CONTAINER))
}

/// Shows a pod to the functions of admission.
pub(super) fn with_view<T>(pod: &Value, look: impl FnOnce(&PodView<'_>) -> T) -> Option<T> {
    let bytes = serde_json::to_vec(pod).ok()?;
    let view: Field<PodView<'_>> = serde_json::from_slice(&bytes).ok()?;
    view.value().map(look)
}

fn invalid(field: String, invalid: &InvalidValue<'_>) -> Finding {
    let grammar = invalid.grammar.strip_prefix("want ").unwrap_or(invalid.grammar);
    Finding {
        rule: Rule::InvalidValue,
        field,
        what: format!("{:?} cannot be read", invalid.value),
        fix: format!("write {grammar}"),
    }
}

/// Values of the pod's annotations.
pub(super) fn pod_values(pod: &PodTemplate<'_>, findings: &mut Vec<Finding>) {
    let mut report = |value: &InvalidValue<'_>| findings.push(invalid(pod.field(value.key), value));
    with_view(&pod.with_only(&[names::INJECT]), |view| {
        if let Wanted::Unreadable(value) = Wanted::of(view, &UNKNOWN_NAMESPACE) {
            report(&value);
        }
    });
    with_view(&pod.with_only(&[names::REQUIRED]), |view| {
        if let (_, Some(value)) = request::required(view, &UNKNOWN_NAMESPACE) {
            report(&value);
        }
    });
    let mut all_good = true;
    for key in HINTS {
        // Names of ports cannot be judged where the manifest leaves the containers out.
        if key == names::PORT && !has_containers(pod.value) {
            continue;
        }
        with_view(&pod.with_only(&[key]), |view| {
            if let Err(value) = hints::read(view) {
                all_good = false;
                report(&value);
            }
        });
    }
    if all_good {
        with_view(&pod.with_only(&[names::INTERVAL, names::TIMEOUT]), |view| {
            if let Err(value) = hints::read(view) {
                report(&value);
            }
        });
    }
}

/// Values of a Namespace's labels and annotations.
pub(super) fn namespace_values(metadata: &Value, findings: &mut Vec<Finding>) {
    spellings(metadata, findings);
    let look_up = |map: &str, key: &str| metadata.get(map)?.get(key)?.as_str();
    let meta = NamespaceMeta::new(|key| look_up("labels", key), |key| look_up("annotations", key));
    let mut report = |map: &str, value: &InvalidValue<'_>| {
        findings.push(invalid(path(&["metadata", map, value.key]).to_string(), value));
    };
    // The annotation is read where the label is a boolean, and judged whatever the label is.
    let by_label = NamespaceMeta { template: None, ..meta.clone() };
    let by_annotation = NamespaceMeta { inject: Some("true".to_owned()), ..meta.clone() };
    with_view(&json!({"metadata": {}}), |pod| {
        if let Wanted::Unreadable(value) = Wanted::of(pod, &by_label) {
            report("labels", &value);
        }
        if let (_, Some(value)) = request::required(pod, &meta) {
            report("labels", &value);
        }
        if let Wanted::Unreadable(value) = Wanted::of(pod, &by_annotation) {
            report("annotations", &value);
        }
    });
}

/// Labels that the API server, which filters by them, reads otherwise than promsidecar does.
fn spellings(metadata: &Value, findings: &mut Vec<Finding>) {
    for (key, word, then) in [
        (names::REQUIRED, "true", "so an agent is not required while the webhook does not answer"),
        (names::INJECT, "false", "so the webhook is still called for pods of the namespace"),
    ] {
        let Some(value) = metadata["labels"][key].as_str() else { continue };
        let compared = [word.to_owned(), word.to_ascii_uppercase(), title(word)];
        if value.eq_ignore_ascii_case(word) && !compared.iter().any(|spelling| spelling == value) {
            findings.push(Finding {
                rule: Rule::LabelSpelling,
                field: path(&["metadata", "labels", key]).to_string(),
                what: format!("the API server does not take {value:?} for {word}, {then}"),
                fix: format!("write \"{word}\""),
            });
        }
    }
}

fn title(word: &str) -> String {
    word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }).collect()
}

/// Hints: those that nobody asks an agent for, and of those that count, the ones that cannot be used.
pub(super) fn hints(
    pod: &PodTemplate<'_>,
    namespace: &str,
    meta: Option<&NamespaceMeta>,
    findings: &mut Vec<Finding>,
) {
    let asked = with_view(pod.value, |view| match Wanted::of(view, meta.unwrap_or(&UNKNOWN_NAMESPACE)) {
        Wanted::Nothing => Some(false),
        Wanted::Declined(_) | Wanted::Unreadable(_) => None,
        Wanted::Template(..) | Wanted::Any(_) => Some(true),
    });
    match asked.flatten() {
        Some(false) => findings.extend(hint(pod).map(|key| {
            let metadata = pod.metadata_path();
            let unknown = if meta.is_some() { "" } else { " (which is not in the input)" };
            Finding {
                rule: Rule::HintsWithoutRequest,
                field: pod.field(key),
                what: format!(
                    "says what to scrape, but neither the pod nor its Namespace {namespace}{unknown} asks for an agent"
                ),
                fix: format!(
                    "set {}: \"true\" in {}, or label the Namespace so",
                    names::INJECT,
                    metadata.key("annotations")
                ),
            }
        })),
        Some(true) if has_containers(pod.value) => {
            let notes = with_view(pod.value, |view| hints::read(view).map_or_else(|_| Vec::new(), |hints| hints.notes));
            findings.extend(notes.into_iter().flatten().map(|note| Finding {
                rule: Rule::UnusableHint,
                field: pod.metadata_path().key("annotations").to_string(),
                what: note,
                fix: "correct it, or say it by a key of promsidecar, which wins".to_owned(),
            }));
        }
        _ => {}
    }
}

/// The first annotation that says what to scrape: ours, else the community's.
fn hint(pod: &PodTemplate<'_>) -> Option<&'static str> {
    let ours = HINTS.into_iter().find(|key| pod.annotation(key).is_some());
    let scrape = pod.annotation("prometheus.io/scrape");
    let is = |word: &str| scrape.is_some_and(|value| value.eq_ignore_ascii_case(word));
    ours.or_else(|| is("true").then_some("prometheus.io/scrape")).or_else(|| {
        let port = pod.annotation("prometheus.io/port").is_some() && !is("false");
        port.then_some("prometheus.io/port")
    })
}
