//! What `promsidecar convert` knows of upstream: every field of a server, the objects of upstream's own documentation, and
//! that upstream's definition takes each template as it is.

#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use promsidecar::cli::convert::fields::SERVER_FIELDS;
use promsidecar::cli::convert::object::{Conversion, Target, convert, is_source};
use promsidecar::cli::convert::steps::{Step, steps};
use promsidecar::manifest;
use promsidecar::template::Settings;
use promsidecar::template::api::fields::Field;
use serde_json::{Value, json};
use support::monitors::generate::Dice;
use support::oracle::{self, Surroundings};
use support::template::judge;
use support::templates::generate::template;

const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";
/// Releases beside the one that the oracle is built from.
const RELEASES: [&str; 2] = ["@v0.73.2", "@v0.94.1"];

fn release(release: &str) -> PathBuf {
    oracle::module(&format!("{OPERATOR}{release}"))
}

/// Fields below `spec` of an upstream definition.
fn fields(module: &Path, plural: &str) -> BTreeSet<String> {
    let file = module.join(format!("example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let definition: Value = serde_saphyr::from_str(&text).expect("a definition is YAML");
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object().expect("spec has fields").keys().cloned().collect()
}

#[test]
fn every_field_that_a_server_has_and_an_agent_has_not_is_in_the_table_and_no_other() {
    let mut beyond = BTreeSet::new();
    for module in [release("")].into_iter().chain(RELEASES.map(release)) {
        let servers = fields(&module, "prometheuses");
        assert!(servers.len() > 100, "{servers:?}");
        let agents = fields(&module, "prometheusagents");
        let unknown: Vec<_> = agents.iter().filter(|name| Field::find(name).is_none()).collect();
        assert!(unknown.is_empty(), "{}: without a verdict: {unknown:?}", module.display());
        beyond.extend(servers.into_iter().filter(|name| Field::find(name).is_none()));
    }
    let table: BTreeSet<_> = SERVER_FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(beyond, table);
}

/// Converts, and holds the template against our rules and upstream's definition.
fn hold(object: &Value, place: &str) -> Conversion {
    let made = convert(object, &Target::default(), &Settings::default())
        .unwrap_or_else(|refused| panic!("{place}: {refused}"));
    assert_eq!(
        judge(&made.template).is_ok(),
        made.impossible.iter().all(|line| is_no_receiver(line)),
        "{place}"
    );
    let again = convert(&made.template, &Target::default(), &Settings::default()).expect("a template");
    assert_eq!(again.template, made.template, "{place}");
    made
}

fn is_no_receiver(line: &str) -> bool {
    line.starts_with("spec.remoteWrite: names no receiver")
}

/// The YAML files below a folder, and the YAML blocks of its Markdown.
fn manifests(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("a folder can be listed").path();
        let name = path.display().to_string();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            manifests(&path, found);
        } else if ending == "yaml" {
            found.push((name, fs::read_to_string(&path).expect("text")));
        } else if ending == "md" {
            let text = fs::read_to_string(&path).expect("text");
            let blocks = text.split("```").skip(1).step_by(2);
            found.extend(
                blocks.filter_map(|block| Some((name.clone(), block.split_once('\n')?.1.to_owned()))),
            );
        }
    }
}

#[test]
fn every_example_of_upstream_is_converted_to_a_template_that_only_lacks_a_receiver() {
    let module = release("");
    let mut texts = Vec::new();
    for folder in ["example", "Documentation"] {
        manifests(&module.join(folder), &mut texts);
    }
    let (mut seen, mut ready, mut placeholders, mut excerpts) = (0, 0, 0, 0);
    for (place, text) in texts {
        for document in manifest::read(&text).unwrap_or_default() {
            if !is_source(document.kind()) {
                continue;
            }
            // Excerpts have no name.
            if convert(&document.object, &Target::default(), &Settings::default()).is_err() {
                excerpts += 1;
                continue;
            }
            let made = hold(&document.object, &place);
            // Some have placeholders that upstream refuses as well.
            if !oracle::custom_resource(&document.object).expect("an object of upstream").errors.is_empty() {
                placeholders += 1;
                continue;
            }
            seen += 1;
            let upstream =
                oracle::custom_resource(&made.template).expect("the template is one of upstream's");
            assert_eq!((upstream.pruned, upstream.errors), (vec![], vec![]), "{place}");
            ready += usize::from(made.impossible.is_empty());
            let other: Vec<_> = made.impossible.iter().filter(|line| !is_no_receiver(line)).collect();
            assert!(other.is_empty(), "{place}: {other:?}");
        }
    }
    println!(
        "upstream's examples converted: {seen}, of them with a receiver: {ready}; \
         upstream refuses {placeholders} others, {excerpts} have no name"
    );
    assert!(seen >= 30 && placeholders <= 5 && excerpts <= 8, "{seen}, {placeholders}, {excerpts}");
}

#[test]
fn generated_agents_become_templates_that_upstreams_definition_takes_as_they_are() {
    let mut dice = Dice(8);
    let (mut valid, mut generated) = (0, 0);
    for index in 0..1000 {
        let mut object = template(&mut dice);
        object["metadata"]["annotations"] = Value::Null;
        if index % 2 == 1 {
            object["apiVersion"] = "monitoring.coreos.com/v1".into();
            object["kind"] = "Prometheus".into();
        }
        generated += 1;
        let made = hold(&object, &object.to_string());
        if !made.impossible.is_empty() {
            continue;
        }
        valid += 1;
        let upstream = oracle::custom_resource(&made.template).expect("the template is one of upstream's");
        assert_eq!(upstream.pruned, [""; 0], "{}", made.template);
    }
    println!("generated agents and servers converted: {generated}, of them ready to be applied: {valid}");
    assert!(valid >= 250, "{valid} of {generated}");
}

/// A pod that runs, with an agent beside it or without.
fn pod(name: &str, ip: &str, injected: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"containers": [
            {"name": "app", "image": "registry.example.com/web:1", "ports": [{"name": "metrics", "containerPort": 8080}]},
        ]},
        "status": {"phase": "Running", "podIP": ip, "hostIP": "10.1.0.1"},
    });
    if let Some(injected) = injected {
        pod["metadata"]["labels"]["sidecar.prometheus.io/injected"] = injected.into();
    }
    pod
}

/// The central agent with what the step gives to paste.
fn with_rule(central: &Value, step: &Step) -> Value {
    let pasted: Value = serde_saphyr::from_str(&step.paste.join("\n")).expect("what is to be pasted is YAML");
    let mut central = central.clone();
    match pasted {
        Value::Array(rules) => central["spec"]["scrapeClasses"][0]["relabelings"] = rules.into(),
        pasted => central["spec"]["scrapeClasses"] = pasted["spec"]["scrapeClasses"].clone(),
    }
    central
}

#[test]
fn with_the_rule_to_paste_the_central_agent_scrapes_every_pod_but_those_with_an_agent() {
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "podMetricsEndpoints": [{"port": "metrics"}]},
    });
    let pods = vec![
        pod("plain", "10.0.0.1", None),
        pod("injected", "10.0.0.2", Some("true")),
        pod("refused", "10.0.0.3", Some("false")),
    ];
    let around = Surroundings { pods, ..Surroundings::default() };
    let scraped = |central: &Value| -> Vec<String> {
        let generated = oracle::config(&[central.clone(), monitor.clone()], false).expect("a configuration");
        let labelled = oracle::labels(&generated.config.replace("$(SHARD)", "0"), &around).expect("targets");
        assert_eq!(labelled.targets.len(), 3, "{:?}", labelled.failures);
        let kept = labelled.targets.iter().filter_map(|target| Some(target.labels.as_ref()?["pod"].clone()));
        kept.collect()
    };
    for classes in [json!([]), json!([{"name": "own", "default": true}])] {
        let central = json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1",
            "kind": "PrometheusAgent",
            "metadata": {"name": "central", "namespace": "shop"},
            "spec": {
                "podMonitorSelector": {},
                "version": "v3.5.2",
                "scrapeClasses": classes,
                "remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}],
            },
        });
        let made = hold(&central, "the central agent");
        let steps = steps(&made, &[]);
        let step = steps.iter().find(|step| step.paste.iter().any(|line| line.contains("action: drop")));
        let central_after = with_rule(&central, step.expect("a step has the rule"));
        assert_eq!(scraped(&central), ["plain", "injected", "refused"]);
        assert_eq!(scraped(&central_after), ["plain", "refused"]);
    }
}
