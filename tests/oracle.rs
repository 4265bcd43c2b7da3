//! Controls of the oracle's operations on pods: each accepts what is right and turns red on what is wrong, and so does the
//! judge that is made of them. Tests that trust the oracle are worth what these are worth.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::cases::{self, Case};
use support::judge::Judge;
use support::oracle;

/// A pod as its controller creates it.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "registry.example.com/shop/web:1.4"}]},
    })
}

/// The same as the API server sends it.
fn sent() -> Value {
    oracle::sent(&pod()).expect("the pod is one").pod
}

/// Pod-level security context that the restricted level asks for.
fn restricted_pod() -> Value {
    json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
}

/// The same of a container.
fn restricted_container() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

#[test]
fn the_api_server_sends_defaults_and_drops_what_it_does_not_know() {
    let mut pod = pod();
    pod["spec"]["futureField"] = json!(1);
    let sent = oracle::sent(&pod).unwrap();
    assert_eq!(sent.dropped, [r#"unknown field "spec.futureField""#]);
    assert_eq!(sent.pod["spec"].get("futureField"), None);
    assert_eq!(sent.pod["spec"]["restartPolicy"], "Always");
}

#[test]
fn a_pod_of_the_wrong_kind_is_no_pod() {
    let mut pod = pod();
    pod["spec"]["containers"] = json!("app");
    let refused = oracle::sent(&pod).unwrap_err();
    assert_eq!(refused.stage, "decode");
}

#[test]
fn a_valid_pod_has_no_errors_and_a_duplicate_name_is_one() {
    let verdict = oracle::validate(&pod(), "shop").unwrap();
    assert_eq!((verdict.errors, verdict.warnings), (vec![], vec![]));
    assert_eq!(verdict.qos, "BestEffort");
    let mut pod = pod();
    pod["spec"]["initContainers"] = pod["spec"]["containers"].clone();
    let verdict = oracle::validate(&pod, "shop").unwrap();
    assert_eq!(verdict.errors, [r#"spec.initContainers[0].name: Duplicate value: "app""#]);
}

#[test]
fn a_port_that_two_containers_declare_is_a_warning() {
    let mut pod = pod();
    pod["spec"]["containers"] = json!([
        {"name": "app", "image": "i", "ports": [{"containerPort": 8080}]},
        {"name": "other", "image": "i", "ports": [{"containerPort": 8080}]},
    ]);
    let verdict = oracle::validate(&pod, "shop").unwrap();
    assert_eq!(verdict.errors, [""; 0]);
    assert_eq!(verdict.warnings.len(), 1, "{:?}", verdict.warnings);
}

#[test]
fn an_annotation_may_change_on_a_running_pod_and_its_containers_may_not() {
    let mut edited = pod();
    edited["metadata"]["annotations"] = json!({"sidecar.prometheus.io/targets": "[]"});
    assert_eq!(oracle::validate_update(&edited, &pod(), "shop").unwrap().errors, [""; 0]);
    edited["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "more", "image": "i"}));
    let verdict = oracle::validate_update(&edited, &pod(), "shop").unwrap();
    assert!(
        verdict.errors.iter().any(|error| error.starts_with("spec.containers: Forbidden")),
        "{verdict:?}"
    );
}

#[test]
fn a_privileged_container_violates_baseline_and_restricted() {
    let levels = ["baseline:v1.25", "restricted:latest", "privileged:latest"].map(str::to_owned);
    let mut pod = pod();
    pod["spec"]["securityContext"] = restricted_pod();
    pod["spec"]["containers"][0]["securityContext"] = restricted_container();
    assert_eq!(oracle::pod_security(&pod, &levels).unwrap(), BTreeMap::new());
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let violations = oracle::pod_security(&pod, &levels).unwrap();
    assert_eq!(violations.keys().collect::<Vec<_>>(), ["baseline:v1.25", "restricted:latest"]);
    assert_eq!(
        violations["baseline:v1.25"],
        [r#"privileged: container "app" must not set securityContext.privileged=true"#]
    );
}

#[test]
fn an_unknown_level_is_a_failure() {
    let refused = oracle::pod_security(&pod(), &["strict:latest".to_owned()]).unwrap_err();
    assert_eq!(refused.stage, "levels");
}

#[test]
fn a_good_patch_is_applied_and_given_defaults() {
    let agent = json!({"name": "agent", "image": "i:1", "restartPolicy": "Always"});
    let patch = json!([{"op": "add", "path": "/spec/initContainers", "value": [agent]}]);
    let patched = oracle::patch(&sent(), &patch).unwrap();
    assert!(patched.changed && patched.dropped.is_empty(), "{patched:?}");
    assert_eq!(patched.pod["spec"]["initContainers"][0]["imagePullPolicy"], "IfNotPresent");
}

#[test]
fn a_patch_below_an_absent_list_or_beyond_its_end_fails_where_the_pod_is_rejected() {
    let absent = json!([{"op": "add", "path": "/spec/initContainers/-", "value": {}}]);
    assert_eq!(oracle::patch(&sent(), &absent).unwrap_err().stage, "apply");
    let replaced = json!([{"op": "replace", "path": "/spec/initContainers/0", "value": {}}]);
    assert_eq!(oracle::patch(&sent(), &replaced).unwrap_err().stage, "apply");
    let beyond = json!([{"op": "add", "path": "/spec/containers/7", "value": {}}]);
    assert_eq!(oracle::patch(&sent(), &beyond).unwrap_err().stage, "apply");
    assert_eq!(oracle::apply(&sent(), &beyond).unwrap_err().stage, "apply");
}

#[test]
fn a_patch_that_is_none_fails_where_the_failure_policy_decides() {
    assert_eq!(oracle::patch(&sent(), &json!({"op": "add"})).unwrap_err().stage, "decode-patch");
}

#[test]
fn a_patch_with_a_wrong_type_fails_at_the_decoding_of_the_patched_pod() {
    let patch = json!([{"op": "add", "path": "/spec/initContainers", "value": "none"}]);
    assert_eq!(oracle::patch(&sent(), &patch).unwrap_err().stage, "decode-patched");
}

#[test]
fn a_misspelt_key_is_dropped_without_a_word() {
    let patch = json!([{"op": "add", "path": "/spec/InitContainers", "value": []}]);
    let patched = oracle::patch(&sent(), &patch).unwrap();
    assert_eq!(patched.dropped, [r#"unknown field "spec.InitContainers""#]);
    assert!(!patched.changed);
}

/// The patch that the case's webhook answers with.
fn patch(case: &Case, pod: &Value) -> Option<Vec<Value>> {
    let mut review = case.review.clone();
    review["request"]["object"] = pod.clone();
    let promsidecar::admission::Answer::Reviewed { body, .. } = case.admit(&review) else { return None };
    support::patch(&body).map(|patch| serde_json::from_slice(&patch).expect("a patch is JSON"))
}

/// What the judge finds in the case's patch after it was tampered with.
fn findings(tamper: impl FnOnce(&mut Vec<Value>)) -> Vec<String> {
    let case = Case::read(&cases::root().join("review-replicaset"));
    let mut pod = case.review["request"]["object"].clone();
    // So that there is a level to lose.
    pod["spec"]["securityContext"] = restricted_pod();
    pod["spec"]["containers"][0]["securityContext"] = restricted_container();
    let pod = oracle::sent(&pod).unwrap().pod;
    let mut operations = patch(&case, &pod).expect("the case is injected");
    tamper(&mut operations);
    let levels = ["restricted:latest".to_owned()];
    let second = |pod: &Value| patch(&case, pod).map(Value::from);
    let namespace = case.review["request"]["namespace"].as_str().expect("a namespace");
    let judge = Judge { namespace, levels: &levels, second: &second };
    judge.judge(&pod, &Value::from(operations)).findings
}

/// The operation that adds the agent's container.
fn container(operations: &mut [Value]) -> &mut Value {
    let operation = operations.last_mut().expect("there are operations");
    let value = &mut operation["value"];
    if value.is_array() { &mut value[0] } else { value }
}

#[test]
fn the_judge_finds_nothing_in_our_patch() {
    assert_eq!(findings(|_| ()), [""; 0]);
}

#[test]
fn the_judge_finds_a_replaced_image() {
    let replace = json!({"op": "replace", "path": "/spec/containers/0/image", "value": "other"});
    let found = findings(|operations| operations.push(replace));
    assert_eq!(found, ["not additive: /spec/containers/0/image was changed"]);
}

#[test]
fn the_judge_finds_a_dropped_restart_policy() {
    let found = findings(|operations| {
        container(operations).as_object_mut().unwrap().remove("restartPolicy").expect("a native sidecar");
    });
    assert!(
        found.iter().any(|finding| finding.starts_with("the agent is not what the status says")),
        "{found:?}"
    );
}

#[test]
fn the_judge_finds_a_misspelt_key() {
    let found = findings(|operations| container(operations)["restartpolicy"] = json!("Always"));
    assert!(found[0].starts_with("dropped at re-decode: unknown field"), "{found:?}");
    assert!(found[1].starts_with("not kept as patched: "), "{found:?}");
}

#[test]
fn the_judge_finds_an_index_beyond_the_end() {
    let found = findings(|operations| {
        operations
            .push(json!({"op": "add", "path": "/spec/volumes/99", "value": {"name": "x", "emptyDir": {}}}));
    });
    assert!(found[0].starts_with("the patch fails at apply: "), "{found:?}");
}

#[test]
fn the_judge_finds_a_container_that_an_absent_volume_is_mounted_in() {
    let found = findings(|operations| {
        let mounts = container(operations)["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "nowhere", "mountPath": "/nowhere"}));
    });
    assert!(found.iter().any(|finding| finding.starts_with("new error: spec.initContainers[")), "{found:?}");
}

#[test]
fn the_judge_finds_a_new_warning() {
    let found = findings(|operations| {
        let variables = container(operations)["env"].as_array_mut().unwrap();
        variables.push(json!({"name": "POD_NAME", "value": "again"}));
    });
    assert!(found.iter().any(|finding| finding.starts_with("new warning: ")), "{found:?}");
}

#[test]
fn the_judge_finds_a_container_that_may_be_root() {
    let found = findings(|operations| container(operations)["securityContext"] = json!({"privileged": true}));
    assert!(found.iter().any(|finding| finding.starts_with("restricted:latest is lost: ")), "{found:?}");
}

#[test]
fn the_judge_finds_a_patch_that_is_followed_by_another() {
    let found = findings(|operations| {
        operations.retain(|operation| {
            !operation["path"].as_str().is_some_and(|path| path.ends_with("sidecar.prometheus.io~1status"))
        });
    });
    assert!(found.contains(&"the second pass patches again".to_owned()), "{found:?}");
}
