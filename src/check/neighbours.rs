//! Others that have a hand in the same pods and templates: webhooks, prometheus-operator. PURE.
//!
//! Input: registrations and Deployments. Output: findings of `other-webhooks` and `prometheus-operator`.

use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use super::registration::{ENTRIES, entries};
use crate::cluster::seen::{identity, list, name, some, text};
use crate::template::image::ImageReference;
use crate::template::version::Version;

/// Webhooks that were built, for a long time, with types which do not know `restartPolicy` of init containers, and so turned
/// native sidecars into init containers that never end: what their names contain, and who they are.
const TYPED: [(&str, &str); 3] = [
    ("gcsfuse", "the GCS FUSE CSI driver"),
    ("berglas", "berglas"),
    ("vpa-webhook", "the Vertical Pod Autoscaler"),
];

/// Which other webhooks change pods that are created, and what that means.
pub fn webhooks(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("other-webhooks");
    let all = match &facts.registrations {
        Ok(all) => all,
        Err(forbidden) => return check.only_forbidden(forbidden),
    };
    let own = &facts.names.registration;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for object in all.iter().filter(|object| name(object) != own) {
        if entries(object).iter().any(|entry| text(&entry["name"]).ends_with(ENTRIES)) {
            check.failed(
                format!("{} is another registration of promsidecar: pods are sent twice", name(object)),
                format!("keep one: kubectl delete mutatingwebhookconfiguration {}", name(object)),
            );
            continue;
        }
        let on_pods: Vec<&Value> = entries(object).iter().filter(|entry| changes_pods(entry)).collect();
        if on_pods.is_empty() {
            continue;
        }
        // The API server calls them in the order of their names.
        let list = if name(object) < own.as_str() { &mut before } else { &mut after };
        list.push(name(object).to_owned());
        let known = |(part, _): &&(&str, &str)| {
            name(object).contains(part) || on_pods.iter().any(|entry| text(&entry["name"]).contains(part))
        };
        if let Some((_, who)) = TYPED.iter().find(known) {
            check.warning(
                format!("{} is of {who}; old versions take restartPolicy from the agent, and the pod never starts", name(object)),
                "see that it is new; `promsidecar explain pod/NAME` and the admission warning say if it happens",
            );
        }
    }
    let called = |when: &str, names: &[String]| match names {
        [] => format!("none is called {when}"),
        names => format!("{} {when}", some(names)),
    };
    check.ok(format!("{}; {}", called("before ours", &before), called("after ours", &after)));
    check.end()
}

/// Whether an entry is called for pods that are created.
fn changes_pods(entry: &Value) -> bool {
    let has = |rule: &Value, key: &str, wanted: &[&str]| {
        list(&rule[key]).iter().any(|value| wanted.contains(&text(value)))
    };
    list(&entry["rules"]).iter().any(|rule| {
        has(rule, "apiGroups", &["", "*"])
            && has(rule, "resources", &["pods", "*", "*/*", "pods/*"])
            && has(rule, "operations", &["CREATE", "*"])
            && rule["scope"] != "Cluster"
    })
}

/// First release that leaves templates of another controller alone.
const FIRST: Version = Version::new(0, 73, 0);

/// Whether a prometheus-operator that runs leaves our templates alone.
pub fn operator(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("prometheus-operator");
    let deployments = match &facts.deployments {
        Ok(deployments) => deployments,
        Err(forbidden) => return check.only_forbidden(forbidden),
    };
    let id = &facts.settings.controller_id;
    for deployment in deployments {
        for container in list(&deployment["spec"]["template"]["spec"]["containers"]) {
            let image = text(&container["image"]);
            let Some(reference) = ImageReference::parse(image) else { continue };
            if reference.repository.rsplit('/').next() != Some("prometheus-operator") {
                continue;
            }
            let place = identity(deployment);
            let claims = format!("--controller-id={id}");
            if list(&container["args"]).iter().any(|argument| argument == &claims) {
                check.failed(
                    format!("{place} has the controller id {id}: it manages our templates as well"),
                    "give it another --controller-id",
                );
                continue;
            }
            let version = reference.tag.and_then(Version::parse);
            match version {
                Some(version) if version < FIRST => check.failed(
                    format!("{place} is {version}, which runs an agent of its own for every template"),
                    format!("upgrade it to {FIRST} or later, the first that honours operator.prometheus.io/controller-id"),
                ),
                Some(version) => check.ok(format!("{place} is {version}: it leaves claimed templates alone")),
                None => check.warning(
                    format!("{place} runs {image}, whose version cannot be told"),
                    format!("see that it is {FIRST} or later: older ones run an agent of their own for every template"),
                ),
            }
        }
    }
    check.or_ok("none runs")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{operator, webhooks};
    use crate::check::facts::Facts;
    use crate::check::finding::{Outcome, told};
    use crate::check::registration::shipped;

    fn other(name: &str, resource: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.example.com"),
                "rules": [{"apiGroups": [""], "resources": [resource], "operations": ["CREATE"]}],
            }],
        })
    }

    #[test]
    fn others_are_told_by_their_order_and_a_second_registration_of_ours_fails() {
        let ours = shipped("promsidecar-system");
        let alone = Facts { registrations: Ok(vec![ours.clone()]), ..Facts::default() };
        let nothing = "none is called before ours; none is called after ours";
        assert_eq!(told(&webhooks(&alone)), [(Outcome::Ok, nothing, "")]);
        let mut twice = ours.clone();
        twice["metadata"]["name"] = json!("promsidecar-old");
        let all = vec![
            ours,
            twice,
            other("istio", "pods"),
            other("services", "services"),
            other("vpa-webhook-config", "*"),
        ];
        let found = webhooks(&Facts { registrations: Ok(all), ..Facts::default() });
        let outcomes: Vec<_> = found.iter().map(|finding| (finding.outcome, &*finding.found)).collect();
        assert_eq!(
            outcomes,
            [
                (
                    Outcome::Failed,
                    "promsidecar-old is another registration of promsidecar: pods are sent twice"
                ),
                (
                    Outcome::Warning,
                    "vpa-webhook-config is of the Vertical Pod Autoscaler; old versions take restartPolicy from the agent, \
                     and the pod never starts"
                ),
                (Outcome::Ok, "istio before ours; vpa-webhook-config after ours"),
            ]
        );
    }

    #[test]
    fn an_operator_that_is_too_old_or_claims_our_id_fails() {
        let with = |image: &str, args: Value| {
            let container = json!({"image": image, "args": args});
            let deployment = json!({
                "metadata": {"name": "operator", "namespace": "monitoring"},
                "spec": {"template": {"spec": {"containers": [container]}}},
            });
            operator(&Facts { deployments: Ok(vec![deployment]), ..Facts::default() })
        };
        let image = "quay.io/prometheus-operator/prometheus-operator";
        for (image, args, outcome) in [
            (format!("{image}:v0.72.0"), json!([]), Outcome::Failed),
            (format!("{image}:v0.73.0"), json!(["--controller-id=other"]), Outcome::Ok),
            (format!("{image}:v0.93.1"), json!(["--controller-id=promsidecar"]), Outcome::Failed),
            (format!("{image}:main"), json!([]), Outcome::Warning),
            ("registry.test/other:v0.1.0".to_owned(), json!([]), Outcome::Ok),
        ] {
            let found = with(&image, args);
            assert_eq!(found[0].outcome, outcome, "{image}: {found:?}");
        }
        assert_eq!(told(&operator(&Facts::default())), [(Outcome::Ok, "none runs", "")]);
    }
}
