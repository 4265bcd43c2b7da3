//! What holds for every pod, whatever it looks like: generated pods against the namespaces and templates of the goldens.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::LazyLock;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::reason::TABLE;
use promsidecar::admission::{Answer, Outcome, OutcomeKind, Policy, admit};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use support::additive::losses;
use support::pods::pods;
use support::reviews::creation;

static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| support::catalog(include_str!("golden/admission/objects.yaml")));

/// Most bytes of all annotations together, by the API server's count.
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn policy(native: bool) -> Policy {
    Policy { native_sidecars: native, ..Policy::default() }
}

fn answer(pod: &Value, namespace: &str, native: bool) -> Answer {
    let review = serde_json::to_vec(&creation(pod, namespace)).expect("a value serialises");
    admit(&review, &CATALOG, &policy(native))
}

/// The pod after admission and how it ended; the pod itself where there was no patch.
fn admitted(pod: &Value, namespace: &str, native: bool) -> (Value, Outcome) {
    match answer(pod, namespace, native) {
        Answer::Reviewed { body, outcome } => {
            (support::patched(pod, &body).unwrap_or_else(|| pod.clone()), outcome)
        }
        Answer::Failed { outcome, .. } => (pod.clone(), outcome),
        Answer::Unreadable { message } => unreachable!("a review of a generated pod is readable: {message}"),
    }
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().into_iter().flatten();
    items.filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
}

/// Names that are there more than once, which no patch of ours mends or makes.
fn repeated(names: &[String]) -> BTreeSet<&String> {
    names
        .iter()
        .enumerate()
        .filter(|(index, name)| names[..*index].contains(name))
        .map(|(_, name)| name)
        .collect()
}

/// What must hold of one admission; the message of what does not.
fn check(pod: &Value, namespace: &str, native: bool) -> Result<Outcome, String> {
    // Applying the patch is the first property: it fails the test by itself.
    let (patched, outcome) = admitted(pod, namespace, native);
    let losses = losses(pod, &patched);
    if !losses.is_empty() {
        return Err(format!("not additive: {losses:?}"));
    }
    if (patched.clone(), outcome.clone()) != admitted(pod, namespace, native) {
        return Err("equal input, other output".to_owned());
    }
    if outcome.kind == OutcomeKind::Injected {
        let containers = [names(&patched, "containers"), names(&patched, "initContainers")].concat();
        let before = [names(pod, "containers"), names(pod, "initContainers")].concat();
        let volumes = (names(pod, "volumes"), names(&patched, "volumes"));
        if repeated(&containers) != repeated(&before) || repeated(&volumes.1) != repeated(&volumes.0) {
            return Err(format!("names repeat: {containers:?} {volumes:?}"));
        }
        if containers.iter().filter(|name| *name == "prometheus-agent").count() != 1 {
            return Err("one agent is expected".to_owned());
        }
    }
    let annotations = patched["metadata"]["annotations"].as_object().into_iter().flatten();
    let size: usize = annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    let before = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let before: usize = before.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS.max(before) {
        return Err(format!("{size} bytes of annotations"));
    }
    if patched != *pod {
        let (second, second_outcome) = admitted(&patched, namespace, native);
        if second != patched {
            return Err(format!("the second pass changes something: {second_outcome:?}"));
        }
    }
    Ok(outcome)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_patch_applies_only_adds_keeps_names_unique_and_is_followed_by_none(
        (pod, namespace) in pods(),
        native in any::<bool>(),
    ) {
        prop_assert_eq!(check(&pod, namespace, native).err(), None);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = admit(&bytes, &CATALOG, &policy(true));
    }

    #[test]
    fn a_review_with_one_byte_changed_never_panics((pod, namespace) in pods(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut review = serde_json::to_vec(&creation(&pod, namespace)).expect("a value serialises");
        let at = at.index(review.len());
        review[at] = byte;
        let _ = admit(&review, &CATALOG, &policy(true));
    }
}

#[test]
fn generated_pods_reach_every_reason_and_most_are_injected() {
    const PODS: usize = 2500;
    let (mut runner, pods) = (TestRunner::deterministic(), pods());
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for index in 0..PODS {
        let (pod, namespace) = pods.new_tree(&mut runner).expect("a pod is generated").current();
        // A second admission shows already-injected, where the first one injected.
        let native = index % 4 > 0;
        let outcome = check(&pod, namespace, native).expect("the properties hold");
        *reasons.entry(outcome.reason.map_or("injected", |reason| reason.word())).or_default() += 1;
        if outcome.kind == OutcomeKind::Injected && index % 100 == 0 {
            let (patched, _) = admitted(&pod, namespace, native);
            let (_, outcome) = admitted(&patched, namespace, native);
            *reasons.entry(outcome.reason.map_or("injected", |reason| reason.word())).or_default() += 1;
        }
    }
    let mut table = reasons.iter().map(|(reason, count)| format!("{count:>6} {reason}")).collect::<Vec<_>>();
    table.sort_by(|a, b| b.cmp(a));
    // Past the capture of the test runner: the distribution is part of every run's output.
    let text = format!("generated pods by outcome:\n{}\n", table.join("\n"));
    std::io::stdout().write_all(text.as_bytes()).expect("the distribution is printed");
    let injected = reasons.get("injected").copied().unwrap_or_default();
    assert!(injected * 100 >= PODS * 60, "{injected} of {PODS} pods were injected\n{}", table.join("\n"));
    let missing: Vec<_> =
        TABLE.iter().map(|row| row.word).filter(|word| !reasons.contains_key(word)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}\n{}", table.join("\n"));
}
