//! Which monitors an agent runs for the pods of one namespace. PURE.
//!
//! Input: every monitor and Service and the labels of namespaces, as far as they are known; an agent and a namespace. Output: a
//! [`Selection`]. Rules: prometheus-operator `pkg/prometheus/resource_selector.go`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checks::{Checks, Fit};
use super::job::Checked;
use super::object::{Kind, Monitor, MonitorId, Spec};
use super::podmonitor::PodMonitor;
use super::selector;
use super::service::{Refusal, Services};
use super::servicemonitor::ServiceMonitor;
use crate::template::agent::{Agent, FileReference, IgnoredField};
use crate::template::api::LabelSelector;
use crate::template::prometheus::{Relabel, ScrapeConfig};
use crate::template::violation::{Path, Rule, Violation, Warning};

/// What is said of a monitor whose jobs do not fit in.
pub(super) const TOO_LARGE: &str = "makes the configuration larger than a ConfigMap holds";

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
    by_service: BTreeMap<MonitorId, Arc<ServiceMonitor>>,
    services: Services,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether a namespace that is not known is not there, or is going.
    all_known: bool,
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
    /// `PodMonitor`s that the jobs are of.
    pub taken: Vec<Taken>,
    /// `PodMonitor`s that the template selects and that cannot be used here.
    pub rejected: Vec<Rejected>,
    /// `PodMonitor`s that the template selects and that are about pods of other namespaces.
    pub elsewhere: Vec<MonitorId>,
    /// What became of `ServiceMonitor`s.
    pub by_service: ByService,
}

/// `ServiceMonitor`s and the Services that they select.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ByService {
    /// Monitors that the jobs are of.
    pub taken: Vec<Taken>,
    /// Monitors that the template selects and that cannot be used here.
    pub rejected: Vec<Rejected>,
    /// Monitors that the template selects and that are about pods of other namespaces.
    pub elsewhere: Vec<MonitorId>,
    /// Services whose endpoints agents cannot know.
    pub refused: Vec<Refused>,
}

/// A Service that gives no jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The `ServiceMonitor` that selects it.
    pub monitor: MonitorId,
    /// Which one.
    pub service: MonitorId,
    /// Why.
    pub why: Refusal,
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
    /// None yet, of a cluster, whose namespaces are all told of. Monitors of others are not selected by their labels: what is not
    /// known would satisfy `NotIn`.
    pub fn of_cluster() -> Self {
        Self { all_known: true, ..Self::default() }
    }

    /// Adds or replaces a monitor; gives the one of that name that was there.
    pub fn insert(&mut self, monitor: PodMonitor) -> Option<Arc<PodMonitor>> {
        self.pods.insert(monitor.id.clone(), Arc::new(monitor))
    }

    /// Removes a monitor, if it is there.
    pub fn remove(&mut self, id: &MonitorId) -> Option<Arc<PodMonitor>> {
        self.pods.remove(id)
    }

    /// A monitor, if it is there.
    pub fn get(&self, id: &MonitorId) -> Option<&Arc<PodMonitor>> {
        self.pods.get(id)
    }

    /// Every monitor.
    pub fn all(&self) -> impl Iterator<Item = &Arc<PodMonitor>> {
        self.pods.values()
    }

    /// Adds or replaces a `ServiceMonitor`; gives the one of that name that was there.
    pub fn insert_for_services(&mut self, monitor: ServiceMonitor) -> Option<Arc<ServiceMonitor>> {
        self.by_service.insert(monitor.id.clone(), Arc::new(monitor))
    }

    /// A `ServiceMonitor`, if it is there.
    pub fn get_for_services(&self, id: &MonitorId) -> Option<&Arc<ServiceMonitor>> {
        self.by_service.get(id)
    }

    /// Every Service.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Every Service, to be changed.
    pub fn services_mut(&mut self) -> &mut Services {
        &mut self.services
    }

    /// Adds or replaces the labels of a namespace; whether they are others than before.
    pub fn insert_namespace(&mut self, name: String, labels: BTreeMap<String, String>) -> bool {
        let before = self.namespaces.get(&name);
        let differ = before != Some(&labels);
        self.namespaces.insert(name, labels);
        differ
    }

    /// Forgets a namespace; whether it was known. Its monitors are removed one by one, as they are deleted.
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        self.namespaces.remove(name).is_some()
    }

    /// Namespaces that have monitors.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.pods.keys().chain(self.by_service.keys()).map(|id| id.namespace.as_str()).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.by_service.is_empty()
    }

    /// The monitors that the template selects, valid or not. No selector takes none, an empty one all; without a namespace
    /// selector only those of the template's namespace count.
    pub fn selected<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a Arc<PodMonitor>> {
        self.pods.values().filter(|monitor| self.selects(agent, monitor))
    }

    /// The same of `ServiceMonitor`s.
    pub fn selected_for_services<'a>(
        &'a self,
        agent: &'a Agent,
    ) -> impl Iterator<Item = &'a Arc<ServiceMonitor>> {
        self.by_service.values().filter(|monitor| self.selects(agent, monitor))
    }

    /// Whether the template selects a monitor.
    pub fn selects<S: Spec>(&self, agent: &Agent, monitor: &Monitor<S>) -> bool {
        let (_, namespaces) = selectors(agent, S::KIND);
        may_select(agent, monitor)
            && namespaces.is_none_or(|selector| {
                let labels = self.labels_of(&monitor.id.namespace);
                labels.is_some_and(|labels| selector::matches(selector, &labels))
            })
    }

    /// Labels of a namespace. Of manifests, one that is not known has the label that every one has.
    fn labels_of(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let known = self.namespaces.get(namespace);
        if known.is_none() && self.all_known {
            return None;
        }
        let mut labels = known.cloned().unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        Some(labels)
    }

    /// What the agent runs for the pods of a namespace.
    pub fn select(&self, agent: &Agent, namespace: &str) -> Selection {
        let mut checks = Checks::default();
        checks.follow(self, agent);
        checks.select(agent, namespace)
    }

    /// Files that the pods of a namespace need for the monitors that the agent runs for them. Only monitors of the namespace
    /// itself can have any, and they come before all others.
    pub fn files(&self, agent: &Agent, namespace: &str) -> BTreeSet<FileReference> {
        let pods = self.in_namespace(namespace).filter(|monitor| self.selects(agent, monitor));
        let services = within(&self.by_service, namespace).filter(|monitor| self.selects(agent, monitor));
        let mut checks = Checks::default();
        checks.check(agent, pods, services, &self.services);
        checks.select(agent, namespace).files
    }

    /// The `PodMonitor`s of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<PodMonitor>> {
        within(&self.pods, namespace)
    }

    /// Every monitor that the template selects, judged for pods of its own namespace, to which it need not be limited.
    pub fn select_everywhere(&self, agent: &Agent) -> Selection {
        let mut checks = Checks::default();
        checks.follow(self, agent);
        checks.everywhere(agent)
    }
}

fn within<'a, S>(
    monitors: &'a BTreeMap<MonitorId, Arc<Monitor<S>>>,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Arc<Monitor<S>>> {
    let first = MonitorId { namespace: namespace.to_owned(), name: String::new() };
    let monitors = monitors.range(first..).map(|(_, monitor)| monitor);
    monitors.take_while(move |monitor| monitor.id.namespace == namespace)
}

/// A selected monitor, and what became of it.
pub(super) struct Judged<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a MonitorId,
    /// Rules by which the pods' hints are left to it.
    pub(super) hinted: Vec<Relabel>,
    pub(super) result: Result<Cow<'a, Fit>, Vec<Violation>>,
}

/// Takes monitors for as long as there is room for them: those of the pods' own namespace first, so that nobody's metrics go
/// for want of room that others took.
pub(super) fn within_budget(mut judged: Vec<Judged<'_>>, namespace: &str) -> Selection {
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by_key(|index| judged[*index].id.namespace != namespace);
    let (mut bytes, mut files) = (0, BTreeSet::new());
    for index in order {
        let Judged { kind, result, .. } = &mut judged[index];
        let Ok(fit) = &*result else { continue };
        let needed: BTreeSet<_> = files.union(&fit.checked.files).cloned().collect();
        if bytes + fit.bytes > MOST_BYTES {
            *result = Err(vec![no_room(*kind, TOO_LARGE)]);
        } else if needed.len() > MOST_FILES {
            *result = Err(vec![no_room(*kind, "needs more files than a pod mounts for its monitors")]);
        } else {
            (bytes, files) = (bytes + fit.bytes, needed);
        }
    }
    let mut selection = Selection::default();
    for Judged { kind, id, hinted, result } in judged {
        if result.is_ok() {
            selection.hinted.extend(hinted);
        }
        selection.add(kind, id, result.as_deref().map(|fit| &fit.checked).map_err(Clone::clone));
    }
    selection
}

pub(super) fn no_room(kind: Kind, rule: &'static str) -> Violation {
    Violation {
        path: Path::root("spec").key(kind.endpoints()).to_string(),
        value: None,
        rule: Rule::Other { rule, fix: "select fewer monitors, or shorten them" },
    }
}

/// The template's selectors of monitors of a kind, and of their namespaces.
fn selectors(agent: &Agent, kind: Kind) -> (Option<&LabelSelector>, Option<&LabelSelector>) {
    let spec = &agent.spec;
    match kind {
        Kind::Pod => (spec.pod_monitor_selector.as_ref(), spec.pod_monitor_namespace_selector.as_ref()),
        Kind::Service => {
            (spec.service_monitor_selector.as_ref(), spec.service_monitor_namespace_selector.as_ref())
        }
    }
}

/// Whether the template selects a monitor, as far as labels of namespaces do not decide.
pub fn may_select<S: Spec>(agent: &Agent, monitor: &Monitor<S>) -> bool {
    let (selector, namespaces) = selectors(agent, S::KIND);
    let anywhere = namespaces.is_some() || monitor.id.namespace == agent.id.namespace;
    let selector = selector.filter(|_| anywhere);
    selector.is_some_and(|selector| selector::matches(selector, &monitor.labels))
}

/// Whose pods a monitor is about.
enum About<'a> {
    /// Those of one namespace: its own.
    Own(&'a str),
    /// Those of every namespace.
    Any,
    /// Those of these namespaces.
    Named(&'a [String]),
}

fn about<'a, S: Spec>(agent: &Agent, monitor: &'a Monitor<S>) -> About<'a> {
    let selector = monitor.spec.namespace_selector();
    let ignored = agent.spec.ignore_namespace_selectors == Some(true);
    if ignored || !selector.any && selector.match_names.is_empty() {
        return About::Own(&monitor.id.namespace);
    }
    if selector.any { About::Any } else { About::Named(&selector.match_names) }
}

/// Whether the monitor is about pods of this namespace.
pub fn covers<S: Spec>(agent: &Agent, monitor: &Monitor<S>, namespace: &str) -> bool {
    match about(agent, monitor) {
        About::Own(own) => own == namespace,
        About::Any => true,
        About::Named(names) => names.iter().any(|name| name == namespace),
    }
}

/// Whether the monitor is about pods of any of these namespaces.
pub fn covers_any<S: Spec, T>(agent: &Agent, monitor: &Monitor<S>, namespaces: &BTreeMap<String, T>) -> bool {
    match about(agent, monitor) {
        About::Own(own) => namespaces.contains_key(own),
        About::Any => !namespaces.is_empty(),
        About::Named(names) => names.iter().any(|name| namespaces.contains_key(name)),
    }
}

/// Upstream resolves references in the monitor's namespace; a pod can mount those of its own alone.
pub(super) fn own_references(
    checked: &Checked,
    id: &MonitorId,
    namespace: &str,
) -> Result<(), Vec<Violation>> {
    const FIX: &str = "put a monitor with its own Secrets and ConfigMaps into the pods' namespace";
    if id.namespace == namespace || checked.references.is_empty() {
        return Ok(());
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

impl Taken {
    pub(super) fn of(id: &MonitorId, checked: &Checked) -> Self {
        let Checked { ignored, warnings, .. } = checked;
        Self { id: id.clone(), ignored: ignored.clone(), warnings: warnings.clone() }
    }
}

impl Selection {
    pub(super) fn add(&mut self, kind: Kind, id: &MonitorId, judged: Result<&Checked, Vec<Violation>>) {
        let (taken, rejected) = match kind {
            Kind::Pod => (&mut self.taken, &mut self.rejected),
            Kind::Service => (&mut self.by_service.taken, &mut self.by_service.rejected),
        };
        match judged {
            Ok(checked) => {
                self.jobs.extend_from_slice(&checked.jobs);
                self.files.extend(checked.files.iter().cloned());
                taken.push(Taken::of(id, checked));
            }
            Err(violations) => rejected.push(Rejected { id: id.clone(), violations }),
        }
    }

    /// Whether a monitor of either kind cannot be used.
    pub fn has_rejected(&self) -> bool {
        !self.rejected.is_empty() || !self.by_service.rejected.is_empty()
    }

    /// What there is to say about the monitors, a line each.
    pub fn notes(&self) -> Vec<String> {
        let by_service = &self.by_service;
        let rejected = self.rejected.iter().map(|rejected| (Kind::Pod, rejected));
        let rejected = rejected.chain(by_service.rejected.iter().map(|rejected| (Kind::Service, rejected)));
        let rejected = rejected.flat_map(|(kind, Rejected { id, violations })| {
            violations.iter().map(move |violation| format!("rejected: {kind} {id}: {violation}"))
        });
        let elsewhere = self.elsewhere.iter().map(|id| (Kind::Pod, id));
        let elsewhere = elsewhere.chain(by_service.elsewhere.iter().map(|id| (Kind::Service, id)));
        let elsewhere = elsewhere
            .map(|(kind, id)| format!("not used: {kind} {id}: it is about pods of other namespaces"));
        rejected.chain(by_service.refusals()).chain(self.remarks()).chain(elsewhere).collect()
    }

    /// What has no effect or a doubt, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let taken = self.taken.iter().map(|taken| (Kind::Pod, taken));
        let taken = taken.chain(self.by_service.taken.iter().map(|taken| (Kind::Service, taken)));
        let taken = taken.flat_map(|(kind, Taken { id, ignored, warnings })| {
            let ignored = ignored
                .iter()
                .map(move |field| format!("ignored: {kind} {id}: {}: {}", field.path, field.why));
            let warnings = warnings
                .iter()
                .map(move |warning| format!("warning: {kind} {id}: {}: {}", warning.path, warning.text));
            ignored.chain(warnings)
        });
        taken.collect()
    }
}

impl ByService {
    fn refusals(&self) -> impl Iterator<Item = String> {
        self.refused.iter().map(|Refused { monitor, service, why }| {
            format!("refused: ServiceMonitor {monitor}: Service {service} {why}")
        })
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
