//! Reviews that are broken, of another shape, deep or numerous: each has one right answer.

mod support;

use promsidecar::admission::Answer;
use promsidecar::admission::reason::Reason;
use serde_json::json;
use support::contract::is_line;
use support::input::{UID, answer, pod, reason, response, review, target_labels};
use support::reviews;

fn unreadable(review: &[u8]) -> String {
    match answer(review) {
        Answer::Unreadable { message } => {
            assert!(is_line(&message) && message.chars().count() < 250, "{message}");
            message
        }
        other => unreachable!("{other:?}"),
    }
}

/// The review of [`pod`] with `member` as written, put into its metadata, its spec and its container.
fn with_members(member: &str) -> Vec<u8> {
    let text = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
    let text = text.replace("\"name\":\"web\"", &format!("{member},\"name\":\"web\""));
    text.replace("\"containers\":", &format!("{member},\"containers\":")).into_bytes()
}

#[test]
fn a_review_cut_short_anywhere_is_no_json() {
    let captured = include_bytes!("golden/admission/review-bare/review.json");
    let whole = captured.trim_ascii_end();
    assert_eq!(reason(&answer(whole)), None);
    for end in 0..whole.len() {
        let message = unreadable(&whole[..end]);
        assert!(message.starts_with("the body is not JSON: EOF while parsing"), "{end}: {message}");
    }
    let mut more = whole.to_vec();
    more.extend_from_slice(b" \r\n\t");
    assert_eq!(answer(&more), answer(whole));
    more.push(b'}');
    assert_eq!(unreadable(&more).split(" at ").next(), Some("the body is not JSON: trailing characters"));
}

#[test]
fn other_objects_and_versions_are_told_apart() {
    let kind = |api_version: &str, kind: &str| {
        format!(
            "want apiVersion admission.k8s.io/v1 and kind AdmissionReview, got {api_version:?} and {kind:?}"
        )
    };
    let v1beta1 = "want apiVersion admission.k8s.io/v1, got \"admission.k8s.io/v1beta1\"; set admissionReviewVersions of the webhook's registration to [v1]";
    let long = "x".repeat(1 << 20);
    let cases = [
        (
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u"}}),
            v1beta1.to_owned(),
        ),
        (json!({"apiVersion": "v1", "kind": "Status", "status": "Failure"}), kind("v1", "Status")),
        (json!({"apiVersion": "v1", "kind": "List", "items": []}), kind("v1", "List")),
        (
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReviewList"}),
            kind("admission.k8s.io/v1", "AdmissionReviewList"),
        ),
        (json!({"kind": "AdmissionReview"}), kind("", "AdmissionReview")),
        (json!({"apiVersion": ["admission.k8s.io/v1"], "kind": {}}), kind("", "")),
        (json!({"apiVersion": long, "kind": "a\n\u{202e}b"}), kind(&format!("{}…", "x".repeat(63)), "a  b")),
        (json!({"apiversion": "admission.k8s.io/v1", "Kind": "AdmissionReview"}), kind("", "")),
        (json!({}), kind("", "")),
        (json!(null), kind("", "")),
        (json!([{"apiVersion": "admission.k8s.io/v1"}]), kind("", "")),
        (json!("AdmissionReview"), kind("", "")),
        (json!(7), kind("", "")),
    ];
    for (body, expected) in cases {
        assert_eq!(unreadable(body.to_string().as_bytes()), expected);
    }
    let mut sound = reviews::creation(&pod(), "team-a");
    for request in [json!(null), json!([]), json!("x"), json!({"response": {"uid": "u"}})] {
        sound["request"] = request;
        assert_eq!(unreadable(sound.to_string().as_bytes()), "request.uid is missing");
    }
    let response_only =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "u"}});
    assert_eq!(unreadable(response_only.to_string().as_bytes()), "request.uid is missing");
}

#[test]
fn what_is_not_known_may_be_as_deep_as_the_api_server_takes_it_and_deeper() {
    // Go's decoder stops at 10,000 levels, our own one for known members at 128.
    for depth in [127, 128, 1_000, 10_000, 200_000] {
        let nested = |open: &str, close: &str| format!("{}null{}", open.repeat(depth), close.repeat(depth));
        for value in [nested("[", "]"), nested("{\"a\":", "}"), nested("[{\"a\":", "}]")] {
            let deep = with_members(&format!("\"future\":{value}"));
            assert_eq!(response(&answer(&deep)), response(&answer(&review(&pod()))), "{depth}");
        }
    }
}

#[test]
fn what_is_known_and_of_the_wrong_shape_costs_the_agent_however_deep_it_is() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [1, 127, 128, 10_000] {
        for member in ["volumes", "labels"] {
            let text = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
            let text = text.replace("\"labels\":{\"app\":\"web\"}", "\"labels\":LABELS");
            let text = text.replace("\"containers\":", "\"volumes\":VOLUMES,\"containers\":");
            let value =
                |name: &str| if name == member { format!("[{}]", deep(depth)) } else { "null".to_owned() };
            let text = text.replace("LABELS", &value("labels")).replace("VOLUMES", &value("volumes"));
            let response = response(&answer(text.as_bytes()));
            let path = if member == "labels" { "metadata.labels" } else { "spec.volumes" };
            assert_eq!(
                response["warnings"],
                json!([format!(
                    "promsidecar: not injected: internal-error: {path} is not what Kubernetes documents"
                )])
            );
        }
    }
}

#[test]
fn of_members_that_repeat_the_last_one_counts() {
    let asks = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
    let inject = "\"sidecar.prometheus.io/inject\":\"true\"";
    let refuses = "\"sidecar.prometheus.io/inject\":\"false\"";
    assert_eq!(asks.matches(inject).count(), 1);
    let twice = |first: &str, second: &str| asks.replace(inject, &format!("{first},{second}"));
    assert_eq!(reason(&answer(twice(inject, refuses).as_bytes())), Some(Reason::OptedOut));
    assert_eq!(reason(&answer(twice(refuses, inject).as_bytes())), None);
    // A whole object as well, and the review's own members.
    let metadata = asks.replace("\"spec\":{", "\"metadata\":{},\"spec\":{");
    assert_eq!(reason(&answer(metadata.as_bytes())), Some(Reason::NotRequested));
    let uid = asks.replace(&format!("\"uid\":\"{UID}\""), &format!("\"uid\":\"first\",\"uid\":\"{UID}\""));
    response(&answer(uid.as_bytes()));

    // What is written from them repeats nothing, for a reader that would mind.
    let repeated =
        "\"prometheus.io/port\":\"8080\",\"prometheus.io/param_a\":\"1\",\"prometheus.io/param_a\":\"2\"";
    let body = twice(inject, repeated).replace(repeated, &format!("{repeated},{inject}"));
    let labels = target_labels(&answer(body.as_bytes()), &pod());
    assert!(labels.iter().any(|labels| labels.get("__param_a") == Some(&json!("2"))), "{labels:?}");
}

#[test]
fn numbers_of_any_size_are_read_and_only_those_that_matter_are_minded() {
    for number in ["18446744073709551616", "-9223372036854775809", "1e400", "-1E-400", "0.1e308"] {
        let unknown = with_members(&format!("\"future\":{number}"));
        assert_eq!(response(&answer(&unknown)), response(&answer(&review(&pod()))), "{number}");
    }
    let grace = |number: &str| {
        let text = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
        text.replace(
            "\"containers\":",
            &format!("\"terminationGracePeriodSeconds\":{number},\"containers\":"),
        )
    };
    for number in ["9223372036854775808", "18446744073709551616", "1e3", "3.5"] {
        let response = response(&answer(grace(number).as_bytes()));
        assert_eq!(
            response["warnings"],
            json!([
                "promsidecar: not injected: internal-error: spec.terminationGracePeriodSeconds is not what Kubernetes documents"
            ]),
            "{number}"
        );
    }
    // No decoder of the API server takes it either, so none sends it.
    let message = unreadable(grace("1e400").as_bytes());
    assert!(message.starts_with("the body is not JSON: number out of range"), "{message}");
    for port in ["0", "65536", "-1", "4294967376", "18446744073709551616", "8080.5", "\"8080\""] {
        let text = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
        let text = text.replace("\"containerPort\":8080", &format!("\"containerPort\":{port}"));
        let labels = target_labels(&answer(text.as_bytes()), &pod());
        assert!(
            labels.iter().all(|labels| labels.get("__meta_kubernetes_pod_container_port_number").is_none())
        );
    }
}

#[test]
fn invalid_utf_8_is_no_json_where_it_is_read() {
    for bytes in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"] {
        for (from, what) in [("\"app\":\"web\"", "a value"), ("\"app\"", "a key"), (UID, "the uid")] {
            let sound = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
            let at = sound.find(from).expect("it is there") + 1;
            let mut body = sound.as_bytes()[..at].to_vec();
            body.extend_from_slice(bytes);
            body.extend_from_slice(&sound.as_bytes()[at..]);
            let message = unreadable(&body);
            assert!(
                message.starts_with("the body is not JSON: invalid unicode code point"),
                "{what}: {message}"
            );
        }
    }
}

#[test]
fn keys_written_with_escapes_are_the_keys_that_they_spell() {
    let text = String::from_utf8(review(&pod())).expect("JSON is UTF-8");
    for (plain, escaped) in [
        ("\"sidecar.prometheus.io/inject\"", r#""sidecar.prometheus.io\/inj\u0065ct""#),
        ("\"annotations\"", r#""\u0061nnotations""#),
        ("\"metadata\"", r#""met\u0061data""#),
        ("\"request\"", r#""r\u0065quest""#),
        ("\"uid\"", r#""u\u0069d""#),
        ("\"true\"", r#""\u0074rue""#),
    ] {
        assert!(text.contains(plain), "{plain}");
        assert_eq!(answer(text.replace(plain, escaped).as_bytes()), answer(text.as_bytes()), "{escaped}");
    }
}

#[test]
fn keys_are_ours_as_they_are_spelt_and_in_no_other_case() {
    for key in [
        "Sidecar.prometheus.io/inject",
        "sidecar.prometheus.io/Inject",
        "SIDECAR.PROMETHEUS.IO/INJECT",
        " sidecar.prometheus.io/inject",
    ] {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({key: "true"});
        assert_eq!(reason(&answer(&review(&pod))), Some(Reason::NotRequested), "{key}");
    }
}
