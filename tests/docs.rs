//! The documents: what they say of keys, targets and examples is compared with the code, and links lead somewhere.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::reason::Reason;
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::admission::status::{self, Status};
use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::template::Settings;
use promsidecar::{names, workload};
use serde_json::Value;
use support::documents::{Line, blocks, documents, lines, read, root};
use support::{reviews, template_id};
#[test]
fn every_key_of_the_code_is_documented_and_no_other() {
    let document = read("docs/annotations.md");
    // The constants themselves, so that a key added to the code is missed here without anyone's help.
    let source = read("src/names.rs");
    let quoted = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1));
    let known: BTreeSet<&str> = quoted.filter(|text| text.contains('/') && !text.starts_with('/')).collect();
    for key in
        [names::INJECT, names::SELF_MONITOR, names::SKIPPED, names::CONTROLLER_ID, names::SAFE_TO_EVICT]
    {
        assert!(known.contains(key), "{key} is found in names.rs: {known:?}");
    }
    // Prefixes, jobs and paths have a slash as well.
    let not_keys = [
        names::PREFIX,
        names::COMMUNITY_PREFIX,
        names::JOB_ANNOTATIONS,
        names::JOB_AGENT,
        names::TARGETS_PATH,
        names::TARGETS_GLOB,
    ];
    let keys = known.iter().filter(|key| !not_keys.contains(key));
    let missing: Vec<_> = keys.filter(|key| !document.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/annotations.md lacks {missing:?}");

    let mut invented = BTreeSet::new();
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document can be read");
        for (start, _) in text.match_indices(names::PREFIX) {
            let end = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '/' || c == '.');
            // kubectl takes a label or annotation away by its key and a hyphen.
            let key = text[start..].split(end).next().unwrap_or_default().trim_end_matches(['.', '-']);
            if key != names::PREFIX && !known.contains(key) {
                invented.insert(format!("{}: {key}", path.display()));
            }
        }
    }
    assert!(invented.is_empty(), "no such key: {invented:?}");
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', ' ', '#', '.']))
        .filter_map(|line| line.split_once(':'))
        .filter(|(_, rest)| !rest.starts_with('='))
        .flat_map(|(targets, _)| targets.split_whitespace())
        .collect();
    let mut named = BTreeSet::new();
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document can be read");
        for line in lines(&text) {
            let (is_code, text) = match line {
                Line::Prose(text) => (false, text),
                Line::Code { text, .. } => (true, text.trim()),
                Line::Fence => continue,
            };
            // In prose a command stands in backticks, in a block at the start of its line.
            let commands: Vec<&str> =
                if is_code { vec![text] } else { text.split('`').skip(1).step_by(2).collect() };
            let arguments = commands.iter().filter_map(|command| command.strip_prefix("make "));
            named.extend(arguments.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned));
        }
    }
    for target in ["demo", "serve", "test"] {
        assert!(named.contains(target), "the documents name {target}: {named:?}");
    }
    let missing: Vec<_> = named.iter().filter(|target| !targets.contains(target.as_str())).collect();
    assert!(missing.is_empty(), "the Makefile has no {missing:?}, only {targets:?}");
}

/// What `make TARGET` would do.
fn dry_run(target: &str, e2e: &str) -> String {
    let mut make = Command::new("make");
    make.args(["--dry-run", target]).current_dir(root()).env("E2E", e2e);
    // Of the make that runs this test.
    for inherited in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
        make.env_remove(inherited);
    }
    let printed = make.output().expect("make is installed");
    String::from_utf8(printed.stdout).expect("text")
}

/// The test files that follow `--test` among words.
fn tests_of(words: &[&str]) -> Vec<String> {
    let tests = words.windows(2).filter(|pair| pair[0] == "--test").map(|pair| pair[1].to_owned());
    let mut tests: Vec<String> = tests.collect();
    tests.sort();
    tests
}

#[test]
fn make_test_runs_every_test_file_exactly_once_but_those_of_make_receivers() {
    let files = fs::read_dir(root().join("tests")).expect("a folder can be listed");
    let files = files.map(|entry| entry.expect("a folder can be listed").path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let names = rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut expected: Vec<String> = names.collect();
    expected.sort();
    let receivers = dry_run("receivers", "");
    let of_receivers = tests_of(&receivers.split_whitespace().collect::<Vec<_>>());
    assert_eq!(of_receivers, ["receivers"], "{receivers}");
    expected.retain(|name| !of_receivers.contains(name));
    for (e2e, left_out) in [("", "nothing"), ("0", "e2e_")] {
        let printed = dry_run("test", e2e);
        let groups = printed.lines().filter(|line| line.contains("cargo test --locked --no-fail-fast"));
        let words: Vec<&str> = groups.flat_map(str::split_whitespace).collect();
        expected.retain(|name| !name.starts_with(left_out));
        assert_eq!(tests_of(&words), expected, "E2E={e2e}: {printed}");
        for one in ["--lib", "--bins", "--bench", "--doc"] {
            assert_eq!(words.iter().filter(|word| **word == one).count(), 1, "{one}: {printed}");
        }
    }
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document can be read");
        let prose = lines(&text).filter_map(|line| match line {
            Line::Prose(text) => Some(text),
            _ => None,
        });
        for link in prose.flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().expect("a file has a folder").join(file)
            };
            let leads = target.exists()
                && (fragment.is_empty()
                    || fs::read_to_string(&target).is_ok_and(|target| {
                        target.lines().any(|line| {
                            line.starts_with('#') && anchor(line.trim_start_matches('#')) == fragment
                        })
                    }));
            if !leads {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(checked > 10, "links were looked at: {checked}");
}

#[test]
fn every_example_in_yaml_and_json_can_be_read() {
    let (mut yaml, mut json) = (0, 0);
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document can be read");
        for block in blocks(&text, "yaml") {
            let parsed = serde_saphyr::from_multiple::<Value>(&block);
            assert!(parsed.is_ok(), "{}: {parsed:?}\n{block}", path.display());
            yaml += 1;
        }
        for block in blocks(&text, "json") {
            let parsed = serde_json::from_str::<Value>(&block);
            assert!(parsed.is_ok(), "{}: {parsed:?}\n{block}", path.display());
            json += 1;
        }
    }
    assert!(yaml > 0 && json > 0, "examples were found: {yaml} in YAML, {json} in JSON");
}

#[test]
fn the_example_workload_asks_correctly_for_a_template() {
    let document = read("docs/annotations.md");
    let examples = blocks(&document, "yaml");
    let examples = examples.iter().map(|block| serde_saphyr::from_str::<Value>(block).expect("YAML"));
    let workloads: Vec<_> = examples.filter(workload::has_pod).collect();
    let [example] = &workloads[..] else { panic!("one workload is shown: {workloads:?}") };
    let pod = workload::pod(example).expect("a workload has a pod");
    let body = serde_json::to_vec(&reviews::creation(&pod, "team-a")).expect("a value serialises");
    // Without templates, a pod whose annotations are all good gets as far as the search for one.
    let Answer::Reviewed { outcome, .. } = admit(&body, &Catalog::default(), &Policy::default()) else {
        panic!("the example's review is answered");
    };
    assert_eq!(outcome.reason, Some(Reason::TemplateNotFound), "{outcome:?}");
}

#[test]
fn the_example_status_is_as_the_code_writes_it() {
    let document = read("docs/annotations.md");
    let [example] = &blocks(&document, "json")[..] else { panic!("one status is shown") };
    let parsed: Status<'_> = serde_json::from_str(example).expect("the example is a status");
    assert_eq!(parsed.version, status::VERSION);
    let (written, shown): (Value, Value) = (
        serde_json::from_str(&parsed.to_json()).expect("a status is JSON"),
        serde_json::from_str(example).expect("the example is JSON"),
    );
    assert_eq!(written, shown);
}

#[test]
fn the_pod_shown_in_the_readme_has_the_names_of_the_code() {
    let document = read("README.md");
    let [shown] = &blocks(&document, "diff")[..] else { panic!("one pod is shown") };
    let defaults = Settings::default();
    let expected = [
        format!("image: {}:{}", defaults.agent_image, defaults.agent_version),
        format!("configMap: {{name: {}, ", config_map_name(&template_id("team-a/shop"))),
        format!("- name: {}", names::CONTAINER),
        format!("name: {}, mountPath: {}, readOnly", names::VOLUME_CONFIG, names::CONFIG_DIR),
        format!("name: {}, mountPath: {}}}", names::VOLUME_WAL, names::WAL_DIR),
        format!("name: {}, mountPath: {}, readOnly", names::VOLUME_NO_TOKEN, names::TOKEN_DIR),
        format!("{}: {}", names::SAFE_TO_EVICT, names::VOLUME_WAL),
        format!("promsidecar, {}, {}, ", names::CONFIG_FILE, names::WAL_DIR),
    ];
    let missing: Vec<_> = expected.iter().filter(|text| !shown.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "the example lacks {missing:?}");
}
