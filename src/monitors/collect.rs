//! Monitors and namespaces among the objects of manifests. PURE.
//!
//! Input: objects, one after another. Output: [`Monitors`]; what of a monitor keeps it from being one, for whoever reads the
//! manifests to tell.

use serde_json::{Value, json};

use super::podmonitor::{MonitorId, PodMonitor, ReadError};
use super::selection::Monitors;
use crate::store::documents::namespace_labels;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Collector(Monitors);

/// A monitor that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// This field of its metadata is no name.
    Unnamed(&'static str),
    /// Another one has its name.
    Twice(MonitorId),
}

impl Collector {
    /// Notes a monitor or namespace; other objects are passed over. `namespace` is that of monitors that name none.
    pub fn note(&mut self, object: &Value, namespace: &str) -> Result<(), Unusable> {
        if PodMonitor::is_monitor(object) {
            let monitor = match PodMonitor::read(&placed(object, namespace)) {
                Ok(monitor) => monitor,
                Err(ReadError::Name { field }) => return Err(Unusable::Unnamed(field)),
                Err(ReadError::Kind { .. }) => return Ok(()),
            };
            if self.0.get(&monitor.id).is_some() {
                return Err(Unusable::Twice(monitor.id));
            }
            self.0.insert(monitor);
        } else if object["apiVersion"] == "v1" && object["kind"] == "Namespace" {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            self.0.insert_namespace(name.to_owned(), namespace_labels(metadata));
        }
        Ok(())
    }

    /// Everything that was found.
    pub fn into_monitors(self) -> Monitors {
        self.0
    }
}

/// The object with the namespace that it will have.
pub(crate) fn placed(object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    let stated = object["metadata"].get("namespace");
    let is_absent = stated.is_none_or(|stated| stated.is_null() || *stated == "");
    if is_absent && object["metadata"].is_object() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

impl Unusable {
    /// Path of the field.
    pub fn field(&self) -> String {
        match self {
            Self::Unnamed(field) => format!("metadata.{field}"),
            Self::Twice(_) => "metadata.name".to_owned(),
        }
    }

    /// What is wrong with it, as the end of a sentence that begins with the field.
    pub fn what(&self) -> String {
        match self {
            Self::Unnamed(_) => "is missing or not a name that the API server accepts".to_owned(),
            Self::Twice(id) => {
                format!(
                    "is that of PodMonitor {id}, which was already defined above or in an earlier file and counts"
                )
            }
        }
    }

    /// What to do.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Unnamed(_) => "give it one, in quotes if it is a number",
            Self::Twice(_) => "remove one",
        }
    }
}

/// One line.
impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the PodMonitor {}; {}", self.field(), self.what(), self.fix())
    }
}

#[cfg(test)]
mod tests {
    use super::{Collector, Unusable};
    use serde_json::{Value, json};

    #[test]
    fn the_first_of_a_name_counts_and_one_without_costs_no_other() {
        let monitor = |metadata: Value| json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata});
        let mut collector = Collector::default();
        let mut note = |object: Value| collector.note(&object, "shop");
        assert_eq!(note(monitor(json!({"name": "a", "labels": {"first": "x"}}))), Ok(()));
        assert_eq!(note(monitor(json!({"name": "a", "namespace": "other"}))), Ok(()));
        let Err(twice) = note(monitor(json!({"name": "a", "namespace": "shop"}))) else { unreachable!() };
        for (metadata, field) in [
            (json!({}), "name"),
            (json!({"name": 7}), "name"),
            (json!({"generateName": "a-"}), "name"),
            (json!({"name": "a", "namespace": 7}), "namespace"),
            (json!(null), "name"),
            (json!("x"), "name"),
        ] {
            assert_eq!(note(monitor(metadata.clone())), Err(Unusable::Unnamed(field)), "{metadata}");
        }
        assert_eq!(note(json!({"kind": "PodMonitor", "metadata": {}})), Ok(()));
        let found: Vec<_> = collector
            .into_monitors()
            .all()
            .map(|monitor| (monitor.id.to_string(), monitor.labels.len()))
            .collect();
        assert_eq!(found, [("other/a".to_owned(), 0), ("shop/a".to_owned(), 1)]);
        assert_eq!(
            twice.to_string(),
            "metadata.name of the PodMonitor is that of PodMonitor shop/a, which was already defined above or in an earlier \
             file and counts; remove one"
        );
    }
}
