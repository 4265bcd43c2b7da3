//! Which monitors an agent runs for the pods of one namespace. PURE.
//!
//! Input: every monitor and the labels of namespaces, as far as they are known; an agent and a namespace. Output: a
//! [`Selection`]. Rules: prometheus-operator `pkg/prometheus/resource_selector.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::job::{self, Checked};
use super::podmonitor::{MonitorId, PodMonitor};
use super::selector;
use crate::template::agent::{Agent, FileReference, IgnoredField};
use crate::template::prometheus::{Relabel, ScrapeConfig};
use crate::template::violation::{Path, Rule, Violation, Warning};

/// Label that the API server sets on every Namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Most bytes of all jobs of monitors, about: the rest of the configuration has to fit beside them (1 MiB).
const MOST_BYTES: usize = 512 << 10;
/// Most files of all monitors of a namespace: each is a source of a volume in every pod.
const MOST_FILES: usize = 64;

/// Everything that is known about monitors. A clone shares what is not changed afterwards.
#[derive(Debug, Clone, Default)]
pub struct Monitors {
    pods: BTreeMap<MonitorId, Arc<PodMonitor>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// What an agent runs for the pods of one namespace, beside its own jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Complete jobs, by monitor and endpoint.
    pub jobs: Vec<ScrapeConfig>,
    /// Rules by which the pods' hints are left to the monitors that scrape the same port.
    pub hinted: Vec<Relabel>,
    /// Files of the jobs, from objects of the pods' namespace. An agent runs without them.
    pub files: BTreeSet<FileReference>,
    /// Monitors that the jobs are of.
    pub taken: Vec<Taken>,
    /// Monitors that the template selects and that cannot be used here.
    pub rejected: Vec<Rejected>,
    /// Monitors that the template selects and that are about pods of other namespaces.
    pub elsewhere: Vec<MonitorId>,
}

/// A monitor that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which one.
    pub id: MonitorId,
    /// What of it has no effect, sorted by path.
    pub ignored: Vec<IgnoredField>,
    /// What is used with a doubt, sorted by path.
    pub warnings: Vec<Warning>,
}

/// A monitor that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which one.
    pub id: MonitorId,
    /// Why, sorted by path.
    pub violations: Vec<Violation>,
}

impl Monitors {
    /// Adds or replaces a monitor. Whether there was none of that name.
    pub fn insert(&mut self, monitor: PodMonitor) -> bool {
        self.pods.insert(monitor.id.clone(), Arc::new(monitor)).is_none()
    }

    /// Removes a monitor, if it is there.
    pub fn remove(&mut self, id: &MonitorId) {
        self.pods.remove(id);
    }

    /// Adds or replaces the labels of a namespace.
    pub fn insert_namespace(&mut self, name: String, labels: BTreeMap<String, String>) {
        self.namespaces.insert(name, labels);
    }

    /// Forgets a namespace. Its monitors are removed one by one, as they are deleted.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Namespaces that have monitors.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.pods.keys().map(|id| id.namespace.as_str()).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// The monitors that the template selects, valid or not. No selector takes none, an empty one all; without a namespace
    /// selector only those of the template's namespace count.
    pub fn selected<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a PodMonitor> {
        let spec = &agent.spec;
        let selector = spec.pod_monitor_selector.as_ref();
        let monitors = selector.into_iter().flat_map(|selector| {
            self.pods.values().filter(|monitor| selector::matches(selector, &monitor.labels))
        });
        monitors.map(AsRef::as_ref).filter(|monitor| match &spec.pod_monitor_namespace_selector {
            None => monitor.id.namespace == agent.id.namespace,
            Some(selector) => selector::matches(selector, &self.labels_of(&monitor.id.namespace)),
        })
    }

    /// Labels of a namespace. One that is not known has the label that every one has.
    fn labels_of(&self, namespace: &str) -> BTreeMap<String, String> {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        labels
    }

    /// What the agent runs for the pods of a namespace.
    pub fn select(&self, agent: &Agent, namespace: &str) -> Selection {
        let about = |monitor: &&PodMonitor| covers(agent, monitor, namespace);
        let (about, elsewhere): (Vec<_>, Vec<_>) = self.selected(agent).partition(about);
        let judged = about.into_iter().map(|monitor| {
            let checked = job::check(agent, monitor);
            (monitor, checked.and_then(|checked| own_references(checked, &monitor.id, namespace)))
        });
        let mut selection = within_budget(judged.collect(), namespace);
        selection.elsewhere = elsewhere.into_iter().map(|monitor| monitor.id.clone()).collect();
        selection
    }

    /// Every monitor that the template selects, judged for pods of its own namespace, to which it need not be limited.
    pub fn select_everywhere(&self, agent: &Agent) -> Selection {
        let mut selection = Selection::default();
        for monitor in self.selected(agent) {
            selection.add(monitor, job::check(agent, monitor));
        }
        selection
    }
}

/// A selected monitor, and what became of it.
type Judged<'a> = (&'a PodMonitor, Result<Checked, Vec<Violation>>);

/// Takes monitors for as long as there is room for them: those of the pods' own namespace first, so that nobody's metrics go
/// for want of room that others took.
fn within_budget(mut judged: Vec<Judged<'_>>, namespace: &str) -> Selection {
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by_key(|index| judged[*index].0.id.namespace != namespace);
    let (mut bytes, mut files) = (0, BTreeSet::new());
    for index in order {
        let result = &mut judged[index].1;
        let Ok(checked) = &*result else { continue };
        let size = checked.jobs.iter().map(size).sum::<usize>();
        let needed: BTreeSet<_> = files.union(&checked.files).cloned().collect();
        if bytes + size > MOST_BYTES {
            *result = Err(vec![no_room("makes the configuration larger than a ConfigMap holds")]);
        } else if needed.len() > MOST_FILES {
            *result = Err(vec![no_room("needs more files than a pod mounts for its monitors")]);
        } else {
            (bytes, files) = (bytes + size, needed);
        }
    }
    let mut selection = Selection::default();
    for (monitor, result) in judged {
        selection.add(monitor, result);
        if monitor.id.namespace == namespace
            && selection.taken.last().is_some_and(|taken| taken.id == monitor.id)
        {
            selection.hinted.extend(job::hinted(monitor));
        }
    }
    selection
}

/// Bytes of a job, about.
fn size(job: &ScrapeConfig) -> usize {
    serde_json::to_vec(job).map_or(0, |text| text.len())
}

fn no_room(rule: &'static str) -> Violation {
    Violation {
        path: Path::root("spec").key("podMetricsEndpoints").to_string(),
        value: None,
        rule: Rule::Other { rule, fix: "select fewer monitors, or shorten them" },
    }
}

/// Whether the monitor is about pods of this namespace.
fn covers(agent: &Agent, monitor: &PodMonitor, namespace: &str) -> bool {
    let selector = &monitor.spec.namespace_selector;
    let ignored = agent.spec.ignore_namespace_selectors == Some(true);
    if ignored || !selector.any && selector.match_names.is_empty() {
        return monitor.id.namespace == namespace;
    }
    selector.any || selector.match_names.iter().any(|name| name == namespace)
}

/// Upstream resolves references in the monitor's namespace; a pod can mount those of its own alone.
fn own_references(checked: Checked, id: &MonitorId, namespace: &str) -> Result<Checked, Vec<Violation>> {
    const FIX: &str = "put a monitor with its own Secrets and ConfigMaps into the pods' namespace";
    if id.namespace == namespace || checked.references.is_empty() {
        return Ok(checked);
    }
    let violation = |path: &Path| Violation {
        path: path.to_string(),
        value: None,
        rule: Rule::Other {
            rule: "refers to Secrets or ConfigMaps of the monitor's namespace, which pods of another cannot mount",
            fix: FIX,
        },
    };
    Err(checked.references.iter().map(violation).collect())
}

impl Selection {
    fn add(&mut self, monitor: &PodMonitor, judged: Result<Checked, Vec<Violation>>) {
        let id = monitor.id.clone();
        match judged {
            Ok(Checked { jobs, files, ignored, warnings, references: _ }) => {
                self.jobs.extend(jobs);
                self.files.extend(files);
                self.taken.push(Taken { id, ignored, warnings });
            }
            Err(violations) => self.rejected.push(Rejected { id, violations }),
        }
    }

    /// What there is to say about the monitors, a line each.
    pub fn notes(&self) -> Vec<String> {
        let rejected = self.rejected.iter().flat_map(|Rejected { id, violations }| {
            violations.iter().map(move |violation| format!("rejected: PodMonitor {id}: {violation}"))
        });
        let taken = self.taken.iter().flat_map(|Taken { id, ignored, warnings }| {
            let ignored = ignored
                .iter()
                .map(move |field| format!("ignored: PodMonitor {id}: {}: {}", field.path, field.why));
            let warnings = warnings
                .iter()
                .map(move |warning| format!("warning: PodMonitor {id}: {}: {}", warning.path, warning.text));
            ignored.chain(warnings)
        });
        let elsewhere = self.elsewhere.iter();
        let elsewhere =
            elsewhere.map(|id| format!("not used: PodMonitor {id}: it is about pods of other namespaces"));
        rejected.chain(taken).chain(elsewhere).collect()
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
