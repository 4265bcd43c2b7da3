//! Every folder of `tests/golden/admission`: a pod in, the answer, the patch and the patched pod out.
//!
//! The patch is applied with the `json-patch` crate, an engine that others wrote, and the patched pod is admitted a second
//! time, as the API server does when another webhook changed the pod.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::reason::{Reason, TABLE};
use promsidecar::admission::{Answer, Policy, admit};
use serde_json::{Value, json};
use support::golden::{compare, folders, yaml};
use support::reviews;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/admission")
}

/// One case, read from its folder.
struct Case {
    folder: PathBuf,
    review: Value,
    catalog: Catalog,
    policy: Policy,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let read = |path: PathBuf| fs::read_to_string(&path).ok();
        let settings: Value = read(folder.join("case.yaml"))
            .map_or(Value::Null, |text| serde_saphyr::from_str(&text).expect("case.yaml is YAML"));
        let text = |key: &str| settings.get(key).and_then(Value::as_str);
        let review = match read(folder.join("review.json")) {
            Some(review) => serde_json::from_str(&review).expect("review.json is JSON"),
            None => {
                let pod = read(folder.join("pod.yaml")).expect("a case has a pod.yaml or a review.json");
                let pod = serde_saphyr::from_str(&pod).expect("pod.yaml is YAML");
                reviews::creation(&pod, text("namespace").unwrap_or("team-a"))
            }
        };
        let objects = read(folder.join("objects.yaml"))
            .or_else(|| read(root().join("objects.yaml")))
            .expect("objects.yaml can be read");
        let excluded = settings.get("excludedNamespaces").and_then(Value::as_array);
        let policy = Policy {
            excluded_namespaces: excluded
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            default_template: text("defaultTemplate").map(support::template_id),
            native_sidecars: settings.get("nativeSidecars").is_none_or(|value| value == &json!(true)),
        };
        Self { folder: folder.to_owned(), review, catalog: support::catalog(&objects), policy }
    }

    fn admit(&self, review: &Value) -> Answer {
        admit(&serde_json::to_vec(review).expect("a value serialises"), &self.catalog, &self.policy)
    }
}

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

fn apply(pod: &Value, patch: &[u8]) -> Value {
    let patch: json_patch::Patch = serde_json::from_slice(patch).expect("a patch is RFC 6902");
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).expect("a patch applies");
    patched
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
