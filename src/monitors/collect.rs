//! Monitors, Services and namespaces among the objects of manifests. PURE.
//!
//! Input: objects, one after another. Output: [`Monitors`]; what of an object keeps it from being one, for whoever reads the
//! manifests to tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::any::AnyMonitor;
use super::object::{Kind, MonitorKey, ReadError};
use super::selection::{Monitors, Surroundings};
use super::service::Service;
use crate::admission::catalog::split_list;
use crate::names;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Collector(Monitors);

/// An object that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// `kind` of the object.
    pub kind: &'static str,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// This field of its metadata is no name.
    Unnamed(&'static str),
    /// Another one has its name.
    Twice(MonitorKey),
}

/// Whether an object is one that a [`Collector`] reads, Namespaces aside.
pub fn is_collected(object: &Value) -> bool {
    Kind::of(object).is_some() || Service::is_service(object)
}

impl Collector {
    /// Notes a monitor, Service or namespace; other objects are passed over. `namespace` is that of objects that name none.
    pub fn note(&mut self, object: &Value, namespace: &str) -> Result<(), Unusable> {
        if let Some(kind) = Kind::of(object) {
            let monitor = read(kind, &placed(object, namespace))?;
            let key = monitor.key();
            if self.0.get(&key).is_some() {
                return Err(Unusable { kind: kind.word(), why: Why::Twice(key) });
            }
            self.0.insert(monitor);
        } else if Service::is_service(object) {
            // Services are in many manifests that are about something else: the first of a name counts, without a word.
            if let Ok(service) = Service::read(&placed(object, namespace))
                && self.0.services().get(&service.id).is_none()
            {
                self.0.services_mut().insert(service);
            }
        } else if object["apiVersion"] == "v1" && object["kind"] == "Namespace" {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            self.0.insert_namespace(name.to_owned(), surroundings(metadata));
        }
        Ok(())
    }

    /// Everything that was found.
    pub fn into_monitors(self) -> Monitors {
        self.0
    }
}

fn read(kind: Kind, object: &Value) -> Result<AnyMonitor, Unusable> {
    AnyMonitor::read(kind, object).map_err(|error| match error {
        ReadError::Name { field, .. } => Unusable { kind: kind.word(), why: Why::Unnamed(field) },
        ReadError::Kind { .. } => Unusable { kind: kind.word(), why: Why::Unnamed("name") },
    })
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

/// What a Namespace says about the monitors in it.
pub fn surroundings(metadata: &Value) -> Surroundings {
    let listed =
        metadata.get("annotations").and_then(|annotations| annotations[names::ALLOWED_SECRETS].as_str());
    Surroundings {
        labels: namespace_labels(metadata),
        allowed_secrets: split_list(listed.unwrap_or_default()).map(str::to_owned).collect(),
    }
}

/// Labels of a Namespace.
pub fn namespace_labels(metadata: &Value) -> BTreeMap<String, String> {
    let labels = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl Unusable {
    /// Path of the field.
    pub fn field(&self) -> String {
        match &self.why {
            Why::Unnamed(field) => format!("metadata.{field}"),
            Why::Twice(_) => "metadata.name".to_owned(),
        }
    }

    /// What is wrong with it, as the end of a sentence that begins with the field.
    pub fn what(&self) -> String {
        match &self.why {
            Why::Unnamed(_) => "is missing or not a name that the API server accepts".to_owned(),
            Why::Twice(key) => {
                format!("is that of {key}, which was already defined above or in an earlier file and counts")
            }
        }
    }

    /// What to do.
    pub const fn fix(&self) -> &'static str {
        match &self.why {
            Why::Unnamed(_) => "give it one, in quotes if it is a number",
            Why::Twice(_) => "remove one",
        }
    }
}

/// One line.
impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the {} {}; {}", self.field(), self.kind, self.what(), self.fix())
    }
}

#[cfg(test)]
mod tests {
    use super::{Collector, Unusable, Why};
    use serde_json::{Value, json};

    #[test]
    fn services_of_any_shape_cost_nothing_and_the_first_of_a_name_counts() {
        let mut collector = Collector::default();
        for (metadata, spec) in [
            (json!({"name": "a"}), json!({"selector": {"app": "a"}, "ports": [{"port": 80}]})),
            (json!({"name": "a"}), json!({"selector": {}})),
            (json!({"generateName": "a-"}), json!({})),
            (json!(7), json!(7)),
            (json!({"name": "b"}), json!(7)),
        ] {
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
            assert_eq!(collector.note(&object, "shop"), Ok(()));
        }
        let monitors = collector.into_monitors();
        let found: Vec<_> = monitors
            .services()
            .of("shop")
            .map(|service| (service.id.to_string(), service.spec.is_ok()))
            .collect();
        assert_eq!(found, [("shop/a".to_owned(), true), ("shop/b".to_owned(), false)]);
    }

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
            let unnamed = Unusable { kind: "PodMonitor", why: Why::Unnamed(field) };
            assert_eq!(note(monitor(metadata.clone())), Err(unnamed), "{metadata}");
        }
        assert_eq!(note(json!({"kind": "PodMonitor", "metadata": {}})), Ok(()));
        let found: Vec<_> = collector
            .into_monitors()
            .all()
            .map(|monitor| (monitor.head().id.to_string(), monitor.head().labels.len()))
            .collect();
        assert_eq!(found, [("other/a".to_owned(), 0), ("shop/a".to_owned(), 1)]);
        assert_eq!(
            twice.to_string(),
            "metadata.name of the PodMonitor is that of PodMonitor shop/a, which was already defined above or in an earlier \
             file and counts; remove one"
        );
    }
}
