//! The manifests of `webhook-config/`: the registration sends the webhook exactly the pods that ask, each to one entry.
//!
//! The selectors are evaluated as the API server does (apimachinery `labels.Requirement`), the CEL expressions by a table of
//! the known ones: an unknown expression fails the test. What should be called is not written down here a second time, it
//! is asked from the admission core.

#![expect(clippy::panic, reason = "a helper of a test fails the test")]

#[path = "support/combinations.rs"]
mod combinations;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use combinations::{Combination, NAMESPACE_NAME};
use promsidecar::admission::OutcomeKind;
use promsidecar::admission::decision::ALWAYS_EXCLUDED;
use promsidecar::names;
use serde_json::{Value, json};

const OWN_NAMESPACE: &str = "promsidecar-system";

fn registration() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config/base/registration.yaml");
    let text = fs::read_to_string(&path).expect("the registration can be read");
    serde_saphyr::from_str(&text).expect("the registration is one YAML document")
}

fn entries(registration: &Value) -> &[Value] {
    registration["webhooks"].as_array().expect("a registration has entries")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} is a string in {value}"))
}

/// One requirement of a label selector.
fn requirement_matches(requirement: &Value, labels: &BTreeMap<&str, &str>) -> bool {
    let label = labels.get(text(requirement, "/key")).copied();
    let values = requirement.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let listed = label.is_some_and(|label| values.iter().any(|value| value == label));
    match text(requirement, "/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        other => panic!("{other} is not an operator"),
    }
}

/// The known expressions and what they say about a pod's annotations.
fn expression_matches(expression: &str, annotations: &BTreeMap<&str, &str>) -> bool {
    let present =
        |key: &str| format!("has(object.metadata.annotations) && '{key}' in object.metadata.annotations");
    let compare = |key: &str, comparison: &str| {
        format!("{} && object.metadata.annotations['{key}'].lowerAscii() {comparison}", present(key))
    };
    let is = |key: &str, word: &str| annotations.get(key).map(|value| value.to_ascii_lowercase() == word);
    let says_something = annotations.contains_key(names::INJECT);
    let requires = is(names::REQUIRED, "true") == Some(true);
    let known = [
        (format!("!({})", present(names::INJECT)), !says_something),
        (compare(names::INJECT, "!= 'false'"), is(names::INJECT, "false") == Some(false)),
        (compare(names::REQUIRED, "== 'true'"), requires),
        (format!("!({})", compare(names::REQUIRED, "== 'true'")), !requires),
    ];
    let found = known.iter().find(|(known, _)| known == expression);
    found.unwrap_or_else(|| panic!("this test does not know the expression {expression}")).1
}

fn entry_matches(entry: &Value, labels: &BTreeMap<&str, &str>, annotations: &BTreeMap<&str, &str>) -> bool {
    let list = |pointer: &str| entry.pointer(pointer).and_then(Value::as_array).expect("a list").iter();
    list("/namespaceSelector/matchExpressions").all(|requirement| requirement_matches(requirement, labels))
        && list("/matchConditions")
            .all(|condition| expression_matches(text(condition, "/expression"), annotations))
}

/// The entries that a pod of `namespace` goes to.
fn called<'a>(registration: &'a Value, combination: &Combination, namespace: &'static str) -> Vec<&'a Value> {
    let (labels, annotations) = (combination.labels(namespace), combination.annotations());
    entries(registration).iter().filter(|entry| entry_matches(entry, &labels, &annotations)).collect()
}

#[test]
fn a_pod_goes_to_one_entry_if_the_core_has_anything_to_say_about_it_and_else_to_none() {
    let registration = registration();
    let mut calls = BTreeMap::<&str, usize>::new();
    for combination in Combination::all() {
        let outcome = combination.decided("team-a");
        let asks = combination.path(&outcome).is_some();
        let called = called(&registration, &combination, "team-a");
        assert_eq!(called.len(), usize::from(asks), "{combination:?}: {outcome:?}");
        if let [entry] = called[..] {
            *calls.entry(text(entry, "/name")).or_default() += 1;
        }
    }
    assert_eq!(calls.len(), 6, "every entry is used: {calls:?}");
}

#[test]
fn an_entry_fails_closed_exactly_where_the_core_denies() {
    let registration = registration();
    for combination in Combination::all() {
        let denied = combination.decided("team-a").kind == OutcomeKind::Denied;
        for entry in called(&registration, &combination, "team-a") {
            let expected = if denied { "Fail" } else { "Ignore" };
            assert_eq!(text(entry, "/failurePolicy"), expected, "{combination:?}");
        }
    }
}

#[test]
fn the_path_says_who_asked_and_who_requires() {
    let registration = registration();
    for combination in Combination::all() {
        let expected = combination.path(&combination.decided("team-a"));
        for entry in called(&registration, &combination, "team-a") {
            let path = text(entry, "/clientConfig/service/path");
            assert_eq!(Some(path), expected.as_deref(), "{combination:?}");
        }
    }
}

#[test]
fn pods_of_excluded_namespaces_are_never_sent() {
    let registration = registration();
    for namespace in ALWAYS_EXCLUDED.into_iter().chain([OWN_NAMESPACE]) {
        for combination in Combination::all() {
            assert_eq!(called(&registration, &combination, namespace), Vec::<&Value>::new(), "{namespace}");
        }
    }
}

#[test]
fn the_excluded_namespaces_are_those_of_the_core_and_the_webhooks_own() {
    let expected: BTreeSet<&str> = ALWAYS_EXCLUDED.into_iter().chain([OWN_NAMESPACE]).collect();
    for entry in entries(&registration()) {
        assert_eq!(text(entry, "/clientConfig/service/namespace"), OWN_NAMESPACE);
        let requirements = entry["namespaceSelector"]["matchExpressions"].as_array().expect("a list");
        let by_name: Vec<_> =
            requirements.iter().filter(|requirement| requirement["key"] == NAMESPACE_NAME).collect();
        let [requirement] = by_name[..] else { panic!("one requirement on the name: {by_name:?}") };
        assert_eq!(requirement["operator"], "NotIn");
        let values = requirement["values"].as_array().expect("NotIn has values").iter();
        assert_eq!(values.filter_map(Value::as_str).collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn all_entries_agree_in_everything_but_who_asks_and_who_requires() {
    for entry in entries(&registration()) {
        let mut rest = entry.as_object().expect("an entry is an object").clone();
        for key in ["name", "failurePolicy", "namespaceSelector", "matchConditions"] {
            assert!(rest.remove(key).is_some(), "{key} is stated: {entry}");
        }
        rest["clientConfig"]["service"]["path"].take();
        let expected = json!({
            // Nothing else: neither a URL nor a caBundle, which the holder of the certificate sets.
            "clientConfig": {"service": {
                "namespace": OWN_NAMESPACE, "name": "promsidecar-webhook", "path": null, "port": 443,
            }},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                "scope": "Namespaced",
            }],
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": 3,
            "admissionReviewVersions": ["v1"],
        });
        assert_eq!(Value::Object(rest), expected);
    }
}

#[test]
fn names_are_qualified_and_unique_as_the_api_server_demands() {
    let registration = registration();
    let names: BTreeSet<&str> = entries(&registration).iter().map(|entry| text(entry, "/name")).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in names {
        let segments: Vec<_> = name.split('.').collect();
        assert!(segments.len() >= 3, "{name}");
        let is_label_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(segments.iter().all(|label| !label.is_empty() && label.bytes().all(is_label_byte)), "{name}");
    }
}
