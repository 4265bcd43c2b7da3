//! Monitors that are large, malformed or hostile, by kind: what is refused names the field, what is rendered stays inside its
//! pod and does not touch the pod's identity, and no monitor costs another.

mod support;

use std::collections::BTreeSet;

use promsidecar::monitors::selection::Selection;
use promsidecar::names;
use promsidecar::template::render;
use serde_json::{Value, json};
use support::contract::is_line;
use support::monitors::compare::{agent_of, monitors_of};
use support::monitors::objects::{agent, monitor};
use support::monitors::pods::Facts;
use support::monitors::series::{beside, follow};

fn template() -> Value {
    agent(json!({"podMonitorSelector": {}, "remoteWrite": [{"url": "https://receiver.example/"}]}))
}

fn one(endpoints: &Value) -> Value {
    json!({"selector": {}, "podMetricsEndpoints": endpoints})
}

/// A monitor beside a good one.
fn select(spec: Value) -> (Selection, String) {
    let agent = agent_of(&template());
    let good = monitor("shop", "good", json!({}), one(&json!([{"port": "web"}])));
    let selection = monitors_of(&[good, monitor("shop", "m", json!({}), spec)]).select(&agent, "shop");
    assert!(
        selection.taken.iter().any(|taken| taken.monitor.id.name == "good"),
        "the good one is used all the same"
    );
    let config = render::render(&agent, "shop", &selection);
    (selection, config)
}

/// Paths of what is wrong, each told in a line of bounded length.
fn violations(spec: Value) -> Vec<String> {
    let (selection, _) = select(spec);
    for note in selection.notes() {
        assert!(is_line(&note) && note.len() < 1500, "{note:?}");
    }
    let rejected = selection.rejected.iter().flat_map(|rejected| &rejected.violations);
    rejected.map(|violation| violation.path.clone()).collect()
}

#[test]
fn a_monitor_with_a_thousand_endpoints_is_rendered_as_a_whole_or_named_as_too_large() {
    let endpoints = |count: u32, path: &str| -> Vec<Value> {
        (1..=count).map(|number| json!({"portNumber": number, "path": format!("{path}{number}")})).collect()
    };
    // Each of a thousand jobs has a kilobyte of rules.
    assert_eq!(violations(one(&json!(endpoints(1000, "/")))), ["spec.podMetricsEndpoints"]);
    let (selection, config) = select(one(&json!(endpoints(300, "/"))));
    assert_eq!((selection.jobs.len(), selection.rejected.len()), (301, 0));
    assert!(config.len() < render::MAX_BYTES);
    // A thousand mistakes are told, a line each, and none hides another.
    let wrong: Vec<_> = (0..1000).map(|_| json!({"interval": "soon"})).collect();
    let found: BTreeSet<_> = violations(one(&json!(wrong))).into_iter().collect();
    assert_eq!(found.len(), 1000);
    assert!(found.contains("spec.podMetricsEndpoints[999].interval"));
}

#[test]
fn malformed_durations_are_named() {
    for text in [
        "5",
        "1.5s",
        "-1s",
        "1s1h",
        "1 s",
        "1h30",
        "s",
        "soon",
        "٣s",
        "1S",
        "1ns",
        "99999999999999999999s",
        "584542047y",
        "+1s",
        "1s\n",
    ] {
        for key in ["interval", "scrapeTimeout"] {
            let mut endpoint = json!({});
            endpoint[key] = json!(text);
            let path = format!("spec.podMetricsEndpoints[0].{key}");
            assert_eq!(violations(one(&json!([endpoint]))), [path], "{text:?}");
        }
    }
    let longer = json!([{"interval": "10s", "scrapeTimeout": "11s"}]);
    assert_eq!(violations(one(&longer)), ["spec.podMetricsEndpoints[0].scrapeTimeout"]);
}

#[test]
fn values_that_no_list_has_are_named() {
    let expression = json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]});
    for (key, value, path) in [
        ("selectorMechanism", json!("Magic"), "selectorMechanism"),
        ("scrapeProtocols", json!(["PrometheusProto", "Morse"]), "scrapeProtocols[1]"),
        ("fallbackScrapeProtocol", json!("Morse"), "fallbackScrapeProtocol"),
        ("scrapeClass", json!("nobles"), "scrapeClass"),
        ("selector", expression, "selector.matchExpressions[0].operator"),
    ] {
        let mut spec = one(&json!([{}]));
        spec[key] = value;
        assert_eq!(violations(spec), [format!("spec.{path}")]);
    }
    let rule = json!([{"action": "teleport"}]);
    for (key, value, path) in [
        ("scheme", json!("gopher"), "scheme"),
        ("relabelings", rule.clone(), "relabelings[0].action"),
        ("metricRelabelings", rule, "metricRelabelings[0].action"),
        ("tlsConfig", json!({"minVersion": "TLS99"}), "tlsConfig.minVersion"),
        ("tlsConfig", json!({"maxVersion": "SSL3"}), "tlsConfig.maxVersion"),
    ] {
        let mut endpoint = json!({});
        endpoint[key] = value;
        assert_eq!(violations(one(&json!([endpoint]))), [format!("spec.podMetricsEndpoints[0].{path}")]);
    }
}

#[test]
fn relabelings_that_obviously_leave_the_pod_or_touch_reserved_labels_are_named() {
    let address = |replacement: &str| json!({"targetLabel": "__address__", "replacement": replacement});
    let scheme = |replacement: &str| json!({"targetLabel": "__scheme__", "replacement": replacement});
    for (rule, field) in [
        (address("blackbox:9115"), "replacement"),
        (address("10.0.0.1:$1"), "replacement"),
        (address("localhost.evil.example:80"), "replacement"),
        (address("evil.example/${1}"), "replacement"),
        (json!({"targetLabel": "__address__", "replacement": "a:1", "action": "Replace"}), "replacement"),
        (scheme("http://evil.example/?x="), "replacement"),
        (scheme("http://$1/?x="), "replacement"),
        (scheme("ftp"), "replacement"),
        (json!({"targetLabel": "__promsidecar_pod_name", "replacement": "victim"}), "targetLabel"),
        (
            json!({"sourceLabels": ["a"], "targetLabel": "__promsidecar_", "action": "Lowercase"}),
            "targetLabel",
        ),
        (
            json!({"sourceLabels": ["a"], "modulus": 2, "targetLabel": "__promsidecar_x", "action": "HashMod"}),
            "targetLabel",
        ),
    ] {
        let path = format!("spec.podMetricsEndpoints[0].relabelings[0].{field}");
        assert_eq!(violations(one(&json!([{"relabelings": [rule]}]))), [path], "{rule}");
    }
    let proxies = json!([{"proxyUrl": "http://evil.example:3128"}]);
    assert_eq!(violations(one(&proxies)), ["spec.podMetricsEndpoints[0].proxyUrl"]);
}

#[test]
fn relabelings_that_try_by_stealth_reach_nothing_outside_and_forge_nobody() {
    let annotations = json!({
        "sidecar.prometheus.io/inject": "true", "host": "evil.example", "address": "evil.example:80", "promsidecar_pod_name": "victim",
        "scheme": "http://evil.example/?x=", "metrics_path": "@evil.example/", "param_x": "@evil.example/",
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "labels": {"app": "web"}, "annotations": annotations},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080}]}]}});
    let from = |annotation: &str, target: &str| json!({"sourceLabels": [format!("__meta_kubernetes_pod_annotation_{annotation}")], "targetLabel": target});
    let map = |replacement: &str| json!({"action": "labelmap", "regex": "__meta_kubernetes_pod_annotation_(.+)", "replacement": replacement});
    let label = |name: &str, value: &str| json!({"targetLabel": name, "replacement": value});
    let rename = |to: &str| json!({"action": "labelmap", "regex": "tmp", "replacement": to});
    let mut kept = 0;
    for (targets, series) in [
        (json!([from("address", "__address__")]), json!([])),
        (json!([from("host", "__address__")]), json!([])),
        (json!([map("__${1}__")]), json!([])),
        (
            json!([{"sourceLabels": ["__meta_kubernetes_pod_annotation_host", "__address__"], "separator": ":",
            "regex": "([^:]+):.*:(.+)", "replacement": "$1:$2", "targetLabel": "__address__"}]),
            json!([]),
        ),
        (
            json!([{"sourceLabels": ["__address__"], "regex": "(.+)", "replacement": "${1}@evil.example", "targetLabel": "__address__"}]),
            json!([]),
        ),
        (json!([map("__$1")]), json!([])),
        // Prometheus writes the scheme unescaped, and escapes path and parameters.
        (json!([from("scheme", "__scheme__")]), json!([])),
        (json!([label("tmp", "http://evil.example/?x="), rename("__scheme__")]), json!([])),
        (json!([from("metrics_path", "__metrics_path__")]), json!([])),
        (json!([label("__metrics_path__", "//evil.example/")]), json!([])),
        (json!([from("param_x", "__param_x"), label("__param_&y", "@evil.example")]), json!([])),
        (json!([label("__param_@evil.example/", "?#")]), json!([])),
        (json!([]), json!([label("tmp", "victim"), rename("__promsidecar_pod_name")])),
        (json!([]), json!([{"targetLabel": "tmp_${1}", "replacement": "a"}])),
    ] {
        let spec = one(&json!([{"relabelings": targets, "metricRelabelings": series}]));
        let monitors = [monitor("shop", "m", json!({}), spec)];
        let agent = agent_of(&template());
        let selection = monitors_of(&monitors).select(&agent, "shop");
        assert_eq!(selection.rejected, [], "{targets} {series}");
        let config = render::render(&agent, "shop", &selection);
        let documents = [template().to_string(), monitors[0].to_string()].join("\n");
        let facts = Facts::of(&pod, "10.0.0.7", "uid".to_owned());
        let around = beside(&pod, "shop", &support::catalog(&documents), &facts).expect("it gets an agent");
        for target in follow(&config, &around).targets.into_iter().filter(|target| target.labels.is_some()) {
            kept += 1;
            let url = target.url.unwrap_or_default();
            assert!(
                url.starts_with("http://localhost:8080/") || url.starts_with("http://localhost/"),
                "{targets}: {url}"
            );
            for sent in target.series.iter().flat_map(|series| series.sent.iter().flatten()) {
                assert!(!sent.keys().any(|name| name.starts_with(names::INTERNAL_LABEL_PREFIX)), "{sent:?}");
                let pod = (sent["pod"].as_str(), sent.get("exported_pod").map(String::as_str));
                assert!(["web-0"].contains(&pod.0), "{targets} {series}: {sent:?}");
            }
        }
    }
    assert!(kept >= 7, "{kept}");
}

#[test]
fn references_to_what_is_absent_cost_neither_the_monitor_nor_the_pod() {
    let absent = |key: &str| json!({"name": "absent", "key": key});
    let endpoint = json!({
        "basicAuth": {"username": absent("user"), "password": absent("password")},
        "tlsConfig": {"ca": {"configMap": absent("ca")}, "cert": {"secret": absent("crt")}, "keySecret": absent("key")},
    });
    let (selection, _) = select(one(&json!([endpoint])));
    assert_eq!((selection.rejected.len(), selection.taken.len()), (0, 2));
    let files: Vec<_> = selection.files.iter().map(|file| (file.path(), file.essential)).collect();
    let expected = [
        "secrets/absent/crt",
        "secrets/absent/key",
        "secrets/absent/password",
        "secrets/absent/user",
        "configmaps/absent/ca",
    ];
    assert_eq!(files, expected.map(|path| (format!("monitors/{path}"), false)));
    // A reference to nothing is a mistake.
    for (reference, field) in [
        (json!({"name": "", "key": "k"}), "name"),
        (json!({"name": "s"}), "key"),
        (json!({"name": "../s", "key": "k"}), "name"),
        (json!({"name": "s", "key": "../k"}), "key"),
    ] {
        let endpoint = json!({"authorization": {"credentials": reference}});
        let path = format!("spec.podMetricsEndpoints[0].authorization.credentials.{field}");
        assert_eq!(violations(one(&json!([endpoint]))), [path], "{reference}");
    }
}
