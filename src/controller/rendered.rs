//! What a template's version in force renders to in each namespace, and what there is to say of its monitors. PURE.
//!
//! Input: the version in force, the monitors, and which of them changed. Output: contents, made anew only where something
//! changed; rejections and remarks for the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bindings::Verdict;
use super::plan::{TooLarge, digest};
use crate::monitors::any::AnyMonitor;
use crate::monitors::checks::Checks;
use crate::monitors::object::{Head, MonitorId, MonitorKey};
use crate::monitors::selection::{
    Monitors, Refused, Rejected, Selection, Taken, covers, covers_any, may_select,
};
use crate::monitors::service::Service;
use crate::template::agent::Agent;
use crate::template::render;
use crate::template::violation::Violation;

/// Most remarks on monitors in a status: each monitor is for its author's eyes, not for the template's.
const MOST_REMARKS: usize = 20;
/// Most monitors of a template whose rejection is told as an Event: one tenant's must not take the place of all others'.
const MOST_ANNOUNCED: usize = 100;
/// Most namespaces, or Services, that are named for one rejection.
const MOST_NAMED: usize = 3;

/// A version in force, and the monitors that it selects from.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a> {
    /// The version.
    pub agent: &'a Arc<Agent>,
    /// All of them.
    pub monitors: &'a Monitors,
}

/// What was rendered last. It is not rendered again to find that nothing differs.
#[derive(Debug, Default)]
pub struct Rendered {
    agent: Option<Arc<Agent>>,
    checks: Checks,
    /// Whether the checks are of the present monitors.
    checked: bool,
    drawn: BTreeMap<String, Drawn>,
    /// Rejections that were told as Events: of which object, and what.
    announced: BTreeMap<MonitorKey, (String, Vec<String>)>,
}

/// Whether there is room for a monitor in the configuration for a namespace.
type Fits = fn(Head<'_>, &str) -> bool;

/// What was rendered for one namespace.
#[derive(Debug)]
struct Drawn {
    /// Nothing where monitors or Services changed since.
    digest: Option<[u8; 32]>,
    /// Monitors that cannot be used there.
    rejected: Vec<Rejected>,
    /// Services there that give no jobs.
    refused: Vec<Refused>,
    /// Monitors that select no Service there, and would have to.
    idle: Vec<MonitorKey>,
}

/// What there is to say of the monitors that a template selects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// Monitors that are not used, in all namespaces or in some.
    pub rejections: Vec<Rejection>,
    /// What has no effect or a doubt, a line each.
    pub remarks: Vec<String>,
}

/// A monitor that is not used, for any pods or for some, or whose Services are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which one.
    pub monitor: MonitorKey,
    /// `metadata.uid` of it.
    pub uid: String,
    /// Why, a line each, for whoever owns the template.
    pub lines: Vec<String>,
    /// The same for whoever owns the monitor: other namespaces are not named to him.
    pub told: Vec<String>,
}

impl Rendered {
    /// What was rendered for pods that these monitors are about is out of date, if the template may select them.
    pub fn forget(&mut self, monitors: &[AnyMonitor]) {
        let Some(agent) = &self.agent else { return };
        for monitor in monitors.iter().map(AnyMonitor::head).filter(|monitor| may_select(agent, *monitor)) {
            self.checked = false;
            for (namespace, drawn) in &mut self.drawn {
                if covers(agent, monitor, namespace) {
                    drawn.digest = None;
                }
            }
        }
    }

    /// What was rendered for pods beside these Services is out of date, if it goes by them; whether any was. A monitor that is
    /// not checked yet need not be asked: what it is about is out of date already.
    pub fn forget_services(&mut self, services: &[Arc<Service>]) -> bool {
        let Some(agent) = &self.agent else { return false };
        let mut any = false;
        for service in services {
            if let Some(drawn) = self.drawn.get_mut(&service.id.namespace)
                && self.checks.goes_by(agent, service)
            {
                (drawn.digest, any) = (None, true);
            }
        }
        any
    }

    /// Whether nothing changed since the last time.
    pub fn is_current(&self) -> bool {
        self.checked && self.drawn.values().all(|drawn| drawn.digest.is_some())
    }

    /// Forgets what was rendered for other namespaces than these.
    pub fn keep(&mut self, namespaces: &BTreeSet<&str>) {
        self.drawn.retain(|namespace, _| namespaces.contains(&**namespace));
    }

    /// Makes up for what changed since the last time.
    pub fn follow(&mut self, InForce { agent, monitors }: InForce<'_>) {
        if self.agent.as_ref() != Some(agent) {
            let announced = std::mem::take(&mut self.announced);
            *self = Self { agent: Some(Arc::clone(agent)), announced, ..Self::default() };
        }
        if !self.checked {
            self.checks.follow(monitors, agent);
            self.checked = true;
        }
    }

    /// The digest of the content for a namespace, if it is rendered.
    pub fn digest(&self, namespace: &str) -> Option<[u8; 32]> {
        self.drawn.get(namespace).and_then(|drawn| drawn.digest)
    }

    /// Renders the version that was followed last, for a namespace. Gives the content and its digest.
    pub fn render(
        &mut self,
        InForce { agent, monitors }: InForce<'_>,
        namespace: &str,
    ) -> Result<(String, [u8; 32]), TooLarge> {
        let services = monitors.services();
        let place = monitors.place(agent, namespace);
        let mut selection = self.checks.select(agent, services, place);
        let mut content = render::render(agent, namespace, &selection);
        // The template's own part comes first, then monitors of the pods' own namespace.
        let own: Fits = |monitor, namespace| monitor.id.namespace == namespace;
        for fits in [own, |_, _| false] {
            if content.len() > render::MAX_BYTES {
                let fits = |monitor: Head<'_>| fits(monitor, namespace);
                selection = self.checks.select_if(agent, services, place, fits);
                content = render::render(agent, namespace, &selection);
            }
        }
        if content.len() > render::MAX_BYTES {
            return Err(TooLarge { bytes: content.len() });
        }
        let digest = digest(&content);
        let Selection { rejected, refused, taken, .. } = selection;
        let idle = taken.into_iter().filter(Taken::lacks_service).map(|taken| taken.monitor).collect();
        let drawn = Drawn { digest: Some(digest), rejected, refused, idle };
        self.drawn.insert(namespace.to_owned(), drawn);
        Ok((content, digest))
    }

    /// The monitors that are about pods of the template, each with what became of it.
    fn relevant(&self) -> impl Iterator<Item = (&AnyMonitor, Result<Taken, &[Violation]>)> {
        let agent = self.agent.as_ref();
        self.checks.all().filter(move |(monitor, _)| {
            agent.is_some_and(|agent| covers_any(agent, monitor.head(), &self.drawn))
        })
    }

    /// Why monitors are rejected for pods of some namespaces that are not for others, with these.
    fn in_some(&self) -> BTreeMap<&MonitorKey, BTreeMap<String, Vec<&str>>> {
        let mut found: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for (namespace, drawn) in &self.drawn {
            for Rejected { monitor, violations } in &drawn.rejected {
                for violation in violations {
                    let of_monitor = found.entry(monitor).or_default();
                    of_monitor.entry(violation.to_string()).or_default().push(namespace.as_str());
                }
            }
        }
        found
    }

    /// Why Services give no jobs, with these, by the monitors that select them.
    fn refused(&self) -> BTreeMap<&MonitorKey, BTreeMap<String, Vec<&MonitorId>>> {
        let mut found: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for Refused { monitor, service, why } in self.drawn.values().flat_map(|drawn| &drawn.refused) {
            let of_monitor = found.entry(monitor).or_default();
            of_monitor.entry(why.to_string()).or_default().push(service);
        }
        found
    }

    /// The namespaces that a monitor is about, if it selects a Service in none of them.
    fn idle_in(&self, key: &MonitorKey, monitor: Head<'_>) -> Option<String> {
        let agent = self.agent.as_ref()?;
        let about = self.drawn.iter().filter(|(namespace, _)| covers(agent, monitor, namespace));
        let (namespaces, idle): (Vec<_>, Vec<_>) =
            about.map(|(namespace, drawn)| (namespace, drawn.idle.contains(key))).unzip();
        (!idle.is_empty() && idle.iter().all(|idle| *idle)).then(|| named(&namespaces))
    }

    /// What there is to say of the monitors that are about pods of the template.
    pub fn notes(&self) -> Notes {
        let (mut in_some, mut refused) = (self.in_some(), self.refused());
        let (mut rejections, mut taken) = (Vec::new(), Vec::new());
        for (monitor, became) in self.relevant() {
            let key = monitor.key();
            let (mut lines, mut told): (Vec<_>, Vec<_>) = match became {
                Err(violations) => {
                    let lines = violations.iter().map(|violation| format!("rejected: {key}: {violation}"));
                    lines.map(|line| (line.clone(), line)).unzip()
                }
                Ok(mut it) => {
                    if let Some(namespaces) = self.idle_in(&key, monitor.head()) {
                        it.note_lack(&namespaces);
                    }
                    taken.push(it);
                    let in_some = in_some.remove(&key).into_iter().flatten();
                    in_some.map(|(violation, namespaces)| rejected_in(&key, &violation, &namespaces)).unzip()
                }
            };
            for (why, services) in refused.remove(&key).into_iter().flatten() {
                lines.push(format!("refused: {key}: {} {why}", each_of(&services)));
                told.extend(told_of_refused(&key, &why, &services));
            }
            if !lines.is_empty() {
                let uid = monitor.head().uid.to_owned();
                rejections.push(Rejection { monitor: key, uid, lines, told });
            }
        }
        let remarks = Selection { taken, ..Selection::default() }.remarks();
        Notes { rejections, remarks: cut(remarks) }
    }

    /// Takes out the rejections that were not told as Events yet; of many monitors, the first ones'. What is told of the others
    /// stands in statuses.
    pub fn announce(&mut self) -> Vec<Rejection> {
        let rejections = self.notes().rejections;
        let rejected: BTreeSet<&MonitorKey> = rejections.iter().map(|rejection| &rejection.monitor).collect();
        self.announced.retain(|monitor, _| rejected.contains(monitor));
        let mut news = Vec::new();
        for rejection in rejections {
            let monitor = &rejection.monitor;
            let room = self.announced.len() < MOST_ANNOUNCED || self.announced.contains_key(monitor);
            let said = (rejection.uid.clone(), rejection.told.clone());
            if room && self.announced.insert(monitor.clone(), said.clone()) != Some(said) {
                news.push(rejection);
            }
        }
        news
    }

    /// What the template makes of each monitor that is about its pods.
    pub fn verdicts(&self) -> BTreeMap<MonitorKey, Verdict> {
        let verdict = |(monitor, became): (&AnyMonitor, Result<Taken, _>)| {
            (monitor.key(), Verdict { accepted: became.is_ok(), message: String::new() })
        };
        let mut verdicts: BTreeMap<_, _> = self.relevant().map(verdict).collect();
        for Rejection { monitor, told, .. } in self.notes().rejections {
            if let Some(verdict) = verdicts.get_mut(&monitor) {
                verdict.message = told.join("; ");
            }
        }
        verdicts
    }
}

/// A monitor that is rejected in these namespaces alone, for the template's owner and for its own.
fn rejected_in(monitor: &MonitorKey, violation: &str, namespaces: &[&str]) -> (String, String) {
    let line = |places: &str| format!("rejected for pods of {places}: {monitor}: {violation}");
    (line(&named(namespaces)), line(places(&monitor.id, namespaces)))
}

/// Refused Services for the owner of the monitor: those of other namespaces are not named to him.
fn told_of_refused(monitor: &MonitorKey, why: &str, services: &[&MonitorId]) -> Vec<String> {
    let is_own = |service: &&&MonitorId| service.namespace == monitor.id.namespace;
    let own: Vec<&MonitorId> = services.iter().filter(is_own).copied().collect();
    let others = (own.len() < services.len()).then(|| "a Service of another namespace".to_owned());
    let own = (!own.is_empty()).then(|| each_of(&own));
    own.into_iter().chain(others).map(|services| format!("refused: {monitor}: {services} {why}")).collect()
}

/// A few Services, as the subject of a sentence.
fn each_of(services: &[&MonitorId]) -> String {
    let several = if services.len() == 1 { "Service" } else { "each of Services" };
    format!("{several} {}", named(services))
}

/// The namespaces as the owner of a monitor may know them.
fn places(monitor: &MonitorId, namespaces: &[&str]) -> &'static str {
    let own = namespaces.contains(&&*monitor.namespace);
    match (own, namespaces.len()) {
        (true, 1) => "its namespace",
        (true, _) => "its namespace and of others",
        (false, _) => "other namespaces",
    }
}

/// The first few, and how many others there are.
fn named(all: &[impl ToString]) -> String {
    let (first, others) = all.split_at(all.len().min(MOST_NAMED));
    let first = first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match others.len() {
        0 => first,
        count => format!("{first} and {count} more"),
    }
}

fn cut(mut remarks: Vec<String>) -> Vec<String> {
    let more = remarks.len().saturating_sub(MOST_REMARKS);
    if more > 0 {
        remarks.truncate(MOST_REMARKS);
        remarks.push(format!("{more} more remarks on monitors, which `promsidecar validate` lists"));
    }
    remarks
}

#[cfg(test)]
#[path = "rendered_tests.rs"]
mod tests;
