//! What a monitor is told in its status: which templates select it, and whether they use it. PURE.
//!
//! Input: a monitor and the verdicts of templates. Output: the status as it is applied, upstream's `WorkloadBinding`s
//! (`pkg/apis/monitoring/v1`), and whether it says so already.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::condition;
use crate::admission::sidecar::hex;
use crate::monitors::object::Head;
use crate::names::FIELD_MANAGER;
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
pub fn tells(monitor: Head<'_>, template: &TemplateId, verdict: Option<&Verdict>) -> bool {
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

/// The part of a monitor's status that is a template's: its binding, if it selects the monitor.
pub fn status(monitor: Head<'_>, template: &TemplateId, verdict: Option<&Verdict>, now: Timestamp) -> Value {
    let binding = verdict.map(|verdict| binding(monitor, template, verdict, now));
    json!({"bindings": binding.into_iter().collect::<Vec<_>>()})
}

/// Field manager of a template's binding. Each template has its own: what one applies takes nothing from another.
pub fn field_manager(template: &TemplateId) -> String {
    format!("{FIELD_MANAGER}-{}", hex(&Sha256::digest(template.to_string()), 8))
}

fn binding(monitor: Head<'_>, template: &TemplateId, verdict: &Verdict, now: Timestamp) -> Value {
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

/// Whether a monitor, as it is stored after `status` was applied, says of a template what `status` does: nothing, where that
/// has no binding of it.
pub fn is_kept(stored: &Value, template: &TemplateId, status: &Value) -> bool {
    let of =
        |status: &Value| find_in(status["bindings"].as_array()?, template).map(|it| it["conditions"].clone());
    of(&stored["status"]) == of(status)
}

/// The binding of a template.
fn find<'a>(monitor: Head<'a>, template: &TemplateId) -> Option<&'a Value> {
    find_in(monitor.bindings, template)
}

fn find_in<'a>(bindings: &'a [Value], template: &TemplateId) -> Option<&'a Value> {
    bindings.iter().find(|binding| {
        binding["resource"] == RESOURCE
            && binding["namespace"] == template.namespace
            && binding["name"] == template.name
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Verdict, field_manager, is_kept, status, tells};
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

    #[test]
    fn a_binding_says_which_template_and_whether_it_is_used() {
        let (one, two) = (template("one"), template("two"));
        let fresh = monitor(3, &Value::Null);
        let now = |text: &str| text.parse().unwrap();
        let first = "2026-11-28T12:00:00Z";
        let of_one = status(fresh.head(), &one, Some(&accepted()), now("2026-11-28T12:00:00.5Z"));
        let binding = |name: &str, condition: Value| {
            json!({
                "group": "monitoring.coreos.com", "resource": "prometheusagents", "namespace": "a", "name": name,
                "conditions": [condition],
            })
        };
        let good = json!({"type": "Accepted", "status": "True", "observedGeneration": 3, "lastTransitionTime": first});
        assert_eq!(of_one, json!({"bindings": [binding("one", good.clone())]}));
        let bad = json!({
            "type": "Accepted", "status": "False", "observedGeneration": 3, "lastTransitionTime": first,
            "reason": "InvalidConfiguration", "message": "too slow",
        });
        let of_two = status(fresh.head(), &two, Some(&rejected()), now(first));
        assert_eq!(of_two, json!({"bindings": [binding("two", bad.clone())]}));
        assert_eq!(status(fresh.head(), &one, None, now(first)), json!({"bindings": []}));

        // As the API server merges them, and another's among them.
        let other = json!({
            "group": "monitoring.coreos.com", "resource": "prometheuses", "namespace": "a", "name": "one",
        });
        let all = json!({"bindings": [other, binding("one", good), binding("two", bad)]});
        let read = monitor(3, &all);
        assert!(tells(read.head(), &one, Some(&accepted())) && tells(read.head(), &two, Some(&rejected())));
        assert!(!tells(read.head(), &one, Some(&rejected())) && !tells(read.head(), &one, None));
        let three = template("three");
        assert!(tells(read.head(), &three, None) && !tells(read.head(), &three, Some(&accepted())));
        assert!(!tells(monitor(4, &all).head(), &one, Some(&accepted())), "another generation");

        // The time is that of the last change of the status.
        let later = "2026-11-28T13:00:00Z";
        let since = |template: &TemplateId| {
            let status = status(read.head(), template, Some(&accepted()), now(later));
            status["bindings"][0]["conditions"][0]["lastTransitionTime"].clone()
        };
        assert_eq!([since(&one), since(&two)], [json!(first), json!(later)]);
    }

    #[test]
    fn what_is_stored_is_compared_with_what_was_told() {
        let (one, now) = (template("one"), "2026-11-28T12:00:00Z".parse().unwrap());
        let fresh = monitor(1, &Value::Null);
        let [good, bad] =
            [accepted(), rejected()].map(|verdict| status(fresh.head(), &one, Some(&verdict), now));
        let nothing = status(fresh.head(), &one, None, now);
        let kept = |stored: &Value, told: &Value| is_kept(&json!({"status": stored}), &one, told);
        assert!(kept(&good, &good) && kept(&nothing, &nothing) && kept(&Value::Null, &nothing));
        assert!(!kept(&bad, &good) && !kept(&Value::Null, &good) && !kept(&nothing, &good));
        assert!(!kept(&good, &nothing), "another field manager holds it there");
    }

    #[test]
    fn each_template_has_a_field_manager_of_its_own() {
        let [one, two] = ["one", "two"].map(|name| field_manager(&template(name)));
        assert!(one != two && one.starts_with("promsidecar-controller-") && one.len() <= 128, "{one}");
    }

    #[test]
    fn bindings_of_others_are_not_taken_for_ours() {
        let other = json!({"bindings": [{
            "group": "monitoring.coreos.com", "resource": "prometheuses", "namespace": "a", "name": "one",
            "conditions": [{"type": "Accepted", "status": "True"}],
        }]});
        assert!(tells(monitor(1, &other).head(), &template("one"), None));
        for strange in [json!([]), json!({"bindings": {}}), json!({"bindings": [7, {}]}), json!("x")] {
            assert!(tells(monitor(1, &strange).head(), &template("one"), None), "{strange}");
        }
    }
}
