//! The documents: what they say about names, reasons and targets is compared with the code.

#![expect(clippy::panic, reason = "a helper of a test fails the test")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::reason::{Reason, TABLE};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::admission::status::{self, Status};
use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::cluster::version::{KubernetesVersion, NATIVE_SIDECARS, NATIVE_SIDECARS_EVERYWHERE};
use promsidecar::controller::fleet::Counts;
use promsidecar::metrics::Metrics;
use promsidecar::monitors::fields as monitors;
use promsidecar::template::Settings;
use promsidecar::template::api::fields::{FIELDS, Verdict};
use promsidecar::{names, workload};
use serde_json::Value;
use support::golden::compare;
use support::{reviews, template_id};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the project.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    assert!(found.contains(&root().join("README.md")), "{found:?}");
    found
}

/// A line of a document: its text, or the language of the fenced block that it stands in.
enum Line<'a> {
    Prose(&'a str),
    Code { language: &'a str, text: &'a str },
    Fence,
}

fn lines(document: &str) -> impl Iterator<Item = Line<'_>> {
    let mut block = None;
    document.lines().map(move |line| match (line.trim_start().strip_prefix("```"), block) {
        (Some(language), None) => {
            block = Some(language.trim());
            Line::Fence
        }
        (Some(_), Some(_)) => {
            block = None;
            Line::Fence
        }
        (None, Some(language)) => Line::Code { language, text: line },
        (None, None) => Line::Prose(line),
    })
}

/// The fenced blocks of one language.
fn blocks(document: &str, wanted: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in lines(document) {
        match line {
            Line::Code { language, text } if language == wanted => {
                block.push_str(text);
                block.push('\n');
            }
            Line::Fence if !block.is_empty() => blocks.push(std::mem::take(&mut block)),
            _ => {}
        }
    }
    blocks
}

/// First letter in upper case, full stop at the end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().expect("no text of the table is empty");
    format!("{}{}.", first.to_uppercase(), letters.as_str())
}

fn reasons() -> String {
    let mut out = String::from(
        "# Reasons\n\n\
         Why a pod got no agent. The rows of the table are tried in this order, and the first that applies is the reason.\n\
         The same word stands in the admission warning, the audit annotations, the pod's annotation\n\
         `sidecar.prometheus.io/skipped`, the metrics and the log. `promsidecar explain REASON` prints its section.\n\n\
         - *Told*: whether the pod's owner hears of it, by a warning or by a denial.\n\
         - *Marks the pod*: whether a pod that is admitted without its agent gets the annotation\n  \
         `sidecar.prometheus.io/skipped` and the label `sidecar.prometheus.io/injected: \"false\"`.\n\
         - *If required*: what becomes of the pod where `sidecar.prometheus.io/required` is \"true\" on the pod or its namespace.\n\n\
         Names of templates in other namespaces do not leak: where such a template is not claimed or not permitted, the pod's\n\
         owner reads `template-not-found`. The true reason stands in the audit annotations, the metrics, the log, and an Event on the\n\
         template.\n\n\
         This file is made from the table in `src/admission/reason.rs`; `make golden` writes it.\n\n\
         | # | reason | told | marks the pod | if required |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    let yes_no = |yes| if yes { "yes" } else { "no" };
    for (index, row) in TABLE.iter().enumerate() {
        let required = if row.reason.denies_if_required() {
            "denied"
        } else if row.word == "internal-error" {
            "HTTP 500, so that the registration's failure policy decides"
        } else {
            "admitted"
        };
        let (told, marks) = (yes_no(!row.reason.is_silent()), yes_no(row.reason.marks_pod()));
        let number = index + 1;
        writeln!(out, "| {number} | [`{0}`](#{0}) | {told} | {marks} | {required} |", row.word)
            .expect("a string takes every write");
    }
    for row in &TABLE {
        write!(
            out,
            "\n## {}\n\n{}\n\n- Cause: {}.\n- Fix: {}.\n- Event reason: `{}`\n",
            row.word,
            sentence(row.meaning),
            row.cause,
            row.fix,
            row.event
        )
        .expect("a string takes every write");
    }
    out
}

#[test]
fn the_reasons_are_those_of_the_table() {
    let mut wrong = Vec::new();
    compare(&root().join("docs/reasons.md"), Some(&reasons()), &mut wrong);
    assert!(wrong.is_empty(), "write it with UPDATE_GOLDEN=1 cargo test --test docs\n{}", wrong.join("\n"));
}

fn template_fields() -> String {
    let mut out = String::from(
        "# Fields of a template\n\n\
         A template is an upstream `PrometheusAgent`, unchanged. What becomes of each field of its `spec` in an agent beside an\n\
         application; upstream's documentation says what it means. A field that has no effect is reported by\n\
         `promsidecar validate`, never rejected: only what would change the pod's security or stop the agent is a violation.\n\n\
         - *honoured*: it does what it does upstream, in the form that a sidecar needs.\n\
         - *modified*: it does most of that, with the difference given.\n\
         - *ignored*: it has no effect, for the reason given.\n\n\
         This file is made from the table in `src/template/api/fields.rs`; `make golden` writes it.\n\n\
         | field | verdict | what differs |\n\
         | --- | --- | --- |\n",
    );
    for field in &FIELDS {
        let (verdict, why) = match field.verdict {
            Verdict::Honoured => ("honoured", ""),
            Verdict::Modified(how) => ("modified", how),
            Verdict::Ignored(why) => ("ignored", why),
        };
        writeln!(out, "| `{}` | {verdict} | {why} |", field.name).expect("a string takes every write");
    }
    out + UPSTREAMS_MISTAKES
}

/// `tests/oracle_templates.rs` shows each of them.
const UPSTREAMS_MISTAKES: &str = "
## What is not taken over

Where prometheus-operator 0.93.1 makes an agent that does not do what its template says, ours does:

- Several fields of `tsdb` make several sections `storage`, and Prometheus refuses the file. There is one.
- `$` in `externalLabels` is not escaped: Prometheus 3 takes `$5` for a variable and sends nothing. It is kept as written,
  and `$(POD_NAME)` is the pod's name.
- `sigv4.useFIPSSTSEndpoint` is written for Prometheus 3.0, which refuses the file. It is left out there, and reported.
- Headers of `tracingConfig` come in another order each time, so the file changes without a change. They are sorted.
- A `bodySizeLimit` above `enforcedBodySizeLimit` stays in the global section. The lower one counts.
- What Prometheus refuses is let through, and no agent starts or reloads: `writeRelabelConfigs` with an unknown action or a
  bad expression, two remote writes of one name, a `managedIdentity.clientId` that is no UUID, headers that Prometheus sets
  itself, the same OTLP attribute twice, and OTLP strategies or `nameEscapingScheme: AllowUTF8` that need other names than
  `nameValidationScheme: Legacy` allows. These are violations.
- A mount in `volumeMounts` without a volume makes pods that the API server refuses. It is a violation.
- Credentials stand in clear text in the generated file. Here they are files and variables, and what has neither form
  (`azureAd.oauth`, headers of a proxy) is a violation.

Those about scrape jobs are in [monitors.md](monitors.md).
";

fn monitor_fields(table: &[monitors::Field]) -> String {
    let mut out = String::from("| field | verdict | what differs |\n| --- | --- | --- |\n");
    for field in table {
        let (verdict, why) = match field.verdict {
            monitors::Verdict::Honoured(note) => ("honoured", note),
            monitors::Verdict::Ignored(why) => ("ignored", why),
            monitors::Verdict::Rejected(why) => ("rejected", why),
        };
        writeln!(out, "| `{}` | {verdict} | {why} |", field.name).expect("a string takes every write");
    }
    out
}

#[test]
fn the_fields_of_a_monitor_are_those_of_the_tables() {
    let path = root().join("docs/monitors.md");
    let text = read("docs/monitors.md");
    let mut tables = text.split("\n| field | verdict | what differs |\n");
    let before = tables.next().expect("a text has a beginning");
    let written = [
        &monitors::SPEC[..],
        &monitors::ENDPOINT[..],
        &monitors::SERVICE_SPEC[..],
        &monitors::SERVICE_ENDPOINT[..],
    ]
    .map(monitor_fields);
    let mut expected = before.to_owned();
    for (part, table) in tables.zip(written) {
        let after = part.split_once("\n\n").map_or("", |(_, after)| after);
        let more = if after.is_empty() { String::new() } else { format!("\n{after}") };
        expected.extend(["\n", &table, &more]);
    }
    let mut wrong = Vec::new();
    compare(&path, Some(&expected), &mut wrong);
    assert!(wrong.is_empty(), "write it with UPDATE_GOLDEN=1 cargo test --test docs\n{}", wrong.join("\n"));
    assert_eq!(text.matches("| field | verdict |").count(), 4, "docs/monitors.md has four tables");
}

#[test]
fn the_fields_of_a_template_are_those_of_the_table() {
    let mut wrong = Vec::new();
    compare(&root().join("docs/template-fields.md"), Some(&template_fields()), &mut wrong);
    assert!(wrong.is_empty(), "write it with UPDATE_GOLDEN=1 cargo test --test docs\n{}", wrong.join("\n"));
}

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

#[test]
fn the_receivers_are_documented_in_the_versions_that_are_built() {
    let document = read("docs/receivers.md");
    let modules = fs::read_dir(root().join("tests/tools/receivers")).expect("a folder can be listed");
    let mut built = 0;
    for module in modules {
        let file = module.expect("a folder can be listed").path().join("go.mod");
        let text = read(&file);
        let tool = text.lines().find_map(|line| line.strip_prefix("tool ")).expect("a line `tool`");
        let mut required = text.lines().filter_map(|line| line.trim().split_once(' '));
        let (module, version) =
            required.rfind(|(module, _)| tool.starts_with(&format!("{module}/"))).expect("its version");
        let version = version.split(' ').next().unwrap_or_default();
        let row = format!("| `{module}` {version} |");
        assert!(document.contains(&row), "docs/receivers.md has no {row:?}");
        built += 1;
    }
    assert_eq!(built, 3);
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

#[test]
fn the_architecture_names_every_limit_that_is_counted() {
    let text = read("ARCHITECTURE.md");
    let metrics = Metrics::default().encode(&Catalog::default(), &[]).expect("metrics can be written");
    let limits: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("promsidecar_admission_rejected_total{limit=\""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(limits.len() > 4, "{limits:?}");
    let missing: Vec<_> = limits.iter().filter(|limit| !text.contains(&format!("`{limit}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_document_on_certificates_names_every_problem_and_metric_of_them() {
    let text = read("certs/README.md");
    let metrics = promsidecar::metrics::controller::Metrics::default();
    let metrics = metrics.encode(false, &Catalog::default(), Counts::default(), &[]).expect("metrics");
    let problems: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("promsidecar_managed_certificate_problem{problem=\""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let about = |line: &&str| line.contains("_managed_certificate") || line.contains("_ca_bundle_");
    let names: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(about)
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    assert!(problems.len() > 4 && names.len() == 5, "{problems:?} {names:?}");
    let missing: Vec<_> =
        problems.union(&names).filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What commands print of a cluster, which the control plane's tests compare with what they print. A line `...` stands for some
/// that are left out.
#[test]
fn what_commands_print_of_a_cluster_is_what_they_print() {
    let goldens = fs::read_dir(root().join("tests/golden/cluster")).expect("a folder can be listed");
    let goldens: Vec<String> =
        goldens.map(|entry| read(entry.expect("a folder can be listed").path())).collect();
    let document = read("docs/cli.md");
    let mut shown = 0;
    for block in blocks(&document, "text") {
        let Some((command, printed)) = block.split_once('\n').filter(|(first, _)| first.starts_with("$ "))
        else {
            continue;
        };
        let is_of = |golden: &String| {
            let mut rest = golden.as_str();
            printed.split("...\n").all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        };
        assert!(goldens.iter().any(is_of), "{command} does not print so:\n{printed}");
        shown += 1;
    }
    assert!(shown >= 3, "transcripts were looked at: {shown}");
}

/// Names of all tests: the functions below a `#[test]` or its kin.
fn test_names() -> BTreeSet<String> {
    fn walk(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                walk(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source can be read");
                let mut is_test = false;
                for line in text.lines().map(str::trim_start) {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    if let (true, Some((_, rest))) = (is_test, line.split_once("fn ")) {
                        names.extend(rest.split('(').next().map(str::to_owned));
                        is_test = false;
                    }
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    for folder in ["tests", "src"] {
        walk(&root().join(folder), &mut names);
    }
    names
}

#[test]
fn every_failure_is_shown_by_a_test_that_exists() {
    let document = read("docs/failures.md");
    let names = test_names();
    let rows = shown(&document);
    for (line, last) in &rows {
        let name = last.trim_matches('`');
        assert!(names.contains(name), "no test is called {name:?}: {line}");
    }
    let tables = document.lines().filter(|line| line.starts_with("| ---")).count();
    let lines = document.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows.len(), lines - 2 * tables, "every table says by what its rows are shown");
    assert!(rows.len() >= 65, "rows were looked at: {}", rows.len());
}

/// Rows of tables whose last column is called "shown by", each with that column.
fn shown(document: &str) -> Vec<(&str, &str)> {
    let (mut rows, mut is_shown) = (Vec::new(), false);
    for line in document.lines() {
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        if !line.starts_with('|') {
            is_shown = false;
        } else if last == "shown by" {
            is_shown = true;
        } else if is_shown && !line.starts_with("| ---") {
            rows.push((line, last));
        }
    }
    rows
}

#[test]
fn what_is_compatible_is_shown_by_a_test_or_said_to_be_untested() {
    let document = read("docs/compatibility.md");
    let (names, rows) = (test_names(), shown(&document));
    let mut tested = 0;
    for (line, last) in &rows {
        if *last == "untested" {
            continue;
        }
        tested += 1;
        for name in last.split(", ").map(|name| name.trim_matches('`')) {
            assert!(names.contains(name), "no test is called {name:?}: {line}");
        }
    }
    assert!(rows.len() >= 35 && tested >= 22, "rows were looked at: {}, {tested}", rows.len());
}

/// Versions of three parts, such as `3.13.5`.
fn versions(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|word| word.trim_matches('.'));
    words.filter(|word| word.split('.').filter(|part| !part.is_empty()).count() == 3).collect()
}

#[test]
fn the_versions_of_compatibility_are_those_of_the_code_and_of_the_tests() {
    let document = read("docs/compatibility.md");
    let required = |file: &str, module: &str| {
        let text = read(file);
        let line = text.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(" v"));
        line.and_then(|line| line.split_whitespace().next()).expect("the module is required").to_owned()
    };
    let mut used: BTreeSet<String> =
        read("tests/tools/prometheus.versions").lines().map(|line| line.trim().to_owned()).collect();
    used.remove("");
    let default = Settings::default().agent_version.to_string();
    assert!(used.contains(default.trim_start_matches('v')), "the default version is tested: {used:?}");
    used.insert(required("tests/tools/kubernetes/go.mod", "k8s.io/kubernetes"));
    let operator = "github.com/prometheus-operator/prometheus-operator";
    used.insert(required("tests/tools/oracle/go.mod", operator));
    for file in ["tests/control_plane_definitions.rs", "tests/oracle_convert.rs"] {
        let source = read(file);
        let releases =
            source.lines().find(|line| line.starts_with("const RELEASES")).expect("it has releases");
        let releases: BTreeSet<_> = versions(releases).into_iter().map(str::to_owned).collect();
        assert_eq!(releases.len(), 2, "{file}");
        used.extend(releases);
    }
    let named: BTreeSet<_> = versions(&document).into_iter().map(str::to_owned).collect();
    assert_eq!(named, used);

    let row = |start: &str| {
        let row = document.lines().find(|line| line.starts_with(&format!("| {start} |")));
        row.unwrap_or_else(|| panic!("there is no row {start:?}")).to_owned()
    };
    let native = row("native sidecars");
    let since = native.split("from ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok());
    let since: Vec<KubernetesVersion> = since.collect();
    assert_eq!(since, [NATIVE_SIDECARS, NATIVE_SIDECARS_EVERYWHERE]);
    let needs = read("webhook-config/README.md");
    let oldest = needs.split("It needs Kubernetes ").nth(1).and_then(|rest| rest.split(' ').next());
    let oldest = oldest.expect("the installation says which Kubernetes it needs");
    assert!(row(&format!("API servers before {oldest}")).contains("not supported"), "{oldest}");
}
