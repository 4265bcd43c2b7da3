//! Everything that the controller knows. PURE.
//!
//! Input: what the watches say, one change at a time. Output: the templates that each change concerns, and for each of them what
//! has to be done. Nothing is decided before every watch has listed.

pub mod monitors;
mod tell;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::condition;
use super::demand;
use super::fleet::{Counts, Fleet, Member, PodKey};
use super::plan::{self, Observed, Step, TooLarge};
use super::rendered::{InForce, Rendered};
use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::admission::sidecar::config_map_name;
use crate::store::compile::template_id;
use crate::store::inventory::{Concerned, Inventory, Namespace};
use crate::store::known::Known;
use crate::store::last_good;
use crate::template::agent::TemplateId;
use crate::template::{ReadError, Settings};

/// Everything that is known.
#[derive(Debug)]
pub struct World {
    policy: Policy,
    own_namespace: String,
    inventory: Inventory,
    /// Namespaces that carry the label.
    labelled: BTreeSet<String>,
    /// What their pods get.
    asked: BTreeMap<String, TemplateId>,
    /// ConfigMaps of ours by name, then namespace.
    config_maps: BTreeMap<String, BTreeMap<String, Observed>>,
    /// Whose they are, by name.
    owners: BTreeMap<String, TemplateId>,
    rendered: BTreeMap<TemplateId, Rendered>,
    /// Templates that nobody claims any more, with a status of ours.
    released: BTreeSet<TemplateId>,
    fleet: Fleet,
}

/// What has to be done for one template.
#[derive(Debug, PartialEq)]
pub struct Work {
    /// With its ConfigMaps.
    pub steps: Result<Vec<Step>, TooLarge>,
    /// With what is kept of it.
    pub keeping: Keeping,
    /// When it has to be looked at again, though nothing changes.
    pub again: Option<Timestamp>,
}

/// What has to be done with the last good version that is kept.
#[derive(Debug, PartialEq)]
pub enum Keeping {
    /// Nothing.
    AsItIs,
    /// Keep this one.
    Keep(Value),
    /// The template is gone.
    Forget,
}

impl World {
    /// Nothing is known yet.
    pub fn new(settings: Settings, policy: Policy, own_namespace: String) -> Self {
        Self {
            inventory: Inventory::new(settings),
            policy,
            own_namespace,
            labelled: BTreeSet::new(),
            asked: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            owners: BTreeMap::new(),
            rendered: BTreeMap::new(),
            released: BTreeSet::new(),
            fleet: Fleet::default(),
        }
    }

    /// Templates and namespaces, for metrics.
    pub const fn catalog(&self) -> &Catalog {
        self.inventory.catalog()
    }

    /// A claimed template.
    pub fn known(&self, id: &TemplateId) -> Option<&Known> {
        self.inventory.templates().get(id)
    }

    /// A template is new or different. One that nobody claims, or no longer, counts as gone.
    pub fn template_applied(&mut self, object: &Value) -> Result<Concerned, ReadError> {
        let id = self.inventory.insert_template(object)?;
        self.note_release(object);
        Ok(self.templates_changed([id].into()))
    }

    /// A template is gone.
    pub fn template_deleted(&mut self, id: &TemplateId) -> Concerned {
        self.inventory.remove_template(id);
        self.released.remove(id);
        self.templates_changed([id.clone()].into())
    }

    /// These are all templates; those that cannot be read come back with why not.
    pub fn all_templates(&mut self, objects: &[Value]) -> (Concerned, Vec<ReadError>) {
        let (concerned, unreadable) = self.inventory.replace_templates(objects);
        self.released.clear();
        for object in objects {
            self.note_release(object);
        }
        (self.templates_changed(concerned), unreadable)
    }

    fn note_release(&mut self, object: &Value) {
        let id = template_id(&object["metadata"]);
        if condition::is_left_behind(object) {
            self.released.insert(id);
        } else {
            self.released.remove(&id);
        }
    }

    fn templates_changed(&mut self, concerned: Concerned) -> Concerned {
        for id in &concerned {
            self.owners.insert(config_map_name(id), id.clone());
        }
        self.asked_anew(concerned)
    }

    /// A last good version is kept, or no longer.
    pub fn kept(&mut self, id: &TemplateId, object: Option<Value>) -> Concerned {
        self.inventory.keep(id, object);
        self.asked_anew([id.clone()].into())
    }

    /// These are all last good versions that are kept.
    pub fn all_kept(&mut self, objects: Vec<(TemplateId, Value)>) -> Concerned {
        let concerned = self.inventory.replace_kept(objects);
        self.asked_anew(concerned)
    }

    /// A namespace is new or different; one that is being deleted counts as gone.
    pub fn namespace_applied(&mut self, name: &str, namespace: Namespace) -> Concerned {
        let mut concerned = match self.catalog().namespace(name) {
            Some(_) => Concerned::new(),
            None => self.concerned_by_namespace(name),
        };
        if namespace.meta.inject.is_some() {
            self.labelled.insert(name.to_owned());
        } else {
            self.labelled.remove(name);
        }
        let changed = self.inventory.insert_namespace(name, namespace);
        concerned.extend(self.draw_again(changed));
        self.ask_again(name, concerned)
    }

    /// A namespace is gone, and all that was in it.
    pub fn namespace_deleted(&mut self, name: &str) -> Concerned {
        let changed = self.inventory.remove_namespace(name);
        self.labelled.remove(name);
        let mut concerned = self.concerned_by_namespace(name);
        concerned.extend(self.draw_again(changed));
        self.ask_again(name, concerned)
    }

    /// These are all namespaces.
    pub fn all_namespaces(&mut self, namespaces: Vec<(String, Namespace)>) -> Concerned {
        let there: BTreeSet<&str> = namespaces.iter().map(|(name, _)| name.as_str()).collect();
        let gone: Vec<String> =
            self.catalog().namespaces().filter(|name| !there.contains(name)).map(str::to_owned).collect();
        let mut concerned: Concerned = gone.iter().flat_map(|name| self.namespace_deleted(name)).collect();
        for (name, namespace) in namespaces {
            concerned.extend(self.namespace_applied(&name, namespace));
        }
        concerned
    }

    /// Makes anew what one namespace gets; adds the templates that it got and gets, if they differ.
    fn ask_again(&mut self, name: &str, mut concerned: Concerned) -> Concerned {
        let now = demand::asked(std::iter::once(name), self.catalog(), &self.policy).remove(name);
        let before = match &now {
            Some(id) => self.asked.insert(name.to_owned(), id.clone()),
            None => self.asked.remove(name),
        };
        if before != now {
            concerned.extend(before.into_iter().chain(now));
        }
        concerned
    }

    /// Templates in a namespace, and those whose pods run there.
    fn concerned_by_namespace(&self, name: &str) -> Concerned {
        let own = self.catalog().templates_in(name).map(|entry| &entry.id);
        own.chain(self.fleet.templates_in(name)).cloned().collect()
    }

    /// A `ConfigMap` of ours is new or different; `template` is what its annotation says.
    pub fn config_map_applied(
        &mut self,
        namespace: &str,
        name: &str,
        template: Option<TemplateId>,
        observed: Observed,
    ) -> Concerned {
        if let Some(id) = template.filter(|id| config_map_name(id) == name) {
            self.owners.insert(name.to_owned(), id);
        }
        self.config_maps.entry(name.to_owned()).or_default().insert(namespace.to_owned(), observed);
        self.owners.get(name).cloned().into_iter().collect()
    }

    /// These are all of ours: namespace, name, the template of its annotation, and what is compared.
    pub fn all_config_maps(
        &mut self,
        config_maps: Vec<(String, String, Option<TemplateId>, Observed)>,
    ) -> Concerned {
        let mut concerned: Concerned =
            self.config_maps.keys().filter_map(|name| self.owners.get(name)).cloned().collect();
        self.config_maps.clear();
        for (namespace, name, template, observed) in config_maps {
            concerned.extend(self.config_map_applied(&namespace, &name, template, observed));
        }
        concerned
    }

    /// One is gone.
    pub fn config_map_deleted(&mut self, namespace: &str, name: &str) -> Concerned {
        if let Some(by_namespace) = self.config_maps.get_mut(name) {
            by_namespace.remove(namespace);
            if by_namespace.is_empty() {
                self.config_maps.remove(name);
            }
        }
        self.owners.get(name).cloned().into_iter().collect()
    }

    /// An injected pod is new or different; mostly in what nobody asks for.
    pub fn pod_applied(&mut self, pod: PodKey, template: TemplateId, member: Member) -> Concerned {
        if self.fleet.get(&pod) == Some((&template, &member)) {
            return Concerned::new();
        }
        self.owners.entry(config_map_name(&template)).or_insert_with(|| template.clone());
        let mut concerned: Concerned = self.fleet.remove(&pod).into_iter().collect();
        self.fleet.insert(pod, template.clone(), member);
        concerned.insert(template);
        concerned
    }

    /// These are all injected pods.
    pub fn all_pods(&mut self, pods: Vec<(PodKey, TemplateId, Member)>) -> Concerned {
        let there: BTreeSet<PodKey> = pods.iter().map(|(pod, ..)| pod.clone()).collect();
        let gone: Vec<PodKey> = self.fleet.pods().filter(|pod| !there.contains(*pod)).cloned().collect();
        let mut concerned: Concerned = gone.iter().flat_map(|pod| self.pod_deleted(pod)).collect();
        for (pod, template, member) in pods {
            concerned.extend(self.pod_applied(pod, template, member));
        }
        concerned
    }

    /// A pod is gone.
    pub fn pod_deleted(&mut self, pod: &PodKey) -> Concerned {
        self.fleet.remove(pod).into_iter().collect()
    }

    /// Makes anew what every labelled namespace gets, since one template more or less can change the choice of any; adds the
    /// templates whose namespaces changed.
    fn asked_anew(&mut self, mut concerned: Concerned) -> Concerned {
        let labelled = self.labelled.iter().map(String::as_str);
        let asked = demand::asked(labelled, self.catalog(), &self.policy);
        let differ = |from: &BTreeMap<String, TemplateId>, to: &BTreeMap<String, TemplateId>| {
            let gone = from.iter().filter(|(namespace, id)| to.get(*namespace) != Some(id));
            gone.map(|(_, id)| id.clone()).collect::<Vec<_>>()
        };
        concerned.extend(differ(&self.asked, &asked));
        concerned.extend(differ(&asked, &self.asked));
        self.asked = asked;
        concerned
    }

    /// Counts of all injected pods.
    pub fn counts(&self) -> Counts {
        self.fleet.templates().map(|id| self.counts_of(id)).fold(Counts::default(), |sum, counts| Counts {
            all: sum.all + counts.all,
            updated: sum.updated + counts.updated,
            ready: sum.ready + counts.ready,
            targeted: sum.targeted + counts.targeted,
            newer: sum.newer + counts.newer,
        })
    }

    fn counts_of(&self, id: &TemplateId) -> Counts {
        let sidecar = self.known(id).and_then(|known| known.entry.sidecar.as_ref());
        self.fleet.counts(id, |namespace| sidecar.map(|sidecar| sidecar.hash_in(namespace)))
    }

    /// Every template that has anything.
    pub fn all(&self) -> Concerned {
        let known = self
            .inventory
            .templates()
            .keys()
            .chain(self.inventory.kept().keys())
            .chain(self.fleet.templates());
        known.chain(self.owners.values()).chain(&self.released).cloned().collect()
    }

    /// Forgets a template of which nothing is left.
    pub fn forget(&mut self, id: &TemplateId) {
        let name = config_map_name(id);
        let used = self.config_maps.contains_key(&name) || self.fleet.namespaces(id).next().is_some();
        if !used && self.known(id).is_none() && !self.inventory.kept().contains_key(id) {
            self.owners.remove(&name);
        }
    }

    /// What has to be done for a template.
    pub fn work(&mut self, id: &TemplateId, now: Timestamp) -> Work {
        let mut rendered = self.rendered.remove(id).unwrap_or_default();
        let known = self.known(id);
        let good = known.and_then(|known| known.good.as_ref());
        let needed = self.needed(id);
        let observed: BTreeMap<&str, &Observed> = self
            .config_maps
            .get(&config_map_name(id))
            .into_iter()
            .flatten()
            .map(|(namespace, observed)| (namespace.as_str(), observed))
            // Those of a namespace that is going go with it.
            .filter(|(namespace, _)| self.catalog().namespace(namespace).is_some())
            .collect();
        let in_force = good.map(|good| InForce { agent: &good.agent, monitors: self.inventory.monitors() });
        let steps = plan::plan(id, in_force, &mut rendered, &needed, &observed, now);
        let work = Work {
            again: plan::next_deletion(&observed),
            keeping: match (known, good, self.inventory.kept().get(id)) {
                // What cannot be delivered is not kept in place of what was.
                _ if steps.is_err() => Keeping::AsItIs,
                (Some(_), Some(good), kept) if kept != Some(&*good.object) => {
                    Keeping::Keep(last_good::keep(id, &good.object, &self.own_namespace))
                }
                (None, _, Some(_)) => Keeping::Forget,
                _ => Keeping::AsItIs,
            },
            steps,
        };
        if good.is_some() {
            self.rendered.insert(id.clone(), rendered);
        }
        work
    }

    /// Namespaces that are there and whose pods need the template's `ConfigMap`. Anybody can write on a pod that a template was
    /// injected: where its owner does not permit it, what was delivered while he did is all that pods have a right to.
    fn needed(&self, id: &TemplateId) -> BTreeSet<&str> {
        let delivered = self.config_maps.get(&config_map_name(id));
        let delivered = |namespace: &str| delivered.is_some_and(|found| found.contains_key(namespace));
        let permitted = |namespace: &str| self.known(id).is_some_and(|known| known.entry.permits(namespace));
        let running =
            self.fleet.namespaces(id).filter(|namespace| permitted(namespace) || delivered(namespace));
        let own = self.inventory.templates().get_key_value(id).map(|(id, _)| id.namespace.as_str());
        let asked = self.asked.iter().filter(|(_, asked)| *asked == id).map(|(namespace, _)| &**namespace);
        let needed = running.chain(own).chain(asked);
        needed.filter(|namespace| self.catalog().namespace(namespace).is_some()).collect()
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
