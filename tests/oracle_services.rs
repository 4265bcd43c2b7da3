//! `ServiceMonitor`s through prometheus-operator's own generator and through us: the same monitors are taken, and the jobs for their
//! Services are the same but for differences that have a name (`support/monitors/services_compare.rs`). What chooses the targets
//! of a job is compared by `series_services.rs`.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::monitors::fields::{Field, SERVICE_ENDPOINT, SERVICE_SPEC};
use promsidecar::monitors::selection::Selection;
use promsidecar::monitors::servicemonitor::{Endpoint, ServiceMonitorSpec};
use serde_json::{Value, json};
use support::monitors::cases::{self, Case};
use support::monitors::compare::{Compared, agent_of, monitors_of};
use support::monitors::difference::{Fired, SERVICE_DIFFERENCES};
use support::monitors::generate::Dice;
use support::monitors::objects::{VERSIONS, agent, service, service_monitor};
use support::monitors::services::{Cluster, with_services};
use support::monitors::services_compare::compare_services;
use support::oracle;
use support::template::fields;

/// Templates of a run.
const TEMPLATES: usize = 1200;
/// Cases that each field has to be in.
const FEWEST: usize = 20;
/// Fields that have an effect only by what they reject.
const REJECTING: [&str; 4] = ["bearerTokenFile", "noProxy", "proxyConnectHeader", "proxyUrl"];

#[test]
fn generated_monitors_become_the_jobs_that_the_operator_makes() {
    let (mut dice, mut fired) = (Dice(30), Fired::of(&SERVICE_DIFFERENCES));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for index in 0..TEMPLATES {
        let cluster = with_services(&mut dice);
        let Compared { taken, rejected, jobs, lines } = compare_services(&cluster, &mut fired);
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
            let Cluster { template, monitors, .. } = cluster;
            wrong.push(format!("cluster {index}: {template}\n{monitors:?}\n{}", lines.join("\n")));
        }
    }
    let (seen_differences, silent) = fired.all();
    println!("{counts:?}\n{seen:?}\n{seen_differences}");
    assert!(wrong.is_empty(), "{} clusters differ, first:\n{}", wrong.len(), wrong[0]);
    assert!(silent.is_empty(), "never seen: {silent:?}");
    assert!(counts["taken"] >= 500 && counts["rejected"] >= 200 && counts["jobs"] >= 1500, "{counts:?}");
    let names: Vec<_> = SERVICE_SPEC.iter().chain(&SERVICE_ENDPOINT).map(|field| field.name).collect();
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
    spec["endpoints"].as_array().into_iter().flatten().for_each(&mut note);
    for name in names {
        *seen.entry(name).or_default() += 1;
    }
}

/// By hand, each field of the spec.
fn spec_cases() -> Vec<Case> {
    let t = Some(true);
    let own = [
        ("targetLabels", json!(["team/x", "team"]), t),
        ("endpoints", json!([{"port": "metrics"}, {"targetPort": 8080}]), t),
        ("selector", json!({"matchLabels": {"app": "none"}}), t),
        ("serviceDiscoveryRole", json!("EndpointSlice"), t),
    ];
    own.into_iter().chain(cases::of_spec()).collect()
}

/// By hand, each field of an endpoint.
fn endpoint_cases() -> Vec<Case> {
    let own = [("bearerTokenFile", json!("/var/run/token"), None)];
    own.into_iter().chain(cases::of_endpoint()).collect()
}

#[test]
fn each_field_alone_does_what_it_does_upstream() {
    let mut fired = Fired::of(&SERVICE_DIFFERENCES);
    let base = json!({"selector": {"matchLabels": {"app": "web"}}, "endpoints": [{"port": "metrics"}]});
    let cases = spec_cases().into_iter().map(|case| ("", case));
    let cases = cases.chain(endpoint_cases().into_iter().map(|case| ("/endpoints/0", case)));
    let ports = json!([{"name": "metrics", "port": 80, "targetPort": 8080}, {"name": "other", "port": 81}]);
    let labels = json!({"app": "web", "team": "a", "app.kubernetes.io/name": "web"});
    let services = vec![service("shop", "web", labels, json!({"selector": {"app": "web"}, "ports": ports}))];
    let mut names = BTreeSet::new();
    for (parent, (name, value, expected)) in cases {
        names.insert(name);
        let mut spec = base.clone();
        spec.pointer_mut(parent).expect("the parent is there")[name] = value;
        for version in VERSIONS {
            let class =
                json!({"name": "plain", "relabelings": [{"targetLabel": "class", "replacement": "plain"}]});
            let template =
                agent(json!({"version": version, "serviceMonitorSelector": {}, "scrapeClasses": [class]}));
            let monitors = |spec: &Value| vec![service_monitor("shop", "m", json!({}), spec.clone())];
            let rendered = |spec: &Value| -> Selection {
                let all = [monitors(spec), services.clone()].concat();
                monitors_of(&all).select(&agent_of(&template), "shop")
            };
            let cluster =
                Cluster { template: template.clone(), monitors: monitors(&spec), services: services.clone() };
            let compared = compare_services(&cluster, &mut fired);
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
    let listed: BTreeSet<_> = SERVICE_SPEC.iter().chain(&SERVICE_ENDPOINT).map(|field| field.name).collect();
    assert_eq!(names, listed);
}

#[test]
fn the_tables_have_every_field_of_the_model_and_of_upstreams_definition() {
    let listed = |table: &[Field]| table.iter().map(|field| field.name).collect::<BTreeSet<_>>();
    assert_eq!(fields::<ServiceMonitorSpec>(), listed(&SERVICE_SPEC));
    let mut modelled = fields::<Endpoint>();
    modelled.remove("enableHTTP2");
    modelled.insert("enableHttp2");
    assert_eq!(modelled, listed(&SERVICE_ENDPOINT));
    let operator = oracle::module("github.com/prometheus-operator/prometheus-operator");
    let file = operator.join("example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml");
    let definition: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(file).expect("the definition")).expect("YAML");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let names = |schema: &Value| {
        let names = schema["properties"].as_object().expect("an object has properties").keys().cloned();
        names.collect::<BTreeSet<_>>()
    };
    let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(schema), owned(listed(&SERVICE_SPEC)));
    assert_eq!(names(&schema["properties"]["endpoints"]["items"]), owned(listed(&SERVICE_ENDPOINT)));
}
