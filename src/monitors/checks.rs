//! What an agent makes of the monitors that it selects, each checked once. PURE.
//!
//! Input: the monitors and Services, time and again, and one agent. Output: a [`Selection`] for the pods of any namespace,
//! without checking anew what did not change.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::job::{self, Checked};
use super::object::{Kind, Monitor, MonitorId, Spec};
use super::podmonitor::PodMonitor;
use super::selection::{self, Judged, Monitors, Refused, Selection, Taken};
use super::service::Services;
use super::service_job::{self, Drafts, Jobs};
use super::servicemonitor::ServiceMonitor;
use crate::template::agent::Agent;
use crate::template::render;
use crate::template::violation::{Path, Violation, Warning};

/// The monitors that one agent selects, each with what became of it. For another agent, begin with none.
#[derive(Debug, Default)]
pub struct Checks {
    pods: BTreeMap<MonitorId, Check<PodMonitor, Fit>>,
    services: BTreeMap<MonitorId, Check<ServiceMonitor, Drafts>>,
    known: Services,
}

#[derive(Debug)]
struct Check<M, T> {
    monitor: Arc<M>,
    result: Result<T, Vec<Violation>>,
}

/// A monitor that passed, and its size.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub(super) checked: Checked,
    /// Bytes of all its jobs, as they are rendered.
    pub(super) bytes: usize,
}

impl Checks {
    /// Checks the monitors that the agent selects, where they are others than before.
    pub fn follow(&mut self, monitors: &Monitors, agent: &Agent) {
        self.check(
            agent,
            monitors.selected(agent),
            monitors.selected_for_services(agent),
            monitors.services(),
        );
    }

    /// Checks these monitors, where they are others than before; all others are forgotten.
    pub(super) fn check<'a>(
        &mut self,
        agent: &Agent,
        pods: impl Iterator<Item = &'a Arc<PodMonitor>>,
        services: impl Iterator<Item = &'a Arc<ServiceMonitor>>,
        known: &Services,
    ) {
        follow(&mut self.pods, pods, |monitor| job::check(agent, monitor).map(Fit::of));
        follow(&mut self.services, services, |monitor| service_job::check(agent, monitor));
        self.known = known.clone();
    }

    /// Every `PodMonitor`, with what became of it, whatever the namespace of the pods.
    pub fn all(&self) -> impl Iterator<Item = (&PodMonitor, Result<Taken, &[Violation]>)> {
        self.pods.values().map(|Check { monitor, result }| {
            let became = match result {
                Ok(fit) => Ok(Taken::of(&monitor.id, &fit.checked)),
                Err(violations) => Err(&violations[..]),
            };
            (&**monitor, became)
        })
    }

    /// What the agent runs for the pods of a namespace.
    pub fn select(&self, agent: &Agent, namespace: &str) -> Selection {
        self.select_if(agent, namespace, |_| true)
    }

    /// The same, where `PodMonitor`s that do not fit are rejected for want of room.
    pub fn select_if(&self, agent: &Agent, namespace: &str, fits: impl Fn(&PodMonitor) -> bool) -> Selection {
        let (about, elsewhere): (Vec<_>, Vec<_>) =
            self.pods.values().partition(|check| selection::covers(agent, &check.monitor, namespace));
        let mut refused = Vec::new();
        let mut judged: Vec<Judged<'_>> =
            about.into_iter().map(|check| check.judged(namespace, fits(&check.monitor))).collect();
        let (about, other): (Vec<_>, Vec<_>) =
            self.services.values().partition(|check| selection::covers(agent, &check.monitor, namespace));
        judged.extend(about.into_iter().map(|check| check.resolved(&self.known, namespace, &mut refused)));
        let mut selection = selection::within_budget(judged, namespace);
        selection.elsewhere = elsewhere.into_iter().map(|check| check.monitor.id.clone()).collect();
        selection.by_service.elsewhere = other.into_iter().map(|check| check.monitor.id.clone()).collect();
        selection.by_service.refused = refused;
        selection
    }

    /// Every monitor, as for pods of its own namespace and without a bound on their size. `ServiceMonitor`s have the jobs of
    /// all Services of every namespace that they are about.
    pub fn everywhere(&self, agent: &Agent) -> Selection {
        let mut selection = Selection::default();
        for Check { monitor, result } in self.pods.values() {
            let result = result.as_ref().map(|fit| &fit.checked).map_err(Clone::clone);
            selection.add(Kind::Pod, &monitor.id, result);
        }
        for Check { monitor, result } in self.services.values() {
            let result = result.as_ref().map_err(Clone::clone).map(|drafts| {
                let mut checked = drafts.checked.clone();
                for namespace in self.known.namespaces().filter(|it| selection::covers(agent, monitor, it)) {
                    let (jobs, _) =
                        jobs(monitor, drafts, &self.known, namespace, &mut selection.by_service.refused);
                    checked.jobs.extend(jobs.jobs);
                }
                checked
            });
            selection.add(Kind::Service, &monitor.id, result.as_ref().map_err(Clone::clone));
        }
        selection
    }
}

/// Checks what is not known from before; whatever is not listed is forgotten.
fn follow<'a, S: Spec + PartialEq + 'a, T>(
    checks: &mut BTreeMap<MonitorId, Check<Monitor<S>, T>>,
    monitors: impl Iterator<Item = &'a Arc<Monitor<S>>>,
    check: impl Fn(&Monitor<S>) -> Result<T, Vec<Violation>>,
) {
    let mut before = std::mem::take(checks);
    *checks = monitors
        .map(|monitor| {
            let known = before.remove(&monitor.id).filter(|check| check.monitor.is_same_as(monitor));
            let result = known.map_or_else(|| check(monitor), |known| known.result);
            (monitor.id.clone(), Check { monitor: Arc::clone(monitor), result })
        })
        .collect();
}

/// The jobs of all Services of a namespace that the monitor selects, and how many Services these are.
fn jobs(
    monitor: &ServiceMonitor,
    drafts: &Drafts,
    known: &Services,
    namespace: &str,
    refused: &mut Vec<Refused>,
) -> (Jobs, usize) {
    let mut jobs = Jobs::default();
    let mut count = 0;
    for service in known.of(namespace).filter(|service| drafts.selects(service)) {
        count += 1;
        match &service.spec {
            Ok(endpoints) => {
                let Jobs { jobs: more, hinted } = drafts.jobs(service, endpoints);
                jobs.jobs.extend(more);
                jobs.hinted.extend(hinted);
            }
            Err(why) => refused.push(Refused {
                monitor: monitor.id.clone(),
                service: service.id.clone(),
                why: why.clone(),
            }),
        }
    }
    (jobs, count)
}

impl Check<PodMonitor, Fit> {
    fn judged(&self, namespace: &str, fits: bool) -> Judged<'_> {
        let Self { monitor, result } = self;
        let result = result.as_ref().map_err(Clone::clone);
        let result = result.and_then(|fit| {
            selection::own_references(&fit.checked, &monitor.id, namespace)?;
            let no_room = || vec![selection::no_room(Kind::Pod, selection::TOO_LARGE)];
            fits.then_some(Cow::Borrowed(fit)).ok_or_else(no_room)
        });
        // What others say of the pods leaves their hints alone.
        let is_own = monitor.id.namespace == namespace;
        let hinted = if is_own { job::hinted(monitor) } else { Vec::new() };
        Judged { kind: Kind::Pod, id: &monitor.id, hinted, result }
    }
}

impl Check<ServiceMonitor, Drafts> {
    fn resolved(&self, known: &Services, namespace: &str, refused: &mut Vec<Refused>) -> Judged<'_> {
        let Self { monitor, result } = self;
        let mut hinted = Vec::new();
        let result = result.as_ref().map_err(Clone::clone).and_then(|drafts| {
            selection::own_references(&drafts.checked, &monitor.id, namespace)?;
            let (jobs, count) = jobs(monitor, drafts, known, namespace, refused);
            let mut checked = Checked { jobs: jobs.jobs, ..drafts.checked.clone() };
            hinted = jobs.hinted;
            if count == 0 {
                let path = Path::root("spec").key("selector").to_string();
                let text = format!("selects no Service of namespace {namespace}");
                checked.warnings.push(Warning { path, text });
            }
            Ok(Cow::Owned(Fit::of(checked)))
        });
        if monitor.id.namespace != namespace {
            hinted.clear();
        }
        Judged { kind: Kind::Service, id: &monitor.id, hinted, result }
    }
}

impl Fit {
    fn of(checked: Checked) -> Self {
        let bytes = render::size(&checked.jobs);
        Self { checked, bytes }
    }
}
