//! Every folder of `tests/golden/admission`: a pod in, the answer, the patch and the patched pod out.
//!
//! The patch is applied with the `json-patch` crate, an engine that others wrote, and the patched pod is admitted a second
//! time, as the API server does when another webhook changed the pod.

mod support;

use std::collections::BTreeSet;
use std::fs;

use base64::Engine;
use promsidecar::admission::reason::{Reason, TABLE};
use promsidecar::admission::{Answer, admit};
use serde_json::{Value, json};
use support::additive::losses;
use support::apply;
use support::cases::{Case, root};
use support::golden::{compare, folders, yaml};

/// The answer as people read it, and the patch taken out of it.
fn readable(answer: &Answer) -> (Value, Option<Vec<u8>>) {
    match answer {
        Answer::Reviewed { body, outcome } => {
            let mut review: Value = serde_json::from_slice(body).expect("an answer is JSON");
            let response = review["response"].as_object_mut().expect("an answer has a response");
            let patch = response.remove("patch").map(|patch| {
                let text = patch.as_str().expect("a patch is a string");
                base64::engine::general_purpose::STANDARD.decode(text).expect("a patch is base64")
            });
            let counted = json!({
                "kind": format!("{:?}", outcome.kind).to_lowercase(),
                "reason": outcome.reason.map(Reason::word),
                "log": outcome.refusal.as_ref().map(|log| format!("{} {}: {}", log.namespace, log.workload, log.detail)),
            });
            (json!({"http": 200, "outcome": counted, "response": review["response"]}), patch)
        }
        Answer::Failed { message, outcome } => {
            (json!({"http": 500, "message": message, "reason": outcome.reason.map(Reason::word)}), None)
        }
        Answer::Unreadable { message } => (json!({"http": 400, "message": message}), None),
    }
}

#[test]
fn every_case_is_answered_as_its_golden_says() {
    let mut wrong = Vec::new();
    for folder in folders(&root()) {
        let case = Case::read(&folder);
        let (answer, patch) = readable(&case.admit(&case.review));
        compare(&folder.join("answer.yaml"), Some(&yaml(&answer)), &mut wrong);
        let pod = &case.review["request"]["object"];
        let patched = patch.as_deref().map(|patch| apply(pod, patch));
        let losses = patched.as_ref().map_or_else(Vec::new, |patched| losses(pod, patched));
        assert_eq!(losses, [""; 0], "{}", folder.display());
        let pretty = patch.as_deref().map(|patch| {
            let value: Value = serde_json::from_slice(patch).expect("a patch is JSON");
            format!("{}\n", serde_json::to_string_pretty(&value).expect("a value serialises"))
        });
        compare(&folder.join("patch.json"), pretty.as_deref(), &mut wrong);
        compare(&folder.join("patched.yaml"), patched.as_ref().map(yaml).as_deref(), &mut wrong);
        let second = patched.map(|patched| {
            let mut review = case.review.clone();
            review["request"]["object"] = patched;
            readable(&case.admit(&review))
        });
        // A second pass never patches, whether the first one injected or marked.
        assert!(second.as_ref().is_none_or(|(_, patch)| patch.is_none()), "{}", case.folder.display());
        let second = second
            .map(|(answer, _)| answer)
            .filter(|answer| answer["outcome"]["reason"] != json!("already-injected"));
        compare(&folder.join("second.yaml"), second.as_ref().map(yaml).as_deref(), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reason_has_a_golden() {
    let mut told = BTreeSet::new();
    for folder in folders(&root()) {
        let answer = fs::read_to_string(folder.join("answer.yaml")).expect("goldens are written");
        let answer: Value = serde_saphyr::from_str(&answer).expect("answer.yaml is YAML");
        let reason = answer.pointer("/outcome/reason").or_else(|| answer.get("reason"));
        told.extend(reason.and_then(Value::as_str).map(str::to_owned));
    }
    let missing: Vec<_> = TABLE.iter().map(|row| row.word).filter(|word| !told.contains(*word)).collect();
    assert!(missing.is_empty(), "no golden shows {missing:?}");
}

/// The patched pod of a case.
fn patched(case: &Case) -> Value {
    let (_, patch) = readable(&case.admit(&case.review));
    apply(&case.review["request"]["object"], &patch.expect("the case is patched"))
}

/// Bytes of keys and values, as the API server counts them.
fn annotations_size(pod: &Value) -> usize {
    let annotations = pod["metadata"]["annotations"].as_object().expect("annotations are an object");
    annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

#[test]
fn annotations_leave_room_for_those_who_annotate_the_pod_later() {
    const ROOM: usize = (256 - 32) * 1024;
    let short =
        annotations_size(&patched(&Case::read(&root().join("annotations-go-first-when-space-is-short"))));
    assert!(short <= ROOM, "{short} bytes");
    // Many ports and labels: as many groups of targets as fit, and then none.
    let case = Case::read(&root().join("review-replicaset"));
    let mut pod = case.review["request"]["object"].clone();
    for label in 0..13 {
        pod["metadata"]["labels"][format!("label-{label}")] = json!("value");
    }
    let named = pod["spec"]["containers"][0]["ports"][0].clone();
    let mut largest = 0;
    for ports in 1..=150 {
        let declared = (1..ports).map(|port| json!({"containerPort": port}));
        pod["spec"]["containers"][0]["ports"] = declared.chain([named.clone()]).collect();
        let (answer, patch) = admit_instead(&case, pod.clone());
        if answer["outcome"]["reason"] == "too-large" {
            assert_eq!(patch, None);
            assert!((ROOM * 9 / 10..=ROOM).contains(&largest), "{ports} ports after {largest} bytes");
            return;
        }
        assert_eq!(answer["outcome"]["kind"], "injected", "{ports} ports: {answer}");
        largest = annotations_size(&apply(&pod, &patch.expect("it is injected")));
    }
    unreachable!("150 ports fit into {largest} bytes");
}

/// Admits a pod in the place of the case's own.
fn admit_instead(case: &Case, pod: Value) -> (Value, Option<Vec<u8>>) {
    let mut review = case.review.clone();
    review["request"]["object"] = pod;
    readable(&case.admit(&review))
}

#[test]
fn a_second_pass_after_the_api_server_touched_our_container_changes_nothing() {
    let case = Case::read(&root().join("review-replicaset"));
    let mut pod = patched(&case);
    let container = &mut pod["spec"]["initContainers"][0];
    assert_eq!(container["name"], "prometheus-agent");
    // What ServiceAccount, LimitRanger and defaulting do to a container that a webhook added.
    let mounts = container["volumeMounts"].as_array_mut().expect("the container has mounts");
    mounts.push(json!({"name": "kube-api-access-7xk2q", "mountPath": "/somewhere", "readOnly": true}));
    container["resources"]["limits"]["cpu"] = json!("2");
    container["terminationMessagePath"] = json!("/dev/termination-log");
    container["imagePullPolicy"] = json!("IfNotPresent");
    let (answer, patch) = admit_instead(&case, pod);
    assert_eq!(patch, None);
    assert_eq!(answer["outcome"]["reason"], "already-injected");
    assert_eq!(answer["response"].get("warnings"), None);
}

#[test]
fn a_second_pass_warns_where_another_webhook_dropped_the_restart_policy() {
    let case = Case::read(&root().join("review-replicaset"));
    let mut pod = patched(&case);
    let container = pod["spec"]["initContainers"][0].as_object_mut().expect("a container is an object");
    container.remove("restartPolicy").expect("a native sidecar restarts always");
    let (answer, patch) = admit_instead(&case, pod);
    assert_eq!(patch, None);
    assert_eq!(answer["response"]["allowed"], true);
    let warning = answer["response"]["warnings"][0].as_str().expect("there is a warning");
    assert!(warning.contains("restartPolicy") && warning.chars().count() <= 120, "{warning}");
}

#[test]
fn our_status_without_our_container_is_injected_afresh() {
    let case = Case::read(&root().join("review-replicaset"));
    let mut pod = patched(&case);
    // A pod that was copied with its annotations and labels, but whose spec is another one.
    pod["spec"] = case.review["request"]["object"]["spec"].clone();
    pod["metadata"]["annotations"]["sidecar.prometheus.io/skipped"] = json!("template-not-found: long ago");
    let (answer, patch) = admit_instead(&case, pod.clone());
    assert_eq!(answer["outcome"]["kind"], "injected");
    let again = apply(&pod, &patch.expect("it is patched"));
    assert_eq!(again["spec"], patched(&case)["spec"]);
    assert_eq!(again["metadata"]["annotations"]["sidecar.prometheus.io/skipped"], "");
}

#[test]
fn equal_reviews_get_equal_bytes() {
    for folder in folders(&root()) {
        let case = Case::read(&folder);
        assert_eq!(case.admit(&case.review), case.admit(&case.review), "{}", folder.display());
    }
}

#[test]
fn calls_that_are_not_about_the_creation_of_a_pod_are_admitted_with_a_warning() {
    let case = Case::read(&root().join("review-replicaset"));
    let changes: [(&str, Value); 3] = [
        ("operation", json!("UPDATE")),
        ("subResource", json!("ephemeralcontainers")),
        ("kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
    ];
    for (member, value) in changes {
        let mut review = case.review.clone();
        review["request"][member] = value;
        let (answer, patch) = readable(&case.admit(&review));
        assert_eq!(patch, None, "{member}");
        assert_eq!(answer["response"]["allowed"], true, "{member}");
        assert_eq!(answer["response"]["uid"], case.review["request"]["uid"], "{member}");
        assert_eq!(answer["response"]["warnings"].as_array().map(Vec::len), Some(1), "{member}");
    }
}

#[test]
fn what_is_no_review_is_unreadable_and_says_why() {
    let case = Case::read(&root().join("review-replicaset"));
    let message = |body: &[u8]| match admit(body, &case.catalog, &case.policy) {
        Answer::Unreadable { message } => message,
        other => unreachable!("{other:?}"),
    };
    assert!(message(b"{\"kind\": \"Adm").starts_with("the body is not JSON: EOF"));
    assert!(message(b"").starts_with("the body is not JSON"));
    assert!(message(b"[]").starts_with("want apiVersion admission.k8s.io/v1"));
    assert_eq!(
        message(
            br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}"#
        ),
        "want apiVersion admission.k8s.io/v1, got \"admission.k8s.io/v1beta1\"; set admissionReviewVersions of the webhook's registration to [v1]"
    );
    let uid = "request.uid is missing";
    for request in ["{}", "null", "5", r#"{"uid":""}"#, r#"{"uid":7}"#] {
        let body =
            format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#);
        assert_eq!(message(body.as_bytes()), uid, "{request}");
    }
}
