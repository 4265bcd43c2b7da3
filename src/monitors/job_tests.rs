//! One `PodMonitor` at a time, judged for an agent.

use super::{PodMonitor, check};
use crate::template::agent::Agent;
use crate::template::{Settings, Template, validate};
use serde_json::{Value, json};

fn agent(spec: Value) -> Agent {
    let mut object = json!({"apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
        "metadata": {"name": "agent", "namespace": "shop"}});
    object["spec"] = spec;
    let settings = Settings::default();
    validate::validate(&Template::read(&object, &settings).unwrap(), &settings).unwrap()
}

fn monitor(spec: Value) -> PodMonitor {
    let mut object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
        "metadata": {"name": "web", "namespace": "shop"}});
    object["spec"] = spec;
    PodMonitor::read(&object).unwrap()
}

fn violations(endpoint: &Value) -> Vec<String> {
    let spec = json!({"selector": {}, "podMetricsEndpoints": [endpoint]});
    let judged = check(&agent(json!({})), &monitor(spec));
    let paths = |list: Vec<crate::template::violation::Violation>| {
        list.into_iter().map(|violation| violation.path).collect()
    };
    judged.map_or_else(paths, |_| Vec::new())
}

#[test]
fn everything_wrong_with_a_monitor_is_said_at_once() {
    let spec = json!({
        "selectorMechanism": "Magic", "scrapeClass": "tls", "podTargetLabels": [""], "bodySizeLimit": "1",
        "fallbackScrapeProtocol": "Text", "nativeHistogramMinBucketFactor": "x", "jobLabel": "a\nb",
        "podMetricsEndpoints": [
            {"interval": "10s", "scrapeTimeout": "1m", "port": "(", "proxyUrl": "http://proxy:3128"},
            {"authorization": {"credentials": {"name": "s", "key": "k"}}, "basicAuth": {}},
            {"relabelings": [{"targetLabel": "__address__", "replacement": "blackbox:9115"}]},
        ],
    });
    let violations = check(&agent(json!({})), &monitor(spec)).unwrap_err();
    let paths: Vec<_> = violations.iter().map(|violation| &*violation.path).collect();
    let expected = [
        "spec.bodySizeLimit",
        "spec.fallbackScrapeProtocol",
        "spec.jobLabel",
        "spec.nativeHistogramMinBucketFactor",
        "spec.podMetricsEndpoints[0].port",
        "spec.podMetricsEndpoints[0].proxyUrl",
        "spec.podMetricsEndpoints[0].scrapeTimeout",
        "spec.podMetricsEndpoints[1].basicAuth",
        "spec.podMetricsEndpoints[1].basicAuth.password",
        "spec.podMetricsEndpoints[1].basicAuth.username",
        "spec.podMetricsEndpoints[2].relabelings[0].replacement",
        "spec.podTargetLabels[0]",
        "spec.scrapeClass",
        "spec.selector",
        "spec.selectorMechanism",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn fields_of_an_endpoint_are_judged_one_by_one() {
    let endpoint = "spec.podMetricsEndpoints[0]";
    for (value, path) in [
        (json!({"portNumber": 0}), ".portNumber"),
        (json!({"portNumber": 70000}), ".portNumber"),
        (json!({"targetPort": "["}), ".targetPort"),
        (json!({"scheme": "ftp"}), ".scheme"),
        (json!({"scrapeTimeout": "31s"}), ".scrapeTimeout"),
        (json!({"interval": "soon"}), ".interval"),
        (json!({"noProxy": "a"}), ".proxyUrl"),
        (json!({"proxyConnectHeader": {"a": [{"name": "b", "key": "c"}]}}), ".proxyConnectHeader"),
        (json!({"bearerTokenSecret": {"name": "a"}}), ".bearerTokenSecret.key"),
        (json!({"relabelings": [{"regex": "("}]}), ".relabelings[0].regex"),
        (json!({"metricRelabelings": [{"action": "x"}]}), ".metricRelabelings[0].action"),
    ] {
        let found = violations(&value);
        assert!(found.contains(&format!("{endpoint}{path}")), "{value}: {found:?}");
    }
    for good in [
        json!({}),
        json!({"scheme": "HTTPS", "interval": "1h", "scrapeTimeout": "1h", "port": "a|b"}),
        json!({"proxyFromEnvironment": true, "bearerTokenSecret": {"key": ""}}),
    ] {
        assert_eq!(violations(&good), [""; 0], "{good}");
    }
}

#[test]
fn files_are_named_once_and_none_is_essential() {
    let selector = |key: &str| json!({"name": "scrape", "key": key});
    let endpoint = json!({
        "basicAuth": {"username": selector("user"), "password": selector("password")},
        "tlsConfig": {"ca": {"configMap": selector("ca.crt")}},
    });
    let spec = json!({"selector": {}, "podMetricsEndpoints": [endpoint, endpoint]});
    let checked = check(&agent(json!({})), &monitor(spec)).unwrap();
    let files: Vec<_> = checked.files.iter().map(|file| (file.path(), file.essential)).collect();
    let expected = [
        "monitors/secrets/scrape/password",
        "monitors/secrets/scrape/user",
        "monitors/configmaps/scrape/ca.crt",
    ];
    assert_eq!(files, expected.map(|path| (path.to_owned(), false)));
    assert_eq!(checked.references.len(), 4);
}

#[test]
fn what_looks_into_values_of_run_time_is_a_warning() {
    let endpoint = json!({
        "relabelings": [
            {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"},
            {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "regex": "node-1", "action": "keep"},
        ],
        "metricRelabelings": [{"sourceLabels": ["pod"], "regex": "web-(.+)", "targetLabel": "shard"}],
    });
    let spec = json!({"selector": {}, "podMetricsEndpoints": [endpoint]});
    let checked = check(&agent(json!({})), &monitor(spec)).unwrap();
    let warnings: Vec<_> = checked.warnings.iter().map(|warning| &*warning.path).collect();
    let expected =
        ["spec.podMetricsEndpoints[0].metricRelabelings[0]", "spec.podMetricsEndpoints[0].relabelings[1]"];
    assert_eq!(warnings, expected);
}
