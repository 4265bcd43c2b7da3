//! Templates with something else than the type of a field in its place: it is named, nothing else is made of it, and
//! nothing breaks.

mod support;

use std::collections::BTreeSet;

use promsidecar::admission::catalog::Catalog;
use promsidecar::manifest;
use promsidecar::store::compile::compile;
use promsidecar::store::documents::{self, Problem};
use promsidecar::template::api::fields::{FIELDS, Verdict};
use promsidecar::template::api::{self, http, pod, remote_write};
use promsidecar::template::{ReadError, Settings, Template};
use serde_json::{Value, json};
use support::contract::is_line;
use support::template::{
    all_places, fields, full_spec, judge, judge_spec, parts, paths, refused_fields, template, with,
};

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_u64() => "a number",
        Value::Number(_) => "another number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// One value of each kind, and some more that a lenient reader could take for another.
fn kinds() -> Vec<Value> {
    vec![
        json!(true),
        json!(7),
        json!(-7_000_000_000_i64),
        json!(1.5),
        json!("true"),
        json!([]),
        json!(["7"]),
        json!([{}]),
        json!({}),
        json!({"name": "prometheus"}),
    ]
}

/// Quantities may be numbers, as in Kubernetes.
fn takes(pointer: &str, old: &Value, new: &Value) -> bool {
    let quantity = ["/requests/", "/limits/"].iter().any(|part| pointer.contains(part))
        || pointer == "/storage/emptyDir/sizeLimit";
    kind(old) == kind(new) || quantity && matches!(new, Value::Number(_) | Value::String(_))
}

#[test]
fn the_full_specification_is_valid_and_has_every_field_that_the_model_reads() {
    let spec = full_spec();
    let agent = judge_spec(spec.clone()).unwrap_or_else(|violations| unreachable!("{violations:#?}"));
    let unknown: Vec<_> = agent.ignored.iter().filter(|field| field.why.contains("not known")).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let refused =
        refused_fields().into_iter().fold(spec, |spec, (pointer, value)| with(&spec, pointer, value));
    let have = |pointer: &str| -> BTreeSet<&str> {
        // `*` stands for every item.
        let (list, below) = pointer.split_once("/*").unwrap_or((pointer, ""));
        let items = match refused.pointer(list) {
            Some(Value::Array(items)) => items.iter().collect(),
            value => value.into_iter().collect::<Vec<_>>(),
        };
        let objects = items.into_iter().filter_map(|item| item.pointer(below)?.as_object());
        objects.flat_map(|object| object.keys().map(String::as_str)).collect()
    };
    let types: [(BTreeSet<&str>, &str); 23] = [
        (fields::<api::PrometheusAgentSpec>(), ""),
        (fields::<api::Argument>(), "/additionalArgs/*"),
        (fields::<api::ObjectReference>(), "/excludedFromEnforcement/*"),
        (fields::<api::ScrapeClass>(), "/scrapeClasses/*"),
        (fields::<api::AttachMetadata>(), "/scrapeClasses/0/attachMetadata"),
        (fields::<api::Runtime>(), "/runtime"),
        (fields::<api::LabelSelector>(), "/podMonitorSelector"),
        (fields::<api::LabelSelectorRequirement>(), "/podMonitorSelector/matchExpressions/*"),
        (fields::<pod::Resources>(), "/resources"),
        (fields::<pod::StorageSpec>(), "/storage"),
        (fields::<pod::EmptyDir>(), "/storage/emptyDir"),
        (fields::<remote_write::RemoteWriteSpec>(), "/remoteWrite/*"),
        (fields::<remote_write::Sigv4>(), "/remoteWrite/3/sigv4"),
        (fields::<remote_write::AzureAd>(), "/remoteWrite/*/azureAd"),
        (fields::<remote_write::QueueConfig>(), "/remoteWrite/0/queueConfig"),
        (fields::<remote_write::MetadataConfig>(), "/remoteWrite/0/metadataConfig"),
        (fields::<remote_write::WorkloadIdentity>(), "/remoteWrite/6/azureAd/workloadIdentity"),
        (fields::<http::KeySelector>(), "/remoteWrite/0/basicAuth/username"),
        (fields::<http::BasicAuth>(), "/remoteWrite/0/basicAuth"),
        (fields::<http::Authorization>(), "/remoteWrite/1/authorization"),
        (fields::<http::OAuth2>(), "/remoteWrite/2/oauth2"),
        (fields::<http::TlsConfig>(), "/remoteWrite/0/tlsConfig"),
        (fields::<http::RelabelConfig>(), "/remoteWrite/0/writeRelabelConfigs/*"),
    ];
    for (modelled, pointer) in types {
        assert!(!modelled.is_empty(), "{pointer}");
        let missing: Vec<_> = modelled.difference(&have(pointer)).copied().collect();
        assert!(missing.is_empty(), "{pointer} of the full specification lacks {missing:?}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_anywhere_is_a_violation_that_names_its_place() {
    let mut tried = 0;
    for spec in parts() {
        for (pointer, path) in all_places(&spec) {
            let old = spec.pointer(&pointer).expect("it was found");
            for wrong in kinds().into_iter().filter(|new| !takes(&pointer, old, new)) {
                let judged = judge_spec(with(&spec, &pointer, wrong.clone()));
                assert!(judged.is_err(), "{path} takes {wrong} for {}", kind(old));
                assert!(
                    paths(&judged).contains(&path.as_str()),
                    "{path}: {wrong} for {}: {judged:#?}",
                    kind(old)
                );
                tried += 1;
            }
        }
    }
    println!("{tried} values of wrong kinds");
    assert!(tried > 1500, "{tried}");
}

#[test]
fn a_refused_field_is_refused_with_a_value_of_any_kind() {
    for (pointer, value) in refused_fields() {
        for value in kinds().into_iter().chain([value]) {
            // No header is what an empty map says.
            if pointer.ends_with("proxyConnectHeader") && value == json!({}) {
                continue;
            }
            let judged = judge_spec(with(&full_spec(), pointer, value.clone()));
            assert!(judged.is_err(), "{pointer} takes {value}");
            let field = pointer.rsplit('/').next().expect("a field");
            assert!(
                paths(&judged).iter().any(|path| path.contains(field)),
                "{pointer}: {value}: {judged:#?}"
            );
        }
    }
}

#[test]
fn null_is_absent_in_objects_and_a_wrong_kind_in_lists() {
    for spec in parts() {
        for (pointer, path) in all_places(&spec) {
            let null = judge_spec(with(&spec, &pointer, Value::Null));
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a parent");
            let mut without = spec.clone();
            if let Value::Object(members) = without.pointer_mut(parent).expect("the parent is there") {
                members.remove(key).expect("it was found");
                assert_eq!(null, judge_spec(without), "{path}");
            } else {
                assert!(null.is_err(), "{path}");
                assert!(
                    paths(&null).iter().any(|named| named.starts_with(path.as_str())),
                    "{path}: {null:?}"
                );
            }
        }
    }
}

#[test]
fn a_field_without_effect_is_reported_whatever_stands_in_it_and_every_other_one_is_in_the_full_specification()
{
    let full = full_spec();
    for field in FIELDS {
        let path = format!("spec.{}", field.name);
        if matches!(field.verdict, Verdict::Honoured | Verdict::Modified(_)) {
            assert!(full.get(field.name).is_some(), "{path}");
            continue;
        }
        for value in kinds() {
            let judged = judge_spec(json!({field.name: value}));
            let named = paths(&judged).iter().any(|named| named.starts_with(&path));
            assert!(named, "{path}: {value} is passed over in silence: {judged:?}");
        }
        assert!(judge_spec(json!({field.name: null})).is_ok(), "{path}: null");
    }
}

#[test]
fn a_specification_that_is_none_is_a_violation_and_an_absent_one_is_empty() {
    let empty = judge_spec(json!({})).expect("an empty specification is valid");
    let mut object = template(json!({}));
    for absent in [Some(Value::Null), None] {
        match absent {
            Some(null) => object["spec"] = null,
            None => drop(object.as_object_mut().expect("an object").remove("spec")),
        }
        assert_eq!(judge(&object).expect("no specification is an empty one"), empty);
    }
    for wrong in [json!(true), json!(7), json!("spec"), json!([]), json!([{}]), json!([["version"]])] {
        let violations = judge_spec(wrong.clone()).expect_err("no object");
        let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{wrong}: {lines:?}");
        assert!(lines[0].starts_with("spec: has the wrong type: "), "{wrong}: {lines:?}");
    }
}

/// What becomes of the document of a template.
fn built(object: &Value) -> (Vec<String>, Catalog) {
    let files = [("a.yaml".to_owned(), manifest::read(&object.to_string()).expect("JSON is YAML"))].into();
    let built = documents::build(&files, &Settings::default(), &Catalog::default());
    let problems = built.problems.into_iter().map(|Problem { message, .. }| message).collect();
    (problems, built.catalog)
}

#[test]
fn names_of_the_wrong_kind_make_no_template_and_are_named() {
    let name = "metadata.name of the PrometheusAgent is missing or no text; give it one, in quotes if it is a number";
    let bad_name = "metadata.name is missing or not a name that the API server accepts";
    let bad_namespace = "metadata.namespace is missing or not a name that the API server accepts";
    let cases = [
        ("/metadata", json!(null), name),
        ("/metadata", json!("shop"), name),
        ("/metadata", json!(["name"]), name),
        ("/metadata", json!({}), name),
        ("/metadata/name", json!(null), name),
        ("/metadata/name", json!(7), name),
        ("/metadata/name", json!(true), name),
        ("/metadata/name", json!(["shop"]), name),
        ("/metadata/name", json!(""), name),
        ("/metadata/name", json!("Shop"), bad_name),
        ("/metadata/name", json!("a\nb"), bad_name),
        ("/metadata/name", json!("../../etc"), bad_name),
        ("/metadata/name", json!("x".repeat(1 << 20)), bad_name),
        ("/metadata/namespace", json!(7), bad_namespace),
        ("/metadata/namespace", json!(false), bad_namespace),
        ("/metadata/namespace", json!(["team-a"]), bad_namespace),
        ("/metadata/namespace", json!({"name": "team-a"}), bad_namespace),
        ("/metadata/namespace", json!("a.b"), bad_namespace),
        ("/metadata/namespace", json!("$(POD_NAMESPACE)"), bad_namespace),
    ];
    for (pointer, value, expected) in cases {
        let object = with(&template(json!({})), pointer, value.clone());
        let (problems, catalog) = built(&object);
        assert_eq!(problems, [expected], "{pointer}: {}", value.to_string().get(..40).unwrap_or_default());
        assert_eq!(catalog.templates().count(), 0);
    }
    for none in [json!(null), json!("")] {
        let object = with(&template(json!({})), "/metadata/namespace", none);
        let (problems, catalog) = built(&object);
        assert_eq!(problems, [""; 0]);
        assert!(
            catalog.template("default", "shop").is_some(),
            "a manifest without a namespace means default"
        );
    }
}

#[test]
fn other_metadata_of_the_wrong_kind_is_reported_and_never_claims() {
    let read = |pointer: &str, value: Value| {
        let object = with(&template(json!({})), pointer, value);
        let claimed = Template::read(&object, &Settings::default()).expect("it has a name").claimed;
        (claimed, paths(&judge(&object)).into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let annotation = "/metadata/annotations/operator.prometheus.io~1controller-id";
    let id = "metadata.annotations[\"operator.prometheus.io/controller-id\"]";
    for wrong in [json!(true), json!(7), json!("promsidecar"), json!([]), json!(["promsidecar"])] {
        assert_eq!(read("/metadata/annotations", wrong), (false, vec!["metadata.annotations".to_owned()]));
    }
    for wrong in [json!(true), json!(7), json!(["promsidecar"]), json!({"promsidecar": ""}), json!(null)] {
        assert_eq!(read(annotation, wrong), (false, vec![id.to_owned()]));
    }
    for wrong in [json!("Promsidecar"), json!("promsidecar "), json!("")] {
        assert_eq!(read(annotation, wrong), (false, vec![]));
    }
    assert_eq!(read("/metadata/annotations", json!(null)), (false, vec![]));
    for wrong in [json!("3"), json!(1.5), json!(true), json!([]), json!({}), json!(u64::MAX)] {
        assert_eq!(read("/metadata/generation", wrong), (true, vec!["metadata.generation".to_owned()]));
    }
    for unread in [json!(null), json!([]), json!("x"), json!(7)] {
        assert_eq!(read("/metadata/labels", unread), (true, vec![]));
    }
    // A timestamp of whatever kind says that someone deletes it.
    for (timestamp, deleting) in
        [(json!(null), false), (json!("2026-01-01T00:00:00Z"), true), (json!(5), true)]
    {
        let object = with(&template(json!({})), "/metadata/deletionTimestamp", timestamp);
        assert_eq!(Template::read(&object, &Settings::default()).expect("a name").deleting, deleting);
    }
    for key in ["mode", "supervise", "self-monitor", "allowed-namespaces"] {
        let pointer = format!("/metadata/annotations/sidecar.prometheus.io~1{key}");
        let path = format!("metadata.annotations[\"sidecar.prometheus.io/{key}\"]");
        for wrong in
            [json!(true), json!(7), json!([]), json!({}), json!(null), json!("no\nway"), json!("$(X)")]
        {
            assert_eq!(read(&pointer, wrong.clone()), (true, vec![path.clone()]), "{key}: {wrong}");
        }
    }
}

#[test]
fn what_nobody_claimed_is_not_judged_whatever_it_holds() {
    for spec in kinds().into_iter().chain([json!(null), json!({"version": "2.0.0", "remoteWrite": "x"})]) {
        let mut object = template(spec.clone());
        for annotations in
            [json!(null), json!({}), json!([]), json!({"operator.prometheus.io/controller-id": "other"})]
        {
            object["metadata"]["annotations"] = annotations;
            let compiled = compile(&object, &Settings::default(), None).expect("it has a name");
            assert_eq!(compiled.violations, [], "{spec}");
            assert_eq!(compiled.entry.violation, None);
            assert!(!compiled.entry.claimed && compiled.entry.sidecar.is_none());
        }
    }
    for object in
        [json!(null), json!(5), json!([]), json!({}), json!({"kind": "PrometheusAgent", "apiVersion": ["x"]})]
    {
        let Err(ReadError::Kind { found }) = Template::read(&object, &Settings::default()) else {
            unreachable!("{object} is no template")
        };
        assert!(is_line(&found), "{found}");
    }
}

#[test]
fn a_volume_without_a_source_is_an_empty_directory_as_for_kubernetes() {
    for source in [json!({}), json!({"emptyDir": null}), json!({"emptyDir": {}})] {
        let mut volume = source;
        volume["name"] = json!("scratch");
        let agent = judge_spec(
            json!({"volumes": [volume], "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}),
        );
        let agent = agent.unwrap_or_else(|violations| unreachable!("{violations:?}"));
        // A mount whose volume is not there makes the API server refuse the pod.
        assert_eq!(agent.volumes, [json!({"name": "promsidecar-x-scratch", "emptyDir": {}})]);
        assert_eq!(agent.volume_mounts[0]["name"], "promsidecar-x-scratch");
    }
}
