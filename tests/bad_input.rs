//! Reviews that are broken, of another shape, deep, huge or full of tricks: each has one right answer, and nothing that a
//! pod says gets out of the string that it stands in.

mod support;

use std::sync::LazyLock;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::reason::Reason;
use promsidecar::admission::{Answer, Policy, RefusalLog, admit};
use serde_json::{Value, json};
use support::contract::{faults, is_line};
use support::{catalog, patched, reviews, strict};

const TEMPLATE: &str = "
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: team-a
  annotations: {operator.prometheus.io/controller-id: promsidecar}
spec:
  podMonitorSelector: {}
";
const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| catalog(TEMPLATE));

fn answer(review: &[u8]) -> Answer {
    admit(review, &CATALOG, &Policy { native_sidecars: true, ..Policy::default() })
}

/// The response of a review that is answered, checked.
fn response(answer: &Answer) -> Value {
    let Answer::Reviewed { body, .. } = answer else { unreachable!("{answer:?}") };
    assert_eq!(faults(UID, body), [""; 0], "{}", String::from_utf8_lossy(body));
    let review: Value = serde_json::from_slice(body).expect("an answer is JSON");
    review["response"].clone()
}

fn unreadable(review: &[u8]) -> String {
    match answer(review) {
        Answer::Unreadable { message } => {
            assert!(is_line(&message) && message.chars().count() < 250, "{message}");
            message
        }
        other => unreachable!("{other:?}"),
    }
}

fn reason(answer: &Answer) -> Option<Reason> {
    match answer {
        Answer::Reviewed { outcome, .. } | Answer::Failed { outcome, .. } => outcome.reason,
        Answer::Unreadable { message } => unreachable!("{message}"),
    }
}

fn log(answer: &Answer) -> Option<&RefusalLog> {
    match answer {
        Answer::Reviewed { outcome, .. } | Answer::Failed { outcome, .. } => outcome.refusal.as_ref(),
        Answer::Unreadable { message } => unreachable!("{message}"),
    }
}

/// A pod that asks and is injected.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"sidecar.prometheus.io/inject": "true"}},
        "spec": {"containers": [{"name": "web", "image": "web", "ports": [{"containerPort": 8080}]}]},
    })
}

fn annotated(key: &str, value: &str) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"][key] = json!(value);
    pod
}

fn review(pod: &Value) -> Vec<u8> {
    serde_json::to_vec(&reviews::creation(pod, "team-a")).expect("a value serialises")
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

/// The labels of each group in the targets of the patched pod, read as one who minds repetitions.
fn target_labels(answer: &Answer, pod: &Value) -> Vec<Value> {
    let Answer::Reviewed { body, .. } = answer else { unreachable!("{answer:?}") };
    let patched = patched(pod, body).unwrap_or_else(|| unreachable!("not patched: {answer:?}"));
    let targets = patched["metadata"]["annotations"]["sidecar.prometheus.io/targets"].as_str();
    let targets = targets.unwrap_or_else(|| unreachable!("not injected: {patched}"));
    let groups = strict::parse(targets.as_bytes()).expect("targets are JSON");
    groups.as_array().expect("targets are a list").iter().map(|group| group["labels"].clone()).collect()
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

/// What people try to get out of a string with.
fn tricks() -> Vec<String> {
    let mut tricks: Vec<String> = [
        "a\nb",
        "\r\n[[promsidecar: injected]]",
        "\"}],\"x\":[{\"",
        "\\\"}]",
        "${POD_IP}",
        "$(POD_NAME)",
        "$$(POD_NAME)",
        "{{ .Values.x }}",
        "\0",
        "a\0b",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{7f}\u{85}\u{9b}",
        "\u{202e}txet\u{202c}",
        "\u{2066}a\u{2069}",
        "z\u{200b}e\u{200d}r\u{feff}o",
        "line\u{2028}separators\u{2029}",
        "\u{fffd}\u{ffff}\u{10ffff}",
        "'; DROP TABLE pods; --",
        "`id`",
        "<script>alert(1)</script>",
        "",
        " ",
    ]
    .map(str::to_owned)
    .to_vec();
    tricks.push("\n\u{202e}".repeat(2 * 1024));
    tricks
}

/// Label names of Prometheus before 3.0, which every version takes.
fn is_label_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whatever the pod says: the answer keeps the API server's rules, what people read is a line, and the targets are JSON
/// that a strict reader takes, with texts for values under names of labels.
fn check(pod: &Value) -> Answer {
    let answer = answer(&review(pod));
    let response = response(&answer);
    if let Some(log) = log(&answer) {
        assert!(
            [&log.namespace, &log.workload, &log.detail].into_iter().all(|text| is_line(text)),
            "{log:?}"
        );
    }
    let Answer::Reviewed { body, .. } = &answer else { unreachable!("a response was read from it") };
    assert!(
        body.len() < 800 * 1024,
        "{} bytes for {} of audit {}",
        body.len(),
        pod,
        response["auditAnnotations"]
    );
    if let Some(patched) = patched(pod, body) {
        let annotations = &patched["metadata"]["annotations"];
        if let Some(skipped) = annotations["sidecar.prometheus.io/skipped"].as_str() {
            // An injected pod has an old mark emptied.
            let injected = skipped.is_empty() && reason(&answer).is_none();
            assert!(injected || is_line(skipped) && skipped.chars().count() <= 1024, "{skipped:?}");
        }
        if annotations["sidecar.prometheus.io/status"].is_string() {
            for labels in target_labels(&answer, pod) {
                let labels = labels.as_object().expect("labels are an object");
                assert!(labels.keys().all(|name| is_label_name(name)), "{labels:?}");
                assert!(labels.values().all(Value::is_string), "{labels:?}");
            }
        }
    }
    answer
}

#[test]
fn values_of_our_keys_stay_in_their_strings() {
    let keys = [
        "inject", "required", "port", "path", "scheme", "interval", "timeout", "status", "targets",
        "skipped", "other",
    ];
    for trick in tricks().into_iter().chain(["x".repeat(300 * 1024)]) {
        for key in keys {
            check(&annotated(&format!("sidecar.prometheus.io/{key}"), &trick));
        }
        for key in ["scrape", "port", "path", "scheme", "param_x"] {
            let mut pod = annotated(&format!("prometheus.io/{key}"), &trick);
            pod["metadata"]["annotations"]["sidecar.prometheus.io/port"] = json!("8080");
            check(&pod);
        }
        let mut keyed = pod();
        keyed["metadata"]["annotations"][format!("prometheus.io/param_{trick}")] = json!("x");
        keyed["metadata"]["annotations"][&trick] = json!("y");
        keyed["metadata"]["labels"][&trick] = json!("z");
        check(&keyed);
    }
}

#[test]
fn everything_else_that_a_pod_says_stays_in_its_string() {
    let places = [
        "/metadata/name",
        "/metadata/generateName",
        "/metadata/labels/app",
        "/metadata/annotations/app",
        "/metadata/ownerReferences/0/kind",
        "/metadata/ownerReferences/0/name",
        "/spec/restartPolicy",
        "/spec/os/name",
        "/spec/volumes/0/name",
        "/spec/containers/0/name",
        "/spec/containers/0/image",
        "/spec/containers/0/ports/0/name",
        "/spec/containers/0/ports/0/protocol",
        "/spec/containers/0/resources/limits/cpu",
    ];
    let mut base = pod();
    base["metadata"]["generateName"] = json!("web-");
    base["metadata"]["annotations"]["app"] = json!("web");
    base["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "web", "controller": true}]);
    base["spec"]["restartPolicy"] = json!("Always");
    base["spec"]["os"] = json!({"name": "linux"});
    base["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    base["spec"]["containers"][0]["ports"][0] =
        json!({"containerPort": 8080, "name": "web", "protocol": "TCP"});
    base["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    let sound = check(&base);
    let added = |answer: &Answer, pod: &Value| {
        let Answer::Reviewed { body, .. } = answer else { unreachable!("{answer:?}") };
        let patched = patched(pod, body).expect("it is injected");
        let volumes = patched["spec"]["volumes"].as_array().expect("volumes")[1..].to_vec();
        (patched["spec"]["initContainers"].clone(), volumes)
    };
    for place in places {
        for trick in tricks() {
            let mut pod = base.clone();
            *pod.pointer_mut(place).expect("it is there") = json!(trick);
            let answer = check(&pod);
            // Nothing of it reaches the agent's container or its volumes.
            if reason(&answer).is_none() && !place.contains("resources") {
                assert_eq!(added(&answer, &pod), added(&sound, &base), "{place}: {trick:?}");
            }
            // The same pod where a refusal has to speak about it.
            pod["metadata"]["annotations"]["sidecar.prometheus.io/inject"] = json!("shopp");
            check(&pod);
        }
    }
}

/// Pods of up to 7 MiB, each large in one way, and why they go without the agent.
fn huge() -> Vec<(&'static str, Value, Option<Reason>)> {
    let filler = "f".repeat(660);
    let list = |item: &dyn Fn(usize) -> Value| -> Value { (0..10_000).map(item).collect() };
    let containers = list(&|i| json!({"name": format!("c{i}"), "image": filler}));
    let ports = list(&|i| json!({"containerPort": i + 1, "name": format!("p{i}")}));
    let volumes = list(&|i| json!({"name": format!("v{i}"), "emptyDir": {}}));
    let env = list(&|i| json!({"name": format!("E{i}"), "value": "e"}));
    let pairs = |length: usize| -> Value {
        let pair = |i| (format!("example.com/k{i}"), json!("v".repeat(length)));
        Value::Object((0..10_000).map(pair).collect())
    };
    let asks = json!("true");
    let inject = |value: &Value| json!({"sidecar.prometheus.io/inject": value});
    let mut annotations = pairs(30);
    annotations["sidecar.prometheus.io/inject"] = asks.clone();
    let large = json!({"sidecar.prometheus.io/inject": asks, "large": "a".repeat(6 << 20)});
    let with = |pointer: &str, value: Value| {
        let mut pod = pod();
        pod["spec"]["initContainers"] = json!([]);
        pod["spec"]["volumes"] = json!([]);
        pod["spec"]["containers"][0]["env"] = json!([]);
        *pod.pointer_mut(pointer).expect("it is there") = value;
        pod
    };
    let too_large = Some(Reason::TooLarge);
    vec![
        ("containers", with("/spec/containers", containers.clone()), too_large),
        ("init containers", with("/spec/initContainers", containers), too_large),
        ("ports", with("/spec/containers/0/ports", ports), too_large),
        ("labels", with("/metadata/labels", pairs(30)), too_large),
        ("annotations", with("/metadata/annotations", annotations), too_large),
        ("one annotation", with("/metadata/annotations", large), too_large),
        (
            "our annotation",
            with("/metadata/annotations", inject(&json!("a".repeat(6 << 20)))),
            Some(Reason::InvalidAnnotation),
        ),
        ("a name", with("/metadata/name", json!("n".repeat(6 << 20))), too_large),
        ("volumes", with("/spec/volumes", volumes), None),
        ("environment", with("/spec/containers/0/env", env), None),
    ]
}

#[test]
fn a_huge_pod_is_answered_in_few_bytes_and_never_with_targets_that_do_not_fit() {
    for (what, mut pod, expected) in huge() {
        pod["metadata"]["annotations"]["prometheus.io/port"] = json!("p9999,8080,1,2,3");
        let answer = answer(&review(&pod));
        assert_eq!(reason(&answer), expected, "{what}");
        let size = response(&answer).to_string().len();
        assert!(size < 32 * 1024, "{what}: {size} bytes");
    }
}
