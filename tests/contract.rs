//! Every answer is one that a kube-apiserver takes as it is meant; what it does not take is rejected here as well.

mod support;

use std::collections::BTreeSet;

use base64::Engine;
use promsidecar::admission::reason::{Reason, TABLE};
use promsidecar::admission::{Answer, OutcomeKind, admit};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::cases::{Case, root};
use support::contract::{faults, is_line};
use support::golden::folders;

/// What is wrong with an answer to the review of this uid. Where the failure policy decides instead, the message is shown
/// to people and must be a line.
fn wrong(answer: &Answer, uid: &str) -> Vec<&'static str> {
    match answer {
        Answer::Reviewed { body, .. } => faults(uid, body),
        Answer::Failed { message, .. } | Answer::Unreadable { message } => {
            if is_line(message) {
                vec![]
            } else {
                vec!["a message is a line"]
            }
        }
    }
}

fn uid(review: &Value) -> &str {
    review["request"]["uid"].as_str().expect("a review has a uid")
}

/// The reason of an answer, and whether the pod was kept out.
fn outcome(answer: &Answer) -> (Option<Reason>, bool) {
    match answer {
        Answer::Reviewed { outcome, .. } => (outcome.reason, outcome.kind == OutcomeKind::Denied),
        Answer::Failed { outcome, .. } => (outcome.reason, true),
        Answer::Unreadable { message } => unreachable!("a case can be read: {message}"),
    }
}

#[test]
fn the_answer_to_every_case_is_taken_whether_the_agent_is_required_or_not_and_for_every_reason() {
    let mut seen = BTreeSet::new();
    for folder in folders(&root()) {
        let case = Case::read(&folder);
        for required in ["", "false", "true", "TRUE", "perhaps"] {
            let mut review = case.review.clone();
            let annotations = review.pointer_mut("/request/object/metadata/annotations");
            match annotations.and_then(Value::as_object_mut) {
                Some(annotations) if !required.is_empty() => {
                    annotations.insert("sidecar.prometheus.io/required".to_owned(), json!(required));
                }
                _ => {}
            }
            let answer = case.admit(&review);
            assert_eq!(
                wrong(&answer, uid(&review)),
                [""; 0],
                "{} required {required:?}: {answer:?}",
                folder.display()
            );
            review["request"]["dryRun"] = json!(true);
            assert_eq!(case.admit(&review), answer, "a dry run is answered alike: {}", folder.display());
            seen.insert(outcome(&answer));
        }
    }
    for row in TABLE {
        assert!(seen.contains(&(Some(row.reason), false)), "never admitted: {}", row.word);
        // Internal errors leave a required pod to the failure policy.
        let kept_out = row.reason.denies_if_required() || row.reason == Reason::InternalError;
        assert_eq!(seen.contains(&(Some(row.reason), true)), kept_out, "kept out: {}", row.word);
    }
}

#[test]
fn the_answers_to_generated_pods_are_taken() {
    let case = Case::read(&root().join("review-replicaset"));
    let mut runner = TestRunner::deterministic();
    for _ in 0..500 {
        let (pod, namespace) = support::pods::pods().new_tree(&mut runner).expect("a pod").current();
        let review = support::reviews::creation(&pod, namespace);
        let answer = case.admit(&review);
        assert_eq!(wrong(&answer, uid(&review)), [""; 0], "{pod}: {answer:?}");
    }
}

/// A case's review as text, with its uid written like this.
fn with_uid(case: &Case, written: &str) -> Vec<u8> {
    let mut review = case.review.clone();
    review["request"]["uid"] = json!("UID");
    let text = review.to_string();
    assert_eq!(text.matches("\"UID\"").count(), 1);
    text.replace("\"UID\"", written).into_bytes()
}

#[test]
fn any_uid_comes_back_as_it_came() {
    let case = Case::read(&root().join("review-replicaset"));
    let long = "u".repeat(1 << 20);
    let quoted = format!("\"{long}\"");
    let uids = [
        ("\"705ab4f5-6393-11e8-b7cc-42010a800002\"", "705ab4f5-6393-11e8-b7cc-42010a800002"),
        (r#""\",\"allowed\":false,\"x\":\"""#, r#"","allowed":false,"x":""#),
        (r#""\\\" } ] \/""#, "\\\" } ] /"),
        (r#""a\nb\r\u0000\u007f\u0085""#, "a\nb\r\0\u{7f}\u{85}"),
        ("\"\u{fc} \u{202e}\u{200b} \u{1f980}\"", "\u{fc} \u{202e}\u{200b} \u{1f980}"),
        (r#""\ud83e\udd80 \u2028""#, "\u{1f980} \u{2028}"),
        (r#"" ""#, " "),
        (&*quoted, &*long),
    ];
    for (written, uid) in uids {
        let answer = admit(&with_uid(&case, written), &case.catalog, &case.policy);
        let Answer::Reviewed { body, .. } = &answer else { unreachable!("{answer:?}") };
        assert_eq!(faults(uid, body), [""; 0]);
    }
}

#[test]
fn a_uid_that_cannot_be_sent_back_is_no_review() {
    let case = Case::read(&root().join("review-replicaset"));
    let uids = [
        (r#""\ud800""#, "the body is not JSON: "),
        (r#""\ud800 \udc00""#, "the body is not JSON: "),
        ("\"a\nb\"", "the body is not JSON: "),
        (r#""""#, "request.uid is missing"),
        ("null", "request.uid is missing"),
        ("7", "request.uid is missing"),
        ("[\"a\"]", "request.uid is missing"),
    ];
    for (written, expected) in uids {
        let answer = admit(&with_uid(&case, written), &case.catalog, &case.policy);
        let Answer::Unreadable { message } = &answer else { unreachable!("{written}: {answer:?}") };
        assert!(message.starts_with(expected), "{written}: {message}");
        assert_eq!(wrong(&answer, ""), [""; 0], "{message}");
    }
}

/// The only warning of an answer that admits without a patch.
fn only_warning(review: &Value) -> String {
    let case = Case::read(&root().join("review-replicaset"));
    let answer = case.admit(review);
    assert_eq!(wrong(&answer, uid(review)), [""; 0], "{answer:?}");
    let Answer::Reviewed { body, .. } = &answer else { unreachable!("{answer:?}") };
    let answer: Value = serde_json::from_slice(body).expect("JSON");
    let response = &answer["response"];
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None), "{response}");
    let warnings = response["warnings"].as_array().expect("a warning");
    assert_eq!(warnings.len(), 1, "{response}");
    warnings[0].as_str().expect("text").to_owned()
}

#[test]
fn calls_about_anything_but_the_creation_of_a_pod_are_admitted_and_told_what_is_registered() {
    let case = Case::read(&root().join("review-replicaset"));
    let kind = |group: &str, kind: &str| json!({"group": group, "version": "v1", "kind": kind});
    let calls: [(&str, Value, &str); 11] = [
        ("operation", json!("UPDATE"), "registered for UPDATE, want CREATE"),
        ("operation", json!("DELETE"), "registered for DELETE, want CREATE"),
        ("operation", json!("CONNECT"), "registered for CONNECT, want CREATE"),
        ("operation", json!("create"), "registered for create, want CREATE"),
        ("operation", Value::Null, "registered for no operation, want CREATE"),
        ("subResource", json!("ephemeralcontainers"), "registered for Pod/ephemeralcontainers, want pods"),
        ("subResource", json!("a\nb\u{202e}"), "registered for Pod/a b , want pods"),
        ("kind", kind("apps", "Deployment"), "registered for Deployment.apps, want pods"),
        ("kind", kind("metrics.k8s.io", "Pod"), "registered for Pod.metrics.k8s.io, want pods"),
        ("kind", kind("", ""), "registered for no kind, want pods"),
        ("kind", Value::Null, "registered for no kind, want pods"),
    ];
    for (member, value, expected) in calls {
        let mut review = case.review.clone();
        review["request"][member] = value;
        for object in [case.review["request"]["object"].clone(), Value::Null] {
            review["request"]["object"] = object;
            assert_eq!(only_warning(&review), format!("promsidecar: the webhook is {expected}"));
        }
    }
}

#[test]
fn a_review_without_a_pod_is_answered_like_one_of_a_pod_that_says_nothing() {
    for object in [Value::Null, json!({}), json!([]), json!("pod"), json!(5)] {
        // Nobody asked in team-a; the namespace team-label did, for all of its pods.
        for (namespace, warned) in [("team-a", false), ("team-label", true)] {
            let mut review = support::reviews::creation(&json!({}), namespace);
            review["request"]["object"] = object.clone();
            if warned {
                let expected =
                    "promsidecar: not injected: internal-error: metadata is not what Kubernetes documents";
                assert_eq!(only_warning(&review), expected);
            } else {
                let case = Case::read(&root().join("review-replicaset"));
                let answer = case.admit(&review);
                assert_eq!(wrong(&answer, uid(&review)), [""; 0]);
                assert_eq!(outcome(&answer), (Some(Reason::NotRequested), false));
            }
        }
    }
}

fn base64(bytes: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A patch with which nothing is wrong.
const NOTHING: &str = r#"[{"op":"test","path":"","value":null}]"#;

/// Answers with one thing wrong: what is merged into a good one, and the rule that must be named.
fn bad_answers() -> Vec<(Value, &'static str)> {
    let patched = |patch: &str| json!({"response": {"patchType": "JSONPatch", "patch": base64(patch)}});
    let denied = |status: Value| json!({"response": {"allowed": false, "status": status}});
    let warned = |warnings: Value| json!({"response": {"warnings": warnings}});
    let audited = |annotations: Value| json!({"response": {"auditAnnotations": annotations}});
    let many: Vec<_> = (0..40).map(|index| format!("{index:0>110}")).collect();
    vec![
        (json!({"apiVersion": "admission.k8s.io/v1beta1"}), "apiVersion is v1"),
        (json!({"apiVersion": "v1"}), "apiVersion is v1"),
        (json!({"kind": "AdmissionResponse"}), "kind is AdmissionReview"),
        (json!({"kind": null}), "kind is AdmissionReview"),
        (json!({"response": null}), "a response"),
        (json!({"future": 1}), "known members"),
        (json!({"response": {"reason": "x"}}), "known members"),
        (json!({"response": {"uid": "v"}}), "the uid of the request"),
        (json!({"response": {"uid": null}}), "the uid of the request"),
        (json!({"response": {"allowed": "true"}}), "allowed is a boolean"),
        (json!({"response": {"patch": base64(NOTHING)}}), "patch and patchType together or not at all"),
        (json!({"response": {"patchType": "JSONPatch"}}), "patch and patchType together or not at all"),
        (
            json!({"response": {"patchType": "MergePatch", "patch": base64(NOTHING)}}),
            "patchType is JSONPatch",
        ),
        (json!({"response": {"patchType": "JSONPatch", "patch": ""}}), "a patch is not empty"),
        (json!({"response": {"patchType": "JSONPatch", "patch": "[]"}}), "a patch is base64"),
        (json!({"response": {"patchType": "JSONPatch", "patch": [91, 93]}}), "a patch is base64"),
        (json!({"response": {"patchType": "JSONPatch", "patch": "W3t9X"}}), "a patch is base64"),
        (patched("[]"), "a patch does something"),
        (patched("{}"), "a patch is a JSON array"),
        (patched("[{"), "a patch is a JSON array"),
        (patched(r#"[{"op":"add","path":"/a"}]"#), "operations of RFC 6902"),
        (patched(r#"[{"op":"add","path":"a","value":1}]"#), "operations of RFC 6902"),
        (patched(r#"[{"op":"add","path":"/a~2","value":1}]"#), "operations of RFC 6902"),
        (patched(r#"[{"op":"add","path":"/a","value":1,"from":"/b"}]"#), "operations of RFC 6902"),
        (patched(r#"[{"op":"copy","path":"/a"}]"#), "operations of RFC 6902"),
        (patched(r#"[{"op":"insert","path":"/a","value":1}]"#), "operations of RFC 6902"),
        (patched("[5]"), "operations of RFC 6902"),
        (json!({"response": {"allowed": false}}), "a denial has a status"),
        (
            json!({"response": {"status": {"code": 403, "reason": "Forbidden", "message": "m"}}}),
            "only a denial has a status",
        ),
        (denied(json!("no")), "a status is an object"),
        (denied(json!({"code": 200, "reason": "Forbidden", "message": "m"})), "a denial's code is an error"),
        (
            denied(json!({"code": "403", "reason": "Forbidden", "message": "m"})),
            "a denial's code is an error",
        ),
        (denied(json!({"code": 403, "reason": "Forbidden"})), "a denial's message is a line"),
        (
            denied(json!({"code": 403, "reason": "Forbidden", "message": "a\nb"})),
            "a denial's message is a line",
        ),
        (
            denied(json!({"code": 403, "reason": "not allowed", "message": "m"})),
            "a denial's reason is a word",
        ),
        (denied(json!({"code": 403, "reason": "Forbidden", "message": "m", "why": 1})), "known members"),
        (warned(json!("w")), "warnings are texts"),
        (warned(json!([1])), "warnings are texts"),
        (warned(json!([])), "warnings say something"),
        (warned(json!([""])), "a warning is a line"),
        (warned(json!(["a\tb"])), "a warning is a line"),
        (warned(json!(["a\u{9b}b"])), "a warning is a line"),
        (warned(json!(["a\u{2028}b"])), "a warning is a line"),
        (warned(json!(["a\u{202e}b"])), "a warning is a line"),
        (warned(json!(["w".repeat(121)])), "a warning is short"),
        (warned(json!(many)), "warnings within the budget"),
        (warned(json!(["w", "v", "w"])), "warnings are told once"),
        (audited(json!([])), "audit annotations are an object"),
        (audited(json!({"a/b": "v"})), "an audit key is a name"),
        (audited(json!({"": "v"})), "an audit key is a name"),
        (audited(json!({"-a": "v"})), "an audit key is a name"),
        (audited(json!({"a ": "v"})), "an audit key is a name"),
        (audited(json!({"k".repeat(64): "v"})), "an audit key is a name"),
        (audited(json!({"a": 1})), "an audit value is a line"),
        (audited(json!({"a": "b\nc"})), "an audit value is a line"),
    ]
}

/// Members of `change` over those of `value`, object by object.
fn merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(members), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(members.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

#[test]
fn every_rule_is_one_that_a_bad_answer_breaks() {
    let good = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": true},
    });
    assert_eq!(faults("u", &serde_json::to_vec(&good).expect("JSON")), [""; 0]);
    for good_operation in [
        NOTHING,
        r#"[{"op":"add","path":"/a~1b/-","value":1},{"op":"copy","from":"/a","path":"/~0"}]"#,
        r#"[{"op":"remove","path":"/a"},{"op":"replace","path":"/b","value":[]},{"op":"move","from":"/a","path":"/b"}]"#,
    ] {
        let mut patched = good.clone();
        merge(&mut patched, json!({"response": {"patchType": "JSONPatch", "patch": base64(good_operation)}}));
        assert_eq!(faults("u", &serde_json::to_vec(&patched).expect("JSON")), [""; 0], "{good_operation}");
    }
    for (change, rule) in bad_answers() {
        let mut bad = good.clone();
        merge(&mut bad, change.clone());
        assert_eq!(faults("u", &serde_json::to_vec(&bad).expect("JSON")), [rule], "{change}");
    }
    let mut denied_and_patched = good;
    merge(
        &mut denied_and_patched,
        json!({"response": {
            "allowed": false,
            "status": {"code": 403, "reason": "Forbidden", "message": "m"},
            "patchType": "JSONPatch",
            "patch": base64(NOTHING),
        }}),
    );
    assert_eq!(
        faults("u", &serde_json::to_vec(&denied_and_patched).expect("JSON")),
        ["no patch on a denial"]
    );
}

#[test]
fn what_is_no_answer_at_all_breaks_a_rule() {
    let repeated = "JSON without repeated members";
    let answers: [(&[u8], &str); 6] = [
        (b"", repeated),
        (b"[]", "an object"),
        (b"{}{}", repeated),
        (br#"{"apiVersion":"admission.k8s.io/v1","kind":"A","kind":"AdmissionReview","response":{}}"#, repeated),
        (
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true,"auditAnnotations":{"a":"b","a":"c"}}}"#,
            repeated,
        ),
        (b"{\"apiVersion\":\"\xff\"}", repeated),
    ];
    for (answer, rule) in answers {
        assert_eq!(faults("u", answer), [rule]);
    }
}
