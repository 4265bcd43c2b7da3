//! Templates, monitors and namespaces as they come, one change at a time, with what was kept of templates by others before us.
//! PURE.
//!
//! Input: objects that are new, different or gone, and last good versions that are kept. Output: the [`Catalog`], and what is
//! known of each claimed template and of every monitor. What monitors are to templates is in [`super::monitored`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::compile::template_id;
use super::known::{Known, judge};
use super::monitored;
use crate::admission::catalog::{Catalog, NamespaceMeta};
use crate::monitors::selection::{Monitors, Surroundings};
use crate::template::agent::TemplateId;
use crate::template::{ReadError, Settings};

/// Templates that a change concerns.
pub type Concerned = BTreeSet<TemplateId>;

/// What is read of a Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// What admission reads.
    pub meta: NamespaceMeta,
    /// Its labels, by which monitors are selected.
    pub labels: BTreeMap<String, String>,
}

impl Namespace {
    /// What it says about the monitors in it.
    fn surroundings(&self) -> Surroundings {
        Surroundings { labels: self.labels.clone(), allowed_secrets: self.meta.allowed_secrets.clone() }
    }
}

/// Every template, monitor and namespace.
#[derive(Debug)]
pub struct Inventory {
    settings: Settings,
    pub(super) catalog: Catalog,
    pub(super) templates: BTreeMap<TemplateId, Known>,
    pub(super) monitors: Monitors,
    /// Objects that were judged for lack of an older version: bad ones without any in force, and paused ones without one to
    /// freeze. They are judged again when one is restored.
    unsettled: BTreeMap<TemplateId, Value>,
    /// Last good versions that are kept, as objects.
    kept: BTreeMap<TemplateId, Value>,
}

impl Inventory {
    /// Nothing is there yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            catalog: Catalog::default(),
            templates: BTreeMap::new(),
            monitors: Monitors::of_cluster(),
            unsettled: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Templates and namespaces, as admission sees them.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Every claimed template.
    pub const fn templates(&self) -> &BTreeMap<TemplateId, Known> {
        &self.templates
    }

    /// Every monitor.
    pub const fn monitors(&self) -> &Monitors {
        &self.monitors
    }

    /// Last good versions that are kept, as objects.
    pub const fn kept(&self) -> &BTreeMap<TemplateId, Value> {
        &self.kept
    }

    /// A template is new or different. One that nobody claims, or no longer, is known to admission alone.
    pub fn insert_template(&mut self, object: &Value) -> Result<TemplateId, ReadError> {
        let id = template_id(&object["metadata"]);
        let before = self.templates.get(&id).filter(|known| known.good.is_some()).cloned();
        // What is restored has no files of monitors: whoever kept it knew others.
        let restored = if before.is_none() { self.restored(&id) } else { None };
        let previous = before.as_ref().or(restored.as_ref());
        let mut known = judge(object, &self.settings, previous)?;
        monitored::mount(&mut known, before.as_ref(), &self.monitors);
        self.catalog.insert_template(known.entry.clone());
        self.templates.remove(&id);
        let unsettled = self.unsettled.remove(&id).is_some()
            || previous.is_none_or(|previous| previous.entry.uid != known.entry.uid);
        if known.entry.claimed {
            if known.good.is_none() || known.paused && unsettled {
                self.unsettled.insert(id.clone(), object.clone());
            }
            self.templates.insert(id.clone(), known);
        }
        Ok(id)
    }

    /// A template is gone.
    pub fn remove_template(&mut self, id: &TemplateId) {
        self.catalog.remove_template(id);
        self.templates.remove(id);
        self.unsettled.remove(id);
    }

    /// These are all templates; those that cannot be read come back with why not.
    pub fn replace_templates(&mut self, objects: &[Value]) -> (Concerned, Vec<ReadError>) {
        let mut gone: Concerned = self.catalog.templates().map(|entry| entry.id.clone()).collect();
        let (mut concerned, mut unreadable) = (Concerned::new(), Vec::new());
        for object in objects {
            gone.remove(&template_id(&object["metadata"]));
            match self.insert_template(object) {
                Ok(id) => drop(concerned.insert(id)),
                Err(error) => unreadable.push(error),
            }
        }
        for id in &gone {
            self.remove_template(id);
        }
        concerned.extend(gone);
        (concerned, unreadable)
    }

    /// The last good version that is kept, judged.
    fn restored(&self, id: &TemplateId) -> Option<Known> {
        judge(self.kept.get(id)?, &self.settings, None).ok()
    }

    /// A last good version is kept, or no longer. It counts for a template that was bad or paused before it came.
    pub fn keep(&mut self, id: &TemplateId, object: Option<Value>) {
        match object {
            Some(object) => self.kept.insert(id.clone(), object),
            None => self.kept.remove(id),
        };
        let Some(unsettled) = self.unsettled.get(id) else { return };
        let of_the_same =
            |known: &Known| unsettled["metadata"]["uid"].as_str().unwrap_or_default() == known.entry.uid;
        if self.restored(id).is_some_and(|known| known.good.is_some() && of_the_same(&known)) {
            let unsettled = self.unsettled.remove(id).unwrap_or_default();
            // Else what it was taken for would count as published.
            self.templates.remove(id);
            // It could be read when it came.
            let _ = self.insert_template(&unsettled);
        }
    }

    /// These are all last good versions that are kept.
    pub fn replace_kept(&mut self, objects: Vec<(TemplateId, Value)>) -> Concerned {
        let there: BTreeSet<&TemplateId> = objects.iter().map(|(id, _)| id).collect();
        let gone: Concerned = self.kept.keys().filter(|id| !there.contains(id)).cloned().collect();
        for id in &gone {
            self.keep(id, None);
        }
        let mut concerned = gone;
        for (id, object) in objects {
            self.keep(&id, Some(object));
            concerned.insert(id);
        }
        concerned
    }

    /// A namespace is new or different.
    pub fn insert_namespace(&mut self, name: &str, namespace: Namespace) -> monitored::Changed {
        let says = namespace.surroundings();
        self.catalog.insert_namespace(name.to_owned(), namespace.meta);
        self.surroundings_changed([(name.to_owned(), says)])
    }

    /// These are all namespaces.
    pub fn replace_namespaces(&mut self, namespaces: Vec<(String, Namespace)>) {
        let there: BTreeSet<&str> = namespaces.iter().map(|(name, _)| name.as_str()).collect();
        let known = self.catalog.namespaces();
        let gone: Vec<_> = known.filter(|name| !there.contains(name)).map(str::to_owned).collect();
        for name in gone {
            self.remove_namespace(&name);
        }
        let mut catalog = self.catalog.without_namespaces();
        let mut surroundings = Vec::with_capacity(namespaces.len());
        for (name, namespace) in namespaces {
            surroundings.push((name.clone(), namespace.surroundings()));
            catalog.insert_namespace(name, namespace.meta);
        }
        self.catalog = catalog;
        self.surroundings_changed(surroundings);
    }

    /// A namespace is gone. Its templates are removed one by one, as they are deleted.
    pub fn remove_namespace(&mut self, name: &str) -> monitored::Changed {
        self.catalog.remove_namespace(name);
        self.surroundings_unknown(name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::Inventory;
    use crate::names;
    use crate::template::Settings;
    use crate::template::agent::TemplateId;

    /// A template of namespace `a`.
    pub(crate) fn template(name: &str, version: &str) -> Value {
        json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1",
            "kind": "PrometheusAgent",
            "metadata": {"namespace": "a", "name": name, "annotations": {(names::CONTROLLER_ID): "promsidecar"}},
            "spec": {"version": version},
        })
    }

    fn id(name: &str) -> TemplateId {
        TemplateId { namespace: "a".to_owned(), name: name.to_owned() }
    }

    fn in_force(inventory: &Inventory, name: &str) -> bool {
        let entry = inventory.catalog().template("a", name);
        let good = inventory.templates().get(&id(name)).is_some_and(|known| known.good.is_some());
        assert_eq!(entry.is_some_and(|entry| entry.sidecar.is_some()), good);
        good
    }

    fn version_in_force(inventory: &Inventory, name: &str) -> String {
        assert!(in_force(inventory, name));
        inventory.templates()[&id(name)].good.as_ref().unwrap().agent.version.to_string()
    }

    #[test]
    fn what_is_kept_counts_for_a_bad_template_whichever_comes_first() {
        for kept_comes_first in [true, false] {
            let mut inventory = Inventory::new(Settings::default());
            if kept_comes_first {
                inventory.keep(&id("one"), Some(template("one", "3.13.5")));
            }
            inventory.insert_template(&template("one", "2.0.0")).unwrap();
            assert_eq!(in_force(&inventory, "one"), kept_comes_first);
            inventory.keep(&id("one"), Some(template("one", "3.13.5")));
            assert!(in_force(&inventory, "one"));
            // In force is in force, whatever becomes of what was kept.
            inventory.keep(&id("one"), None);
            assert!(in_force(&inventory, "one"));
        }
    }

    #[test]
    fn a_paused_template_stays_what_was_kept_of_it_whichever_comes_first() {
        let mut paused = template("one", "3.12.0");
        paused["spec"]["paused"] = json!(true);
        for kept_comes_first in [true, false] {
            let mut inventory = Inventory::new(Settings::default());
            if !kept_comes_first {
                inventory.insert_template(&paused).unwrap();
                assert_eq!(version_in_force(&inventory, "one"), "v3.12.0", "there is nothing to freeze");
            }
            inventory.keep(&id("one"), Some(template("one", "3.13.5")));
            inventory.insert_template(&paused).unwrap();
            assert_eq!(version_in_force(&inventory, "one"), "v3.13.5");
            // What others make of what is kept changes nothing any more.
            inventory.keep(&id("one"), Some(template("one", "3.11.0")));
            assert_eq!(version_in_force(&inventory, "one"), "v3.13.5");
        }
    }

    #[test]
    fn a_template_that_was_paused_from_the_start_stays_as_it_was_first_seen() {
        let mut inventory = Inventory::new(Settings::default());
        for version in ["3.12.0", "3.13.5"] {
            let mut paused = template("one", version);
            paused["spec"]["paused"] = json!(true);
            inventory.insert_template(&paused).unwrap();
            assert_eq!(version_in_force(&inventory, "one"), "v3.12.0");
        }
        // As the controller keeps it, which we are told.
        let kept = inventory.templates()[&id("one")].good.as_ref().unwrap().object.as_ref().clone();
        inventory.keep(&id("one"), Some(kept));
        assert_eq!(version_in_force(&inventory, "one"), "v3.12.0");
    }

    #[test]
    fn what_is_kept_and_bad_itself_counts_for_nothing() {
        let mut inventory = Inventory::new(Settings::default());
        inventory.insert_template(&template("one", "2.0.0")).unwrap();
        for bad in [template("one", "2.1.0"), json!({}), json!(null)] {
            inventory.keep(&id("one"), Some(bad));
            assert!(!in_force(&inventory, "one"));
        }
    }

    #[test]
    fn a_list_tells_what_is_gone_and_what_cannot_be_read() {
        let mut inventory = Inventory::new(Settings::default());
        inventory.insert_template(&template("one", "3.13.5")).unwrap();
        let objects = [template("two", "3.13.5"), template("no name", "3.13.5")];
        let (concerned, unreadable) = inventory.replace_templates(&objects);
        assert_eq!((concerned, unreadable.len()), ([id("one"), id("two")].into(), 1));
        assert!(!in_force(&inventory, "one") && in_force(&inventory, "two"));
        let concerned = inventory.replace_kept(vec![(id("two"), template("two", "3.13.5"))]);
        assert_eq!(concerned, [id("two")].into());
        assert_eq!(inventory.replace_kept(Vec::new()), [id("two")].into());
    }
}
