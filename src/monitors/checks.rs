//! What an agent makes of the monitors that it selects, each checked once. PURE.
//!
//! Input: the monitors, time and again, and one agent. Output: a [`Selection`] for the pods of any namespace, without checking
//! anew what did not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::job::{self, Checked};
use super::podmonitor::{MonitorId, PodMonitor};
use super::selection::{self, Monitors, Selection, Taken};
use crate::template::agent::Agent;
use crate::template::render;
use crate::template::violation::Violation;

/// The monitors that one agent selects, each with what became of it. For another agent, begin with none.
#[derive(Debug, Default)]
pub struct Checks(BTreeMap<MonitorId, Check>);

#[derive(Debug)]
struct Check {
    monitor: Arc<PodMonitor>,
    result: Result<Fit, Vec<Violation>>,
}

/// A monitor that passed, and its size.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) checked: Checked,
    /// Bytes of all its jobs, as they are rendered.
    pub(super) bytes: usize,
}

impl Checks {
    /// Checks the monitors that the agent selects, where they are others than before.
    pub fn follow(&mut self, monitors: &Monitors, agent: &Agent) {
        self.check(agent, monitors.selected(agent));
    }

    /// Checks these monitors, where they are others than before; all others are forgotten.
    pub(super) fn check<'a>(&mut self, agent: &Agent, monitors: impl Iterator<Item = &'a Arc<PodMonitor>>) {
        let mut before = std::mem::take(&mut self.0);
        let mut check = |monitor: &Arc<PodMonitor>| {
            let known = before.remove(&monitor.id).filter(|check| check.monitor.is_same_as(monitor));
            match known {
                Some(Check { result, .. }) => Check { monitor: Arc::clone(monitor), result },
                None => Check::new(agent, monitor),
            }
        };
        self.0 = monitors.map(|monitor| (monitor.id.clone(), check(monitor))).collect();
    }

    /// Every monitor, with what became of it, whatever the namespace of the pods.
    pub fn all(&self) -> impl Iterator<Item = (&PodMonitor, Result<Taken, &[Violation]>)> {
        self.0.values().map(|Check { monitor, result }| {
            let became = match result {
                Ok(fit) => Ok(Taken::of(monitor, &fit.checked)),
                Err(violations) => Err(&violations[..]),
            };
            (&**monitor, became)
        })
    }

    /// What the agent runs for the pods of a namespace.
    pub fn select(&self, agent: &Agent, namespace: &str) -> Selection {
        self.select_if(agent, namespace, |_| true)
    }

    /// The same, where monitors that do not fit are rejected for want of room.
    pub fn select_if(&self, agent: &Agent, namespace: &str, fits: impl Fn(&PodMonitor) -> bool) -> Selection {
        let (about, elsewhere): (Vec<_>, Vec<_>) =
            self.0.values().partition(|check| selection::covers(agent, &check.monitor, namespace));
        let judged = about.into_iter().map(|Check { monitor, result }| {
            let result = result.as_ref().map_err(Clone::clone).and_then(|fit| {
                selection::own_references(&fit.checked, &monitor.id, namespace)?;
                let no_room = || vec![selection::no_room(selection::TOO_LARGE)];
                fits(monitor).then_some(fit).ok_or_else(no_room)
            });
            (&**monitor, result)
        });
        let mut selection = selection::within_budget(judged.collect(), namespace);
        selection.elsewhere = elsewhere.into_iter().map(|check| check.monitor.id.clone()).collect();
        selection
    }

    /// Every monitor, as for pods of its own namespace and without a bound on their size.
    pub fn everywhere(&self) -> Selection {
        let mut selection = Selection::default();
        for Check { monitor, result } in self.0.values() {
            selection.add(monitor, result.as_ref().map(|fit| &fit.checked).map_err(Clone::clone));
        }
        selection
    }
}

impl Check {
    fn new(agent: &Agent, monitor: &Arc<PodMonitor>) -> Self {
        let result = job::check(agent, monitor).map(|checked| {
            let bytes = render::size(&checked.jobs);
            Fit { checked, bytes }
        });
        Self { monitor: Arc::clone(monitor), result }
    }
}
