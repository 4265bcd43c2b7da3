//! What a template's version in force renders to in each namespace, and what there is to say of its monitors. PURE.
//!
//! Input: the version in force, the monitors, and which of them changed. Output: contents, made anew only where something
//! changed; rejections and remarks for the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bindings::Verdict;
use super::plan::{TooLarge, digest};
use crate::monitors::checks::Checks;
use crate::monitors::podmonitor::{MonitorId, PodMonitor};
use crate::monitors::selection::{Monitors, Rejected, Selection, Taken, covers, covers_any, may_select};
use crate::template::agent::Agent;
use crate::template::render;
use crate::template::violation::Violation;

/// Most remarks on monitors in a status: each monitor is for its author's eyes, not for the template's.
const MOST_REMARKS: usize = 20;
/// Most monitors of a template whose rejection is told as an Event: one tenant's must not take the place of all others'.
const MOST_ANNOUNCED: usize = 100;
/// Most namespaces that are named for one rejection.
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
    announced: BTreeMap<MonitorId, (String, Vec<String>)>,
}

/// Whether there is room for a monitor in the configuration for a namespace.
type Fits = fn(&PodMonitor, &str) -> bool;

/// What was rendered for one namespace.
#[derive(Debug)]
struct Drawn {
    /// Nothing where monitors changed since.
    digest: Option<[u8; 32]>,
    /// Monitors that cannot be used there.
    rejected: Vec<Rejected>,
}

/// What there is to say of the monitors that a template selects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// Monitors that are not used, in all namespaces or in some.
    pub rejections: Vec<Rejection>,
    /// What has no effect or a doubt, a line each.
    pub remarks: Vec<String>,
}

/// A monitor that is not used, for any pods or for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which one.
    pub id: MonitorId,
    /// `metadata.uid` of it.
    pub uid: String,
    /// Why, a line each, for whoever owns the template.
    pub lines: Vec<String>,
    /// The same for whoever owns the monitor: other namespaces are not named to him.
    pub told: Vec<String>,
}

impl Rendered {
    /// What was rendered for pods that these monitors are about is out of date, if the template may select them.
    pub fn forget(&mut self, monitors: &[Arc<PodMonitor>]) {
        let Some(agent) = &self.agent else { return };
        for monitor in monitors.iter().filter(|monitor| may_select(agent, monitor)) {
            self.checked = false;
            for (namespace, drawn) in &mut self.drawn {
                if covers(agent, monitor, namespace) {
                    drawn.digest = None;
                }
            }
        }
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
    pub fn render(&mut self, agent: &Agent, namespace: &str) -> Result<(String, [u8; 32]), TooLarge> {
        let mut selection = self.checks.select(agent, namespace);
        let mut content = render::render(agent, namespace, &selection);
        // The template's own part comes first, then monitors of the pods' own namespace.
        let own: Fits = |monitor, namespace| monitor.id.namespace == namespace;
        for fits in [own, |_, _| false] {
            if content.len() > render::MAX_BYTES {
                selection = self.checks.select_if(agent, namespace, |monitor| fits(monitor, namespace));
                content = render::render(agent, namespace, &selection);
            }
        }
        if content.len() > render::MAX_BYTES {
            return Err(TooLarge { bytes: content.len() });
        }
        let digest = digest(&content);
        let Selection { rejected, .. } = selection;
        self.drawn.insert(namespace.to_owned(), Drawn { digest: Some(digest), rejected });
        Ok((content, digest))
    }

    /// The monitors that are about pods of the template, each with what became of it.
    fn relevant(&self) -> impl Iterator<Item = (&PodMonitor, Result<Taken, &[Violation]>)> {
        let agent = self.agent.as_ref();
        self.checks
            .all()
            .filter(move |(monitor, _)| agent.is_some_and(|agent| covers_any(agent, monitor, &self.drawn)))
    }

    /// Why monitors are rejected for pods of some namespaces that are not for others, with these.
    fn in_some(&self) -> BTreeMap<&MonitorId, BTreeMap<String, Vec<&str>>> {
        let mut found: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for (namespace, drawn) in &self.drawn {
            for Rejected { id, violations } in &drawn.rejected {
                for violation in violations {
                    let of_monitor = found.entry(id).or_default();
                    of_monitor.entry(violation.to_string()).or_default().push(namespace.as_str());
                }
            }
        }
        found
    }

    /// What there is to say of the monitors that are about pods of the template.
    pub fn notes(&self) -> Notes {
        let mut in_some = self.in_some();
        let (mut rejections, mut taken) = (Vec::new(), Vec::new());
        for (monitor, became) in self.relevant() {
            let PodMonitor { id, uid, .. } = monitor;
            let in_some = in_some.remove(id);
            let (lines, told) = match became {
                Err(violations) => {
                    let lines =
                        violations.iter().map(|violation| format!("rejected: PodMonitor {id}: {violation}"));
                    let lines: Vec<_> = lines.collect();
                    (lines.clone(), lines)
                }
                Ok(it) => {
                    taken.push(it);
                    in_some
                        .into_iter()
                        .flatten()
                        .map(|(violation, namespaces)| {
                            let line = |places: &str| {
                                format!("rejected for pods of {places}: PodMonitor {id}: {violation}")
                            };
                            (line(&named(&namespaces)), line(places(id, &namespaces)))
                        })
                        .unzip()
                }
            };
            if !lines.is_empty() {
                rejections.push(Rejection { id: id.clone(), uid: uid.clone(), lines, told });
            }
        }
        let remarks = Selection { taken, ..Selection::default() }.remarks();
        Notes { rejections, remarks: cut(remarks) }
    }

    /// Takes out the rejections that were not told as Events yet; of many monitors, the first ones'. What is told of the others
    /// stands in statuses.
    pub fn announce(&mut self) -> Vec<Rejection> {
        let rejections = self.notes().rejections;
        let rejected: BTreeSet<&MonitorId> = rejections.iter().map(|rejection| &rejection.id).collect();
        self.announced.retain(|id, _| rejected.contains(id));
        let mut news = Vec::new();
        for rejection in rejections {
            let room = self.announced.len() < MOST_ANNOUNCED || self.announced.contains_key(&rejection.id);
            let said = (rejection.uid.clone(), rejection.told.clone());
            if room && self.announced.insert(rejection.id.clone(), said.clone()) != Some(said) {
                news.push(rejection);
            }
        }
        news
    }

    /// What the template makes of each monitor that is about its pods.
    pub fn verdicts(&self) -> BTreeMap<MonitorId, Verdict> {
        let verdict = |(monitor, became): (&PodMonitor, Result<Taken, _>)| {
            (monitor.id.clone(), Verdict { accepted: became.is_ok(), message: String::new() })
        };
        let mut verdicts: BTreeMap<_, _> = self.relevant().map(verdict).collect();
        for Rejection { id, told, .. } in self.notes().rejections {
            if let Some(verdict) = verdicts.get_mut(&id) {
                verdict.message = told.join("; ");
            }
        }
        verdicts
    }
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

/// A few of the namespaces, and how many others.
fn named(namespaces: &[&str]) -> String {
    let (named, others) = namespaces.split_at(namespaces.len().min(MOST_NAMED));
    match others.len() {
        0 => named.join(", "),
        count => format!("{} and {count} more", named.join(", ")),
    }
}

fn cut(mut remarks: Vec<String>) -> Vec<String> {
    let more = remarks.len().saturating_sub(MOST_REMARKS);
    if more > 0 {
        remarks.truncate(MOST_REMARKS);
        remarks.push(format!("{more} more remarks on PodMonitors, which `promsidecar validate` lists"));
    }
    remarks
}

#[cfg(test)]
#[path = "rendered_tests.rs"]
mod tests;
