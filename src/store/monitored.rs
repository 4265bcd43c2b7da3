//! What monitors are to templates: the files that their pods mount, and whom a change concerns. PURE.
//!
//! Input: monitors and labels of namespaces that are new, different or gone. Output: templates with the files of the monitors
//! that they select, and what has to be looked at again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::inventory::{Concerned, Inventory};
use super::known::Known;
use crate::admission::sidecar::Sidecar;
use crate::monitors::any::AnyMonitor;
use crate::monitors::object::{Kind, MonitorId, MonitorKey};
use crate::monitors::selection::{Monitors, Surroundings, may_select};
use crate::monitors::service::Service;

/// What a change of monitors, or of the namespaces that they are in, concerns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changed {
    /// Templates that select one of the monitors, or did.
    pub templates: Concerned,
    /// The monitors, as they were and as they are.
    pub monitors: Vec<AnyMonitor>,
}

impl Inventory {
    /// A monitor is new or different.
    pub fn insert_monitor(&mut self, monitor: impl Into<AnyMonitor>) -> Changed {
        let changed = self.put_monitor(monitor.into());
        self.monitors_changed(changed)
    }

    /// A monitor is gone.
    pub fn remove_monitor(&mut self, key: &MonitorKey) -> Changed {
        let gone = self.monitors.remove(key);
        self.monitors_changed(gone.into_iter().collect())
    }

    /// These are all monitors of a kind.
    pub fn replace_monitors(&mut self, kind: Kind, monitors: Vec<AnyMonitor>) -> Changed {
        let there: BTreeSet<MonitorKey> = monitors.iter().map(AnyMonitor::key).collect();
        let known = self.monitors.of_kind(kind).map(AnyMonitor::key);
        let gone: Vec<MonitorKey> = known.filter(|key| !there.contains(key)).collect();
        let mut changed: Vec<_> = gone.iter().filter_map(|key| self.monitors.remove(key)).collect();
        changed.extend(monitors.into_iter().flat_map(|monitor| self.put_monitor(monitor)));
        self.monitors_changed(changed)
    }

    /// Takes a monitor in; gives it as it was and as it is, unless it is what it was.
    fn put_monitor(&mut self, monitor: AnyMonitor) -> Vec<AnyMonitor> {
        let before = self.monitors.insert(monitor.clone());
        let same = before.as_ref().is_some_and(|before| before.is_same_as(&monitor));
        before.into_iter().chain([monitor]).filter(|_| !same).collect()
    }

    /// A Service is new or different; gives it as it was and as it is, unless it is what it was.
    pub fn insert_service(&mut self, service: Service) -> Vec<Arc<Service>> {
        let id = service.id.clone();
        let services = self.monitors.services_mut();
        let before = services.insert(service);
        let now = services.get(&id).cloned();
        if before == now { Vec::new() } else { before.into_iter().chain(now).collect() }
    }

    /// A Service is gone; gives it as it was.
    pub fn remove_service(&mut self, id: &MonitorId) -> Option<Arc<Service>> {
        self.monitors.services_mut().remove(id)
    }

    /// These are all Services; gives those that are gone or different, as they were and as they are.
    pub fn replace_services(&mut self, services: Vec<Service>) -> Vec<Arc<Service>> {
        let there: BTreeSet<&MonitorId> = services.iter().map(|service| &service.id).collect();
        let known = self.monitors.services().all().map(|service| &service.id);
        let gone: Vec<MonitorId> = known.filter(|id| !there.contains(id)).cloned().collect();
        let mut changed: Vec<_> = gone.iter().filter_map(|id| self.remove_service(id)).collect();
        changed.extend(services.into_iter().flat_map(|service| self.insert_service(service)));
        changed
    }

    /// Namespaces say this of the monitors in them.
    pub(super) fn surroundings_changed(
        &mut self,
        surroundings: impl IntoIterator<Item = (String, Surroundings)>,
    ) -> Changed {
        let mut changed = Vec::new();
        for (name, says) in surroundings {
            if self.monitors.insert_namespace(name.clone(), says) {
                changed.extend(self.monitors.in_namespace(&name).cloned());
            }
        }
        self.monitors_changed(changed)
    }

    /// A namespace is gone, or going.
    pub(super) fn surroundings_unknown(&mut self, name: &str) -> Changed {
        if !self.monitors.remove_namespace(name) {
            return Changed::default();
        }
        let monitors = self.monitors.in_namespace(name).cloned().collect();
        self.monitors_changed(monitors)
    }

    /// Mounts anew what pods need of these monitors.
    fn monitors_changed(&mut self, monitors: Vec<AnyMonitor>) -> Changed {
        let mut templates = Concerned::new();
        for (id, known) in &mut self.templates {
            let Some(good) = &known.good else { continue };
            let heads = monitors.iter().map(AnyMonitor::head);
            let selected = heads.filter(|monitor| may_select(&good.agent, *monitor));
            let namespaces: BTreeSet<&str> = selected.map(|monitor| monitor.id.namespace.as_str()).collect();
            if namespaces.is_empty() {
                continue;
            }
            templates.insert(id.clone());
            if mount_in(known, namespaces.into_iter(), &self.monitors) {
                self.catalog.insert_template(known.entry.clone());
            }
        }
        Changed { templates, monitors }
    }
}

/// Gives a template the files of the monitors that it selects, in every namespace that may use it; `before` is what was known
/// of it.
pub(super) fn mount(known: &mut Known, before: Option<&Known>, monitors: &Monitors) {
    let (Some(good), Some(sidecar)) = (&known.good, &mut known.entry.sidecar) else { return };
    let same = before.filter(|before| {
        let agent = before.good.as_ref().map(|good| &good.agent);
        agent == Some(&good.agent) && before.entry.allowed_namespaces == known.entry.allowed_namespaces
    });
    if let Some(before) = same.and_then(|before| before.entry.sidecar.as_ref()) {
        if !sidecar.has_monitor_files_of(before) {
            Arc::make_mut(sidecar).take_monitor_files(before);
        }
        return;
    }
    Arc::make_mut(sidecar).forget_monitor_files();
    mount_in(known, monitors.namespaces().into_iter(), monitors);
}

/// The same in these namespaces; whether anything is different afterwards.
fn mount_in<'a>(known: &mut Known, namespaces: impl Iterator<Item = &'a str>, monitors: &Monitors) -> bool {
    let (Some(good), Some(before)) = (&known.good, &known.entry.sidecar) else { return false };
    let mut sidecar = Sidecar::clone(before);
    for namespace in namespaces.filter(|namespace| known.entry.permits(namespace)) {
        sidecar.set_monitor_files(namespace, &monitors.files(&good.agent, namespace));
    }
    let different = !sidecar.has_monitor_files_of(before);
    if different {
        known.entry.sidecar = Some(Arc::new(sidecar));
    }
    different
}

#[cfg(test)]
#[path = "monitored_tests.rs"]
mod tests;
