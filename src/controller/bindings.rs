//! What a monitor is told in its status: which templates select it, and whether they use it. PURE.
//!
//! Input: a monitor and the verdicts of templates. Output: the status as it is applied, upstream's `WorkloadBinding`s
//! (`pkg/apis/monitoring/v1`), and whether it says so already.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::condition;
use crate::monitors::podmonitor::PodMonitor;
use crate::template::agent::TemplateId;

/// API group of templates.
const GROUP: &str = "monitoring.coreos.com";
/// Templates, as a resource.
pub const RESOURCE: &str = "prometheusagents";
/// Reason of what is not accepted, prometheus-operator's.
pub const INVALID: &str = "InvalidConfiguration";

/// What a template makes of a monitor that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is used for any pods.
    pub accepted: bool,
    /// Why not, or for which pods not.
    pub message: String,
}

/// Whether the monitor's status says what this template makes of it; nothing where it does not select it.
pub fn tells(monitor: &PodMonitor, template: &TemplateId, verdict: Option<&Verdict>) -> bool {
    match (find(monitor, template), verdict) {
        (None, None) => true,
        (Some(found), Some(verdict)) => {
            let desired = binding(monitor, template, verdict, Timestamp::UNIX_EPOCH);
            let (found, desired) = (&found["conditions"][0], &desired["conditions"][0]);
            ["type", "status", "reason", "message", "observedGeneration"]
                .iter()
                .all(|key| found[key] == desired[key])
        }
        _ => false,
    }
}

/// The status of a monitor, with the bindings of these templates and of no other.
pub fn status<'a>(
    monitor: &PodMonitor,
    verdicts: impl Iterator<Item = (&'a TemplateId, &'a Verdict)>,
    now: Timestamp,
) -> Value {
    let bindings = verdicts.map(|(template, verdict)| binding(monitor, template, verdict, now));
    json!({"bindings": bindings.collect::<Vec<_>>()})
}

fn binding(monitor: &PodMonitor, template: &TemplateId, verdict: &Verdict, now: Timestamp) -> Value {
    let mut condition = json!({
        "type": "Accepted",
        "status": if verdict.accepted { "True" } else { "False" },
        "observedGeneration": monitor.generation,
    });
    let before = find(monitor, template).map(|binding| &binding["conditions"][0]);
    let since = before.filter(|before| before["status"] == condition["status"]);
    let since = since.and_then(|before| before["lastTransitionTime"].as_str());
    condition["lastTransitionTime"] = json!(since.map_or_else(|| condition::seconds(now), str::to_owned));
    if !verdict.accepted {
        condition["reason"] = json!(INVALID);
    }
    if !verdict.message.is_empty() {
        condition["message"] = json!(condition::cut(&verdict.message));
    }
    json!({
        "group": GROUP,
        "resource": RESOURCE,
        "namespace": template.namespace,
        "name": template.name,
        "conditions": [condition],
    })
}

/// The binding of a template.
fn find<'a>(monitor: &'a PodMonitor, template: &TemplateId) -> Option<&'a Value> {
    monitor.bindings.iter().find(|binding| {
        binding["resource"] == RESOURCE
            && binding["namespace"] == template.namespace
            && binding["name"] == template.name
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Verdict, status, tells};
    use crate::monitors::podmonitor::PodMonitor;
    use crate::template::agent::TemplateId;

    fn monitor(generation: i64, status: &Value) -> PodMonitor {
        let object = json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": {"name": "web", "namespace": "shop", "generation": generation},
            "spec": {"selector": {}},
            "status": status,
        });
        PodMonitor::read(&object).unwrap()
    }

    fn template(name: &str) -> TemplateId {
        TemplateId { namespace: "a".to_owned(), name: name.to_owned() }
    }

    fn accepted() -> Verdict {
        Verdict { accepted: true, message: String::new() }
    }

    fn rejected() -> Verdict {
        Verdict { accepted: false, message: "too slow".to_owned() }
    }

    fn told(monitor: &PodMonitor, verdicts: &[(&TemplateId, &Verdict)], now: &str) -> Value {
        status(monitor, verdicts.iter().copied(), now.parse().unwrap())
    }

    #[test]
    fn a_binding_says_which_template_and_whether_it_is_used() {
        let (one, two) = (template("one"), template("two"));
        let fresh = monitor(3, &Value::Null);
        let status = told(&fresh, &[(&one, &accepted()), (&two, &rejected())], "2026-11-28T12:00:00.5Z");
        let since = "2026-11-28T12:00:00Z";
        let expected = json!({"bindings": [
            {
                "group": "monitoring.coreos.com", "resource": "prometheusagents", "namespace": "a", "name": "one",
                "conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 3, "lastTransitionTime": since}],
            },
            {
                "group": "monitoring.coreos.com", "resource": "prometheusagents", "namespace": "a", "name": "two",
                "conditions": [{
                    "type": "Accepted", "status": "False", "observedGeneration": 3, "lastTransitionTime": since,
                    "reason": "InvalidConfiguration", "message": "too slow",
                }],
            },
        ]});
        assert_eq!(status, expected);

        let read = monitor(3, &status);
        assert!(tells(&read, &one, Some(&accepted())) && tells(&read, &two, Some(&rejected())));
        assert!(!tells(&read, &one, Some(&rejected())) && !tells(&read, &one, None));
        assert!(
            tells(&read, &template("three"), None) && !tells(&read, &template("three"), Some(&accepted()))
        );
        assert!(!tells(&monitor(4, &status), &one, Some(&accepted())), "another generation");

        // The time is that of the last change of the status.
        let later = "2026-11-28T13:00:00Z";
        let again = told(&read, &[(&one, &accepted()), (&two, &accepted())], later);
        let times = [0, 1].map(|at| again["bindings"][at]["conditions"][0]["lastTransitionTime"].clone());
        assert_eq!(times, [json!(since), json!(later)]);
    }

    #[test]
    fn bindings_of_others_are_not_taken_for_ours() {
        let other = json!({"bindings": [{
            "group": "monitoring.coreos.com", "resource": "prometheuses", "namespace": "a", "name": "one",
            "conditions": [{"type": "Accepted", "status": "True"}],
        }]});
        assert!(tells(&monitor(1, &other), &template("one"), None));
        for strange in [json!([]), json!({"bindings": {}}), json!({"bindings": [7, {}]}), json!("x")] {
            assert!(tells(&monitor(1, &strange), &template("one"), None), "{strange}");
        }
    }
}
