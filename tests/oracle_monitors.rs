//! `PodMonitor`s through prometheus-operator's own generator and through us: the same monitors are taken, and their jobs are the
//! same but for differences that have a name (`support/monitors/difference.rs`).

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::monitors::api::{PodMetricsEndpoint, PodMonitorSpec};
use promsidecar::monitors::fields::{ENDPOINT, SPEC};
use serde_json::{Value, json};
use support::monitors::cases::{self, Case};
use support::monitors::classes::with_paths;
use support::monitors::compare::{Compared, compare, compare_with, globals};
use support::monitors::difference::Fired;
use support::monitors::generate::{Dice, cluster};
use support::monitors::objects::{VERSIONS, agent, monitor};
use support::oracle;
use support::template::fields;

/// Templates of a run.
const TEMPLATES: usize = 1800;
/// Cases that each field has to be in.
const FEWEST: usize = 20;
/// Fields that have an effect only by what they reject.
const REJECTING: [&str; 3] = ["noProxy", "proxyConnectHeader", "proxyUrl"];

#[test]
fn generated_monitors_become_the_jobs_that_the_operator_makes() {
    let (mut dice, mut fired) = (Dice(20), Fired::default());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for index in 0..TEMPLATES {
        let (template, monitors) = cluster(&mut dice);
        // Upstream supports paths in classes, and references not quite: every other time it has the one for the other.
        let theirs = if index % 2 == 0 { template.clone() } else { with_paths(&template) };
        let Compared { taken, rejected, jobs, lines } =
            compare_with(&template, &theirs, &monitors, &mut fired);
        *counts.entry("taken").or_default() += taken.len();
        *counts.entry("rejected").or_default() += rejected.len();
        *counts.entry("jobs").or_default() += jobs;
        for spec in &taken {
            note_fields(spec, &mut seen, |name| !REJECTING.contains(&name));
        }
        for spec in &rejected {
            note_fields(spec, &mut seen, |name| REJECTING.contains(&name));
        }
        if !lines.is_empty() {
            wrong.push(format!("cluster {index}: {template}\n{monitors:?}\n{}", lines.join("\n")));
        }
    }
    println!("{counts:?}\n{seen:?}");
    assert!(wrong.is_empty(), "{} clusters differ, first:\n{}", wrong.len(), wrong[0]);
    let (seen_differences, silent) = fired.all();
    println!("{seen_differences}");
    assert!(silent.is_empty(), "never seen: {silent:?}");
    assert!(counts["taken"] >= 1000 && counts["rejected"] >= 400 && counts["jobs"] >= 1500, "{counts:?}");
    let names: Vec<_> = SPEC.iter().chain(&ENDPOINT).map(|field| field.name).collect();
    let rare: Vec<_> =
        names.iter().filter(|name| seen.get(**name).copied().unwrap_or_default() < FEWEST).collect();
    assert!(rare.is_empty(), "in fewer than {FEWEST} cases: {rare:?}");
}

/// Notes every field of a spec that is not as it is where nobody states it.
fn note_fields(spec: &Value, seen: &mut BTreeMap<String, usize>, counts: impl Fn(&str) -> bool) {
    let is_stated =
        |value: &Value| !matches!(value, Value::Null) && *value != json!({}) && *value != json!([]);
    let mut names = BTreeSet::new();
    let mut note = |object: &Value| {
        for (name, value) in object.as_object().into_iter().flatten() {
            if is_stated(value) && counts(name) {
                names.insert(name.clone());
            }
        }
    };
    note(spec);
    spec["podMetricsEndpoints"].as_array().into_iter().flatten().for_each(&mut note);
    for name in names {
        *seen.entry(name).or_default() += 1;
    }
}

#[test]
fn global_sections_of_generated_templates_are_those_of_the_operator() {
    let (mut dice, mut fired) = (Dice(21), Fired::default());
    for _ in 0..300 {
        let (template, _) = cluster(&mut dice);
        assert_eq!(globals(&template, &mut fired), [""; 0], "{template}");
    }
}

/// By hand, each field of the spec.
fn spec_cases() -> Vec<Case> {
    let t = Some(true);
    let own = [
        ("podMetricsEndpoints", json!([{"port": "a"}, {"port": "b"}]), t),
        ("selector", json!({"matchLabels": {"version": "1.2"}}), t),
    ];
    own.into_iter().chain(cases::of_spec()).collect()
}

/// By hand, each field of an endpoint.
fn endpoint_cases() -> Vec<Case> {
    let own = [("portNumber", json!(8080), Some(false))];
    own.into_iter().chain(cases::of_endpoint()).collect()
}

#[test]
fn each_field_alone_does_what_it_does_upstream() {
    let mut fired = Fired::default();
    let base =
        json!({"selector": {"matchLabels": {"app": "web"}}, "podMetricsEndpoints": [{"port": "metrics"}]});
    let cases = spec_cases().into_iter().map(|case| ("", case));
    let cases = cases.chain(endpoint_cases().into_iter().map(|case| ("/podMetricsEndpoints/0", case)));
    let mut names = BTreeSet::new();
    for (parent, (name, value, expected)) in cases {
        names.insert(name);
        let mut spec = base.clone();
        spec.pointer_mut(parent).expect("the parent is there")[name] = value;
        for version in VERSIONS {
            let class =
                json!({"name": "plain", "relabelings": [{"targetLabel": "class", "replacement": "plain"}]});
            let template =
                agent(json!({"version": version, "podMonitorSelector": {}, "scrapeClasses": [class]}));
            let rendered = |spec: &Value| {
                let monitors =
                    support::monitors::compare::monitors_of(&[monitor("shop", "m", json!({}), spec.clone())]);
                monitors.select(&support::monitors::compare::agent_of(&template), "shop")
            };
            let compared = compare(&template, &[monitor("shop", "m", json!({}), spec.clone())], &mut fired);
            assert_eq!(compared.lines, [""; 0], "{name} {version}");
            let (plain, with) = (rendered(&base), rendered(&spec));
            match expected {
                Some(differs) => assert_eq!(plain.jobs != with.jobs, differs, "{name} {version}"),
                None if name == "scrapeNativeHistograms" => {
                    let knows = !["v3.0.1", "v3.5.2"].contains(&version);
                    assert_eq!(plain.jobs != with.jobs, knows, "{name} {version}");
                    assert_eq!(with.taken[0].ignored.is_empty(), knows, "{name} {version}");
                }
                None => assert_eq!(with.rejected.len(), 1, "{name} {version}"),
            }
        }
    }
    let listed: BTreeSet<_> = SPEC.iter().chain(&ENDPOINT).map(|field| field.name).collect();
    assert_eq!(names, listed);
}

#[test]
fn the_tables_have_every_field_of_the_model_and_of_upstreams_definition() {
    let listed = |table: &[promsidecar::monitors::fields::Field]| {
        table.iter().map(|field| field.name).collect::<BTreeSet<_>>()
    };
    assert_eq!(fields::<PodMonitorSpec>(), listed(&SPEC));
    let mut modelled = fields::<PodMetricsEndpoint>();
    modelled.remove("enableHTTP2");
    assert!(modelled.contains("enableHttp2") || listed(&ENDPOINT).contains("enableHttp2"));
    modelled.insert("enableHttp2");
    assert_eq!(modelled, listed(&ENDPOINT));
    let operator = oracle::module("github.com/prometheus-operator/prometheus-operator");
    let file = operator.join("example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml");
    let definition: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(file).expect("the definition")).expect("YAML");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let names = |schema: &Value| {
        let names = schema["properties"].as_object().expect("an object has properties").keys().cloned();
        names.collect::<BTreeSet<_>>()
    };
    let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(schema), owned(listed(&SPEC)));
    assert_eq!(names(&schema["properties"]["podMetricsEndpoints"]["items"]), owned(listed(&ENDPOINT)));
}
