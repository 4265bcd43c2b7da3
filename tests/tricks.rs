//! Pods full of tricks and pods of megabytes: nothing that a pod says gets out of the string that it stands in, and what
//! people read of it is a line.

mod support;

use promsidecar::admission::Answer;
use promsidecar::admission::reason::Reason;
use serde_json::{Value, json};
use support::contract::is_line;
use support::input::{answer, log, pod, reason, response, review, target_labels};
use support::patched;

fn annotated(key: &str, value: &str) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"][key] = json!(value);
    pod
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
    let empty = |value: &Value| -> Value {
        let pairs = (0..290_000).map(|i| (format!("{i}"), json!("")));
        let inject = ("sidecar.prometheus.io/inject".to_owned(), value.clone());
        Value::Object(pairs.chain([inject]).collect())
    };
    vec![
        ("empty annotations", with("/metadata/annotations", empty(&asks)), too_large),
        ("empty labels", with("/metadata/labels", empty(&json!(""))), too_large),
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

/// Bytes that answering takes at once, for each byte of the review.
const MOST_AT_ONCE: usize = 12;

#[test]
fn a_huge_pod_is_answered_in_little_memory_and_few_bytes_and_never_with_targets_that_do_not_fit() {
    for (what, mut pod, expected) in huge() {
        pod["metadata"]["annotations"]["prometheus.io/port"] = json!("p9999,8080,1,2,3");
        let review = review(&pod);
        let mut answered = None;
        let counted = allocation_counter::measure(|| answered = Some(answer(&review)));
        let answer = answered.expect("it is answered");
        assert_eq!(reason(&answer), expected, "{what}");
        let size = response(&answer).to_string().len();
        assert!(size < 32 * 1024, "{what}: {size} bytes");
        let times = |bytes: u64| bytes / review.len() as u64;
        println!(
            "{what}: {} bytes, {} times at most, {} in all",
            review.len(),
            times(counted.bytes_max),
            times(counted.bytes_total)
        );
        // The view of the pod takes most of it, in lists that double as they grow.
        let most = (MOST_AT_ONCE * review.len()) as u64;
        assert!(
            counted.bytes_max < most,
            "{what}: {} bytes at once for a review of {}",
            counted.bytes_max,
            review.len()
        );
        assert!(
            counted.bytes_total < 2 * most,
            "{what}: {} bytes for a review of {}",
            counted.bytes_total,
            review.len()
        );
    }
}
