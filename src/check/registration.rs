//! Whether the API server is told to call the webhook as it is shipped. PURE.
//!
//! Input: the registration, and the shipped one. Output: findings of `registration`: each difference that matters.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::cluster::seen::{list, name, text};
use crate::manifest;

/// As it is shipped.
const SHIPPED: &str = include_str!("../../webhook-config/base/registration.yaml");
/// The end of the names of our entries, whatever the registration is called.
pub const ENTRIES: &str = ".sidecar.prometheus.io";
/// What brings the shipped one back. Not the file of `base` alone, which lacks what the overlays add: replaced by that, a
/// registration whose bundle cert-manager writes is trusted by nobody.
const FIX: &str = "apply again what was installed: kubectl apply -k webhook-config/overlays/NAME";

/// The shipped registration, for an installation in this namespace.
pub fn shipped(own_namespace: &str) -> Value {
    let text = SHIPPED.replace("promsidecar-system", own_namespace);
    let documents = manifest::read(&text).unwrap_or_default();
    documents.into_iter().next().map(|document| document.object).unwrap_or_default()
}

/// The registration of this name.
pub fn ours(facts: &Facts) -> Option<&Value> {
    let all = facts.registrations.as_ref().ok()?;
    all.iter().find(|object| name(object) == facts.names.registration)
}

/// The entries of a registration.
pub fn entries(registration: &Value) -> &[Value] {
    list(&registration["webhooks"])
}

/// Whether everything is as it is shipped.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("registration");
    if let Err(forbidden) = &facts.registrations {
        return check.only_forbidden(forbidden);
    }
    let Some(registration) = ours(facts) else {
        check.failed(
            format!(
                "there is no MutatingWebhookConfiguration {}: no pod is injected",
                facts.names.registration
            ),
            "apply again what was installed: kubectl apply -k webhook-config/overlays/NAME; or name it by --registration",
        );
        return check.end();
    };
    let shipped = shipped(&facts.names.own_namespace);
    for wanted in entries(&shipped) {
        let entry_name = text(&wanted["name"]);
        match entries(registration).iter().find(|entry| entry["name"] == entry_name) {
            None => check.failed(format!("the entry {entry_name} is missing"), FIX),
            Some(found) => compare(wanted, found, &mut check),
        }
    }
    for entry in entries(registration) {
        if !entries(&shipped).iter().any(|wanted| wanted["name"] == entry["name"]) {
            check.warning(
                format!("the entry {} is not of this version", text(&entry["name"])),
                "use the program of the installed version, or apply again what was installed",
            );
        }
    }
    let count = entries(registration).len();
    check.or_ok(format!("{} has its {count} entries as they are shipped", facts.names.registration))
}

/// Differences of one entry.
fn compare(wanted: &Value, found: &Value, check: &mut Check) {
    let entry = text(&wanted["name"]);
    if let Some(difference) = called(&wanted["clientConfig"], &found["clientConfig"]) {
        check.failed(format!("{entry}: {difference}"), FIX);
    }
    for field in ["failurePolicy", "matchPolicy", "sideEffects"] {
        if wanted[field] != found[field] {
            check.failed(
                format!("{entry}: {field} is {}, not {}", text(&found[field]), text(&wanted[field])),
                FIX,
            );
        }
    }
    if rules(wanted) != rules(found) {
        check.failed(format!("{entry}: rules are not those of pods that are created"), FIX);
    }
    if conditions(wanted) != conditions(found) {
        check.failed(format!("{entry}: matchConditions differ: other pods are sent than are meant"), FIX);
    }
    requirements(wanted, found, check);
    for field in ["reinvocationPolicy", "timeoutSeconds"] {
        if wanted[field] != found[field] {
            let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            check.warning(
                format!("{entry}: {field} is {}, not {}", shown(&found[field]), shown(&wanted[field])),
                FIX,
            );
        }
    }
    if found["objectSelector"].as_object().is_some_and(|selector| !selector.is_empty()) {
        check.warning(
            format!("{entry}: has an objectSelector: pods that it leaves out get no agent, and are not told"),
            "remove it, if that is not meant",
        );
    }
}

/// What is called instead of what should be. By URL is as good as by Service.
fn called(wanted: &Value, found: &Value) -> Option<String> {
    let path = text(&wanted["service"]["path"]);
    if let Some(url) = found["url"].as_str() {
        let rest = url.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
        let fits = rest.is_some_and(|(_, rest)| rest == path.trim_start_matches('/'));
        return (!fits).then(|| format!("{url} is called, whose path is not {path}"));
    }
    for field in ["namespace", "name", "path"] {
        let (wanted, found) = (&wanted["service"][field], &found["service"][field]);
        if wanted != found {
            return Some(format!("the {field} of its Service is {}, not {}", text(found), text(wanted)));
        }
    }
    None
}

fn rules(entry: &Value) -> BTreeSet<String> {
    list(&entry["rules"]).iter().map(Value::to_string).collect()
}

/// Expressions as they are evaluated: how they are broken into lines does not matter.
fn conditions(entry: &Value) -> BTreeSet<String> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    list(&entry["matchConditions"]).iter().map(|condition| words(text(&condition["expression"]))).collect()
}

/// A requirement on a namespace's labels: key, operator, values.
type Requirement<'a> = (&'a str, &'a str, BTreeSet<&'a str>);

fn selector(entry: &Value) -> BTreeSet<Requirement<'_>> {
    let selector = &entry["namespaceSelector"];
    let expressions = list(&selector["matchExpressions"]).iter().map(|requirement| {
        let values = list(&requirement["values"]).iter().map(text).collect();
        (text(&requirement["key"]), text(&requirement["operator"]), values)
    });
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.as_str(), "In", BTreeSet::from([text(value)])));
    expressions.chain(labels).collect()
}

fn requirements(wanted: &Value, found: &Value, check: &mut Check) {
    let entry = text(&wanted["name"]);
    let (wanted, found) = (selector(wanted), selector(found));
    // More namespaces may be left out than are shipped.
    let covers = |found: &Requirement<'_>, wanted: &Requirement<'_>| {
        found == wanted
            || (found.0, found.1, wanted.1) == (wanted.0, "NotIn", "NotIn") && found.2.is_superset(&wanted.2)
    };
    for missing in wanted.iter().filter(|wanted| !found.iter().any(|found| covers(found, wanted))) {
        check.failed(format!("{entry}: namespaceSelector lacks {}", shown(missing)), FIX);
    }
    for more in found.iter().filter(|found| !wanted.iter().any(|wanted| covers(found, wanted))) {
        check.warning(
            format!("{entry}: namespaceSelector has {} besides: pods elsewhere get no agent", shown(more)),
            "remove it, if that is not meant",
        );
    }
}

fn shown((key, operator, values): &Requirement<'_>) -> String {
    let values = values.iter().copied().collect::<Vec<_>>().join(", ");
    if values.is_empty() { format!("{key} {operator}") } else { format!("{key} {operator} ({values})") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, shipped};
    use crate::check::facts::Facts;
    use crate::check::finding::{Outcome, told};
    use crate::cluster::seen::Forbidden;

    fn with(registration: Value) -> Facts {
        Facts { registrations: Ok(vec![registration]), ..Facts::default() }
    }

    #[test]
    fn the_shipped_registration_is_as_it_is_shipped_by_service_or_by_url() {
        let mut object = shipped("promsidecar-system");
        assert_eq!(
            told(&check(&with(object.clone()))),
            [(Outcome::Ok, "promsidecar has its 6 entries as they are shipped", "")]
        );
        for entry in object["webhooks"].as_array_mut().unwrap() {
            let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
            entry["clientConfig"] = json!({"url": format!("https://webhook.test:8443{path}")});
            // As the API server stores it.
            entry["objectSelector"] = json!({});
        }
        assert_eq!(told(&check(&with(object)))[0].0, Outcome::Ok);
        // Another namespace of ours, in its selectors as well.
        let mut facts = with(shipped("elsewhere"));
        facts.names.own_namespace = "elsewhere".to_owned();
        assert_eq!(told(&check(&facts))[0].0, Outcome::Ok);
    }

    #[test]
    fn every_difference_is_told_by_entry_and_field() {
        type Edit = fn(&mut Value);
        let cases: [(Edit, Outcome, &str); 11] = [
            (|e| e["failurePolicy"] = json!("Ignore"), Outcome::Failed, "failurePolicy is Ignore, not Fail"),
            (|e| e["matchPolicy"] = json!("Exact"), Outcome::Failed, "matchPolicy is Exact, not Equivalent"),
            (|e| e["timeoutSeconds"] = json!(30), Outcome::Warning, "timeoutSeconds is 30, not 3"),
            (
                |e| e["reinvocationPolicy"] = json!("Never"),
                Outcome::Warning,
                "reinvocationPolicy is Never, not IfNeeded",
            ),
            (
                |e| e["clientConfig"]["service"]["path"] = json!("/mutate"),
                Outcome::Failed,
                "the path of its Service is /mutate, not /mutate/namespace/ns",
            ),
            (
                |e| e["clientConfig"] = json!({"url": "https://a.test/mutate/namespace/no"}),
                Outcome::Failed,
                "https://a.test/mutate/namespace/no is called, whose path is not /mutate/namespace/ns",
            ),
            (
                |e| e["rules"][0]["operations"] = json!(["CREATE", "UPDATE"]),
                Outcome::Failed,
                "rules are not those of pods that are created",
            ),
            (
                |e| e["matchConditions"] = json!([]),
                Outcome::Failed,
                "matchConditions differ: other pods are sent than are meant",
            ),
            (
                |e| drop(e["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap().remove(0)),
                Outcome::Failed,
                "namespaceSelector lacks kubernetes.io/metadata.name NotIn (kube-node-lease, kube-public, \
                 kube-system, promsidecar-system)",
            ),
            (
                |e| e["namespaceSelector"]["matchLabels"] = json!({"team": "a"}),
                Outcome::Warning,
                "namespaceSelector has team In (a) besides: pods elsewhere get no agent",
            ),
            (
                |e| e["objectSelector"] = json!({"matchLabels": {"a": "b"}}),
                Outcome::Warning,
                "has an objectSelector: pods that it leaves out get no agent, and are not told",
            ),
        ];
        for (edit, outcome, found) in cases {
            let mut object = shipped("promsidecar-system");
            edit(&mut object["webhooks"][0]);
            let findings = check(&with(object));
            let entry = "required-by-namespace.asked-by-namespace.sidecar.prometheus.io";
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!((findings[0].outcome, &*findings[0].found), (outcome, &*format!("{entry}: {found}")));
        }
    }

    #[test]
    fn more_namespaces_may_be_left_out_and_lines_of_expressions_may_be_broken_otherwise() {
        let mut object = shipped("promsidecar-system");
        let entry = &mut object["webhooks"][0];
        entry["namespaceSelector"]["matchExpressions"][0]["values"]
            .as_array_mut()
            .unwrap()
            .push(json!("more"));
        let expression = entry["matchConditions"][0]["expression"].as_str().unwrap().replace(' ', "\n ");
        entry["matchConditions"][0]["expression"] = json!(expression);
        assert_eq!(told(&check(&with(object)))[0].0, Outcome::Ok);
    }

    #[test]
    fn entries_that_are_missing_or_strange_and_a_registration_that_is_not_there_are_told() {
        let mut object = shipped("promsidecar-system");
        object["webhooks"][5]["name"] = json!("another.sidecar.prometheus.io");
        let findings = check(&with(object));
        let outcomes: Vec<_> = findings.iter().map(|finding| finding.outcome).collect();
        assert_eq!(outcomes, [Outcome::Failed, Outcome::Warning], "{findings:?}");
        assert_eq!(check(&Facts::default())[0].outcome, Outcome::Failed);
        let forbidden = Facts { registrations: Err(Forbidden("x".to_owned())), ..Facts::default() };
        assert_eq!(check(&forbidden)[0].outcome, Outcome::NotChecked);
    }
}
