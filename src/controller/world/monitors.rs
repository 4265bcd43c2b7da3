//! Monitors in the [`World`]. PURE.
//!
//! Input: monitors that are new, different or gone. Output: the templates that they concern, and statuses of monitors that do
//! not say yet what templates make of them.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::World;
use crate::controller::bindings::{self, Verdict};
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

    /// What was rendered of templates that select these monitors is out of date where the monitors are about.
    pub(super) fn draw_again(&mut self, changed: Changed) -> Concerned {
        for id in &changed.templates {
            if let Some(rendered) = self.rendered.get_mut(id) {
                rendered.forget(&changed.monitors);
            }
        }
        changed.templates
    }

    /// Statuses of monitors that do not say yet what this template makes of them.
    pub fn bindings(&self, id: &TemplateId, now: Timestamp) -> Vec<(MonitorId, Value)> {
        let own = self.rendered.get(id).map(Rendered::verdicts).unwrap_or_default();
        let monitors = self.inventory.monitors().all();
        let untold = monitors.filter(|monitor| !bindings::tells(monitor, id, own.get(&monitor.id)));
        let untold: Vec<&PodMonitor> = untold.map(AsRef::as_ref).collect();
        if untold.is_empty() {
            return Vec::new();
        }
        let verdicts: BTreeMap<&TemplateId, BTreeMap<MonitorId, Verdict>> =
            self.rendered.iter().map(|(id, rendered)| (id, rendered.verdicts())).collect();
        let of = |monitor: &PodMonitor| {
            let of_all = verdicts.iter();
            let of_all = of_all.filter_map(|(id, verdicts)| Some((*id, verdicts.get(&monitor.id)?)));
            bindings::status(monitor, of_all, now)
        };
        untold.into_iter().map(|monitor| (monitor.id.clone(), of(monitor))).collect()
    }
}
