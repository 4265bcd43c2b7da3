//! A `PodMonitor` as read. PURE.
//!
//! Input: one object as JSON. Output: a [`PodMonitor`] that keeps what could be read, and what could not for its judgement.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::api::PodMonitorSpec;
use super::fields;
use crate::template::agent::IgnoredField;
use crate::template::api::read;
use crate::template::identity;
use crate::template::violation::{Findings, Path, Rule, Violation};

/// `apiVersion` of monitors.
pub const API_VERSION: &str = "monitoring.coreos.com/v1";
/// `kind` of pod monitors.
pub const KIND: &str = "PodMonitor";

/// Namespace and name of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorId {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl fmt::Display for MonitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A monitor, valid or not.
#[derive(Debug, Clone, PartialEq)]
pub struct PodMonitor {
    /// Namespace and name.
    pub id: MonitorId,
    /// `metadata.uid`, empty where the object has none (files).
    pub uid: String,
    /// `metadata.generation`, 0 where the object has none (files).
    pub generation: i64,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `status.bindings`, as they were written.
    pub bindings: Vec<Value>,
    /// What of the spec could be read.
    pub spec: PodMonitorSpec,
    /// What could not.
    pub(super) misread: Vec<Violation>,
    /// Fields without effect that show in the object alone.
    pub(super) ignored: Vec<IgnoredField>,
}

/// The object is no `PodMonitor` that has an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another kind of object.
    #[error("is {found}, not a PodMonitor of {API_VERSION}")]
    Kind {
        /// `apiVersion kind` of the object.
        found: String,
    },
    /// No usable name.
    #[error("metadata.{field} of the PodMonitor is missing or not a name that the API server accepts")]
    Name {
        /// `name` or `namespace`.
        field: &'static str,
    },
}

impl PodMonitor {
    /// Whether an object is of the kind that [`PodMonitor::read`] reads.
    pub fn is_monitor(object: &Value) -> bool {
        object["apiVersion"] == API_VERSION && object["kind"] == KIND
    }

    /// Reads one object; whatever is wrong with its spec waits for its judgement.
    pub fn read(object: &Value) -> Result<Self, ReadError> {
        if !Self::is_monitor(object) {
            let text = |key| object.get(key).and_then(Value::as_str).unwrap_or("?");
            return Err(ReadError::Kind { found: format!("{} {}", text("apiVersion"), text("kind")) });
        }
        let metadata = &object["metadata"];
        let (namespace, name) = identity(metadata).map_err(|field| ReadError::Name { field })?;
        let mut findings = Findings::default();
        let labels = labels(metadata, &mut findings);
        let spec = spec(object, &mut findings);
        Ok(Self {
            id: MonitorId { namespace: namespace.to_owned(), name: name.to_owned() },
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            labels,
            bindings: object["status"]["bindings"].as_array().cloned().unwrap_or_default(),
            spec,
            misread: findings.violations,
            ignored: findings.ignored,
        })
    }

    /// Whether both are the same but for what others say of them.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let Self { id, uid, generation, labels, bindings: _, spec, misread, ignored } = self;
        (id, uid, generation, labels) == (&other.id, &other.uid, &other.generation, &other.labels)
            && (spec, misread, ignored) == (&other.spec, &other.misread, &other.ignored)
    }
}

/// `metadata.labels`; of values that are no text, only that they are none.
fn labels(metadata: &Value, findings: &mut Findings) -> BTreeMap<String, String> {
    let path = Path::root("metadata").key("labels");
    let wrong = |path: &Path, expected: &str, findings: &mut Findings| {
        let rule = Rule::WrongType(format!("has the wrong type: expected {expected}"));
        findings.violation_at(path, rule);
    };
    let mut labels = BTreeMap::new();
    match metadata.get("labels") {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(value) => {
                        labels.insert(key.clone(), value.to_owned());
                    }
                    None => wrong(&path.key(key), "text", findings),
                }
            }
        }
        Some(_) => wrong(&path, "an object", findings),
    }
    labels
}

fn spec(object: &Value, findings: &mut Findings) -> PodMonitorSpec {
    let root = Path::root("spec");
    let mut unknown = Vec::new();
    let value = object.get("spec").filter(|spec| !spec.is_null());
    let spec: PodMonitorSpec =
        value.map(|value| read::lenient(value, &root, findings, &mut unknown)).unwrap_or_default();
    if spec.attach_metadata.as_ref().is_some_and(|attach| attach.node == Some(true)) {
        findings.ignored(&root.key("attachMetadata").key("node"), fields::NODE);
    }
    for path in unknown {
        findings.ignored(&path, "is not known to promsidecar");
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::{PodMonitor, ReadError};
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
        assert_eq!(PodMonitor::read(&other), Err(ReadError::Kind { found }));
        for (field, value) in [("name", json!(7)), ("name", json!("A")), ("namespace", json!("a.b"))] {
            let mut other = monitor(json!({}));
            other["metadata"][field] = value;
            assert_eq!(PodMonitor::read(&other), Err(ReadError::Name { field }));
        }
    }
}
