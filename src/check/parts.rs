//! Whether our own parts run: Deployments, the Lease, the policy for ConfigMaps. PURE.
//!
//! Input: facts. Output: findings of `deployments`, `controller` and `config-map-policy`.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::cluster::seen::{is_ours, list, name, namespace, text};
use crate::manifest;
use crate::names;
use crate::release::PROGRAM;
use crate::template::image::ImageReference;

/// As it is shipped.
const POLICY: &str = include_str!("../../webhook-config/base/config-map-policy.yaml");
/// Name of the policy and of its binding.
pub const POLICY_NAME: &str = "promsidecar-config-maps";
/// Far beyond what a Lease lasts, and what clocks differ.
const STALE: SignedDuration = SignedDuration::from_mins(2);

/// Our Deployments, of those that can be seen.
pub fn ours<'a>(facts: &'a Facts) -> impl Iterator<Item = &'a Value> {
    let ours = |object: &&'a Value| namespace(object) == facts.names.own_namespace && is_ours(object);
    facts.deployments.iter().flatten().filter(ours)
}

/// Whether every Deployment has its pods ready, and is of the version of this program.
pub fn deployments(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("deployments");
    if let Err(forbidden) = &facts.deployments {
        return check.only_forbidden(forbidden);
    }
    let own = &facts.names.own_namespace;
    let mut found = 0;
    for deployment in ours(facts) {
        found += 1;
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        let ready = count(&deployment["status"]["readyReplicas"]);
        let what = format!("{}: {ready} of {wanted} pods are ready", name(deployment));
        let fix = format!("kubectl get pods -n {own}; the log and /readyz of each say what it lacks");
        let image =
            text(
                &list(&deployment["spec"]["template"]["spec"]["containers"]).first().unwrap_or(&Value::Null)
                    ["image"],
            )
            .to_owned();
        let tag = ImageReference::parse(&image).and_then(|image| image.tag.map(str::to_owned));
        if ready == 0 {
            check.failed(what, fix);
        } else if ready < wanted {
            check.warning(what, fix);
        } else if tag.as_deref().is_some_and(|tag| tag.trim_start_matches('v') != PROGRAM) {
            check.warning(
                format!("{what}; its image is {image}, this program {PROGRAM}"),
                "use the program of the installed version: the checks are those of its own",
            );
        } else {
            check.ok(what);
        }
    }
    if found == 0 {
        check.failed(
            format!("there is none of promsidecar in {own}"),
            "kubectl apply -k webhook-config/overlays/self-managed, or say where it is by --own-namespace",
        );
    }
    check.end()
}

/// Whether a controller leads.
pub fn lease(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("controller");
    let place = format!("Lease {}/{}", facts.names.own_namespace, names::LEASE);
    let fix = format!("see that a controller runs: kubectl get pods -n {}", facts.names.own_namespace);
    let lease = match &facts.lease {
        Err(forbidden) => return check.only_forbidden(forbidden),
        Ok(None) => {
            check.failed(format!("there is no {place}: no controller ever led"), fix);
            return check.end();
        }
        Ok(Some(lease)) => lease,
    };
    let holder = text(&lease["spec"]["holderIdentity"]);
    let renewed: Option<Timestamp> = text(&lease["spec"]["renewTime"]).parse().ok();
    let stale = renewed.is_none_or(|renewed| facts.now.duration_since(renewed) > STALE);
    if holder.is_empty() {
        check.failed(format!("nobody holds the {place}: no configuration is delivered"), fix);
    } else if stale {
        let since =
            renewed.map_or_else(|| "at a time that cannot be read".to_owned(), |at| format!("at {at:.0}"));
        check.failed(format!("{holder} holds the {place} and renewed it last {since}"), fix);
    }
    // The holder's name has digits of its own behind the pod's.
    check.or_ok(format!("the {place} is held, and renewed"))
}

/// Whether nobody else can write our ConfigMaps.
pub fn policy(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("config-map-policy");
    let fix = "kubectl apply -f webhook-config/base/config-map-policy.yaml";
    let risk = "whoever may write ConfigMaps can send credentials of agents elsewhere";
    let (policy, binding) = match (&facts.policy, &facts.binding) {
        (Err(forbidden), _) | (_, Err(forbidden)) => return check.only_forbidden(forbidden),
        (Ok(policy), Ok(binding)) => (policy, binding),
    };
    let wanted = shipped_policy(&facts.names.own_namespace);
    match policy {
        None => check.warning(format!("there is no policy {POLICY_NAME}: {risk}"), fix),
        Some(policy) if expressions(policy) != expressions(&wanted) => {
            check.warning(format!("the policy {POLICY_NAME} is not as it is shipped"), fix);
        }
        Some(policy) => {
            let warnings = list(&policy["status"]["typeChecking"]["expressionWarnings"]);
            if let Some(warning) = warnings.first() {
                check.warning(format!("the API server cannot use it: {}", text(&warning["warning"])), fix);
            }
        }
    }
    match binding {
        None => check.warning(format!("the policy {POLICY_NAME} is not bound: {risk}"), fix),
        Some(binding)
            if !list(&binding["spec"]["validationActions"]).iter().any(|action| action == "Deny") =>
        {
            check.warning(format!("the policy {POLICY_NAME} does not deny: {risk}"), fix);
        }
        Some(_) => {}
    }
    check.or_ok("only the controller can write the configurations of agents")
}

/// The policy as it is shipped, for an installation in this namespace.
fn shipped_policy(own_namespace: &str) -> Value {
    let text = POLICY.replace(":promsidecar-system:", &format!(":{own_namespace}:"));
    let documents = manifest::read(&text).unwrap_or_default();
    documents.into_iter().next().map(|document| document.object).unwrap_or_default()
}

/// Everything that is evaluated, without its line breaks.
fn expressions(policy: &Value) -> Vec<String> {
    let spec = &policy["spec"];
    let lists = ["matchConditions", "variables", "validations"].map(|key| list(&spec[key]));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = lists.into_iter().flatten();
    all.map(|item| format!("{}: {}", text(&item["name"]), words(text(&item["expression"])))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{deployments, lease, policy, shipped_policy};
    use crate::check::facts::Facts;
    use crate::check::finding::{Outcome, told};

    fn deployment(ready: u64, image: &str) -> Value {
        json!({
            "metadata": {
                "name": "promsidecar-webhook", "namespace": "promsidecar-system",
                "labels": {"app.kubernetes.io/name": "promsidecar"},
            },
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": image}]}}},
            "status": {"readyReplicas": ready},
        })
    }

    #[test]
    fn deployments_without_pods_with_some_and_of_another_version_are_told() {
        let ours = format!("registry.test/promsidecar:v{}", super::PROGRAM);
        for (ready, image, outcome) in [
            (0, &*ours, Outcome::Failed),
            (1, &ours, Outcome::Warning),
            (2, &ours, Outcome::Ok),
            (2, "promsidecar:0.0.9", Outcome::Warning),
            (
                2,
                "promsidecar@sha256:0123456789012345678901234567890123456789012345678901234567890123",
                Outcome::Ok,
            ),
        ] {
            let facts = Facts { deployments: Ok(vec![deployment(ready, image)]), ..Facts::default() };
            let found = deployments(&facts);
            assert_eq!(told(&found)[0].0, outcome, "{image}: {found:?}");
        }
        let mut elsewhere = Facts { deployments: Ok(vec![deployment(2, &ours)]), ..Facts::default() };
        elsewhere.names.own_namespace = "elsewhere".to_owned();
        assert_eq!(told(&deployments(&elsewhere))[0].1, "there is none of promsidecar in elsewhere");
    }

    #[test]
    fn a_lease_that_nobody_holds_or_renews_means_that_no_controller_works() {
        let with = |holder: &str, renewed: &str| Facts {
            lease: Ok(Some(json!({"spec": {"holderIdentity": holder, "renewTime": renewed}}))),
            ..Facts::default()
        };
        assert_eq!(lease(&with("a", "2025-12-31T23:59:50.000000Z"))[0].outcome, Outcome::Ok);
        // A clock that is ahead of ours.
        assert_eq!(lease(&with("a", "2026-01-01T00:00:50Z"))[0].outcome, Outcome::Ok);
        let stale = lease(&with("a", "2025-12-31T23:00:00.123456Z"));
        assert_eq!(
            (stale[0].outcome, &*stale[0].found),
            (
                Outcome::Failed,
                "a holds the Lease promsidecar-system/promsidecar-controller and renewed it last at 2025-12-31T23:00:00Z"
            )
        );
        for (holder, renewed) in [("", "2026-01-01T00:00:00Z"), ("a", "soon")] {
            assert_eq!(lease(&with(holder, renewed))[0].outcome, Outcome::Failed);
        }
        assert_eq!(lease(&Facts::default())[0].outcome, Outcome::Failed);
    }

    #[test]
    fn a_policy_that_is_missing_changed_unbound_or_does_not_deny_is_told() {
        let bound = json!({"spec": {"validationActions": ["Deny"]}});
        let with = |policy: Option<Value>, binding: Option<Value>| Facts {
            policy: Ok(policy),
            binding: Ok(binding),
            ..Facts::default()
        };
        let shipped = shipped_policy("promsidecar-system");
        let good = policy(&with(Some(shipped.clone()), Some(bound.clone())));
        assert_eq!(
            told(&good),
            [(Outcome::Ok, "only the controller can write the configurations of agents", "")]
        );
        let mut changed = shipped.clone();
        changed["spec"]["validations"].as_array_mut().unwrap().pop();
        for (facts, found) in [
            (with(None, Some(bound.clone())), "there is no policy"),
            (with(Some(changed), Some(bound.clone())), "is not as it is shipped"),
            (with(Some(shipped_policy("elsewhere")), Some(bound)), "is not as it is shipped"),
            (with(Some(shipped.clone()), None), "is not bound"),
            (with(Some(shipped), Some(json!({"spec": {"validationActions": ["Warn"]}}))), "does not deny"),
        ] {
            let findings = policy(&facts);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(
                findings[0].outcome == Outcome::Warning && findings[0].found.contains(found),
                "{findings:?}"
            );
        }
    }
}
