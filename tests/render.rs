//! Every folder of `tests/golden/render` and `tests/golden/violations`: a template in, its configuration or its violations
//! out; and what must hold for templates that nobody wrote.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use promsidecar::manifest;
use promsidecar::monitors::selection::Selection;
use promsidecar::template::agent::Agent;
use promsidecar::template::violation::Violation;
use promsidecar::template::{Settings, Template, render, validate};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::golden::{compare, folders, monitored};

fn root(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(below)
}

fn judge(folder: &Path) -> Result<Agent, Vec<Violation>> {
    let text = fs::read_to_string(folder.join("template.yaml")).expect("a case has a template.yaml");
    let object = &manifest::read(&text).expect("template.yaml is YAML")[0].object;
    let settings = Settings::default();
    let template = Template::read(object, &settings).expect("template.yaml has a name");
    validate::validate(&template, &settings)
}

fn lines<'a>(lines: impl Iterator<Item = String> + 'a) -> String {
    lines.map(|line| line + "\n").collect()
}

#[test]
fn every_template_renders_as_its_golden_says() {
    let mut wrong = Vec::new();
    for folder in folders(&root("render")) {
        let agent =
            judge(&folder).unwrap_or_else(|violations| unreachable!("{}: {violations:#?}", folder.display()));
        let selection = monitored(&folder, &agent, "team-a");
        let text = render::render(&agent, "team-a", &selection);
        compare(&folder.join("prometheus.yml"), Some(&text), &mut wrong);
        let ignored = agent.ignored.iter().map(|field| format!("ignored: {}: {}", field.path, field.why));
        let warnings = agent
            .config
            .warnings
            .iter()
            .map(|warning| format!("warning: {}: {}", warning.path, warning.text));
        let notes = lines(
            render::derived_lines(&agent).into_iter().chain(ignored).chain(warnings).chain(selection.notes()),
        );
        compare(
            &folder.join("notes.txt"),
            Some(&notes).filter(|notes| !notes.is_empty()).map(|notes| &**notes),
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_violation_is_told_at_once_as_the_golden_says() {
    let mut wrong = Vec::new();
    for folder in folders(&root("violations")) {
        let Err(violations) = judge(&folder) else { unreachable!("{} is valid", folder.display()) };
        let violations = lines(violations.iter().map(ToString::to_string));
        compare(&folder.join("violations.txt"), Some(&violations), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// JSON of any shape, with the names of real fields among the keys so that it gets past the first look.
fn any_json() -> impl Strategy<Value = Value> {
    let names = promsidecar::template::api::fields::FIELDS.map(|field| field.name);
    let inner = [
        "url",
        "name",
        "key",
        "basicAuth",
        "username",
        "tlsConfig",
        "ca",
        "secret",
        "queueConfig",
        "writeRelabelConfigs",
        "action",
        "regex",
        "emptyDir",
    ];
    let keys: Vec<&'static str> = names.into_iter().chain(inner).collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("30s"),
            Just("v3.5.0"),
            Just("https://x.example/w"),
            Just("128Mi"),
            Just("prometheus"),
            Just("$(X)"),
            Just("Replace")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |element| {
        let key =
            prop_oneof![4 => proptest::sample::select(keys.clone()).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            prop::collection::vec(element.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, element), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_specification_panics_and_a_valid_one_renders_to_yaml_without_controls(spec in any_json()) {
        let object = json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1",
            "kind": "PrometheusAgent",
            "metadata": {"name": "any", "namespace": "team-a"},
            "spec": spec,
        });
        let settings = Settings::default();
        let template = Template::read(&object, &settings).expect("the object has a name");
        match validate::validate(&template, &settings) {
            Ok(agent) => {
                let text = render::render(&agent, "team-a", &Selection::default());
                prop_assert_eq!(&text, &render::render(&agent, "team-a", &Selection::default()));
                let parsed: Value = serde_saphyr::from_str(&text).expect("a configuration is YAML");
                prop_assert_eq!(&parsed["scrape_configs"][0]["job_name"], "promsidecar/annotations");
            }
            Err(violations) => {
                prop_assert!(!violations.is_empty());
                for violation in violations {
                    let line = violation.to_string();
                    prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                }
            }
        }
    }
}
