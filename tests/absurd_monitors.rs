//! Monitors with values of the wrong kind and with text that nobody would write: refused with the place, in short lines, or
//! rendered as what they are, so that Prometheus' own parser takes the whole file.

mod support;

use std::collections::BTreeMap;

use promsidecar::monitors::selection::Selection;
use promsidecar::names;
use promsidecar::template::render;
use promsidecar::template::violation::Violation;
use serde_json::{Value, json};
use support::contract::is_line;
use support::monitors::compare::{agent_of, monitors_of};
use support::monitors::objects::{agent, config_map, monitor, secret};
use support::oracle::{self, Surroundings};
use support::template::{all_places, with};

/// A valid monitor with every field that one may state.
fn full() -> Value {
    let relabelings = json!([
        {"sourceLabels": ["a"], "separator": ";", "regex": "b", "targetLabel": "c", "replacement": "$1", "action": "replace"},
        {"sourceLabels": ["a"], "targetLabel": "b", "modulus": 8, "action": "HashMod"},
    ]);
    let tls = json!({
        "ca": {"configMap": config_map("ca.crt")}, "cert": {"secret": secret("tls.crt")}, "keySecret": secret("tls.key"),
        "serverName": "a", "insecureSkipVerify": false, "minVersion": "TLS12", "maxVersion": "TLS13",
    });
    let oauth2 = json!({
        "clientId": {"secret": secret("id")}, "clientSecret": secret("secret"), "tokenUrl": "https://login.example/",
        "scopes": ["a"], "endpointParams": {"client_id": "a", "audience": "b"}, "tlsConfig": tls,
    });
    let endpoints = json!([
            {
                "port": "a", "portNumber": 1, "targetPort": "b", "path": "/a", "scheme": "http",
                "params": {"a": ["b"]}, "interval": "10s", "scrapeTimeout": "5s", "honorLabels": true,
                "honorTimestamps": true, "trackTimestampsStaleness": true, "metricRelabelings": relabelings,
                "relabelings": relabelings, "filterRunning": true, "followRedirects": true, "enableHttp2": true,
                "authorization": {"type": "Bearer", "credentials": secret("token")}, "tlsConfig": tls,
                "proxyFromEnvironment": false,
            },
            {"basicAuth": {"username": secret("user"), "password": secret("password")}},
            {"bearerTokenSecret": secret("token")},
            {"oauth2": oauth2},
    ]);
    json!({
        "jobLabel": "app", "podTargetLabels": ["team"], "selectorMechanism": "RelabelConfig", "sampleLimit": 1,
        "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]},
        "namespaceSelector": {"any": true, "matchNames": ["shop"]}, "targetLimit": 2, "labelLimit": 3,
        "scrapeProtocols": ["PrometheusProto"], "fallbackScrapeProtocol": "PrometheusText0.0.4",
        "labelNameLengthLimit": 4, "labelValueLengthLimit": 5, "scrapeNativeHistograms": true,
        "scrapeClassicHistograms": true, "nativeHistogramBucketLimit": 6, "nativeHistogramMinBucketFactor": "1.1",
        "convertClassicHistogramsToNHCB": true, "keepDroppedTargets": 7, "attachMetadata": {"node": false},
        "bodySizeLimit": "1MB", "scrapeClass": "plain",
        "podMetricsEndpoints": endpoints,
    })
}

fn select(spec: Value, template: &Value) -> (Selection, String) {
    let agent = agent_of(template);
    let selection = monitors_of(&[monitor("shop", "m", json!({}), spec)]).select(&agent, "shop");
    let config = render::render(&agent, "shop", &selection);
    (selection, config)
}

fn violations(selection: &Selection) -> &[Violation] {
    selection.rejected.first().map_or(&[], |rejected| &rejected.violations)
}

fn template() -> Value {
    agent(json!({"podMonitorSelector": {}, "version": "v3.13.5", "scrapeClasses": [{"name": "plain"}]}))
}

#[test]
fn a_value_of_the_wrong_kind_anywhere_rejects_the_monitor_and_names_its_place() {
    let (template, full) = (template(), full());
    let (selection, _) = select(full.clone(), &template);
    assert_eq!((selection.rejected, selection.taken.len(), selection.jobs.len()), (Vec::new(), 1, 4));
    let kinds =
        [json!(true), json!(-7), json!(1.5), json!("true"), json!(["7"]), json!([{}]), json!({"x": 1})];
    let kind = |value: &Value| std::mem::discriminant(value);
    let mut tried = 0;
    for (pointer, path) in all_places(&full) {
        let old = full.pointer(&pointer).expect("it was found");
        // A port is a number or a name, a factor a number or text.
        let either = pointer.ends_with("/targetPort") || pointer.ends_with("Factor");
        let is_other =
            |new: &&Value| kind(old) != kind(new) && !(either && (new.is_number() || new.is_string()));
        for wrong in kinds.iter().filter(is_other) {
            let (selection, _) = select(with(&full, &pointer, wrong.clone()), &template);
            let named = violations(&selection).iter().any(|violation| violation.path == path.as_str());
            assert!(named, "{path} takes {wrong}: {:?}", violations(&selection));
            tried += 1;
        }
        // No value is none: never a panic, and often still a monitor.
        select(with(&full, &pointer, Value::Null), &template);
    }
    println!("{tried} values of wrong kinds");
    assert!(tried > 700, "{tried}");
}

#[test]
fn absurd_text_is_refused_in_short_lines_or_prometheus_takes_the_configuration() {
    let texts = [
        "",
        " ",
        "\0",
        "a\nb",
        "\u{202e}x",
        "\u{2028}",
        "$(POD_NAME)",
        "${HOME}",
        "$",
        "$1",
        "{{x}}",
        "\"}]",
        "- a: b",
        "a: &b [*b]",
        "true",
        "null",
        "~",
        "08",
        "1e3",
        "0x1f",
        "9999999999999999999999",
        "-1",
        "0",
        "NaN",
        ".inf",
        "0s",
        "584542047y",
        "1.5h",
        "(",
        "(?<x>a)",
        "(?P<x>a)",
        "a{99999}",
        "*",
        "a|b",
        ".*",
        "!!int 1",
        "#",
        "%zz",
        "a.b",
        "é",
        "__address__",
        "__name__",
        "__promsidecar_x",
        "../../etc/passwd",
        "localhost:80",
        "http://[::1",
    ];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for scheme in ["UTF8", "Legacy"] {
        let mut template = template();
        template["spec"]["nameValidationScheme"] = json!(scheme);
        let full = full();
        let places = all_places(&full);
        for (pointer, _) in
            places.iter().filter(|(pointer, _)| full.pointer(pointer).is_some_and(Value::is_string))
        {
            for text in texts.iter().map(|text| (*text).to_owned()).chain(["x".repeat(20_000)]) {
                let (selection, config) = select(with(&full, pointer, json!(text)), &template);
                for line in violations(&selection).iter().map(ToString::to_string).chain(selection.notes()) {
                    assert!(is_line(&line) && line.len() < 1500, "{pointer}: {line:?}");
                }
                if selection.jobs.is_empty() {
                    assert!(!selection.rejected.is_empty(), "{pointer}: {text:?}");
                    *counts.entry("refused").or_default() += 1;
                    continue;
                }
                let files = [(names::TARGETS_GLOB.to_owned(), "[]".to_owned())].into();
                let around = Surroundings { files, ..Surroundings::default() };
                let read = oracle::labels(&config, &around);
                assert!(read.is_ok(), "{scheme} {pointer}: {text:?}: {:?}", read.err());
                *counts.entry("rendered").or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    assert!(counts["refused"] > 1000 && counts["rendered"] > 500, "{counts:?}");
}
