//! What the documents claim, and that it is so: tests that show it exist, versions are those that are built.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use promsidecar::admission::catalog::Catalog;
use promsidecar::cluster::version::{KubernetesVersion, NATIVE_SIDECARS, NATIVE_SIDECARS_EVERYWHERE};
use promsidecar::controller::fleet::Counts;
use promsidecar::metrics::Metrics;
use promsidecar::template::Settings;
use support::documents::{blocks, read, root};

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
