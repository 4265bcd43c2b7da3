//! What platform teams watch promsidecar with: alerts, dashboard and runbooks are held against each other, against the
//! metrics that the code exposes, and against Prometheus' own tool.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
mod support;
#[path = "support/agent/tools.rs"]
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kustomize::{build, find, folder, identity, of_kind};
use promsidecar::admission::catalog::Catalog;
use promsidecar::controller::fleet::Counts;
use promsidecar::{manifest, metrics};
use serde_json::{Value, json};
use support::golden::{compare, yaml};
use tools::{tool_of, versions};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn document(name: &str) -> Value {
    let mut documents = manifest::read(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0).object
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list: {value}"))
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string: {value}"))
}

/// Every rule.
fn rules() -> Vec<Value> {
    let document = document("observability/alerts.yaml");
    list(&document["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

/// Severities of the alerts, by name, in order.
fn alerts() -> BTreeMap<String, Vec<String>> {
    let mut alerts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules() {
        if let Some(name) = rule["alert"].as_str() {
            let severity = string(&rule["labels"]["severity"]).to_owned();
            alerts.entry(name.to_owned()).or_default().push(severity);
        }
    }
    assert!(alerts.len() > 10, "{alerts:?}");
    alerts
}

/// Expressions of the dashboard, with the titles of their panels.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("observability/dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
        for target in list(&panel["targets"]) {
            let expression = string(&target["expr"]).replace("$__rate_interval", "5m");
            found.push((string(&panel["title"]).to_owned(), expression));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// What webhook and controller expose.
fn exposed() -> [(&'static str, String); 2] {
    let (known, stale) = (Catalog::default(), [("templates", std::time::Duration::ZERO)]);
    let webhook = metrics::Metrics::default().encode(&known, &stale).expect("text");
    let controller = metrics::controller::Metrics::default();
    let controller = controller.encode(false, &known, Counts::default(), &stale).expect("text");
    [("webhook", webhook), ("controller", controller)]
}

/// `promtool` of every version, with these arguments.
fn promtool(arguments: &[&str]) {
    for version in versions() {
        let mut promtool = Command::new(tool_of(&version, "promtool"));
        let output = promtool.args(arguments).current_dir(path("observability")).output().expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn promtool_takes_every_rule_and_every_alert_tells_what_its_test_says() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts_test.yaml"]);
}

#[test]
fn promtool_takes_every_expression_of_the_dashboard() {
    let rules: Vec<Value> = panels()
        .into_iter()
        .enumerate()
        .map(|(number, (title, expr))| json!({"record": format!("panel:{number}"), "expr": expr, "labels": {"panel": title}}))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yaml");
    fs::write(&file, yaml(&json!({"groups": [{"name": "dashboard", "rules": rules}]}))).unwrap();
    promtool(&["check", "rules", "--lint=none", file.to_str().unwrap()]);
}

#[test]
fn every_alert_is_tested_both_ways_and_has_its_runbook() {
    let mut tested: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for test in list(&document("observability/alerts_test.yaml")["tests"]) {
        for case in list(&test["alert_rule_test"]) {
            let fires = !list(&case["exp_alerts"]).is_empty();
            tested.entry(string(&case["alertname"]).to_owned()).or_default().insert(fires);
        }
    }
    let alerts = alerts();
    let both: BTreeMap<String, BTreeSet<bool>> =
        alerts.keys().map(|name| (name.clone(), BTreeSet::from([false, true]))).collect();
    assert_eq!(tested, both);

    let index = read("docs/runbooks/README.md");
    let rows = index.lines().filter_map(|line| line.strip_prefix("| [")?.split_once(']'));
    let listed: BTreeMap<&str, &str> =
        rows.map(|(name, rest)| (name, rest.split('|').nth(1).unwrap().trim())).collect();
    let expected: BTreeSet<&str> = alerts.keys().map(String::as_str).collect();
    assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), expected);
    for (name, severities) in &alerts {
        for severity in severities {
            assert!(listed[name.as_str()].contains(severity.as_str()), "{name} is {severity} too");
        }
        let runbook = read(&format!("docs/runbooks/{name}.md"));
        let headings: Vec<&str> = runbook.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {name}");
        assert_eq!(headings, [&title, "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]);
    }
    let files = fs::read_dir(path("docs/runbooks")).unwrap().count();
    assert_eq!(files, alerts.len() + 1, "a runbook for each alert, and their list");
    for rule in rules().iter().filter(|rule| rule["alert"].is_string()) {
        let runbook = format!("docs/runbooks/{}.md", string(&rule["alert"]));
        assert_eq!(rule["annotations"]["runbook"], json!(runbook));
    }
}

/// Selectors of our own metrics in a text: name, and what stands between the braces.
fn selectors(text: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("promsidecar_").filter(|(at, _)| !text[..*at].ends_with(is_name));
    let selector = |(at, _)| {
        let (name, rest) = text[at..].split_at(text[at..].find(|c| !is_name(c)).unwrap_or(text.len() - at));
        let matchers =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inner, _)| inner);
        (name, matchers)
    };
    starts.map(selector).collect()
}

#[test]
fn rules_panels_and_runbooks_name_metrics_and_labels_that_are_exposed() {
    let exposed = exposed().map(|(_, text)| text).concat();
    let series: BTreeSet<&str> = exposed
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut texts: Vec<String> = rules().iter().map(|rule| string(&rule["expr"]).to_owned()).collect();
    texts.extend(panels().into_iter().map(|(_, expression)| expression));
    texts.extend(alerts().keys().map(|name| read(&format!("docs/runbooks/{name}.md"))));
    let mut used = BTreeSet::new();
    for text in &texts {
        for (name, matchers) in selectors(text) {
            assert!(series.contains(name), "{name} is not exposed: {text}");
            used.insert(name);
            for matcher in matchers.split(", ").filter(|matcher| !matcher.is_empty()) {
                let (label, values) = matcher.split_once(['=', '!']).unwrap();
                for value in values.trim_start_matches(['=', '~']).trim_matches('"').split('|') {
                    let mut lines = exposed.lines().filter(|line| line.starts_with(name));
                    let pair = format!("{label}=\"{value}\"");
                    assert!(lines.any(|line| line.contains(&pair)), "{name} never has {pair}: {text}");
                }
            }
        }
    }
    assert!(used.len() > 12, "{used:?}");
}

#[test]
fn the_rule_of_prometheus_operator_is_the_file_of_rules() {
    let mut labels = serde_json::Map::new();
    labels.insert("app.kubernetes.io/name".to_owned(), json!("promsidecar"));
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "promsidecar", "namespace": kustomize::OWN_NAMESPACE, "labels": labels},
        "spec": document("observability/alerts.yaml"),
    });
    let text = format!("# alerts.yaml for prometheus-operator; `make golden` writes it.\n{}", yaml(&object));
    let mut wrong = Vec::new();
    compare(&path("observability/prometheusrule.yaml"), Some(&text), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn what_is_applied_finds_the_services_and_keeps_clear_of_the_policy() {
    let objects = build(&path("observability"));
    let identities: Vec<String> = objects.iter().map(identity).collect();
    assert_eq!(
        identities.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from([
            "ConfigMap/promsidecar-system/dashboard-promsidecar",
            "PrometheusRule/promsidecar-system/promsidecar",
            "ServiceMonitor/promsidecar-system/promsidecar-controller",
            "ServiceMonitor/promsidecar-system/promsidecar-webhook",
        ]),
        "nobody but the controller may write a ConfigMap named promsidecar-…"
    );
    let dashboard = find(&objects, "ConfigMap", "dashboard-promsidecar");
    assert_eq!(dashboard["data"]["promsidecar.json"], json!(read("observability/dashboard.json")));

    let installed = build(&folder("base"));
    for component in ["webhook", "controller"] {
        let monitor = find(&objects, "ServiceMonitor", &format!("promsidecar-{component}"));
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let port = &monitor["spec"]["endpoints"][0]["port"];
        let scraped: Vec<&str> = of_kind(&installed, "Service")
            .into_iter()
            .filter(|service| {
                wanted.iter().all(|(key, value)| service["metadata"]["labels"].get(key) == Some(value))
            })
            .filter(|service| list(&service["spec"]["ports"]).iter().any(|its| its["name"] == *port))
            .map(|service| string(&service["metadata"]["name"]))
            .collect();
        assert_eq!(scraped, [format!("promsidecar-{component}-metrics")]);
    }
}

/// A family of an exposition: its type, help, and the values of each label.
#[derive(Default)]
struct Family<'a> {
    kind: &'a str,
    help: &'a str,
    labels: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

/// The families of an exposition, by the name that is queried.
fn families(text: &str) -> BTreeMap<String, Family<'_>> {
    let mut families: BTreeMap<String, Family<'_>> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut last);
            families.entry(last.clone()).or_default().help = help.trim_end_matches('.');
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.get_mut(&last).unwrap().kind = kind;
        } else if let Some((labels, _)) = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
            let family = families.get_mut(&last).unwrap();
            for (label, value) in labels.split(',').filter_map(|pair| pair.split_once('=')) {
                family.labels.entry(label).or_default().insert(value.trim_matches('"'));
            }
        }
    }
    families
        .into_iter()
        .map(|(name, family)| match family.kind {
            "counter" => (format!("{name}_total"), family),
            "info" => (format!("{name}_info"), family),
            _ => (name, family),
        })
        .collect()
}

#[test]
fn the_document_lists_every_metric() {
    let mut text = "# Metrics\n\n\
        Webhook and controller expose these at `/metrics` of their admin port (8081 in the manifests); `promsidecar run` both, each\n\
        family once. Labels have the values that stand here and no others: no names of pods, namespaces or templates.\n\
        Alerts, a dashboard and what lets prometheus-operator scrape them are in [observability](../observability/alerts.yaml);\n\
        each alert has a [runbook](runbooks/README.md).\n"
        .to_owned();
    for (component, exposition) in exposed() {
        writeln!(
            text,
            "\n## The {component}\n\n| metric | type | labels | what it says |\n| --- | --- | --- | --- |"
        )
        .unwrap();
        for (name, family) in families(&exposition) {
            let mut labels: Vec<String> = Vec::new();
            for (label, values) in &family.labels {
                let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
                labels.push(match *label {
                    "le" => continue,
                    "version" => "`version`".to_owned(),
                    "source" => "`source`: what is followed".to_owned(),
                    _ => format!("`{label}`: {}", values.join(", ")),
                });
            }
            writeln!(text, "| `{name}` | {} | {} | {} |", family.kind, labels.join("; "), family.help)
                .unwrap();
        }
    }
    let mut wrong = Vec::new();
    compare(&path("docs/metrics.md"), Some(&text), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.concat());
}
