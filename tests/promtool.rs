//! Prometheus' own judgement of every rendered configuration: `promtool check config --agent`, of the version that the
//! configuration is made for.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "support/agent/tools.rs"]
mod tools;

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use promsidecar::monitors::selection::Selection;
use promsidecar::template::agent::Agent;
use promsidecar::template::version::{Capability, Version};
use promsidecar::template::violation::Violation;
use promsidecar::template::{Settings, Template, render, validate};
use promsidecar::{manifest, names};
use serde_json::{Value, json};
use support::golden::{folders, monitored};
use support::monitors::compare::{agent_of, monitors_of};
use support::monitors::generate::{Dice, cluster};
use support::monitors::objects::{self, NAMESPACES};
use support::templates::cases::{Does, cases};
use support::templates::generate;
use tools::{default_version, versions};

/// Fewer goldens than this means that they were not found, not that there are none.
const FEWEST_GOLDENS: usize = 17;
/// Every one of them for every version.
const FEWEST_RENDERED: usize = 68;

/// Folders of the goldens.
fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/render");
    let goldens = folders(&root);
    assert!(goldens.len() >= FEWEST_GOLDENS, "{} folders below {}", goldens.len(), root.display());
    goldens
}

/// A template of the goldens, for another version if one is given.
fn agent(folder: &Path, version: Option<&str>) -> Result<Agent, Vec<Violation>> {
    let text = fs::read_to_string(folder.join("template.yaml")).unwrap();
    let mut object = manifest::read(&text).unwrap().remove(0).object;
    if let Some(version) = version {
        object["spec"]["version"] = json!(version);
    }
    let settings = Settings::default();
    let template = Template::read(&object, &settings).unwrap();
    validate::validate(&template, &settings)
}

#[test]
fn every_golden_is_accepted_by_promtool_of_its_version() {
    let versions = versions();
    let mut refused = Vec::new();
    let mut checked: BTreeMap<String, usize> = BTreeMap::new();
    for folder in goldens() {
        let version = agent(&folder, None).unwrap().version.to_string();
        // Prometheus 3.13 takes what was made for 3.11.
        let version = if versions.contains(&version) { version } else { default_version() };
        let file = folder.join(names::CONFIG_KEY);
        if let Err(output) = check(&version, &fs::read_to_string(&file).unwrap()) {
            refused.push(format!("{} by {version}:\n{output}", file.display()));
        }
        *checked.entry(version).or_default() += 1;
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    println!("{checked:?}");
    assert_eq!(checked.keys().cloned().collect::<BTreeSet<_>>(), versions.into_iter().collect());
}

#[test]
fn every_template_rendered_for_a_version_is_accepted_by_promtool_of_that_version() {
    let mut refused = Vec::new();
    let mut rendered = 0;
    for folder in goldens() {
        for version in versions() {
            let agent = agent(&folder, Some(&version)).unwrap();
            let selection = monitored(&folder, &agent, "team-a");
            if let Err(output) = check(&version, &render::render(&agent, "team-a", &selection)) {
                refused.push(format!("{} by {version}:\n{output}", folder.display()));
            }
            rendered += 1;
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    println!("{rendered} configurations");
    assert!(rendered >= FEWEST_RENDERED, "{rendered}");
}

#[test]
fn jobs_of_generated_monitors_are_accepted_by_promtool_of_their_version() {
    let (mut dice, mut refused) = (Dice(30), Vec::new());
    let mut checked: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..160 {
        let (template, monitors) = cluster(&mut dice);
        let agent = agent_of(&template);
        let known = monitors_of(&monitors);
        for (namespace, _) in NAMESPACES {
            let selection = known.select(&agent, namespace);
            if selection.jobs.is_empty() {
                continue;
            }
            let version = agent.version.to_string();
            if let Err(output) = check(&version, &render::render(&agent, namespace, &selection)) {
                refused.push(format!("{monitors:?} by {version}:\n{output}"));
            }
            *checked.entry(version).or_default() += selection.jobs.len();
        }
    }
    println!("jobs of monitors: {checked:?}");
    assert!(refused.is_empty(), "{} refused, first:\n{}", refused.len(), refused[0]);
    assert_eq!(checked.keys().cloned().collect::<BTreeSet<_>>(), versions().into_iter().collect());
    assert!(checked.values().all(|jobs| *jobs >= 20), "{checked:?}");
}

#[test]
fn each_field_alone_and_generated_templates_are_accepted_by_promtool_of_their_version() {
    let (mut dice, mut refused) = (Dice(31), Vec::new());
    let mut checked: BTreeMap<String, usize> = BTreeMap::new();
    let mut judge = |template: &Value, what: &str| {
        let Ok(agent) = support::template::judge(template) else { return };
        let version = agent.version.to_string();
        if let Err(output) = check(&version, &render::render(&agent, "shop", &Selection::default())) {
            refused.push(format!("{what} by {version}:\n{output}"));
        }
        *checked.entry(version).or_default() += 1;
    };
    for case in cases().into_iter().filter(|case| case.does == Does::Config) {
        for version in versions() {
            let mut spec = case.spec.clone();
            spec["version"] = json!(version);
            judge(&objects::agent(spec), &case.path);
        }
    }
    for _ in 0..200 {
        let template = generate::template(&mut dice);
        judge(&template, &template.to_string());
    }
    println!("configurations of templates: {checked:?}");
    assert!(refused.is_empty(), "{} refused\n{}", refused.len(), refused.join("\n"));
    assert_eq!(checked.keys().cloned().collect::<BTreeSet<_>>(), versions().into_iter().collect());
    assert!(checked.values().all(|count| *count >= 100), "{checked:?}");
}

#[test]
fn each_version_of_promtool_accepts_a_configuration_whose_files_exist() {
    for version in versions() {
        assert_eq!(check(&version, WITH_FILES), Ok(()), "{version}");
    }
}

#[test]
fn each_version_of_promtool_refuses_an_unknown_key() {
    for version in versions() {
        let output = check(&version, &format!("{WITH_FILES}no_such_key: true\n")).unwrap_err();
        assert!(output.contains("no_such_key"), "{version}: {output}");
    }
}

#[test]
fn each_version_of_promtool_refuses_what_only_a_server_can_do() {
    for version in versions() {
        let output = check(&version, &format!("{WITH_FILES}rule_files: [rules.yml]\n")).unwrap_err();
        assert!(output.contains("agent mode"), "{version}: {output}");
    }
}

/// Otherwise the versions would not differ.
#[test]
fn a_key_is_refused_by_each_version_before_it_and_accepted_by_each_after_it() {
    for (key, capability) in [
        ("convert_classic_histograms_to_nhcb", Capability::ConvertClassicHistograms),
        ("scrape_native_histograms", Capability::ScrapeNativeHistograms),
    ] {
        let mut verdicts = Vec::new();
        for version in versions() {
            let verdict = check(&version, &format!("{WITH_FILES}global: {{{key}: true}}\n"));
            if let Err(output) = &verdict {
                assert!(output.contains(key), "{version}: {output}");
            }
            let knows = Version::parse(&version).unwrap().has(capability);
            assert_eq!(verdict.is_ok(), knows, "{version} {key}: {verdict:?}");
            verdicts.push(knows);
        }
        assert!(verdicts.contains(&true) && verdicts.contains(&false), "{key}: {verdicts:?}");
    }
}

/// Names files of every kind that a configuration can name.
const WITH_FILES: &str = "
scrape_configs:
- job_name: all
  scheme: https
  authorization: {credentials_file: secrets/scrape/token}
  tls_config: {ca_file: configmaps/ca/ca.crt, cert_file: secrets/tls/tls.crt, key_file: secrets/tls/tls.key}
  file_sd_configs: [{files: ['targets/*.json']}]
remote_write:
- url: https://receiver.example/api/v1/write
  basic_auth: {username: agent, password_file: secrets/remote/password}
  tls_config: {ca_file: configmaps/ca/ca.crt}
";

/// Has promtool of a version judge a configuration, laid out with the files that it names; the error is what promtool says.
fn check(version: &str, config: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let file = directory.join(names::CONFIG_KEY);
    fs::write(&file, config).unwrap();
    write(&directory.join(names::TARGETS_PATH), "[]");
    for document in manifest::read(config).unwrap() {
        lay_out_files(directory, &document.object);
    }
    let output = Command::new(tools::tool_of(version, "promtool"))
        .args(["check", "config", "--agent"])
        .arg(&file)
        .output()
        .expect("promtool starts");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// Writes every file that is named by a key ending in `_file`. Prometheus reads the paths relative to the configuration.
fn lay_out_files(directory: &Path, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    // Written by the agent, not read.
                    Value::String(_) if key == "scrape_failure_log_file" => {}
                    Value::String(path) if key.ends_with("_file") => {
                        let below =
                            Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                        assert!(below, "{key}: {path:?} leaves the directory of the configuration");
                        write(&directory.join(path), &content(key));
                    }
                    _ => lay_out_files(directory, value),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| lay_out_files(directory, item)),
        _ => {}
    }
}

/// What a file of that kind may hold. One certificate serves all: nobody connects.
fn content(key: &str) -> String {
    use std::sync::LazyLock;
    static CERTIFICATE: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> = LazyLock::new(|| {
        rcgen::generate_simple_self_signed(["receiver.example".to_owned()])
            .expect("a self-signed certificate")
    });
    match key {
        "ca_file" | "cert_file" => CERTIFICATE.cert.pem(),
        "key_file" => CERTIFICATE.signing_key.serialize_pem(),
        _ => "secret".to_owned(),
    }
}

fn write(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().expect("below the directory")).unwrap();
    fs::write(file, content).unwrap();
}
