//! What an agent makes of the monitors that it selects, each checked once. PURE.
//!
//! Input: the monitors, time and again, and one agent; the Services. Output: a [`Selection`] for the pods of any namespace,
//! without checking anew what did not change.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::any::AnyMonitor;
use super::job::{self, Checked};
use super::object::{Head, MonitorKey};
use super::selection::{self, Judged, Monitors, Place, Refused, Selection, Taken};
use super::service::{Service, Services};
use super::service_job::{self, Drafts, Jobs};
use crate::template::agent::Agent;
use crate::template::prometheus::Relabel;
use crate::template::render;
use crate::template::violation::{Path, Violation, Warning};

/// What is said of a `ServiceMonitor` that has nothing to make jobs of.
const NO_SERVICE: &str = "selects no Service of namespace";

/// The monitors that one agent selects, each with what became of it. For another agent, begin with none.
#[derive(Debug, Default)]
pub struct Checks(BTreeMap<MonitorKey, Check>);

#[derive(Debug)]
struct Check {
    monitor: AnyMonitor,
    result: Result<Passed, Vec<Violation>>,
}

/// A monitor that passed.
#[derive(Debug)]
enum Passed {
    /// Its jobs, and rules by which the pods' hints are left to them.
    Jobs(Fit, Vec<Relabel>),
    /// What becomes jobs of each Service.
    Drafts(Box<Drafts>),
}

/// A monitor with its jobs, and their size.
#[derive(Debug, Clone)]
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
    pub(super) fn check<'a>(&mut self, agent: &Agent, monitors: impl Iterator<Item = &'a AnyMonitor>) {
        let mut before = std::mem::take(&mut self.0);
        let checked = monitors.map(|monitor| {
            let key = monitor.key();
            let known = before.remove(&key).filter(|check| check.monitor.is_same_as(monitor));
            let result = known.map_or_else(|| Passed::of(agent, monitor), |known| known.result);
            (key, Check { monitor: monitor.clone(), result })
        });
        self.0 = checked.collect();
    }

    /// Every monitor, with what became of it, whatever the namespace of the pods.
    pub fn all(&self) -> impl Iterator<Item = (&AnyMonitor, Result<Taken, &[Violation]>)> {
        self.0.iter().map(|(key, Check { monitor, result })| {
            let became = match result {
                Ok(passed) => Ok(Taken::of(key, passed.checked())),
                Err(violations) => Err(&violations[..]),
            };
            (monitor, became)
        })
    }

    /// Whether what the agent runs for the pods of a Service's namespace goes by that Service.
    pub fn goes_by(&self, agent: &Agent, service: &Service) -> bool {
        self.0.values().any(|Check { monitor, result }| {
            let selects = matches!(result, Ok(Passed::Drafts(drafts)) if drafts.selects(service));
            selects && selection::covers(agent, monitor.head(), &service.id.namespace)
        })
    }

    /// What the agent runs for the pods of a namespace.
    pub fn select(&self, agent: &Agent, services: &Services, place: Place<'_>) -> Selection {
        self.select_if(agent, services, place, |_| true)
    }

    /// The same, where monitors that do not fit are rejected for want of room.
    pub fn select_if(
        &self,
        agent: &Agent,
        services: &Services,
        place: Place<'_>,
        fits: impl Fn(Head<'_>) -> bool,
    ) -> Selection {
        let namespace = place.namespace;
        let (about, elsewhere): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|(_, check)| selection::covers(agent, check.monitor.head(), namespace));
        let mut refused = Vec::new();
        let judged = about.into_iter().map(|(key, check)| {
            let fits = fits(check.monitor.head());
            check.judged(key, services, place, fits, &mut refused)
        });
        let mut selection = selection::within_budget(judged.collect(), namespace);
        selection.elsewhere = elsewhere.into_iter().map(|(key, _)| key.clone()).collect();
        selection.refused = refused;
        selection
    }

    /// Every monitor, as for pods of its own namespace and without a bound on their size. `ServiceMonitor`s have the jobs of
    /// all Services of every namespace that they are about.
    pub fn everywhere(&self, agent: &Agent, monitors: &Monitors) -> Selection {
        let services = monitors.services();
        let mut selection = Selection::default();
        for (key, Check { monitor, result }) in &self.0 {
            let about = |namespace: &&str| selection::covers(agent, monitor.head(), namespace);
            let result = result.as_ref().map_err(Clone::clone).and_then(|passed| {
                let place = monitors.known_place(agent, &key.id.namespace);
                place.map_or(Ok(()), |place| selection::allowed(passed.checked(), key.kind, place))?;
                Ok(passed)
            });
            let result = result.map(|passed| match passed {
                Passed::Jobs(fit, _) => Cow::Borrowed(&fit.checked),
                Passed::Drafts(drafts) => {
                    let mut checked = drafts.checked.clone();
                    for namespace in services.namespaces().filter(about) {
                        let (jobs, _) = jobs(key, drafts, services, namespace, &mut selection.refused);
                        checked.jobs.extend(jobs.jobs);
                    }
                    Cow::Owned(checked)
                }
            });
            selection.add(key, result.as_deref().map_err(Clone::clone));
        }
        selection
    }
}

/// The jobs of all Services of a namespace that a monitor selects, and how many Services these are.
fn jobs(
    monitor: &MonitorKey,
    drafts: &Drafts,
    services: &Services,
    namespace: &str,
    refused: &mut Vec<Refused>,
) -> (Jobs, usize) {
    let mut jobs = Jobs::default();
    let mut count = 0;
    for service in services.of(namespace).filter(|service| drafts.selects(service)) {
        count += 1;
        if jobs.jobs.len() > service_job::MOST_JOBS {
            break;
        }
        match &service.spec {
            Ok(endpoints) => {
                let Jobs { jobs: more, hinted } = drafts.jobs(service, endpoints);
                jobs.jobs.extend(more);
                jobs.hinted.extend(hinted);
            }
            Err(why) => refused.push(Refused {
                monitor: monitor.clone(),
                service: service.id.clone(),
                why: why.clone(),
            }),
        }
    }
    (jobs, count)
}

impl Check {
    fn judged<'a>(
        &'a self,
        key: &'a MonitorKey,
        services: &Services,
        place: Place<'_>,
        fits: bool,
        refused: &mut Vec<Refused>,
    ) -> Judged<'a> {
        let namespace = place.namespace;
        let mut hinted = Vec::new();
        let result = self.result.as_ref().map_err(Clone::clone).and_then(|passed| {
            selection::own_references(passed.checked(), &key.id, namespace)?;
            selection::allowed(passed.checked(), key.kind, place)?;
            let (fit, leaves) = passed.for_pods(key, services, namespace, refused);
            hinted = leaves;
            let no_room = || vec![selection::no_room(key.kind, selection::TOO_LARGE)];
            fits.then_some(fit).ok_or_else(no_room)
        });
        // What others say of the pods leaves their hints alone.
        if key.id.namespace != namespace {
            hinted.clear();
        }
        Judged { monitor: key, hinted, result }
    }
}

impl Passed {
    fn of(agent: &Agent, monitor: &AnyMonitor) -> Result<Self, Vec<Violation>> {
        match monitor {
            AnyMonitor::Pod(monitor) => {
                job::check(agent, monitor).map(|checked| Self::Jobs(Fit::of(checked), job::hinted(monitor)))
            }
            AnyMonitor::Service(monitor) => {
                service_job::check(agent, monitor).map(|drafts| Self::Drafts(Box::new(drafts)))
            }
        }
    }

    fn checked(&self) -> &Checked {
        match self {
            Self::Jobs(fit, _) => &fit.checked,
            Self::Drafts(drafts) => &drafts.checked,
        }
    }

    /// The jobs for the pods of a namespace, and rules by which the pods' hints are left to them.
    fn for_pods(
        &self,
        key: &MonitorKey,
        services: &Services,
        namespace: &str,
        refused: &mut Vec<Refused>,
    ) -> (Cow<'_, Fit>, Vec<Relabel>) {
        match self {
            Self::Jobs(fit, hinted) => (Cow::Borrowed(fit), hinted.clone()),
            Self::Drafts(drafts) => {
                let (Jobs { jobs, hinted }, count) = jobs(key, drafts, services, namespace, refused);
                let mut checked = Checked { jobs, ..drafts.checked.clone() };
                if count == 0 {
                    let path = Path::root("spec").key("selector").to_string();
                    checked.warnings.push(Warning { path, text: format!("{NO_SERVICE} {namespace}") });
                }
                (Cow::Owned(Fit::of(checked)), hinted)
            }
        }
    }
}

impl Taken {
    /// Whether it selects no Service of the pods' namespace, and would have to.
    pub fn lacks_service(&self) -> bool {
        self.warnings.iter().any(|warning| warning.text.starts_with(NO_SERVICE))
    }

    /// Notes that it selects none in these namespaces.
    pub fn note_lack(&mut self, namespaces: &str) {
        let path = Path::root("spec").key("selector").to_string();
        self.warnings.push(Warning { path, text: format!("{NO_SERVICE} {namespaces}") });
    }
}

impl Fit {
    fn of(checked: Checked) -> Self {
        let bytes = render::size(&checked.jobs);
        Self { checked, bytes }
    }
}
