//! Every folder of `tests/golden/convert`: what prometheus-operator runs in; its template and the report out. And what must
//! hold of every template that is made so.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use promsidecar::cli::convert::object::{Conversion, Target, convert};
use promsidecar::template::Settings;
use serde_json::{Value, json};
use support::golden::{compare, folders};
use support::template::{full_spec, judge, parts};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/convert")
}

/// The program in the folder of a case.
fn promsidecar(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_promsidecar"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_object_is_converted_as_its_golden_says_and_the_result_passes_validate_and_stays_what_it_is() {
    let (mut wrong, mut good) = (Vec::new(), 0);
    let scratch = tempfile::tempdir().unwrap();
    for folder in folders(&root()) {
        let more = fs::read_to_string(folder.join("arguments")).unwrap_or_default();
        let arguments: Vec<_> =
            ["convert", "-f", "input.yaml"].into_iter().chain(more.split_whitespace()).collect();
        let output = promsidecar(&folder, &arguments);
        let ending = if more.contains("json") { "template.json" } else { "template.yaml" };
        let (printed, report) = (text(output.stdout), text(output.stderr));
        compare(&folder.join(ending), Some(&printed), &mut wrong);
        compare(&folder.join("report.txt"), Some(&report), &mut wrong);
        let impossible = report.contains("\n  impossible: ");
        assert_eq!(output.status.code(), Some(i32::from(impossible)), "{}: {report}", folder.display());
        if impossible {
            continue;
        }
        good += 1;
        let file = scratch.path().join(ending);
        fs::write(&file, &printed).unwrap();
        let judged = promsidecar(scratch.path(), &["validate", "-f", ending]);
        assert_eq!(judged.status.code(), Some(0), "{}: {}", folder.display(), text(judged.stdout));
        let format = if more.contains("json") { "json" } else { "yaml" };
        let again = promsidecar(scratch.path(), &["convert", "-f", ending, "-o", format]);
        // The comment at the head says what it was made from.
        let body = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(body(&text(again.stdout)), body(&printed), "{}", folder.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(good, 4, "cases without impossible parts");
}

fn source(kind: &str, version: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": "central", "namespace": "monitoring", "uid": "u", "resourceVersion": "1", "generation": 3,
            "managedFields": [{}], "ownerReferences": [{}], "labels": {"helm.sh/chart": "c", "team": "a"},
        },
        "status": {"replicas": 1},
    });
    object["spec"] = spec;
    object
}

fn converted(object: &Value) -> Conversion {
    convert(object, &Target::default(), &Settings::default()).unwrap()
}

#[test]
fn every_field_that_a_template_honours_comes_through_and_once_more_changes_nothing() {
    let mut specs = parts();
    specs.push(full_spec());
    for mut spec in specs {
        let receiver = json!([{"url": "https://metrics.example.com/api/v1/write"}]);
        spec.as_object_mut().unwrap().entry("remoteWrite").or_insert(receiver);
        for (kind, version) in [
            ("PrometheusAgent", "monitoring.coreos.com/v1alpha1"),
            ("Prometheus", "monitoring.coreos.com/v1"),
        ] {
            let object = source(kind, version, spec.clone());
            let once = converted(&object);
            assert_eq!(once.impossible, [""; 0], "{object}");
            judge(&once.template).unwrap();
            let told: Vec<_> = once.left_out.iter().map(|(path, _)| path.as_str()).collect();
            for (field, value) in spec.as_object().unwrap() {
                let path = format!("spec.{field}");
                let is_told = told.iter().any(|told| told.starts_with(&path)) || value == "30s";
                assert!(
                    once.template["spec"].get(field) == Some(value) || is_told,
                    "{field} vanished: {told:?}"
                );
            }
            let metadata = &once.template["metadata"];
            let keys: Vec<_> = metadata.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["annotations", "labels", "name", "namespace"]);
            assert_eq!(metadata["labels"], json!({"team": "a"}));
            let twice = converted(&once.template);
            assert_eq!(twice.template, once.template);
            assert!(twice.claimed && twice.left_out.is_empty() && twice.removed.is_empty(), "{twice:?}");
        }
    }
}

#[test]
fn a_template_never_takes_the_place_of_what_the_operator_runs() {
    let spec = json!({"remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]});
    let agent = source("PrometheusAgent", "monitoring.coreos.com/v1alpha1", spec.clone());
    let server = source("Prometheus", "monitoring.coreos.com/v1", spec);
    let convert = |object: &Value, name: Option<&str>, namespace: Option<&str>| {
        let target =
            Target { name: name.map(str::to_owned), namespace: namespace.map(str::to_owned), pods: None };
        convert(object, &target, &Settings::default()).map(|made| made.id.to_string()).map_err(|_| ())
    };
    assert_eq!(convert(&agent, None, None), Ok("monitoring/central-sidecar".to_owned()));
    assert_eq!(convert(&agent, Some("central"), None), Err(()));
    assert_eq!(convert(&agent, Some("central"), Some("monitoring")), Err(()));
    assert_eq!(convert(&agent, Some("other"), None), Ok("monitoring/other".to_owned()));
    assert_eq!(convert(&agent, None, Some("shop")), Ok("shop/central".to_owned()));
    // Another kind has names of its own.
    assert_eq!(convert(&server, None, None), Ok("monitoring/central".to_owned()));
    assert_eq!(convert(&server, Some("central"), None), Ok("monitoring/central".to_owned()));
}
