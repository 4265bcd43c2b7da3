//! The injected pods, as far as anyone asks: about a hundred bytes each. PURE.
//!
//! Input: pods as they come, narrowed. Output: how many a template has, how many are up to date and ready, how many a newer
//! promsidecar injected, and where they run.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::template::agent::TemplateId;

/// Namespace and name of a pod.
pub type PodKey = (String, String);

/// What is kept of an injected pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Hash of the pod-level part that it was injected with; empty where only a newer promsidecar can tell.
    pub hash: String,
    /// Whether the agent's container is ready.
    pub ready: bool,
    /// Whether it has a target: see [`has_target`].
    pub targeted: bool,
    /// Whether a newer promsidecar injected it.
    pub newer: bool,
}

/// A group of the targets annotation, as far as it is read.
#[derive(Debug, Deserialize)]
struct WrittenGroup {
    targets: Vec<String>,
}

/// Whether a pod's targets annotation has a target with a port. Of a pod without one nothing is scraped, unless a monitor brings a
/// port of its own. What cannot be read may have one.
pub fn has_target(annotation: &str) -> bool {
    let groups: Result<Vec<WrittenGroup>, _> = serde_json::from_str(annotation);
    groups.map_or(true, |groups| {
        groups.iter().flat_map(|group| &group.targets).any(|target| target.contains(':'))
    })
}

/// Counts for a template's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Injected pods.
    pub all: usize,
    /// Those with the present hash.
    pub updated: usize,
    /// Those whose agent is ready.
    pub ready: usize,
    /// Those of them that have a target.
    pub targeted: usize,
    /// Those that a newer promsidecar injected.
    pub newer: usize,
}

/// All injected pods.
#[derive(Debug, Default)]
pub struct Fleet {
    members: BTreeMap<TemplateId, HashMap<PodKey, Member>>,
    /// How many of a template's pods run in each namespace; none is 0.
    places: BTreeMap<TemplateId, BTreeMap<String, usize>>,
    templates: HashMap<PodKey, TemplateId>,
}

impl Fleet {
    /// Adds or replaces a pod.
    pub fn insert(&mut self, pod: PodKey, template: TemplateId, member: Member) {
        self.remove(&pod);
        let places = self.places.entry(template.clone()).or_default();
        *places.entry(pod.0.clone()).or_default() += 1;
        self.members.entry(template.clone()).or_default().insert(pod.clone(), member);
        self.templates.insert(pod, template);
    }

    /// What is known of a pod.
    pub fn get(&self, pod: &PodKey) -> Option<(&TemplateId, &Member)> {
        let template = self.templates.get(pod)?;
        Some((template, self.members.get(template)?.get(pod)?))
    }

    /// Removes a pod; gives the template that it had.
    pub fn remove(&mut self, pod: &PodKey) -> Option<TemplateId> {
        let template = self.templates.remove(pod)?;
        if let Some(members) = self.members.get_mut(&template) {
            members.remove(pod);
            if members.is_empty() {
                self.members.remove(&template);
            }
        }
        if let Some(places) = self.places.get_mut(&template) {
            places.entry(pod.0.clone()).and_modify(|count| *count -= 1);
            places.retain(|_, count| *count > 0);
            if places.is_empty() {
                self.places.remove(&template);
            }
        }
        Some(template)
    }

    /// The templates that have pods.
    pub fn templates(&self) -> impl Iterator<Item = &TemplateId> {
        self.members.keys()
    }

    /// The namespaces in which a template's pods run.
    pub fn namespaces(&self, template: &TemplateId) -> impl Iterator<Item = &str> {
        self.places.get(template).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// The templates whose pods run in a namespace.
    pub fn templates_in(&self, namespace: &str) -> impl Iterator<Item = &TemplateId> {
        self.places.iter().filter(move |(_, places)| places.contains_key(namespace)).map(|(id, _)| id)
    }

    /// Keys of all pods.
    pub fn pods(&self) -> impl Iterator<Item = &PodKey> {
        self.templates.keys()
    }

    /// Counts of a template; `hash` gives the present one for pods of a namespace.
    pub fn counts<'a>(&self, template: &TemplateId, hash: impl Fn(&str) -> Option<&'a str>) -> Counts {
        let Some(members) = self.members.get(template) else { return Counts::default() };
        Counts {
            all: members.len(),
            updated: members
                .iter()
                .filter(|((namespace, _), member)| hash(namespace) == Some(&*member.hash))
                .count(),
            ready: members.values().filter(|member| member.ready).count(),
            targeted: members.values().filter(|member| member.ready && member.targeted).count(),
            newer: members.values().filter(|member| member.newer).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Fleet, Member, has_target};
    use crate::template::agent::TemplateId;

    fn id(name: &str) -> TemplateId {
        TemplateId { namespace: "a".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn pods_are_counted_for_the_template_that_they_have_last() {
        let mut fleet = Fleet::default();
        let member = |hash: &str, ready| Member {
            hash: hash.to_owned(),
            ready,
            targeted: hash == "old",
            newer: hash.is_empty(),
        };
        let pod = |name: &str| ("ns".to_owned(), name.to_owned());
        let counts = |all, updated, targeted, newer| Counts { all, updated, ready: 2, targeted, newer };
        fleet.insert(pod("1"), id("one"), member("old", true));
        fleet.insert(pod("2"), id("one"), member("new", false));
        fleet.insert(("other".to_owned(), "1".to_owned()), id("one"), member("new", true));
        assert_eq!(fleet.counts(&id("one"), |_| Some("new")), counts(3, 2, 1, 0));
        // A namespace's monitors make the hash another there.
        let in_ns = |namespace: &str| Some(if namespace == "ns" { "old" } else { "other" });
        assert_eq!(fleet.counts(&id("one"), in_ns).updated, 1);
        assert_eq!(fleet.counts(&id("one"), |_| None), counts(3, 0, 1, 0));
        assert_eq!(fleet.namespaces(&id("one")).collect::<Vec<_>>(), ["ns", "other"]);
        assert_eq!(fleet.templates_in("other").collect::<Vec<_>>(), [&id("one")]);

        fleet.insert(pod("1"), id("two"), member("new", true));
        assert_eq!(fleet.counts(&id("one"), |_| Some("new")).all, 2);
        assert_eq!(fleet.remove(&pod("1")), Some(id("two")));
        assert_eq!(fleet.remove(&pod("1")), None);
        assert_eq!(fleet.templates().collect::<Vec<_>>(), [&id("one")]);
        assert_eq!(fleet.counts(&id("two"), |_| Some("new")), Counts::default());
        assert_eq!(fleet.templates_in("ns").collect::<Vec<_>>(), [&id("one")]);

        // Of a newer promsidecar, whose hash is none of ours: it counts, and its namespace is one.
        fleet.insert(("newer".to_owned(), "1".to_owned()), id("one"), member("", true));
        assert_eq!(fleet.counts(&id("one"), |_| Some("new")), counts(3, 2, 0, 1));
        assert_eq!(fleet.namespaces(&id("one")).collect::<Vec<_>>(), ["newer", "ns", "other"]);
    }

    #[test]
    fn a_pod_has_a_target_where_one_of_its_groups_has_a_port() {
        let group = |target: &str| format!(r#"{{"targets":["{target}"],"labels":{{"a":"b:1"}}}}"#);
        let (portless, http) = (group("localhost"), group("localhost:8080"));
        for (annotation, has) in [
            (format!("[{portless},{portless}]"), false),
            (format!("[{portless},{http}]"), true),
            ("[]".to_owned(), false),
            ("{".to_owned(), true),
        ] {
            assert_eq!(has_target(&annotation), has, "{annotation}");
        }
    }
}
