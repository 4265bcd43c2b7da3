//! Injection into manifests and its way back, over generated pods: what comes out is what went in.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use promsidecar::admission::Policy;
use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::offline::{self, Owner, Taken};
use promsidecar::names;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use support::additive::losses;
use support::golden::folders;
use support::pods::pods;

static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| support::catalog(include_str!("golden/admission/objects.yaml")));

/// The pod without what is ours already: a pod copied with its annotations is not given them back.
fn without_ours(mut pod: Value) -> Value {
    let ours = [
        ("/metadata/annotations", &[names::STATUS, names::TARGETS, names::SKIPPED][..]),
        ("/metadata/labels", &[names::INJECTED][..]),
    ];
    for (map, keys) in ours {
        if let Some(map) = pod.pointer_mut(map).and_then(Value::as_object_mut) {
            map.retain(|key, _| !keys.contains(&&**key));
        }
    }
    pod
}

/// A pod as it stands in a template: `metadata` may be missing, and says no name.
fn template(pod: &Value, metadata: Option<Value>) -> Value {
    let mut template = serde_json::Map::new();
    template.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
    template.insert("spec".to_owned(), pod["spec"].clone());
    Value::Object(template)
}

/// Injects and takes out again; whether there was anything to take out.
fn there_and_back(pod: &Value, namespace: &str, native: bool) -> Result<bool, TestCaseError> {
    let policy = Policy { native_sidecars: native, ..Policy::default() };
    let mut value = pod.clone();
    if offline::inject(&mut value, namespace, Owner::Nobody, &CATALOG, &policy).is_err() {
        prop_assert_eq!(&value, pod, "a refusal changes nothing");
        return Ok(false);
    }
    prop_assert_eq!(losses(pod, &value), [""; 0]);
    let taken = offline::uninject(&mut value);
    prop_assert!(matches!(taken, Ok(Taken::Agent { .. })), "{:?}", taken);
    prop_assert_eq!(&value, &without_ours(pod.clone()));
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_injected_can_be_taken_out_again((pod, namespace) in pods(), native in any::<bool>()) {
        there_and_back(&pod, namespace, native)?;
    }

    #[test]
    fn a_template_may_lack_its_metadata((pod, _) in pods(), native in any::<bool>()) {
        for metadata in [None, Some(Value::Null), Some(serde_json::json!({}))] {
            there_and_back(&template(&pod, metadata), "team-label", native)?;
        }
    }
}

#[test]
fn most_generated_pods_go_there_and_back() {
    let mut runner = TestRunner::deterministic();
    let injected = (0..500)
        .filter(|_| {
            let (pod, namespace) = pods().new_tree(&mut runner).expect("a pod is generated").current();
            there_and_back(&pod, namespace, true).expect("the property holds")
        })
        .count();
    println!("{injected} of 500 generated pods were injected and restored");
    assert!(injected >= 300, "{injected} of 500");
}

/// Cases whose input is more than a pod in `team-a` have a file that says so.
fn is_plain(case: &Path) -> bool {
    !case.join("case.yaml").exists() && !case.join("objects.yaml").exists()
}

#[test]
fn a_manifest_gets_what_the_webhook_would_have_added() {
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/admission");
    let read = |path: PathBuf| -> Option<Value> {
        let text = fs::read_to_string(path).ok()?;
        Some(serde_saphyr::from_str(&text).expect("a golden is YAML"))
    };
    let mut injected = 0;
    for case in folders(&root).into_iter().filter(|case| is_plain(case)) {
        let review = read(case.join("review.json"));
        let pod = review
            .map(|mut review| review["request"]["object"].take())
            .or_else(|| read(case.join("pod.yaml")));
        let pod = pod.expect("a case has a pod");
        let mut value = pod.clone();
        let expected = match offline::inject(&mut value, "team-a", Owner::Nobody, &CATALOG, &policy) {
            Ok(_) => {
                injected += 1;
                read(case.join("patched.yaml")).expect("an injected pod has a golden")
            }
            Err(_) => pod,
        };
        assert_eq!(value, expected, "{}", case.display());
    }
    assert!(injected >= 25, "{injected} goldens are injected");
}
