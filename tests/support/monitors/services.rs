//! Services and `ServiceMonitor`s from a seed: of the monitors, what both kinds share is that of generated `PodMonitor`s.

use serde_json::{Map, Value, json};

use super::generate::{Dice, cluster, put};
use super::objects::{NAMESPACES, service};

/// A template, its `ServiceMonitor`s, and the Services of every namespace.
pub(crate) struct Cluster {
    pub(crate) template: Value,
    pub(crate) monitors: Vec<Value>,
    pub(crate) services: Vec<Value>,
}

impl Cluster {
    /// The address of each of its pods.
    pub(crate) fn address(&self) -> &'static str {
        let is_ipv6 = self.services.iter().any(|service| service["spec"]["ipFamilies"] == json!(["IPv6"]));
        if is_ipv6 { "fd00::7" } else { "10.0.0.7" }
    }

    /// Names of the Services of a namespace that have no address.
    pub(crate) fn headless(&self, namespace: &str) -> Vec<&str> {
        let services = self.services.iter().filter(|service| {
            service["metadata"]["namespace"] == namespace && service["spec"]["clusterIP"] == "None"
        });
        services.filter_map(|service| service["metadata"]["name"].as_str()).collect()
    }

    /// Makes it one of IPv6.
    pub(crate) fn use_ipv6(&mut self) {
        for service in &mut self.services {
            let spec = &mut service["spec"];
            spec["ipFamilies"] = json!(["IPv6"]);
            if spec["clusterIP"] == "10.96.0.7" {
                spec["clusterIP"] = json!("fd00:10::7");
            }
        }
    }
}

/// Makes a monitor choose what discovery lists, and by a label that controllers of endpoints write.
pub(crate) fn select_by_discovery(monitor: &mut Value) {
    let headless = json!([{"key": "service.kubernetes.io/headless", "operator": "DoesNotExist"}]);
    monitor["spec"]["selectorMechanism"] = json!("RoleSelector");
    monitor["spec"]["selector"] = json!({"matchExpressions": headless});
}

/// A cluster.
pub(crate) fn with_services(dice: &mut Dice) -> Cluster {
    let (mut template, mut monitors) = cluster(dice);
    let spec = template["spec"].as_object_mut().expect("a spec is an object");
    for kind in ["Selector", "NamespaceSelector"] {
        if let Some(selector) = spec.remove(&format!("podMonitor{kind}")) {
            spec.insert(format!("serviceMonitor{kind}"), selector);
        }
    }
    for excluded in
        spec.get_mut("excludedFromEnforcement").and_then(Value::as_array_mut).into_iter().flatten()
    {
        excluded["resource"] = json!("servicemonitors");
    }
    put(spec, dice, 3, "serviceDiscoveryRole", |dice| json!(dice.of(&["Endpoints", "EndpointSlice"])));
    for monitor in &mut monitors {
        monitor["kind"] = json!("ServiceMonitor");
        of_services(monitor["spec"].as_object_mut().expect("a spec is an object"), dice);
    }
    let services = NAMESPACES.iter().flat_map(|(namespace, _)| services(dice, namespace)).collect();
    Cluster { template, monitors, services }
}

/// Makes the spec of a `ServiceMonitor` from that of a `PodMonitor`.
fn of_services(spec: &mut Map<String, Value>, dice: &mut Dice) {
    let mut endpoints = spec.remove("podMetricsEndpoints").unwrap_or_default();
    for endpoint in endpoints.as_array_mut().into_iter().flatten() {
        let endpoint = endpoint.as_object_mut().expect("an endpoint is an object");
        endpoint.remove("portNumber");
        // A file in a container of the operator's.
        put(endpoint, dice, 25, "bearerTokenFile", |_| json!("/var/run/secrets/token"));
        if dice.one_in(3) {
            let rules = endpoint.entry("relabelings").or_insert_with(|| json!([]));
            let rule = serde_json::from_str(dice.of(RULES)).expect("a rule is JSON");
            rules.as_array_mut().expect("rules are a list").push(rule);
        }
    }
    spec.insert("endpoints".to_owned(), endpoints);
    put(spec, dice, 3, "targetLabels", |dice| json!(dice.of(&[&["team"][..], &["app", "a/b"]])));
    put(spec, dice, 4, "serviceDiscoveryRole", |dice| json!(dice.of(&["Endpoints", "EndpointSlice"])));
    // What is asked of pods elsewhere would leave few Services.
    if dice.flag() && spec["selector"]["matchExpressions"].as_array().is_none_or(|it| it.len() != 1) {
        spec.insert("selector".to_owned(), json!({}));
    }
}

const RULES: &[&str] = &[
    r#"{"sourceLabels": ["__meta_kubernetes_service_label_team"], "targetLabel": "service_team"}"#,
    r#"{"action": "labelmap", "regex": "__meta_kubernetes_service_(label|annotation)_(.+)", "replacement": "$1_$2"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpoint_port_name"], "targetLabel": "port"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpointslice_port_name", "__meta_kubernetes_endpointslice_port"], "targetLabel": "port"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpoint_ready"], "regex": "true|", "action": "keep"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpoint_address_target_name"], "targetLabel": "target"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpointslice_address_target_kind"], "targetLabel": "target_kind"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpoint_node_name"], "targetLabel": "node"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_service_annotation_price"], "targetLabel": "price"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_service_labelpresent_canary"], "regex": "true", "action": "drop"}"#,
    r#"{"sourceLabels": ["__tmp_prometheus_job_name"], "targetLabel": "job_name"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_endpointslice_endpoint_zone"], "targetLabel": "zone"}"#,
];

/// Services of one namespace; the last ones have endpoints that agents cannot know.
fn services(dice: &mut Dice, namespace: &str) -> Vec<Value> {
    let mut services: Vec<_> = (0..=dice.below(3))
        .map(|index| {
            let mut object = service(namespace, &format!("service{index}"), labels(dice), spec(dice));
            if dice.flag() {
                object["metadata"]["annotations"] = json!({"price": "$5", "note/x": "a\nb"});
            }
            object
        })
        .collect();
    if dice.one_in(4) {
        let mut without = spec(dice);
        without.as_object_mut().expect("a spec is an object").remove("selector");
        services.push(service(namespace, "foreign", labels(dice), without));
    }
    if dice.one_in(6) {
        let spec = json!({"type": "ExternalName", "externalName": "db.example"});
        services.push(service(namespace, "named", labels(dice), spec));
    }
    services
}

fn labels(dice: &mut Dice) -> Value {
    let mut labels = Map::new();
    put(&mut labels, dice, 1, "app", |dice| json!(dice.of(&["web", "web", "api.v1"])));
    // The last is what an expression `1.2` matches that nobody escaped.
    put(&mut labels, dice, 2, "app.kubernetes.io/version", |dice| {
        json!(dice.of(&["1.2", "1.2", "1.2", "1x2"]))
    });
    put(&mut labels, dice, 2, "app.kubernetes.io/name", |_| json!("web"));
    put(&mut labels, dice, 2, "team", |dice| json!(dice.of(&["shop", ""])));
    put(&mut labels, dice, 4, "canary", |_| json!("true"));
    put(&mut labels, dice, 2, "a/b", |_| json!("c"));
    put(&mut labels, dice, 2, "x", |_| json!(""));
    Value::Object(labels)
}

fn spec(dice: &mut Dice) -> Value {
    let selector = dice.of(&[
        json!({"app": "web"}),
        json!({"app": "web", "app.kubernetes.io/version": "1.2"}),
        json!({"tier": "live"}),
        json!({"app.kubernetes.io/name": "web"}),
    ]);
    let names = ["metrics", "web", "a", "b"];
    let count = 1 + dice.below(3);
    let ports: Vec<_> = (0..count)
        .map(|index| {
            let at = usize::try_from(index).expect("a few ports");
            let mut port = Map::new();
            port.insert("name".to_owned(), json!(names[at]));
            if count == 1 && dice.flag() {
                port.remove("name");
            }
            port.insert("port".to_owned(), json!(8080 + index));
            put(&mut port, dice, 1, "targetPort", |dice| {
                dice.of(&[
                    json!("metrics"),
                    json!("web"),
                    json!("a"),
                    json!(8080),
                    json!(9090),
                    json!(7777),
                    json!(8181),
                ])
            });
            if dice.one_in(5) {
                port.remove("targetPort");
            }
            put(&mut port, dice, 8, "protocol", |_| json!("UDP"));
            put(&mut port, dice, 4, "appProtocol", |_| json!("http"));
            Value::Object(port)
        })
        .collect();
    let address = if dice.one_in(3) { "None" } else { "10.96.0.7" };
    json!({"selector": selector, "ports": ports, "clusterIP": address, "ipFamilies": ["IPv4"]})
}
