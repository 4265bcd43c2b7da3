//! Our targets annotation beside what Prometheus' own pod discovery finds in the same pod: the same groups with the same
//! labels, so that relabel rules written for `role: pod` work word for word.
//!
//! The pod that Prometheus sees has our placeholders where a running pod has its address, node and the like. What is left
//! to differ are addresses, ours being `localhost`, and what `docs/annotations.md` says is left out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::{Answer, OutcomeKind, Policy, admit};
use promsidecar::names;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::cases::{self, Case};
use support::golden::folders;
use support::oracle::{self, Labels};
use support::pods::pods;
use support::reviews::creation;

/// Most bytes of all annotations together, by the API server's count.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The longest annotation that becomes a label.
const MAX_VALUE: usize = 1024;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One target with all its labels, `__address__` among them.
type Target = Labels;

/// The targets of the annotation that pod discovery would have found too: those without a source of ours.
fn ours(pod: &Value, answer: &Answer) -> Option<Vec<Target>> {
    let Answer::Reviewed { body, outcome } = answer else { return None };
    if outcome.kind != OutcomeKind::Injected {
        return None;
    }
    let patched = support::patched(pod, body).expect("an injection has a patch");
    let text = patched["metadata"]["annotations"][names::TARGETS].as_str().expect("targets are text");
    let groups: Vec<Value> = serde_json::from_str(text).expect("targets are JSON");
    let target = |group: &Value| {
        let mut labels: Labels = serde_json::from_value(group["labels"].clone()).unwrap();
        let address = group["targets"][0].as_str().expect("a group has one target");
        labels.insert("__address__".to_owned(), address.to_owned());
        labels
    };
    let targets = groups.iter().map(target).filter(|labels| !labels.contains_key(names::META_SOURCE));
    Some(targets.map(without_empty).collect())
}

/// What Prometheus finds in the pod once it runs, at `localhost`.
fn theirs(pod: &Value, namespace: &str) -> Vec<Target> {
    let groups = oracle::discover(&[running(pod, namespace)]).unwrap();
    let [group] = &*groups else { panic!("one pod, one group: {groups:?}") };
    let common = group.labels.clone().unwrap_or_default();
    let targets = group.targets.iter().flatten();
    targets
        .map(|target| {
            let mut labels = common.clone();
            labels.extend(target.clone());
            let address = labels.get_mut("__address__").expect("a target has an address");
            *address = address.replace(names::POD_IP.placeholder, "localhost");
            without_empty(labels)
        })
        .collect()
}

/// An empty label is none.
fn without_empty(labels: Labels) -> Labels {
    labels.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The pod as it is stored once it runs, with placeholders for facts and without the annotations that are left out.
fn running(pod: &Value, namespace: &str) -> Value {
    let mut pod = pod.clone();
    let metadata = &mut pod["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        metadata["name"] = json!(names::POD_NAME.placeholder);
    }
    metadata["namespace"] = json!(namespace);
    metadata["uid"] = json!(names::POD_UID.placeholder);
    for kind in ["annotations", "labels"] {
        if let Some(pairs) = metadata[kind].as_object_mut() {
            pairs.retain(|key, value| {
                let short = value.as_str().is_some_and(|value| value.len() <= MAX_VALUE);
                short && key != LAST_APPLIED && !key.starts_with(names::PREFIX)
            });
        }
    }
    pod["spec"]["nodeName"] = json!(names::NODE_NAME.placeholder);
    pod["status"] = json!({
        "phase": "Running",
        "podIP": names::POD_IP.placeholder,
        "hostIP": names::HOST_IP.placeholder,
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    pod
}

/// Whether two keys become one label, so that upstream's choice between them is a matter of luck.
fn collides(pod: &Value) -> bool {
    ["labels", "annotations"].iter().any(|kind| {
        let keys = pod["metadata"][kind].as_object().into_iter().flatten();
        let mut seen = BTreeSet::new();
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        keys.into_iter().any(|(key, _)| !seen.insert(key.chars().map(safe).collect::<String>()))
    })
}

/// How our targets differ from what Prometheus finds in the pod, one line a label.
fn differences(pod: &Value, namespace: &str, ours: &[Target]) -> Vec<String> {
    let mut theirs = theirs(pod, namespace);
    if is_crowded(pod, &theirs) {
        for target in &mut theirs {
            target.retain(|name, _| !name.starts_with("__meta_kubernetes_pod_annotation"));
        }
    }
    let mut lines = Vec::new();
    if ours.len() != theirs.len() {
        lines.push(format!("{} targets, Prometheus finds {}", ours.len(), theirs.len()));
    }
    for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let differing = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
        lines.extend(differing.map(|name| {
            format!("target {index}: {name} is {:?}, not {:?}", ours.get(name), theirs.get(name))
        }));
    }
    lines
}

/// Whether the pod's annotations have no room for all of these targets, so that annotations are not among the labels.
fn is_crowded(pod: &Value, targets: &[Target]) -> bool {
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let size: usize = annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    size + serde_json::to_vec(targets).unwrap().len() > MAX_ANNOTATIONS
}

#[test]
fn targets_of_goldens_are_those_that_prometheus_discovers() {
    let (mut pods, mut targets) = (0, 0);
    for folder in folders(&cases::root()) {
        let case = Case::read(&folder);
        let request = &case.review["request"];
        let Ok(sent) = oracle::sent(&request["object"]) else { continue };
        let mut review = case.review.clone();
        review["request"]["object"] = sent.pod.clone();
        let Some(ours) = ours(&sent.pod, &case.admit(&review)) else { continue };
        let namespace = request["namespace"].as_str().unwrap();
        // Where upstream leaves the choice to luck, ours has to be one of its choices.
        let tries = if collides(&sent.pod) { 100 } else { 1 };
        let found = (0..tries).map(|_| differences(&sent.pod, namespace, &ours));
        let best = found.min_by_key(Vec::len).unwrap();
        assert_eq!(best, [""; 0], "{}", folder.display());
        pods += 1;
        targets += ours.len();
    }
    println!("goldens: {pods} pods, {targets} targets");
    assert!(pods >= 50 && targets >= 65, "{pods} pods, {targets} targets, expected 50 and 65 or more");
}

#[test]
fn targets_of_generated_pods_are_those_that_prometheus_discovers() {
    let catalog: Catalog = support::catalog(include_str!("golden/admission/objects.yaml"));
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let (mut runner, pods) = (TestRunner::deterministic(), pods());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = |what, number| *counts.entry(what).or_default() += number;
    for _ in 0..1200 {
        let (pod, namespace) = pods.new_tree(&mut runner).unwrap().current();
        let Ok(sent) = oracle::sent(&pod) else {
            count("no pods", 1);
            continue;
        };
        if collides(&sent.pod) {
            count("pods with keys that become one label", 1);
            continue;
        }
        let review = serde_json::to_vec(&creation(&sent.pod, namespace)).unwrap();
        let Some(ours) = ours(&sent.pod, &admit(&review, &catalog, &policy)) else {
            count("not injected", 1);
            continue;
        };
        if !oracle::validate(&sent.pod, namespace).unwrap().errors.is_empty() {
            count("not valid", 1);
            continue;
        }
        assert_eq!(differences(&sent.pod, namespace, &ours), [""; 0], "{pod}");
        count("pods", 1);
        count("targets", ours.len());
    }
    println!("{counts:?}");
    assert!(counts["pods"] >= 400 && counts["targets"] >= 2000, "{counts:?}");
}
