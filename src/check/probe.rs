//! Whether a pod that asks reaches the webhook through its registration. PURE.
//!
//! Input: what became of two pods that were tried without being stored. Output: the pods, and findings of `webhook`.
//!
//! Both ask for a template that nobody has. The first may go without, so it comes back with the webhook's mark or, where the
//! webhook failed, without. The second requires its agent: it is denied by the webhook, or by the API server, which then
//! says what is wrong with the call.

use serde_json::{Value, json};

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::cluster::seen::{annotation, label, text};
use crate::names;

/// A template that nobody has.
const TEMPLATE: &str = "promsidecar-check";
const OK: u16 = 201;
const FORBIDDEN: u16 = 403;

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Status code.
    pub code: u16,
    /// The pod, or what is wrong.
    pub body: Value,
}

/// What became of both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tried {
    /// Of the one that may go without its agent.
    pub asking: Outcome,
    /// Of the one that requires it.
    pub requiring: Outcome,
}

/// A pod that asks: within "restricted", and within any sensible quota.
pub fn pod(required: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "promsidecar-probe-",
            "annotations": {(names::INJECT): TEMPLATE, (names::PORT): "8080"},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "check",
                "image": "promsidecar.invalid/check",
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"cpu": "10m", "memory": "16Mi"},
                },
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    if required {
        pod["metadata"]["annotations"][names::REQUIRED] = json!("true");
    }
    pod
}

/// Whether both reached the webhook.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("webhook");
    let namespace = &facts.names.namespace;
    let Tried { asking, requiring } = &facts.tried;
    let said = text(&requiring.body["message"]);
    // Others who refuse the pod name it, or its namespace.
    let by_webhook = requiring.code == FORBIDDEN && is_ours(said) && said.contains(TEMPLATE);
    let marked = label(&asking.body, names::INJECTED) == Some("false")
        && annotation(&asking.body, names::SKIPPED).is_some_and(|skipped| skipped.contains(TEMPLATE));
    if by_webhook && (marked || asking.code != OK) {
        check.ok(format!("a pod that was tried in {namespace} was answered through the registration"));
    } else if said.contains("failed calling webhook") {
        check.failed(
            format!("the API server cannot call it: {}", cause(said)),
            "see that its pods are ready and that the API server reaches their port: docs/operations.md",
        );
    } else if requiring.code == OK || asking.code == OK && !marked {
        check.failed(
            format!("a pod that asks in {namespace} does not reach it: it would start without an agent"),
            "see the check registration; or choose a namespace that it covers, by -n",
        );
    } else {
        check.not_checked(format!(
            "no pod can be tried in {namespace}: {}; choose another namespace by -n",
            text(&asking.body["message"])
        ));
    }
    check.end()
}

/// Whether a denial is by an entry of our registration: `admission webhook "NAME" denied the request: …`.
fn is_ours(message: &str) -> bool {
    let named = message.split_once("admission webhook \"").and_then(|(_, rest)| rest.split_once('"'));
    named.is_some_and(|(name, _)| name.ends_with(".sidecar.prometheus.io"))
}

/// What is wrong with the call, without the name of the entry, which differs, and what says nothing.
fn cause(message: &str) -> &str {
    message.rsplit_once("failed to call webhook: ").map_or(message, |(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{FORBIDDEN, OK, Outcome, Tried, check, pod};
    use crate::check::facts::Facts;
    use crate::check::finding;
    use crate::names;

    fn outcome(code: u16, body: Value) -> Outcome {
        Outcome { code, body }
    }

    fn marked() -> Value {
        let mut pod = pod(false);
        pod["metadata"]["labels"] = json!({(names::INJECTED): "false"});
        pod["metadata"]["annotations"][names::SKIPPED] = json!("template-not-found: no promsidecar-check");
        pod
    }

    #[test]
    fn what_became_of_both_pods_says_whether_the_webhook_is_called() {
        let message = |message: &str| json!({"message": message});
        let denied = "admission webhook \"required-by-pod.asked-by-pod.sidecar.prometheus.io\" denied the request: template promsidecar-check is not there";
        let failed = "Internal error occurred: failed calling webhook \"x\": failed to call webhook: Post \"https://a\": EOF";
        let others =
            "admission webhook \"kyverno.svc\" denied the request: resource promsidecar-check was blocked";
        let cases = [
            (
                outcome(FORBIDDEN, message(others)),
                outcome(FORBIDDEN, message(others)),
                finding::Outcome::NotChecked,
                "no pod can be tried",
            ),
            (
                outcome(OK, marked()),
                outcome(FORBIDDEN, message(denied)),
                finding::Outcome::Ok,
                "was answered",
            ),
            // Something else refuses the first one, and the webhook was first to answer the second.
            (
                outcome(FORBIDDEN, message("violates PodSecurity")),
                outcome(FORBIDDEN, message(denied)),
                finding::Outcome::Ok,
                "was answered",
            ),
            (
                outcome(OK, pod(false)),
                outcome(500, message(failed)),
                finding::Outcome::Failed,
                "the API server cannot call it: Post \"https://a\": EOF",
            ),
            (outcome(OK, pod(false)), outcome(OK, pod(true)), finding::Outcome::Failed, "does not reach it"),
            // One of two entries is missing.
            (outcome(OK, marked()), outcome(OK, pod(true)), finding::Outcome::Failed, "does not reach it"),
            (
                outcome(FORBIDDEN, message("you may not create pods")),
                outcome(FORBIDDEN, message("you may not create pods")),
                finding::Outcome::NotChecked,
                "no pod can be tried in default: you may not create pods; choose",
            ),
        ];
        for (asking, requiring, outcome, found) in cases {
            let facts = Facts { tried: Tried { asking, requiring }, ..Facts::default() };
            let findings = check(&facts);
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].outcome, outcome, "{findings:?}");
            assert!(findings[0].found.contains(found), "{findings:?}");
        }
    }
}
