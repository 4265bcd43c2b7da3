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
use crate::monitors::podmonitor::{MonitorId, PodMonitor};
use crate::store::inventory::Concerned;
use crate::store::monitored::Changed;
use crate::template::agent::TemplateId;

impl World {
    /// Whether there is any monitor.
    pub fn has_monitors(&self) -> bool {
        self.inventory.monitors().all().next().is_some()
    }

    /// A monitor is new or different.
    pub fn monitor_applied(&mut self, monitor: PodMonitor) -> Concerned {
        let changed = self.inventory.insert_monitor(monitor);
        self.draw_again(changed)
    }

    /// A monitor is gone.
    pub fn monitor_deleted(&mut self, id: &MonitorId) -> Concerned {
        let changed = self.inventory.remove_monitor(id);
        self.draw_again(changed)
    }

    /// These are all monitors.
    pub fn all_monitors(&mut self, monitors: Vec<PodMonitor>) -> Concerned {
        let changed = self.inventory.replace_monitors(monitors);
        self.draw_again(changed)
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
        let told = monitors.map(|monitor| (monitor, verdicts.get(&monitor.id)));
        let untold = told.filter(|(monitor, verdict)| !bindings::tells(monitor, id, *verdict));
        let binding = |(monitor, verdict): (&Arc<PodMonitor>, _)| Binding {
            monitor: monitor.id.clone(),
            uid: monitor.uid.clone(),
            status: bindings::status(monitor, id, verdict, now),
        };
        untold.map(binding).collect()
    }
}

/// The status of a monitor, as far as one template decides it.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Which monitor.
    pub monitor: MonitorId,
    /// `metadata.uid` of it.
    pub uid: String,
    /// To be applied.
    pub status: Value,
}
