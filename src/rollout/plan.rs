//! Whose pods are not as they would be created now, and what becomes of them. PURE.
//!
//! Input: pods, their owners, and what decides about pods. Output: a line for each owner, in order. A pod that is created now is
//! decided about by `decide`, of the owner's present template.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::progress::{Progress, hindrance, is_rolling, progress};
use crate::admission::Policy;
use crate::admission::decision::{self, Verdict};
use crate::admission::json::Field;
use crate::admission::pod::PodView;
use crate::admission::reason::Reason;
use crate::cluster::gaps::Gaps;
use crate::cluster::owned::is_meant;
use crate::cluster::seen::{Forbidden, list, name, namespace, text};
use crate::cluster::state::{Current, State, anew, state};
use crate::store::inventory::Inventory;
use crate::template::agent::TemplateId;
use crate::workload;

/// What the cluster has.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// Pods, whoever owns them.
    pub pods: &'a [Value],
    /// Owners that update their pods: Deployments, `StatefulSets`, `DaemonSets`, Rollouts.
    pub owners: &'a [Value],
    /// What stands between pods and owners: `ReplicaSets` and Jobs, of which metadata is enough.
    pub between: &'a [Value],
    /// Why some of these may not be seen, by their kind.
    pub hidden: &'a BTreeMap<&'static str, Forbidden>,
    /// Templates, monitors and namespaces.
    pub inventory: &'a Inventory,
    /// What of them could not be seen.
    pub gaps: &'a Gaps,
    /// The webhook's flags.
    pub policy: &'a Policy,
}

/// Namespace, kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Namespace.
    pub namespace: String,
    /// `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl Id {
    /// `Deployment/web`.
    pub fn object(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// An owner of pods that are not as they would be created now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Which.
    pub id: Id,
    /// Its pods, those that end left out.
    pub pods: usize,
    /// Those whose agent is not the one that they would get now.
    pub outdated: usize,
    /// Those of them that a newer promsidecar injected.
    pub newer: usize,
    /// Those without an agent that would get one now.
    pub without: usize,
    /// The template that a new pod's agent is made from, and the hash of its pod-level part.
    pub now: Option<(TemplateId, String)>,
    /// Templates that its agents are made from.
    pub templates: BTreeSet<TemplateId>,
    /// What becomes of them.
    pub action: Action,
}

/// How the pods of an owner come up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// By its rolling update.
    Restart,
    /// The same, once its present rolling update is complete: how far that is.
    Wait(String),
    /// With its next run.
    NextRun,
    /// By hand: why, or how.
    ByHand(String),
    /// Whether they are up to date cannot be told: why. Nobody is counted.
    CannotTell(String),
}

impl Action {
    /// For people.
    pub fn line(&self) -> String {
        match self {
            Self::Restart => "restart".to_owned(),
            Self::Wait(why) => format!("restart, once its rolling update is complete: {why}"),
            Self::NextRun => "comes with its next run".to_owned(),
            Self::ByHand(why) => format!("by hand: {why}"),
            Self::CannotTell(why) => format!("cannot tell, because {why}"),
        }
    }

    /// For programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Wait(_) => "wait",
            Self::NextRun => "next-run",
            Self::ByHand(_) => "by-hand",
            Self::CannotTell(_) => "cannot-tell",
        }
    }

    /// Whether a run restarts it.
    pub const fn is_restart(&self) -> bool {
        matches!(self, Self::Restart | Self::Wait(_))
    }
}

/// Every owner with a pod that is not as it would be created now.
pub fn plan(cluster: Cluster<'_>) -> Vec<Owner> {
    let key = |object: &Value| id(namespace(object), text(&object["kind"]), name(object));
    let between: BTreeMap<Id, &Value> = cluster.between.iter().map(|object| (key(object), object)).collect();
    let owners: BTreeMap<Id, &Value> = cluster.owners.iter().map(|object| (key(object), object)).collect();
    let mut owned: BTreeMap<Id, Vec<&Value>> = BTreeMap::new();
    for pod in cluster.pods.iter().filter(|pod| lasts(pod)) {
        if let Some(id) = root(pod, &between, &owners) {
            owned.entry(id).or_default().push(pod);
        }
    }
    let judged = owned.into_iter().filter_map(|(id, pods)| {
        let object = owners.get(&id).copied();
        judge(cluster, id, object, &pods)
    });
    judged.collect()
}

/// Whether a pod is there to stay.
fn lasts(pod: &Value) -> bool {
    let ended = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
    !ended && pod["metadata"]["deletionTimestamp"].is_null()
}

fn id(namespace: &str, kind: &str, name: &str) -> Id {
    Id { namespace: namespace.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

/// Who decides about the template of a pod: the end of the chain of owners, as far as it is seen. Nobody where an owner is gone
/// and another has its name: Kubernetes deletes what is left of it.
fn root(pod: &Value, between: &BTreeMap<Id, &Value>, owners: &BTreeMap<Id, &Value>) -> Option<Id> {
    let place = namespace(pod);
    let (mut object, mut found) = (pod, id(place, "Pod", name(pod)));
    // A pod, a ReplicaSet, a Deployment, and whoever owns that.
    for _ in 0..3 {
        let mut references = list(&object["metadata"]["ownerReferences"]).iter();
        let Some(reference) = references.find(|reference| reference["controller"] == true) else { break };
        found = id(place, text(&reference["kind"]), text(&reference["name"]));
        let next = between.get(&found).or_else(|| owners.get(&found));
        if next.is_some_and(|next| !is_meant(reference, next)) {
            return None;
        }
        match between.get(&found) {
            Some(next) => object = next,
            None => break,
        }
    }
    Some(found)
}

fn judge(cluster: Cluster<'_>, id: Id, object: Option<&Value>, pods: &[&Value]) -> Option<Owner> {
    // Where its template cannot be seen, its pods show it.
    let created = object.and_then(workload::pod).or_else(|| anew(pods.first()?).ok());
    let (now, mut doubt) =
        created.map_or((Now::Unknown, None), |created| now(cluster, &id.namespace, &created));
    let (mut outdated, mut newer, mut without, mut templates) = (0, 0, 0, BTreeSet::new());
    for pod in pods {
        let in_force =
            |template: &TemplateId, place: &str| cluster.gaps.hash(cluster.inventory, template, place);
        match (state(pod, in_force), &now) {
            (State::Injected(injected), now) => {
                let is_current = match now {
                    Now::Agent(template, hash) => injected.has(template, hash),
                    // Its manifest has an agent, which the webhook leaves as it is.
                    Now::Manifest => injected.current != Current::No,
                    Now::Nothing(_) | Now::Unknown => false,
                };
                outdated += usize::from(!is_current);
                newer += usize::from(!is_current && injected.newer().is_some());
                templates.insert(injected.template().clone());
                if let Current::Unknown(why) = injected.current {
                    doubt.get_or_insert(why);
                }
            }
            (_, Now::Agent(..)) => without += 1,
            _ => {}
        }
    }
    let hidden = cluster.hidden.get(&*id.kind).map(|forbidden| format!("you may not {}", forbidden.0));
    // Nobody asks where no pod has an agent and none would get one.
    let asks = !templates.is_empty() || matches!(now, Now::Agent(..));
    if let Some(why) = doubt.or(hidden).filter(|_| asks) {
        let action = Action::CannotTell(why);
        return Some(Owner {
            id,
            pods: pods.len(),
            outdated: 0,
            newer: 0,
            without: 0,
            now: None,
            templates,
            action,
        });
    }
    if outdated + without == 0 {
        return None;
    }
    let action = action(&id, object, &now);
    let now = match now {
        Now::Agent(template, hash) => Some((template, hash)),
        _ => None,
    };
    Some(Owner { id, pods: pods.len(), outdated, newer, without, now, templates, action })
}

/// What a pod gets that is created now.
enum Now {
    /// An agent of this template, with this hash.
    Agent(TemplateId, String),
    /// What its manifest has.
    Manifest,
    /// None: why.
    Nothing(String),
    /// What a newer promsidecar could tell.
    Unknown,
}

/// The same, and why it cannot be told, if it cannot.
fn now(cluster: Cluster<'_>, place: &str, created: &Value) -> (Now, Option<String>) {
    let bytes = serde_json::to_vec(created).unwrap_or_default();
    let view: Option<Field<PodView<'_>>> = serde_json::from_slice(&bytes).ok();
    let Some(view) = view.as_ref().and_then(Field::value) else {
        return (Now::Nothing("it cannot be read".to_owned()), None);
    };
    let decision = decision::decide(place, view, cluster.inventory.catalog(), cluster.policy);
    let doubt = cluster.gaps.decided(cluster.inventory, place, &decision);
    let now = match decision.verdict {
        Verdict::Inject(made) => {
            let (injection, _) = *made;
            Now::Agent(injection.entry.id.clone(), injection.sidecar.hash_in(place).to_owned())
        }
        Verdict::Refuse(refusal) if refusal.reason == Reason::AlreadyInjected => Now::Manifest,
        Verdict::Refuse(refusal) => {
            let (reason, detail) = refusal.public();
            let colon = if detail.is_empty() { "" } else { ": " };
            Now::Nothing(format!("{}{colon}{detail}", reason.word()))
        }
    };
    (now, doubt)
}

fn action(id: &Id, object: Option<&Value>, now: &Now) -> Action {
    match now {
        Now::Nothing(why) => {
            return Action::ByHand(format!("created again, its pods would have no agent: {why}"));
        }
        Now::Manifest => {
            return Action::ByHand(
                "the agent is in its manifest: make that anew by promsidecar inject".to_owned(),
            );
        }
        Now::Agent(..) | Now::Unknown => {}
    }
    let kind = id.kind.as_str();
    let by_hand = |why: &str| Action::ByHand(why.to_owned());
    match (kind, object) {
        ("Job" | "CronJob", _) => Action::NextRun,
        ("Pod", _) => by_hand("nothing creates it again: delete it, and create it anew"),
        ("ReplicaSet" | "ReplicationController", _) => {
            by_hand("it replaces only pods that are gone: delete them one by one")
        }
        (_, Some(object)) => match (hindrance(object), progress(object)) {
            (Some(why), _) => Action::ByHand(why),
            (None, Progress::Complete) => Action::Restart,
            (None, Progress::UnderWay(why) | Progress::Failed(why)) => Action::Wait(why),
        },
        (_, None) if is_rolling(kind) => by_hand("it is gone, or you may not see it"),
        (_, None) => by_hand("no kind that is known here: restart it as its own documentation says"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
