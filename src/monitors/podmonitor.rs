//! A `PodMonitor` as read. PURE.
//!
//! Input: one object as JSON. Output: a [`PodMonitor`].

use super::api::{NamespaceSelector, PodMonitorSpec};
use super::object::{Kind, Monitor, Spec};

pub use super::object::{API_VERSION, MonitorId, ReadError};

/// `kind` of pod monitors.
pub const KIND: &str = Kind::Pod.word();

/// A `PodMonitor`, valid or not.
pub type PodMonitor = Monitor<PodMonitorSpec>;

impl Spec for PodMonitorSpec {
    const KIND: Kind = Kind::Pod;

    fn namespace_selector(&self) -> &NamespaceSelector {
        &self.namespace_selector
    }

    fn attaches_nodes(&self) -> bool {
        self.attach_metadata.as_ref().is_some_and(|attach| attach.node == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, PodMonitor, ReadError};
    use serde_json::{Value, json};

    fn monitor(spec: Value) -> Value {
        let mut object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}}});
        object["spec"] = spec;
        object
    }

    #[test]
    fn wrong_types_and_unknown_fields_cost_nothing_else() {
        let spec = json!({"jobLabel": 7, "future": 1, "attachMetadata": {"node": true},
            "podMetricsEndpoints": [{"port": "metrics", "shiny": 1, "targetPort": 8080}]});
        let read = PodMonitor::read(&monitor(spec)).unwrap();
        assert_eq!(read.spec.pod_metrics_endpoints[0].port.as_deref(), Some("metrics"));
        assert_eq!(read.labels["team"], "a");
        let misread: Vec<_> = read.misread.iter().map(|violation| &*violation.path).collect();
        assert_eq!(misread, ["spec.jobLabel"]);
        let ignored: Vec<_> = read.ignored.iter().map(|field| &*field.path).collect();
        let expected = ["spec.attachMetadata.node", "spec.future", "spec.podMetricsEndpoints[0].shiny"];
        assert_eq!(ignored, expected);
    }

    #[test]
    fn an_object_without_identity_is_refused() {
        let mut other = monitor(json!({}));
        other["kind"] = json!("Probe");
        let found = "monitoring.coreos.com/v1 Probe".to_owned();
        assert_eq!(PodMonitor::read(&other), Err(ReadError::Kind { wanted: Kind::Pod, found }));
        for (field, value) in [("name", json!(7)), ("name", json!("A")), ("namespace", json!("a.b"))] {
            let mut other = monitor(json!({}));
            other["metadata"][field] = value;
            assert_eq!(PodMonitor::read(&other), Err(ReadError::Name { kind: Kind::Pod, field }));
        }
    }
}
