//! The status of a template, so that the standard columns of `kubectl get prometheusagents` tell the truth. PURE.
//!
//! Input: what is known of the template, how its delivery went, counts of its pods, and the time. Output: the status to write,
//! or nothing where it is written already. Types and values of conditions are upstream's (`pkg/apis/monitoring/v1`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::events::event::listed;
use super::fleet::Counts;
use super::rendered::{Notes, Rejection};
use crate::admission::reason::Reason;
use crate::names;
use crate::store::known::Known;
use crate::template::render;

/// Most bytes of a condition's message (apimachinery `Condition`: 32768).
const MAX_MESSAGE: usize = 32_000;

/// Why a template is not in force everywhere that it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// A ConfigMap of its name is not ours, and was not touched.
    Conflict(String),
    /// The configuration fits into no ConfigMap.
    TooLarge(String),
    /// The API server did not take it; it is tried again.
    Failed(String),
}

impl Undelivered {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "ConfigMapConflict",
            Self::TooLarge(_) => "TooLarge",
            Self::Failed(_) => "NotDelivered",
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Conflict(message) | Self::TooLarge(message) | Self::Failed(message) => message,
        }
    }
}

/// The status of a template; `monitors` is what there is to say of those that it selects.
pub fn status(
    known: &Known,
    delivered: &Result<(), Undelivered>,
    counts: Counts,
    monitors: &Notes,
    now: Timestamp,
) -> Value {
    let conditions = [reconciled(known, delivered, counts, monitors), available(known)];
    json!({
        "paused": known.paused,
        "replicas": counts.all,
        "updatedReplicas": counts.updated,
        "availableReplicas": counts.ready,
        "unavailableReplicas": counts.all - counts.ready,
        "conditions": conditions.map(|condition| condition.written(known, now)),
    })
}

/// Whether `desired` says something else than the object has; when a condition changed is not compared.
pub fn differs(written: &Value, desired: &Value) -> bool {
    let Some(desired) = desired.as_object() else { return true };
    desired.iter().any(|(field, value)| match value.as_array() {
        None => written[field] != *value,
        Some(conditions) => conditions.iter().any(|condition| {
            let found = find(written, condition["type"].as_str().unwrap_or_default());
            let same = |key: &str| found.is_some_and(|found| found[key] == condition[key]);
            !["status", "reason", "message", "observedGeneration"].into_iter().all(same)
        }),
    })
}

/// Whether `desired` differs in more than its counts, which change with every pod.
pub fn is_urgent(written: &Value, desired: &Value) -> bool {
    differs(written, &json!({"conditions": desired["conditions"], "paused": desired["paused"]}))
}

/// What the author has to hear of beside the status: reason and note of an Event, unless the status says it already.
pub fn news(known: &Known, delivered: &Result<(), Undelivered>) -> Option<(&'static str, String)> {
    let Condition { reason, message, .. } =
        reconciled(known, delivered, Counts::default(), &Notes::default());
    let (event, note) = match reason {
        "Invalid" => {
            let beginning = format!("generation {} is not used: ", known.generation);
            let violations: Vec<_> = known.violations.iter().map(ToString::to_string).collect();
            (Reason::TemplateInvalid.row().event, listed(&beginning, &violations))
        }
        "ConfigMapConflict" | "TooLarge" => (reason, message.clone()),
        _ => return None,
    };
    let said = find(&known.status, "Reconciled").is_some_and(|before| {
        before["reason"] == reason
            && before["message"] == cut(&message)
            && before["observedGeneration"] == known.generation
    });
    (!said).then_some((event, note))
}

/// Why a monitor is not used, for its owner, unless the template's status says so already.
pub fn rejected_news(known: &Known, rejection: &Rejection) -> Option<String> {
    let said = find(&known.status, "Reconciled").and_then(|before| before["message"].as_str());
    let said = |line: &str| said.is_some_and(|message| message.contains(line));
    let new = !rejection.lines.iter().all(|line| said(line));
    new.then(|| listed(&format!("template {}: ", known.id()), &rejection.told))
}

/// Whether an object that nobody claims still bears a status of ours. One that names another controller is not looked at: that
/// may be another promsidecar.
pub fn is_left_behind(object: &Value) -> bool {
    let claim = object["metadata"]["annotations"][names::CONTROLLER_ID].as_str().unwrap_or_default();
    let reason = find(&object["status"], "Reconciled").and_then(|condition| condition["reason"].as_str());
    claim.is_empty() && reason.is_some_and(|reason| REASONS.contains(&reason))
}

/// Reasons of `Reconciled`, none of them an operator's.
const REASONS: [&str; 5] = ["Delivered", "Invalid", "ConfigMapConflict", "TooLarge", "NotDelivered"];

struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn written(self, known: &Known, now: Timestamp) -> Value {
        let Self { kind, status, reason, message } = self;
        let before = find(&known.status, kind).filter(|before| before["status"] == status);
        let since = before.and_then(|before| before["lastTransitionTime"].as_str());
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": cut(&message),
            "observedGeneration": known.generation,
            "lastTransitionTime": since.map_or_else(|| seconds(now), str::to_owned),
        })
    }
}

/// Whether the spec is valid and in force wherever it is used.
fn reconciled(
    known: &Known,
    delivered: &Result<(), Undelivered>,
    counts: Counts,
    monitors: &Notes,
) -> Condition {
    let (status, reason, message) = match (&known.violations[..], delivered) {
        ([], Ok(())) => ("True", "Delivered", notes(known, counts, monitors).join("; ")),
        ([], Err(why)) => ("False", why.reason(), why.message().to_owned()),
        (violations, _) => {
            let violations: Vec<_> = violations.iter().map(ToString::to_string).collect();
            ("False", "Invalid", violations.join("; "))
        }
    };
    Condition { kind: "Reconciled", status, reason, message }
}

/// Whether pods can be injected, and from which version.
fn available(known: &Known) -> Condition {
    let (status, reason, message) = match &known.good {
        None => ("False", "NothingToInject", "there never was a valid version".to_owned()),
        Some(good) if known.is_behind() => {
            let before = if good.agent.generation == known.generation {
                ", with its annotations of before"
            } else {
                ""
            };
            let message = format!("generation {} is in force{before}", good.agent.generation);
            if known.violations.is_empty() {
                ("True", "Paused", message)
            } else {
                ("Degraded", "LastGoodInForce", message)
            }
        }
        Some(_) => ("True", "Published", String::new()),
    };
    Condition { kind: "Available", status, reason, message }
}

/// Of pods that a newer promsidecar injected.
const NEWER: &str =
    "newer: a newer promsidecar injected some of its pods: they run on, and do not count as up to date";

/// What the author of a valid template should know: first what is missing.
fn notes(known: &Known, counts: Counts, monitors: &Notes) -> Vec<String> {
    let Some(good) = &known.good else { return Vec::new() };
    let agent = &good.agent;
    let ignored = agent.ignored.iter().map(|field| format!("ignored: {}: {}", field.path, field.why));
    let warnings = agent.config.warnings.iter();
    let warnings = warnings.map(|warning| format!("warning: {}: {}", warning.path, warning.text));
    // Without their number, which changes with every pod.
    let newer = (counts.newer > 0).then(|| NEWER.to_owned());
    let rejected = monitors.rejections.iter().flat_map(|rejection| rejection.lines.iter().cloned());
    let remarks = monitors.remarks.iter().cloned();
    let derived = render::derived_lines(agent);
    newer.into_iter().chain(rejected).chain(derived).chain(ignored).chain(warnings).chain(remarks).collect()
}

fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// At most [`MAX_MESSAGE`] bytes.
pub(super) fn cut(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MAX_MESSAGE);
    format!("{}…", &message[..end])
}

/// As the API server writes times: to the second.
pub(super) fn seconds(now: Timestamp) -> String {
    format!("{now:.0}")
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
