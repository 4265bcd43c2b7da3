//! The additive check: what a pod had before a patch, it has after it.

use serde_json::Value;

/// Keys that are ours: an `add` may replace their values on a pod that was copied with its annotations.
const OURS: [&str; 4] = [
    "/metadata/annotations/sidecar.prometheus.io/status",
    "/metadata/annotations/sidecar.prometheus.io/targets",
    "/metadata/annotations/sidecar.prometheus.io/skipped",
    "/metadata/labels/sidecar.prometheus.io/injected",
];

/// Paths at which something was changed, moved or removed rather than added. A `null` that became a parent is an addition.
pub(crate) fn losses(before: &Value, after: &Value) -> Vec<String> {
    let mut losses = Vec::new();
    compare("", before, after, &mut losses);
    losses
}

fn compare(path: &str, before: &Value, after: &Value, losses: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, old) in before {
                let path = format!("{path}/{key}");
                match after.get(key) {
                    Some(new) => compare(&path, old, new, losses),
                    None => losses.push(format!("{path} is gone")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            if after.len() < before.len() {
                losses.push(format!("{path} is shorter"));
            }
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}/{index}"), old, new, losses);
            }
        }
        (Value::Null, Value::Object(_) | Value::Array(_)) => {}
        (before, after) if before == after => {}
        _ if OURS.contains(&path) => {}
        _ => losses.push(format!("{path} was changed")),
    }
}
