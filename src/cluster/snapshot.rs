//! What the cluster has of templates, monitors and namespaces at one moment. PURE.
//!
//! Input: objects as the API server lists them. Output: the [`Inventory`] that webhook and controller would have, for commands
//! that ask once, and what could not be read.

use serde_json::Value;

use super::seen::{annotation, name, text};
use crate::admission::catalog::NamespaceMeta;
use crate::monitors::any::AnyMonitor;
use crate::monitors::collect::namespace_labels;
use crate::monitors::object::Kind;
use crate::names;
use crate::store::inventory::{Inventory, Namespace};
use crate::store::last_good;
use crate::template::Settings;
use crate::template::agent::TemplateId;

/// The objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// `PrometheusAgents`, claimed or not.
    pub templates: Vec<Value>,
    /// Monitors of any kind.
    pub monitors: Vec<Value>,
    /// Namespaces.
    pub namespaces: Vec<Value>,
    /// `ConfigMaps` of our own namespace that keep last good versions.
    pub kept: Vec<Value>,
}

impl Objects {
    /// What they are together; and a line for each that cannot be read.
    pub fn inventory(&self, settings: &Settings) -> (Inventory, Vec<String>) {
        let mut inventory = Inventory::new(settings.clone());
        let mut unreadable = Vec::new();
        inventory.replace_kept(self.kept.iter().filter_map(kept).collect());
        inventory.replace_namespaces(self.namespaces.iter().map(namespace).collect());
        let (_, errors) = inventory.replace_templates(&self.templates);
        unreadable.extend(errors.iter().map(ToString::to_string));
        for object in &self.monitors {
            match AnyMonitor::read(Kind::of(object).unwrap_or(Kind::Pod), object) {
                Ok(monitor) => drop(inventory.insert_monitor(monitor)),
                Err(error) => unreadable.push(error.to_string()),
            }
        }
        (inventory, unreadable)
    }
}

fn namespace(object: &Value) -> (String, Namespace) {
    let metadata = &object["metadata"];
    let look_up = |map: &str, key: &str| metadata.get(map)?.get(key)?.as_str();
    let meta = NamespaceMeta::new(|key| look_up("labels", key), |key| look_up("annotations", key));
    (name(object).to_owned(), Namespace { meta, labels: namespace_labels(metadata) })
}

/// A last good version. The annotation has to say what the name says, which alone nobody can edit.
fn kept(object: &Value) -> Option<(TemplateId, Value)> {
    let id = TemplateId::parse(annotation(object, names::TEMPLATE)?)?;
    let restored = last_good::restore(text(&object["data"][names::LAST_GOOD_KEY])).ok()?;
    (last_good::name(&id) == name(object)).then_some((id, restored))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Objects;
    use crate::names;
    use crate::store::inventory::tests::template;
    use crate::store::last_good;
    use crate::template::Settings;
    use crate::template::agent::TemplateId;

    #[test]
    fn a_bad_template_has_its_kept_version_and_what_cannot_be_read_is_told() {
        let id = TemplateId { namespace: "a".to_owned(), name: "one".to_owned() };
        let objects = Objects {
            templates: vec![template("one", "2.0.0"), template("no name", "3.13.5")],
            monitors: vec![json!({"metadata": {}})],
            namespaces: vec![json!({"metadata": {"name": "a", "labels": {(names::INJECT): "true"}}})],
            kept: vec![last_good::keep(&id, &template("one", "3.13.5"), "own"), json!({})],
        };
        let (inventory, unreadable) = objects.inventory(&Settings::default());
        assert!(inventory.catalog().template("a", "one").unwrap().sidecar.is_some());
        assert_eq!(inventory.catalog().namespace("a").unwrap().inject.as_deref(), Some("true"));
        assert_eq!(unreadable.len(), 2, "{unreadable:?}");
    }
}
