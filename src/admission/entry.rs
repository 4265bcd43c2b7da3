//! Entries of the registration: what the API server found before it called. PURE.
//!
//! Input: the path of a call. Output: its entry, and what the API server saw of the pod's namespace, which may not have come
//! here yet.

use super::catalog::NamespaceMeta;
use super::pod::PodView;
use crate::names;

/// One entry of the registration: who asks for the agent, then who requires it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The namespace asks, the namespace requires.
    NamespaceNs,
    /// The namespace asks, the pod requires.
    NamespacePod,
    /// The namespace asks, nobody requires.
    NamespaceNo,
    /// The pod asks, the namespace requires.
    PodNs,
    /// The pod asks and requires.
    PodPod,
    /// The pod asks, nobody requires.
    PodNo,
}

impl Entry {
    /// All of them, in the order of the registration.
    pub const ALL: [Self; 6] =
        [Self::NamespaceNs, Self::NamespacePod, Self::NamespaceNo, Self::PodNs, Self::PodPod, Self::PodNo];

    /// The path that it calls.
    pub const fn path(self) -> &'static str {
        match self {
            Self::NamespaceNs => "/mutate/namespace/ns",
            Self::NamespacePod => "/mutate/namespace/pod",
            Self::NamespaceNo => "/mutate/namespace/no",
            Self::PodNs => "/mutate/pod/ns",
            Self::PodPod => "/mutate/pod/pod",
            Self::PodNo => "/mutate/pod/no",
        }
    }

    /// The entry that calls this path; none for the plain one.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entry| entry.path() == path)
    }

    /// Whether the namespace has a label `inject` that is not falsy.
    pub const fn asked_by_namespace(self) -> bool {
        matches!(self, Self::NamespaceNs | Self::NamespacePod | Self::NamespaceNo)
    }

    /// Whether the namespace has a truthy label `required`.
    pub const fn required_by_namespace(self) -> bool {
        matches!(self, Self::NamespaceNs | Self::PodNs)
    }

    /// Whether the namespace of this pod has labels that are not known here.
    pub fn saw_more_than(self, known: Option<&NamespaceMeta>, pod: &PodView<'_>) -> bool {
        let asked = self.asked_by_namespace();
        match known {
            None => asked || self.required_by_namespace(),
            Some(meta) => asked && meta.inject.is_none() && pod.annotation(names::INJECT).is_none(),
        }
    }
}
