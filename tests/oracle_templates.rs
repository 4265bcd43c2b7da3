//! Templates through prometheus-operator's own generator and through us: the same templates are taken, and configuration,
//! flags, warnings and mounted objects are the same but for differences that have a name (`support/templates/rules.rs`).

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::template::agent::Agent;
use promsidecar::template::api::fields::FIELDS;
use promsidecar::template::api::http::{Authorization, OAuth2, TlsConfig};
use promsidecar::template::api::process::{OtlpConfig, TracingConfig, TsdbSpec, Web};
use promsidecar::template::api::remote_write::{
    AzureAd, MetadataConfig, QueueConfig, RemoteWriteSpec, Sigv4,
};
use serde_json::{Value, json};
use support::monitors::difference::Fired;
use support::monitors::generate::Dice;
use support::monitors::objects::{VERSIONS, agent};
use support::oracle;
use support::template::{fields, judge};
use support::templates::cases::{Case, Does, cases};
use support::templates::compare::{compare, rendered};
use support::templates::generate::template;
use support::templates::rules::DIFFERENCES;
use support::templates::wrong::wrong;

/// Templates of a run.
const TEMPLATES: usize = 3000;
/// Accepted templates that each field with an effect has to be in.
const FEWEST: usize = 20;

#[test]
fn generated_templates_become_the_agents_that_the_operator_makes() {
    let (mut dice, mut fired) = (Dice(22), Fired::of(&DIFFERENCES));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut accepted, mut wrong) = (0, Vec::new());
    for index in 0..TEMPLATES {
        let template = template(&mut dice);
        let compared = compare(&template, &mut fired);
        if compared.accepted {
            accepted += 1;
            note_fields(&template["spec"], &mut seen);
        }
        if !compared.lines.is_empty() {
            wrong.push(format!("template {index}: {template}\n{}", compared.lines.join("\n")));
        }
    }
    println!("configurations compared: {accepted}, templates judged: {TEMPLATES}\n{seen:?}");
    println!("unexplained differences: {}", wrong.len());
    assert!(wrong.is_empty(), "{} templates differ, first:\n{}", wrong.len(), wrong[0]);
    let (seen_differences, silent) = fired.all();
    println!("{seen_differences}");
    assert!(silent.is_empty(), "never seen: {silent:?}");
    assert!(accepted >= 1000 && TEMPLATES - accepted >= 500, "{accepted} of {TEMPLATES}");
    let effective = cases().into_iter().filter(|case| !matches!(case.does, Does::Rejected | Does::Nothing));
    let rare: Vec<_> = effective
        .map(|case| case.path)
        .filter(|path| seen.get(path).copied().unwrap_or_default() < FEWEST)
        .collect();
    assert!(rare.is_empty(), "in fewer than {FEWEST} templates: {rare:?}");
}

/// Notes the path of every field that is not as it is where nobody states it, once a template.
fn note_fields(spec: &Value, seen: &mut BTreeMap<String, usize>) {
    fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| {
                paths(member, format!("{path}.{name}").trim_start_matches('.'), found);
            }),
            Value::Array(items) => items.iter().for_each(|item| paths(item, path, found)),
            _ => {}
        }
        let silent = [Value::Null, json!({}), json!([]), json!(""), json!(0)];
        if !silent.contains(value) {
            found.insert(path.to_owned());
        }
    }
    let mut found = BTreeSet::new();
    paths(spec, "", &mut found);
    for path in found {
        *seen.entry(path).or_default() += 1;
    }
}

#[test]
fn each_field_alone_does_what_it_does_upstream() {
    let mut fired = Fired::of(&DIFFERENCES);
    let mut wrong = Vec::new();
    for case in cases() {
        // Every minor version, since gates stand between those of which there is a Prometheus here.
        for version in (0..=16).map(|minor| format!("v3.{minor}.0")) {
            let template = of_version(&case.spec, &version);
            let compared = compare(&template, &mut fired);
            wrong.extend(compared.lines.iter().map(|line| format!("{} {version}: {line}", case.path)));
        }
        wrong.extend(effect(&case));
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_wrong_field_is_refused_as_upstream_refuses_it_or_for_a_reason_that_has_a_name() {
    let mut fired = Fired::of(&DIFFERENCES);
    let (mut different, mut accepted) = (Vec::new(), BTreeSet::new());
    for (name, value) in wrong() {
        for version in VERSIONS {
            let compared = compare(&of_version(&json!({name: value}), version), &mut fired);
            different.extend(compared.lines.iter().map(|line| format!("{name}: {value} {version}: {line}")));
            if compared.accepted {
                accepted.insert(format!("{name}: {value}"));
            }
        }
    }
    println!("accepted by both: {accepted:#?}");
    assert!(different.is_empty(), "{} differences\n{}", different.len(), different.join("\n"));
}

fn of_version(spec: &Value, version: &str) -> Value {
    let mut spec = spec.clone();
    if spec.get("version").is_none() && spec.get("image").is_none() {
        spec["version"] = json!(version);
    }
    agent(spec)
}

/// What a case does otherwise than it says, in the newest version.
fn effect(case: &Case) -> Option<String> {
    let judged = |spec: &Value| judge(&of_version(spec, VERSIONS[VERSIONS.len() - 1]));
    let base = judged(&case.base).expect("a base is valid");
    let Ok(with) = judged(&case.spec) else {
        return (case.does != Does::Rejected).then(|| format!("{} is rejected", case.path));
    };
    let pod = |agent: &Agent| {
        let Agent { image, image_pull_policy, resources, env, secret_env, .. } = agent.clone();
        let Agent { volumes, volume_mounts, wal_size_limit, .. } = agent.clone();
        (image, image_pull_policy, resources, env, secret_env, volumes, volume_mounts, wal_size_limit)
    };
    let path = format!("spec.{}", case.path);
    let reported = with.ignored.iter().any(|ignored| {
        let plain = ignored.path.replace("[0]", "");
        plain == path || plain.starts_with(&format!("{path}."))
    });
    let found = [
        (Does::Config, rendered(&base) != rendered(&with)),
        (Does::Flags, base.flags != with.flags),
        (Does::Pod, pod(&base) != pod(&with)),
        (Does::Nothing, reported),
    ];
    let found: Vec<_> = found.iter().filter(|(_, does)| *does).map(|(what, _)| *what).collect();
    let fits = match case.does {
        Does::Elsewhere => found.iter().all(|what| *what == Does::Nothing),
        Does::Nothing => found == [Does::Nothing],
        does => found.contains(&does),
    };
    (!fits).then(|| format!("{}: {:?} is said, {found:?} is found", case.path, case.does))
}

#[test]
fn every_field_of_upstreams_definition_and_of_the_model_has_a_case() {
    let cases: BTreeSet<String> = cases().into_iter().map(|case| case.path).collect();
    let below = |parent: &str| -> BTreeSet<&str> {
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}.") };
        let names = cases.iter().filter_map(|path| path.strip_prefix(&prefix));
        names.filter(|name| !name.contains('.')).collect()
    };
    assert_eq!(below(""), FIELDS.iter().map(|field| field.name).collect());
    for (parent, modelled) in [
        ("remoteWrite", fields::<RemoteWriteSpec>()),
        ("remoteWrite.queueConfig", fields::<QueueConfig>()),
        ("remoteWrite.metadataConfig", fields::<MetadataConfig>()),
        ("remoteWrite.sigv4", fields::<Sigv4>()),
        ("remoteWrite.azureAd", fields::<AzureAd>()),
        ("remoteWrite.oauth2", fields::<OAuth2>()),
        ("remoteWrite.tlsConfig", fields::<TlsConfig>()),
        ("remoteWrite.authorization", fields::<Authorization>()),
        ("otlp", fields::<OtlpConfig>()),
        ("tracingConfig", fields::<TracingConfig>()),
        ("tsdb", fields::<TsdbSpec>()),
        ("web", fields::<Web>()),
    ] {
        assert_eq!(below(parent), modelled, "{parent}");
    }
    let operator = oracle::module("github.com/prometheus-operator/prometheus-operator");
    let file = operator.join("example/prometheus-operator-crd/monitoring.coreos.com_prometheusagents.yaml");
    let definition: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(file).expect("the definition")).expect("YAML");
    let mut schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let names = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().expect("an object has properties").keys().cloned().collect()
    };
    let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(schema), owned(below("")));
    for name in ["otlp", "tracingConfig", "tsdb", "web"] {
        assert_eq!(names(&schema["properties"][name]), owned(below(name)), "{name}");
    }
    schema = &schema["properties"]["remoteWrite"]["items"];
    assert_eq!(names(schema), owned(below("remoteWrite")));
    for name in ["queueConfig", "metadataConfig", "sigv4", "azureAd", "oauth2", "tlsConfig", "authorization"]
    {
        assert_eq!(
            names(&schema["properties"][name]),
            owned(below(&format!("remoteWrite.{name}"))),
            "{name}"
        );
    }
}
