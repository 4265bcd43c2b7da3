//! What `explain` found, as JSON for programs.
//!
//! Input: a row of the table, or a decision with its trace. Output: one value; absent facts are `null`, never left out.

use serde_json::{Value, json};

use super::finding;
use crate::admission::decision::{Decision, Verdict};
use crate::admission::owner::Workload;
use crate::admission::pod::PodView;
use crate::admission::reason::Row;

/// A reason.
pub(super) fn reason(row: &Row) -> Value {
    json!({
        "reason": row.word,
        "event": row.event,
        "meaning": row.meaning,
        "cause": row.cause,
        "fix": row.fix,
        "told": !row.reason.is_silent(),
        "marksPod": row.reason.marks_pod(),
        "deniesIfRequired": row.reason.denies_if_required(),
    })
}

/// A decision.
pub(super) fn decision(namespace: &str, pod: &PodView<'_>, decision: &Decision<'_>) -> Value {
    let trace = decision.trace.iter().map(|step| {
        let found = Some(finding(step)).filter(|found| !found.is_empty());
        json!({"reason": step.row.word(), "applies": step.applies, "finding": found})
    });
    let mut value = json!({
        "workload": Workload::of(pod).to_string(),
        "namespace": namespace,
        "required": decision.required,
        "trace": trace.collect::<Vec<_>>(),
        "injected": false,
        "denied": false,
        "template": null,
        "mode": null,
        "warnings": [],
        "reason": null,
        "detail": null,
        "told": null,
        "fix": null,
    });
    match &decision.verdict {
        Verdict::Inject(injected) => {
            let (injection, injected) = &**injected;
            value["injected"] = json!(true);
            value["template"] = json!(injection.entry.id.to_string());
            value["mode"] = json!(injection.mode.word());
            value["warnings"] = json!(injected.warnings.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        Verdict::Refuse(refusal) => {
            let told = refusal.told.as_ref();
            value["denied"] = json!(decision.required && refusal.reason.denies_if_required());
            value["warnings"] = json!(refusal.warning.iter().collect::<Vec<_>>());
            value["reason"] = json!(refusal.reason.word());
            value["detail"] = json!(refusal.detail);
            value["told"] =
                json!(told.map(|(told, detail)| json!({"reason": told.word(), "detail": detail})));
            value["fix"] = json!(refusal.reason.row().fix);
        }
    }
    value
}
