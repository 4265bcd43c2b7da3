//! Which monitors an agent runs for the pods of one namespace. PURE.
//!
//! Input: every monitor and Service and the labels of namespaces, as far as they are known; an agent and a namespace. Output: a
//! [`Selection`]. Rules: prometheus-operator `pkg/prometheus/resource_selector.go`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::any::AnyMonitor;
use super::checks::{Checks, Fit};
use super::job::Checked;
use super::object::{Head, Kind, MonitorId, MonitorKey};
use super::selector;
use super::service::{Refusal, Services};
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
    known: BTreeMap<MonitorKey, AnyMonitor>,
    services: Services,
    namespaces: BTreeMap<String, Surroundings>,
    /// Whether a namespace that is not known is not there, or is going.
    all_known: bool,
}

/// What a namespace says about the monitors in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Its labels, by which its monitors are selected.
    pub labels: BTreeMap<String, String>,
    /// Secrets and `ConfigMap`s that templates of other namespaces may use in it.
    pub allowed_secrets: BTreeSet<String>,
}

/// Namespace of the pods that an agent runs monitors for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// What of the namespace the template may use; `None` is everything, for it is the template's own.
    allowed: Option<&'a BTreeSet<String>>,
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
    pub elsewhere: Vec<MonitorKey>,
    /// Services whose endpoints agents cannot know.
    pub refused: Vec<Refused>,
}

/// A Service that gives no jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The monitor that selects it.
    pub monitor: MonitorKey,
    /// Which one.
    pub service: MonitorId,
    /// Why.
    pub why: Refusal,
}

/// A monitor that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which one.
    pub monitor: MonitorKey,
    /// What of it has no effect, sorted by path.
    pub ignored: Vec<IgnoredField>,
    /// What is used with a doubt, sorted by path.
    pub warnings: Vec<Warning>,
}

/// A monitor that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which one.
    pub monitor: MonitorKey,
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
    pub fn insert(&mut self, monitor: impl Into<AnyMonitor>) -> Option<AnyMonitor> {
        let monitor = monitor.into();
        self.known.insert(monitor.key(), monitor)
    }

    /// Removes a monitor, if it is there.
    pub fn remove(&mut self, key: &MonitorKey) -> Option<AnyMonitor> {
        self.known.remove(key)
    }

    /// A monitor, if it is there.
    pub fn get(&self, key: &MonitorKey) -> Option<&AnyMonitor> {
        self.known.get(key)
    }

    /// Every monitor.
    pub fn all(&self) -> impl Iterator<Item = &AnyMonitor> {
        self.known.values()
    }

    /// Every monitor of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &AnyMonitor> {
        self.all().filter(move |monitor| monitor.head().kind == kind)
    }

    /// Every Service.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Every Service, to be changed.
    pub fn services_mut(&mut self) -> &mut Services {
        &mut self.services
    }

    /// Adds or replaces what a namespace says; whether it is something else than before.
    pub fn insert_namespace(&mut self, name: String, says: Surroundings) -> bool {
        let differs = self.namespaces.get(&name) != Some(&says);
        self.namespaces.insert(name, says);
        differs
    }

    /// Forgets a namespace; whether it was known. Its monitors are removed one by one, as they are deleted.
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        self.namespaces.remove(name).is_some()
    }

    /// Namespaces that have monitors.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.known.keys().map(|key| key.id.namespace.as_str()).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The monitors that the template selects, valid or not. No selector takes none, an empty one all; without a namespace
    /// selector only those of the template's namespace count.
    pub fn selected<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a AnyMonitor> {
        self.all().filter(|monitor| self.selects(agent, monitor.head()))
    }

    /// Whether the template selects a monitor.
    fn selects(&self, agent: &Agent, monitor: Head<'_>) -> bool {
        let (_, namespaces) = selectors(agent, monitor.kind);
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
        let mut labels = known.map(|known| known.labels.clone()).unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        Some(labels)
    }

    /// A namespace, as an agent finds it. One that is not known allows templates of others nothing.
    pub fn place<'a>(&'a self, agent: &Agent, namespace: &'a str) -> Place<'a> {
        static NOTHING: BTreeSet<String> = BTreeSet::new();
        let known = self.namespaces.get(namespace);
        let allowed = known.map_or(&NOTHING, |known| &known.allowed_secrets);
        Place { namespace, allowed: (agent.id.namespace != namespace).then_some(allowed) }
    }

    /// The same, if anything is known of the namespace.
    pub(super) fn known_place<'a>(&'a self, agent: &Agent, namespace: &'a str) -> Option<Place<'a>> {
        self.namespaces.contains_key(namespace).then(|| self.place(agent, namespace))
    }

    /// What the agent runs for the pods of a namespace.
    pub fn select(&self, agent: &Agent, namespace: &str) -> Selection {
        let mut checks = Checks::default();
        checks.follow(self, agent);
        checks.select(agent, &self.services, self.place(agent, namespace))
    }

    /// Files that the pods of a namespace need for the monitors that the agent runs for them. Only monitors of the namespace
    /// itself can have any, and they come before all others. Services do not count: who admits pods knows none, and both have
    /// to agree on what pods mount.
    pub fn files(&self, agent: &Agent, namespace: &str) -> BTreeSet<FileReference> {
        let own = self.in_namespace(namespace).filter(|monitor| self.selects(agent, monitor.head()));
        let mut checks = Checks::default();
        checks.check(agent, own);
        checks.select(agent, &Services::default(), self.place(agent, namespace)).files
    }

    /// The monitors of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a AnyMonitor> {
        Kind::ALL.into_iter().flat_map(move |kind| {
            let first = MonitorId { namespace: namespace.to_owned(), name: String::new() };
            let monitors = self.known.range(MonitorKey { kind, id: first }..);
            let own = monitors.take_while(move |(key, _)| key.kind == kind && key.id.namespace == namespace);
            own.map(|(_, monitor)| monitor)
        })
    }

    /// Every monitor that the template selects, judged for pods of its own namespace, to which it need not be limited. Manifests
    /// need not have that namespace: what it allows is judged where it is known.
    pub fn select_everywhere(&self, agent: &Agent) -> Selection {
        let mut checks = Checks::default();
        checks.follow(self, agent);
        checks.everywhere(agent, self)
    }
}

/// A selected monitor, and what became of it.
pub(super) struct Judged<'a> {
    pub(super) monitor: &'a MonitorKey,
    /// Rules by which the pods' hints are left to it.
    pub(super) hinted: Vec<Relabel>,
    pub(super) result: Result<Cow<'a, Fit>, Vec<Violation>>,
}

/// Takes monitors for as long as there is room for them: those of the pods' own namespace first, so that nobody's metrics go
/// for want of room that others took. What pods mount is decided without Services, so what is mounted for a monitor counts even
/// where its jobs do not fit.
pub(super) fn within_budget(mut judged: Vec<Judged<'_>>, namespace: &str) -> Selection {
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by_key(|index| judged[*index].monitor.id.namespace != namespace);
    let (mut bytes, mut files) = (0, BTreeSet::new());
    for index in order {
        let Judged { monitor, result, .. } = &mut judged[index];
        let Ok(fit) = &*result else { continue };
        let needed: BTreeSet<_> = files.union(&fit.checked.files).cloned().collect();
        if needed.len() > MOST_FILES {
            *result = Err(vec![no_room(monitor.kind, "needs more files than a pod mounts for its monitors")]);
            continue;
        }
        files = needed;
        if bytes + fit.bytes > MOST_BYTES {
            *result = Err(vec![no_room(monitor.kind, TOO_LARGE)]);
        } else {
            bytes += fit.bytes;
        }
    }
    let mut selection = Selection::default();
    for Judged { monitor, hinted, result } in judged {
        if result.is_ok() {
            selection.hinted.extend(hinted);
        }
        selection.add(monitor, result.as_deref().map(|fit| &fit.checked).map_err(Clone::clone));
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
pub fn selectors(agent: &Agent, kind: Kind) -> (Option<&LabelSelector>, Option<&LabelSelector>) {
    let spec = &agent.spec;
    match kind {
        Kind::Pod => (spec.pod_monitor_selector.as_ref(), spec.pod_monitor_namespace_selector.as_ref()),
        Kind::Service => {
            (spec.service_monitor_selector.as_ref(), spec.service_monitor_namespace_selector.as_ref())
        }
    }
}

/// Whether the template selects a monitor, as far as labels of namespaces do not decide.
pub fn may_select(agent: &Agent, monitor: Head<'_>) -> bool {
    let (selector, namespaces) = selectors(agent, monitor.kind);
    let anywhere = namespaces.is_some() || monitor.id.namespace == agent.id.namespace;
    let selector = selector.filter(|_| anywhere);
    selector.is_some_and(|selector| selector::matches(selector, monitor.labels))
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

fn about<'a>(agent: &Agent, monitor: Head<'a>) -> About<'a> {
    let selector = monitor.namespace_selector;
    let ignored = agent.spec.ignore_namespace_selectors == Some(true);
    if ignored || !selector.any && selector.match_names.is_empty() {
        return About::Own(&monitor.id.namespace);
    }
    if selector.any { About::Any } else { About::Named(&selector.match_names) }
}

/// Whether the monitor is about pods of this namespace.
pub fn covers(agent: &Agent, monitor: Head<'_>, namespace: &str) -> bool {
    match about(agent, monitor) {
        About::Own(own) => own == namespace,
        About::Any => true,
        About::Named(names) => names.iter().any(|name| name == namespace),
    }
}

/// Whether the monitor is about pods of any of these namespaces.
pub fn covers_any<T>(agent: &Agent, monitor: Head<'_>, namespaces: &BTreeMap<String, T>) -> bool {
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

/// A template of another namespace may use only what the pods' namespace lists: its owner chose the agent's image, and where
/// samples go.
pub(super) fn allowed(checked: &Checked, kind: Kind, place: Place<'_>) -> Result<(), Vec<Violation>> {
    let Some(allowed) = place.allowed else { return Ok(()) };
    let names: BTreeSet<&str> = checked.files.iter().map(|file| file.name.as_str()).collect();
    let violation = |name: &str| Violation {
        path: Path::root("spec").key(kind.endpoints()).to_string(),
        value: Some(name.to_owned()),
        rule: Rule::Other {
            rule: "is not in allowed-secrets of the pods' namespace, which a template of another namespace needs",
            fix: "list it in the Namespace's annotation sidecar.prometheus.io/allowed-secrets, or use a template of the namespace",
        },
    };
    let violations: Vec<_> =
        names.into_iter().filter(|name| !allowed.contains(*name)).map(violation).collect();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

impl Taken {
    pub(super) fn of(monitor: &MonitorKey, checked: &Checked) -> Self {
        let Checked { ignored, warnings, .. } = checked;
        Self { monitor: monitor.clone(), ignored: ignored.clone(), warnings: warnings.clone() }
    }
}

impl Selection {
    pub(super) fn add(&mut self, monitor: &MonitorKey, judged: Result<&Checked, Vec<Violation>>) {
        match judged {
            Ok(checked) => {
                self.jobs.extend_from_slice(&checked.jobs);
                self.files.extend(checked.files.iter().cloned());
                self.taken.push(Taken::of(monitor, checked));
            }
            Err(violations) => self.rejected.push(Rejected { monitor: monitor.clone(), violations }),
        }
    }

    /// What there is to say about the monitors, a line each.
    pub fn notes(&self) -> Vec<String> {
        let rejected = self.rejected.iter().flat_map(|Rejected { monitor, violations }| {
            violations.iter().map(move |violation| format!("rejected: {monitor}: {violation}"))
        });
        let refused = self
            .refused
            .iter()
            .map(|Refused { monitor, service, why }| format!("refused: {monitor}: Service {service} {why}"));
        let elsewhere = self.elsewhere.iter();
        let elsewhere =
            elsewhere.map(|monitor| format!("not used: {monitor}: it is about pods of other namespaces"));
        rejected.chain(refused).chain(self.remarks()).chain(elsewhere).collect()
    }

    /// What has no effect or a doubt, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let taken = self.taken.iter().flat_map(|Taken { monitor, ignored, warnings }| {
            let ignored =
                ignored.iter().map(move |field| format!("ignored: {monitor}: {}: {}", field.path, field.why));
            let warnings = warnings
                .iter()
                .map(move |warning| format!("warning: {monitor}: {}: {}", warning.path, warning.text));
            ignored.chain(warnings)
        });
        taken.collect()
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
