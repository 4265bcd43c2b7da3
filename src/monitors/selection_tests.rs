//! Which monitors are taken, by whom they are about and by how much room there is.

use serde_json::{Value, json};

use super::{MOST_FILES, Monitors};
use crate::monitors::podmonitor::PodMonitor;
use crate::monitors::service::Service;
use crate::monitors::servicemonitor::ServiceMonitor;
use crate::template::agent::Agent;
use crate::template::{Settings, Template, validate};

/// A template of `team` that selects every monitor of every namespace.
fn agent() -> Agent {
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": "agent", "namespace": "team"},
        "spec": {
            "podMonitorSelector": {}, "podMonitorNamespaceSelector": {},
            "serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {},
        },
    });
    let settings = Settings::default();
    validate::validate(&Template::read(&object, &settings).unwrap(), &settings).unwrap()
}

fn monitors(specs: &[(&str, Value)]) -> Monitors {
    let mut monitors = Monitors::default();
    for (id, spec) in specs {
        let (namespace, name) = id.split_once('/').unwrap();
        let mut object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"selector": {}}});
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        monitors.insert(PodMonitor::read(&object).unwrap());
    }
    monitors
}

/// Names of those that are taken, rejected, and about others.
fn outcome(selection: &super::Selection) -> [Vec<String>; 3] {
    [
        selection.taken.iter().map(|taken| taken.monitor.id.to_string()).collect(),
        selection.rejected.iter().map(|rejected| rejected.monitor.id.to_string()).collect(),
        selection.elsewhere.iter().map(|monitor| monitor.id.to_string()).collect(),
    ]
}

fn named(names: [&[&str]; 3]) -> [Vec<String>; 3] {
    names.map(|names| names.iter().map(|&name| name.to_owned()).collect())
}

fn endpoint_with(secret: &str) -> Value {
    json!({"port": "web", "bearerTokenSecret": {"name": secret, "key": "token"}})
}

#[test]
fn what_strangers_take_of_the_room_is_not_taken_from_the_pods_own_namespace() {
    let large: Vec<Value> = (0..1000).map(|number| json!({"portNumber": number + 1})).collect();
    let small = json!({"podMetricsEndpoints": [{"port": "web"}]});
    let everywhere = json!({"any": true});
    let found = monitors(&[
        ("evil/large", json!({"podMetricsEndpoints": large, "namespaceSelector": everywhere})),
        ("evil/small", json!({"podMetricsEndpoints": [{"port": "web"}], "namespaceSelector": everywhere})),
        ("team/own", small),
    ])
    .select(&agent(), "team");
    assert_eq!(outcome(&found), named([&["evil/small", "team/own"], &["evil/large"], &[]]));
    let rejected = found.rejected[0].violations[0].to_string();
    assert!(rejected.contains("larger than a ConfigMap holds"), "{rejected}");
}

#[test]
fn a_pod_mounts_a_bounded_number_of_files_for_monitors() {
    let endpoints = |count: usize| -> Vec<Value> {
        (0..count).map(|number| endpoint_with(&format!("secret-{number}"))).collect()
    };
    let found = monitors(&[
        ("team/a", json!({"podMetricsEndpoints": endpoints(MOST_FILES)})),
        // The same ones once more.
        ("team/b", json!({"podMetricsEndpoints": endpoints(MOST_FILES)})),
        ("team/c", json!({"podMetricsEndpoints": endpoints(MOST_FILES + 1)})),
    ])
    .select(&agent(), "team");
    assert_eq!(outcome(&found), named([&["team/a", "team/b"], &["team/c"], &[]]));
    assert_eq!(found.files.len(), MOST_FILES);
    assert!(found.files.iter().all(|file| file.path().starts_with("monitors/secrets/secret-")));
}

#[test]
fn a_monitor_is_judged_for_the_pods_that_it_is_about() {
    let all = monitors(&[
        (
            "evil/into-team",
            json!({"podMetricsEndpoints": [{}], "namespaceSelector": {"matchNames": ["team"]}}),
        ),
        (
            "evil/with-secret",
            json!({"podMetricsEndpoints": [endpoint_with("s")], "namespaceSelector": {"matchNames": ["team"]}}),
        ),
        ("team/own", json!({"podMetricsEndpoints": [endpoint_with("s")]})),
    ]);
    let good: [&[&str]; 3] = [&["evil/into-team", "evil/with-secret", "team/own"], &[], &[]];
    assert_eq!(outcome(&all.select_everywhere(&agent())), named(good));
    let taken: [&[&str]; 3] = [&["evil/into-team", "team/own"], &["evil/with-secret"], &[]];
    assert_eq!(outcome(&all.select(&agent(), "team")), named(taken));
    let elsewhere: [&[&str]; 3] = [&[], &[], &["evil/into-team", "evil/with-secret", "team/own"]];
    assert_eq!(outcome(&all.select(&agent(), "evil")), named(elsewhere));
}

#[test]
fn hints_are_left_to_monitors_of_the_pods_own_namespace() {
    let everywhere = json!({"any": true});
    for (id, endpoint, leaves) in [
        ("team/own", json!({"port": "web"}), true),
        ("team/own", json!({}), true),
        ("evil/any", json!({"port": "web"}), false),
        ("evil/any", json!({}), false),
    ] {
        let spec = json!({"podMetricsEndpoints": [endpoint], "namespaceSelector": everywhere});
        let found = monitors(&[(id, spec)]).select(&agent(), "team");
        assert_eq!((found.taken.len(), !found.hinted.is_empty()), (1, leaves), "{id} {endpoint}");
    }
}

#[test]
fn what_pods_mount_is_the_same_whoever_knows_services_and_nothing_else_is_referred_to() {
    let endpoints = |first: usize, count: usize, long: usize| -> Vec<Value> {
        let rule = json!({"targetLabel": "a", "replacement": "x".repeat(long)});
        let endpoint = |number| {
            let mut endpoint = endpoint_with(&format!("secret-{number}"));
            endpoint["relabelings"] = json!([rule]);
            endpoint
        };
        (first..first + count).map(endpoint).collect()
    };
    let mut all = Monitors::default();
    // The first one's jobs do not fit in; without Services it has none.
    let specs = [
        ("a", endpoints(0, MOST_FILES - 1, 10_000)),
        ("b", endpoints(100, 2, 1)),
        ("c", endpoints(200, 1, 1)),
    ];
    for (name, endpoints) in specs {
        let object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
            "metadata": {"name": name, "namespace": "team"}, "spec": {"selector": {}, "endpoints": endpoints}});
        all.insert(ServiceMonitor::read(&object).unwrap());
    }
    let files = all.files(&agent(), "team");
    assert_eq!(files.len(), MOST_FILES);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "team"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80}]}});
    all.services_mut().insert(Service::read(&service).unwrap());
    assert_eq!(all.files(&agent(), "team"), files);
    let found = all.select(&agent(), "team");
    assert_eq!(outcome(&found), named([&["team/c"], &["team/a", "team/b"], &[]]));
    assert!(found.files.is_subset(&files));
}

#[test]
fn endpoints_by_services_that_no_config_map_holds_are_rejected_before_they_fill_the_memory() {
    let endpoints: Vec<Value> =
        (0..1000).map(|number| json!({"port": "web", "path": format!("/{number}")})).collect();
    let object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
        "metadata": {"name": "large", "namespace": "team"}, "spec": {"selector": {}, "endpoints": endpoints}});
    let mut all = Monitors::default();
    all.insert(ServiceMonitor::read(&object).unwrap());
    for number in 0..1000 {
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("web-{number}"), "namespace": "team"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80}]}});
        all.services_mut().insert(Service::read(&service).unwrap());
    }
    let found = all.select(&agent(), "team");
    assert_eq!(outcome(&found), named([&[], &["team/large"], &[]]));
}
