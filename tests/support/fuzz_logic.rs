//! What must hold for any bytes at all: the bodies of the fuzz targets, run over their seeds by `tests/fuzz_seeds.rs`.

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::monitors::selection::Selection;
use promsidecar::store::compile::compile;
use promsidecar::template::{Settings, Template, render, validate};
use serde_json::Value;

use super::additive::losses;
use super::contract::{faults, is_line};

/// Answers a review; whether it was readable. Panics where the answer breaks a promise.
pub(crate) fn review(bytes: &[u8], catalog: &Catalog) -> bool {
    for native_sidecars in [true, false] {
        let policy = Policy { native_sidecars, ..Policy::default() };
        let answer = admit(bytes, catalog, &policy);
        assert_eq!(answer, admit(bytes, catalog, &policy), "equal reviews get equal answers");
        match answer {
            Answer::Unreadable { message } => {
                assert!(is_line(&message), "{message:?}");
                return false;
            }
            Answer::Failed { message, .. } => assert!(is_line(&message), "{message:?}"),
            Answer::Reviewed { body, .. } => reviewed(bytes, &body),
        }
    }
    true
}

fn reviewed(bytes: &[u8], body: &[u8]) {
    let answer: Value = serde_json::from_slice(body).expect("an answer is JSON");
    // A review that is deeper than this parser goes has its answer checked all the same, only not against itself.
    let review: Option<Value> = serde_json::from_slice(bytes).ok();
    let uid = review.as_ref().unwrap_or(&answer).pointer(if review.is_some() {
        "/request/uid"
    } else {
        "/response/uid"
    });
    let uid = uid.and_then(Value::as_str).expect("a review that is answered has a uid");
    assert_eq!(faults(uid, body), [""; 0], "{answer}");
    if let Some(pod) = review.as_ref().and_then(|review| review.pointer("/request/object"))
        && answer.pointer("/response/patch").is_some()
    {
        let patched = super::patched(pod, body).expect("there is a patch");
        assert_eq!(losses(pod, &patched), [""; 0]);
    }
}

/// Judges a template; whether it could be read and is valid. Panics where the judgement breaks a promise.
pub(crate) fn template(bytes: &[u8]) -> bool {
    let Ok(object) = serde_json::from_slice::<Value>(bytes) else { return false };
    let settings = Settings::default();
    let Ok(template) = Template::read(&object, &settings) else { return false };
    let compiled = compile(&object, &settings, None).expect("what is read compiles");
    assert!(compiled.entry.claimed || compiled.violations.is_empty(), "nobody claimed it, and it is judged");
    match validate::validate(&template, &settings) {
        Err(violations) => {
            let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| is_line(line)), "{lines:?}");
            false
        }
        Ok(agent) => {
            assert_eq!(compiled.violations, []);
            let text = render::render(&agent, "team-a", &Selection::default());
            let parsed: Value = serde_saphyr::from_str(&text).expect("a configuration is YAML");
            assert_eq!(parsed["scrape_configs"][0]["job_name"], "promsidecar/annotations");
            true
        }
    }
}
