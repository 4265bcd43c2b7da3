//! Judgement of an admission by the API server's own code: what must hold of every patch, whatever the pod.
//!
//! Input: a pod as the API server sends it, and the patch. Output: what does not hold, one finding a line.

use std::collections::BTreeMap;

use promsidecar::names;
use serde_json::Value;

use super::additive::losses;
use super::oracle::{self, Patched, Verdict, Violations};

/// Judges patches of pods of one namespace.
pub(crate) struct Judge<'a> {
    /// Namespace of the request.
    pub(crate) namespace: &'a str,
    /// Pod Security levels that must not be lost.
    pub(crate) levels: &'a [String],
    /// The patch of a second pass over a pod, if it has one.
    pub(crate) second: &'a dyn Fn(&Value) -> Option<Value>,
}

/// A judged admission.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// What does not hold; empty is good.
    pub(crate) findings: Vec<String>,
    /// Whether the pod was valid before.
    pub(crate) was_valid: bool,
    /// Levels that the pod satisfied before.
    pub(crate) satisfied: Vec<String>,
}

impl Judge<'_> {
    /// Judges one patch.
    pub(crate) fn judge(&self, pod: &Value, patch: &Value) -> Judgement {
        let mut judgement = Judgement::default();
        let findings = &mut judgement.findings;
        let patched = match oracle::patch(pod, patch) {
            Ok(patched) => patched,
            Err(failure) => {
                findings.push(format!("the patch fails at {}: {}", failure.stage, failure.message));
                return judgement;
            }
        };
        stored_as_patched(pod, patch, &patched, findings);
        findings.extend(losses(pod, &patched.pod).into_iter().map(|loss| format!("not additive: {loss}")));
        agent_is_whole(&patched.pod, findings);
        if (self.second)(&patched.pod).is_some() {
            findings.push("the second pass patches again".to_owned());
        }
        let verdict = |pod| oracle::validate(pod, self.namespace);
        match (verdict(pod), verdict(&patched.pod)) {
            (Ok(before), Ok(after)) => {
                compare(&before, &after, findings);
                judgement.was_valid = before.errors.is_empty();
            }
            (before, after) => findings.push(format!("cannot be validated: {before:?} {after:?}")),
        }
        let levels = |pod| oracle::pod_security(pod, self.levels);
        match (levels(pod), levels(&patched.pod)) {
            (Ok(before), Ok(after)) => {
                judgement.satisfied =
                    self.levels.iter().filter(|level| !before.contains_key(*level)).cloned().collect();
                lost(&judgement.satisfied, &after, &mut judgement.findings);
            }
            (before, after) => judgement.findings.push(format!("no level is known: {before:?} {after:?}")),
        }
        judgement
    }
}

/// What an engine of others makes of the patch is what the API server keeps.
fn stored_as_patched(pod: &Value, patch: &Value, patched: &Patched, findings: &mut Vec<String>) {
    findings.extend(patched.dropped.iter().map(|field| format!("dropped at re-decode: {field}")));
    if !patched.changed {
        findings.push("nothing is left of the patch".to_owned());
    }
    let operations: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a patch is RFC 6902");
    let mut expected = pod.clone();
    match json_patch::patch(&mut expected, &operations) {
        Ok(()) => {
            let changes = losses(&expected, &patched.pod);
            findings.extend(changes.into_iter().map(|change| format!("not kept as patched: {change}")));
        }
        Err(error) => findings.push(format!("only the API server's engine applies the patch: {error}")),
    }
}

/// An injected pod has one agent, where its status says, and it runs for as long as the pod does.
fn agent_is_whole(pod: &Value, findings: &mut Vec<String>) {
    let metadata = &pod["metadata"];
    if metadata["labels"][names::INJECTED] != "true" {
        return;
    }
    let status = metadata["annotations"][names::STATUS].as_str().unwrap_or_default();
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let agents = |list: &str| -> Vec<Value> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter(|container| container["name"] == names::CONTAINER).cloned().collect()
    };
    let sound = match (status["mode"].as_str(), &*agents("initContainers"), &*agents("containers")) {
        (Some("native"), [agent], []) => agent["restartPolicy"] == "Always",
        (Some("container"), [], [agent]) => agent.get("restartPolicy").is_none(),
        _ => false,
    };
    if !sound {
        findings.push(format!("the agent is not what the status says: {status}"));
    }
}

/// No new error, no new warning, no lower QoS class.
fn compare(before: &Verdict, after: &Verdict, findings: &mut Vec<String>) {
    let kinds = [
        ("error", &before.errors, &after.errors),
        ("warning", &before.warnings, &after.warnings),
        ("unknown field", &before.unknown, &after.unknown),
    ];
    for (kind, before, after) in kinds {
        let new = after.iter().filter(|text| !before.contains(text));
        findings.extend(new.map(|text| format!("new {kind}: {text}")));
    }
    let rank: BTreeMap<&str, u8> = [("BestEffort", 1), ("Burstable", 2), ("Guaranteed", 3)].into();
    if rank.get(&*after.qos) < rank.get(&*before.qos) {
        findings.push(format!("the QoS class falls from {} to {}", before.qos, after.qos));
    }
}

fn lost(satisfied: &[String], after: &Violations, findings: &mut Vec<String>) {
    for level in satisfied {
        if let Some(violations) = after.get(level) {
            findings.push(format!("{level} is lost: {}", violations.join("; ")));
        }
    }
}

/// All levels that have checks, in every version up to 1.`newest` and in the latest.
pub(crate) fn levels(newest: u32) -> Vec<String> {
    let versions = (0..=newest).map(|minor| format!("v1.{minor}")).chain(["latest".to_owned()]);
    versions
        .flat_map(|version| ["baseline", "restricted"].map(|level| format!("{level}:{version}")))
        .collect()
}
