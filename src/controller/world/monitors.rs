//! Monitors in the [`World`]. PURE.
//!
//! Input: monitors that are new, different or gone. Output: the templates that they concern, and statuses of monitors that do
//! not say yet what templates make of them.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::World;
use crate::controller::bindings;
use crate::controller::rendered::Rendered;
use crate::monitors::any::AnyMonitor;
use crate::monitors::object::{Kind, MonitorId, MonitorKey};
use crate::monitors::service::Service;
use crate::store::inventory::Concerned;
use crate::store::monitored::Changed;
use crate::template::agent::TemplateId;

impl World {
    /// Whether there is any monitor of a kind.
    pub fn has_monitors(&self, kind: Kind) -> bool {
        self.inventory.monitors().of_kind(kind).next().is_some()
    }

    /// A monitor is new or different.
    pub fn monitor_applied(&mut self, monitor: impl Into<AnyMonitor>) -> Concerned {
        let changed = self.inventory.insert_monitor(monitor);
        self.draw_again(changed)
    }

    /// A monitor is gone.
    pub fn monitor_deleted(&mut self, monitor: &MonitorKey) -> Concerned {
        let changed = self.inventory.remove_monitor(monitor);
        self.draw_again(changed)
    }

    /// These are all monitors of a kind.
    pub fn all_monitors(&mut self, kind: Kind, monitors: Vec<AnyMonitor>) -> Concerned {
        let changed = self.inventory.replace_monitors(kind, monitors);
        self.draw_again(changed)
    }

    /// A Service is new or different.
    pub fn service_applied(&mut self, service: Service) -> Concerned {
        let changed = self.inventory.insert_service(service);
        self.services_changed(&changed)
    }

    /// A Service is gone.
    pub fn service_deleted(&mut self, id: &MonitorId) -> Concerned {
        let gone = self.inventory.remove_service(id);
        self.services_changed(gone.as_slice())
    }

    /// These are all Services.
    pub fn all_services(&mut self, services: Vec<Service>) -> Concerned {
        let changed = self.inventory.replace_services(services);
        self.services_changed(&changed)
    }

    /// What was rendered for pods beside these Services is out of date where it goes by them.
    fn services_changed(&mut self, services: &[Arc<Service>]) -> Concerned {
        let rendered = self.rendered.iter_mut();
        let concerned =
            rendered.filter_map(|(id, rendered)| rendered.forget_services(services).then_some(id));
        concerned.cloned().collect()
    }

    /// What was rendered of templates that select these monitors is out of date where the monitors are about; also of templates
    /// that are not in force at this moment: they may come back as they were.
    pub(super) fn draw_again(&mut self, changed: Changed) -> Concerned {
        for rendered in self.rendered.values_mut() {
            rendered.forget(&changed.monitors);
        }
        changed.templates
    }

    /// Statuses of monitors that do not say yet what this template makes of them; none while that is about to change.
    pub fn bindings(&self, id: &TemplateId, now: Timestamp) -> Vec<Binding> {
        let in_force = self.known(id).is_some_and(|known| known.good.is_some());
        let rendered = self.rendered.get(id).filter(|_| in_force);
        if in_force && !rendered.is_some_and(Rendered::is_current) {
            return Vec::new();
        }
        let verdicts = rendered.map(Rendered::verdicts).unwrap_or_default();
        let monitors = self.inventory.monitors().all();
        let told = monitors.map(|monitor| (monitor, verdicts.get(&monitor.key())));
        let untold = told.filter(|(monitor, verdict)| !bindings::tells(monitor.head(), id, *verdict));
        let binding = |(monitor, verdict): (&AnyMonitor, _)| Binding {
            monitor: monitor.key(),
            uid: monitor.head().uid.to_owned(),
            status: bindings::status(monitor.head(), id, verdict, now),
        };
        untold.map(binding).collect()
    }
}

/// The status of a monitor, as far as one template decides it.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Which monitor.
    pub monitor: MonitorKey,
    /// `metadata.uid` of it.
    pub uid: String,
    /// To be applied.
    pub status: Value,
}

#[cfg(test)]
#[path = "monitors_tests.rs"]
mod tests;
