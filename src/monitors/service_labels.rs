//! Labels that discovery of endpoints would add to the targets of a pod. PURE.
//!
//! Input: a Service, one of its ports, and what relabelings look into. Output: relabelings that write those of them that
//! somebody looks into: all others end with relabeling.

use std::collections::BTreeSet;

use regex::Regex;

use super::selector::sanitise;
use super::service::{Port, Service, Target};
use crate::names::{NODE_NAME, POD_NAME};
use crate::template::prometheus::Relabel;

/// Kind of discovery whose names the labels have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `__meta_kubernetes_endpoint_*`
    Endpoints,
    /// `__meta_kubernetes_endpointslice_*`
    EndpointSlice,
}

impl Role {
    /// Upstream's default is the older one.
    pub(super) fn of(stated: Option<&str>) -> Self {
        if stated == Some("EndpointSlice") { Self::EndpointSlice } else { Self::Endpoints }
    }

    /// Label with the name of the Service's port.
    pub(super) const fn port_name(self) -> &'static str {
        match self {
            Self::Endpoints => "__meta_kubernetes_endpoint_port_name",
            Self::EndpointSlice => "__meta_kubernetes_endpointslice_port_name",
        }
    }

    /// Labels of an endpoint that are known of every pod that runs.
    fn endpoint(self, port: &Port) -> Vec<(&'static str, Value)> {
        let text = |text: &str| Value::Text(text.to_owned());
        match self {
            Self::Endpoints => vec![
                (self.port_name(), text(&port.name)),
                ("__meta_kubernetes_endpoint_port_protocol", text(&port.protocol)),
                ("__meta_kubernetes_endpoint_ready", text("true")),
                ("__meta_kubernetes_endpoint_address_target_kind", text("Pod")),
                ("__meta_kubernetes_endpoint_address_target_name", Value::Label(POD_NAME.meta_label)),
                ("__meta_kubernetes_endpoint_node_name", Value::Label(NODE_NAME.meta_label)),
            ],
            Self::EndpointSlice => vec![
                (self.port_name(), text(&port.name)),
                ("__meta_kubernetes_endpointslice_port_protocol", text(&port.protocol)),
                ("__meta_kubernetes_endpointslice_port", number(port)),
                (
                    "__meta_kubernetes_endpointslice_port_app_protocol",
                    text(port.app_protocol.as_deref().unwrap_or_default()),
                ),
                ("__meta_kubernetes_endpointslice_endpoint_conditions_ready", text("true")),
                ("__meta_kubernetes_endpointslice_endpoint_conditions_serving", text("true")),
                ("__meta_kubernetes_endpointslice_endpoint_conditions_terminating", text("false")),
                ("__meta_kubernetes_endpointslice_address_target_kind", text("Pod")),
                ("__meta_kubernetes_endpointslice_address_target_name", Value::Label(POD_NAME.meta_label)),
                ("__meta_kubernetes_endpointslice_endpoint_node_name", Value::Label(NODE_NAME.meta_label)),
            ],
        }
    }
}

fn number(port: &Port) -> Value {
    match &port.target {
        Target::Number(number) => Value::Text(number.to_string()),
        Target::Name(_) => Value::Label("__meta_kubernetes_pod_container_port_number"),
    }
}

/// A port, where it matters not which.
const ANY: Port =
    Port { name: String::new(), protocol: String::new(), app_protocol: None, target: Target::Number(1) };

/// What a label is written from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Label(&'static str),
}

/// Whether a label is one of those that discovery of endpoints adds and that is not known here.
pub(super) fn is_unknown(label: &str, role: Role) -> bool {
    let known = role.endpoint(&ANY).iter().any(|(known, _)| *known == label);
    let endpoints = role == Role::Endpoints && label == ENDPOINTS_NAME;
    let foreign = ["__meta_kubernetes_endpoint", "__meta_kubernetes_node_"];
    !known && !endpoints && foreign.iter().any(|prefix| label.starts_with(prefix))
}

const ENDPOINTS_NAME: &str = "__meta_kubernetes_endpoints_name";

/// Relabelings that write what is looked into. Without a port, the target is none of the Service's.
pub(super) fn constants(role: Role, service: &Service, port: Option<&Port>, looks: &Looks) -> Vec<Relabel> {
    let mut labels: Vec<(String, Value)> = Vec::new();
    let name = Value::Text(service.id.name.clone());
    labels.push(("__meta_kubernetes_service_name".to_owned(), name.clone()));
    for (what, pairs) in [("label", &service.labels), ("annotation", &service.annotations)] {
        for (key, value) in pairs {
            let key = sanitise(key);
            labels.push((format!("__meta_kubernetes_service_{what}_{key}"), Value::Text(value.clone())));
            let present = format!("__meta_kubernetes_service_{what}present_{key}");
            labels.push((present, Value::Text("true".to_owned())));
        }
    }
    if role == Role::Endpoints {
        labels.push((ENDPOINTS_NAME.to_owned(), name));
    }
    let endpoint = port.map(|port| role.endpoint(port)).unwrap_or_default();
    labels.extend(endpoint.into_iter().map(|(label, value)| (label.to_owned(), value)));
    let is_empty = |value: &Value| matches!(value, Value::Text(text) if text.is_empty());
    labels
        .into_iter()
        .filter(|(label, value)| !is_empty(value) && looks.see(label))
        .map(|(label, value)| match value {
            // What would be a group is written twice.
            Value::Text(text) => Relabel::set(&label, text.replace('$', "$$")),
            Value::Label(source) => Relabel::copy(source, &label),
        })
        .collect()
}

/// What relabelings can tell from one another, of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// Not even what is no endpoint of the Service.
    Nothing,
    /// Endpoints of the Service from other ports of the pod.
    Endpoints,
    /// Ports of the Service.
    Ports,
}

/// What relabelings look into.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks {
    labels: BTreeSet<String>,
    /// Expressions over names of labels; one that cannot be read here matches all.
    names: Vec<Option<Regex>>,
}

impl PartialEq for Looks {
    fn eq(&self, other: &Self) -> bool {
        let text = |looks: &Self| -> Vec<Option<String>> {
            looks.names.iter().map(|regex| regex.as_ref().map(ToString::to_string)).collect()
        };
        self.labels == other.labels && text(self) == text(other)
    }
}

impl Looks {
    /// Those of some relabelings.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a Relabel>) -> Self {
        let mut looks = Self::default();
        for rule in rules {
            looks.labels.extend(rule.source_labels.0.iter().cloned());
            match rule.action {
                Some("labelmap") => {
                    let regex = rule.regex.as_deref().unwrap_or("(.*)");
                    looks.names.push(Regex::new(&format!("^(?s:{regex})$")).ok());
                }
                Some("keepequal" | "dropequal") => looks.labels.extend(rule.target_label.clone()),
                _ => {}
            }
        }
        looks
    }

    /// Whether they see a label.
    fn see(&self, label: &str) -> bool {
        let named = |regex: &Option<Regex>| regex.as_ref().is_none_or(|regex| regex.is_match(label));
        self.labels.contains(label) || self.names.iter().any(named)
    }

    /// What they can tell from one another.
    pub(super) fn tell(&self, role: Role) -> Tells {
        let endpoint = role.endpoint(&ANY);
        let mut seen = endpoint.iter().filter(|(label, _)| self.see(label)).peekable();
        match (seen.peek().is_some(), seen.any(|(label, _)| label.contains("_port"))) {
            (false, _) => Tells::Nothing,
            (true, false) => Tells::Endpoints,
            (true, true) => Tells::Ports,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Looks, Role, Tells, constants, is_unknown};
    use crate::monitors::service::Service;
    use crate::template::prometheus::Relabel;
    use serde_json::json;

    #[test]
    fn only_what_is_looked_into_is_written() {
        let service = Service::read(&json!({"metadata": {"name": "web", "namespace": "shop",
            "labels": {"app/x": "a$1", "empty": ""}, "annotations": {"path": "/m"}},
            "spec": {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 80}]}}))
        .unwrap();
        let port = &service.spec.as_ref().unwrap().ports[0];
        let labels = |rules: &[Relabel], role| -> Vec<_> {
            let written = constants(role, &service, Some(port), &Looks::of(rules.iter()));
            written.into_iter().map(|rule| (rule.target_label.unwrap(), rule.replacement)).collect()
        };
        assert_eq!(labels(&[Relabel::drop_labels("__meta_.*")], Role::Endpoints), []);
        let map = |regex: &str| Relabel {
            action: Some("labelmap"),
            regex: Some(regex.to_owned()),
            ..Relabel::default()
        };
        let expected = [
            ("__meta_kubernetes_service_label_app_x", "a$$1"),
            ("__meta_kubernetes_service_labelpresent_app_x", "true"),
            ("__meta_kubernetes_service_labelpresent_empty", "true"),
        ];
        let expected = expected.map(|(label, value)| (label.to_owned(), Some(value.to_owned())));
        assert_eq!(labels(&[map("__meta_kubernetes_service_label(.+)")], Role::Endpoints), expected);
        let port = "__meta_kubernetes_endpointslice_port_name";
        let looking = [Relabel::copy(port, "port")];
        assert_eq!(labels(&looking, Role::EndpointSlice), [(port.to_owned(), Some("http".to_owned()))]);
        assert_eq!(labels(&looking, Role::Endpoints), []);
        assert!(is_unknown(port, Role::Endpoints) && !is_unknown(port, Role::EndpointSlice));
        assert_eq!(Looks::of(looking.iter()).tell(Role::EndpointSlice), Tells::Ports);
        assert_eq!(Looks::of(looking.iter()).tell(Role::Endpoints), Tells::Nothing);
        let ready = [Relabel::copy("__meta_kubernetes_endpoint_ready", "ready")];
        assert_eq!(Looks::of(ready.iter()).tell(Role::Endpoints), Tells::Endpoints);
    }
}
