use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::{Content, FIELD_MANAGER, Stored, object};
use crate::names;

fn ours() -> v1::Secret {
    let mut secret = v1::Secret { type_: Some("kubernetes.io/tls".to_owned()), ..v1::Secret::default() };
    secret.metadata.labels =
        Some(BTreeMap::from([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())]));
    secret
}

#[test]
fn a_secret_that_is_not_ours_is_refused_with_the_fix() {
    let refused = |change: fn(&mut v1::Secret)| {
        let mut secret = ours();
        assert_eq!(Stored::of(&secret).foreign(), None);
        change(&mut secret);
        Stored::of(&secret).foreign().unwrap().to_owned()
    };
    for (change, part) in [
        ((|secret| secret.metadata.labels = None) as fn(&mut v1::Secret), "lacks the label"),
        (
            |secret| {
                secret.metadata.labels =
                    Some(BTreeMap::from([(names::MANAGED_BY.to_owned(), "Helm".to_owned())]));
            },
            "lacks the label",
        ),
        (
            |secret| {
                let key = "cert-manager.io/certificate-name".to_owned();
                secret.metadata.annotations = Some(BTreeMap::from([(key, "webhook".to_owned())]));
            },
            "is written by cert-manager: use --certificate external",
        ),
        (
            |secret| {
                let labels = secret.metadata.labels.get_or_insert_default();
                labels.insert("controller.cert-manager.io/fao".to_owned(), "true".to_owned());
            },
            "is written by cert-manager: use --certificate external",
        ),
        (|secret| secret.type_ = Some("Opaque".to_owned()), "has the type \"Opaque\""),
        (|secret| secret.immutable = Some(true), "is immutable"),
    ] {
        let why = refused(change);
        assert!(why.contains(part), "{why}");
    }
}

fn content(answers: bool) -> Content {
    let text = str::to_owned;
    Content {
        authorities: text("a"),
        authority_key: text("ak"),
        next_key: text(""),
        certificate: text("c"),
        key: text("k"),
        answers,
    }
}

#[test]
fn what_is_written_is_what_is_read_and_names_the_version_that_it_replaces() {
    let created = object("own", "tls", &content(true), None);
    let metadata = json!({
        "name": "tls", "namespace": "own", "labels": {(names::MANAGED_BY): names::MANAGER},
    });
    assert_eq!(created["metadata"], metadata);
    let mut read: v1::Secret = serde_json::from_value(created).unwrap();
    read.metadata.uid = Some("u".to_owned());
    read.metadata.resource_version = Some("7".to_owned());
    let stored = Stored::of(&read);
    let keys = ["ca.crt", "ca.key", "ca-next.key", "tls.crt", "tls.key", "other"];
    assert_eq!(keys.map(|key| stored.get(key)), [&b"a"[..], b"ak", b"", b"c", b"k", b""]);
    assert_eq!(stored.foreign(), None);
    let applied = object("own", "tls", &content(true), Some(&stored));
    assert_eq!(
        (&applied["metadata"]["uid"], &applied["metadata"]["resourceVersion"]),
        (&json!("u"), &json!("7"))
    );
    assert_eq!(format!("{stored:?}"), "Stored { resource_version: \"7\", .. }");
}

#[test]
fn what_is_asked_for_is_answered_once() {
    let rotated = |asked: &str, rotated: Option<&str>, answers| {
        let mut secret = ours();
        let annotations = [(names::ROTATE, Some(asked)), (names::ROTATED, rotated)];
        let annotations =
            annotations.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        secret.metadata.annotations = Some(annotations.collect());
        let stored = Stored::of(&secret);
        let written =
            object("own", "tls", &content(answers), Some(&stored))["metadata"]["annotations"].clone();
        (stored.is_rotation_asked(), written)
    };
    let annotations = |value: &str| json!({(names::ROTATED): value});
    assert_eq!(rotated("one", None, false), (true, Value::Null));
    assert_eq!(rotated("one", None, true), (true, annotations("one")));
    assert_eq!(rotated("one", Some("one"), false), (false, annotations("one")));
    // Another write must not take it for answered.
    assert_eq!(rotated("two", Some("one"), false), (true, annotations("one")));
    assert_eq!(rotated("two", Some("one"), true), (true, annotations("two")));
    assert_eq!(rotated("", Some("one"), false), (false, annotations("one")), "nothing is no value");
}

#[test]
fn who_else_wrote_what_it_holds_is_known_by_its_field_managers() {
    let written = |managers: &[(&str, Value)]| {
        let mut secret = ours();
        let managed = managers.iter().map(|(manager, fields)| {
            json!({"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields})
        });
        secret.metadata.managed_fields =
            Some(managed.map(|entry| serde_json::from_value(entry).unwrap()).collect());
        Stored::of(&secret).others()
    };
    let data = || json!({"f:data": {"f:tls.crt": {}}});
    let wish = json!({"f:metadata": {"f:annotations": {(format!("f:{}", names::ROTATE)): {}}}});
    let label = json!({"f:metadata": {"f:labels": {"f:team": {}}}});
    assert_eq!(written(&[]), "somebody");
    assert_eq!(written(&[(FIELD_MANAGER, data()), ("labeller", label)]), "somebody");
    assert_eq!(written(&[("velero", data()), (FIELD_MANAGER, data()), ("kubectl", wish)]), "kubectl, velero");
}
