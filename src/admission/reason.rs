//! Why a pod was or was not injected: one closed list, in order of precedence. PURE.
//!
//! Input: nothing. Output: the same word for warnings, audit and pod annotations, metrics, logs, events and documentation.

/// A reason for not injecting, in order of precedence: the first that applies is the one that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is described by its row in TABLE, which users read as well")]
pub enum Reason {
    NotRequested,
    OptedOut,
    AlreadyInjected,
    NamespaceExcluded,
    MirrorPod,
    HostNetwork,
    Windows,
    InvalidAnnotation,
    TemplateNotFound,
    TemplateNotClaimed,
    TemplateNotPermitted,
    TemplateAmbiguous,
    TemplateInvalid,
    TemplateDeleting,
    NeedsNativeSidecar,
    NothingToScrape,
    NameTaken,
    TooLarge,
    InternalError,
}

/// One row of the table of reasons.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The reason.
    pub reason: Reason,
    /// The word used everywhere, in kebab-case.
    pub word: &'static str,
    /// The word of Kubernetes Events, in `CamelCase`.
    pub event: &'static str,
    /// What it says, in one sentence.
    pub meaning: &'static str,
    /// When it arises.
    pub cause: &'static str,
    /// What a user can do about it.
    pub fix: &'static str,
}

/// Every reason, in order of precedence.
pub const TABLE: [Row; 19] = [
    Row {
        reason: Reason::NotRequested,
        word: "not-requested",
        event: "NotRequested",
        meaning: "nobody asked for an agent",
        cause: "neither the pod's annotation nor the namespace's label sidecar.prometheus.io/inject is set",
        fix: "annotate the pod template with sidecar.prometheus.io/inject: \"true\", or label the namespace",
    },
    Row {
        reason: Reason::OptedOut,
        word: "opted-out",
        event: "OptedOut",
        meaning: "the pod or its namespace declined",
        cause: "sidecar.prometheus.io/inject is \"false\" on the pod, or on the namespace of a pod that says nothing",
        fix: "remove the annotation, or set it to \"true\" or to a template",
    },
    Row {
        reason: Reason::AlreadyInjected,
        word: "already-injected",
        event: "AlreadyInjected",
        meaning: "the pod already has its agent",
        cause: "the pod carries our container and our status annotation: a second admission pass, or a manifest that was injected offline",
        fix: "nothing to do; to inject afresh, take our container, volumes, annotations and label out of the manifest",
    },
    Row {
        reason: Reason::NamespaceExcluded,
        word: "namespace-excluded",
        event: "NamespaceExcluded",
        meaning: "pods of this namespace are never injected",
        cause: "the namespace is kube-system, kube-public, kube-node-lease, promsidecar's own, or excluded by --exclude-namespace",
        fix: "run the workload in another namespace, or ask the platform team to drop the exclusion",
    },
    Row {
        reason: Reason::MirrorPod,
        word: "mirror-pod",
        event: "MirrorPod",
        meaning: "mirror pods of static pods are never changed",
        cause: "the annotation kubernetes.io/config.mirror is set: the kubelet would delete and recreate a changed mirror pod for ever",
        fix: "scrape static pods with a node-level or central Prometheus",
    },
    Row {
        reason: Reason::HostNetwork,
        word: "host-network",
        event: "HostNetwork",
        meaning: "pods on the host's network are not injected",
        cause: "spec.hostNetwork is true: agents of such pods would share the node's loopback and its ports",
        fix: "remove hostNetwork, or scrape the pod with a node-level agent",
    },
    Row {
        reason: Reason::Windows,
        word: "windows",
        event: "Windows",
        meaning: "Windows pods are not injected",
        cause: "spec.os.name or the node selector kubernetes.io/os is windows: the agent's image and its loop are for Linux",
        fix: "scrape Windows pods with a central Prometheus",
    },
    Row {
        reason: Reason::InvalidAnnotation,
        word: "invalid-annotation",
        event: "InvalidAnnotation",
        meaning: "a value of one of our keys cannot be read",
        cause: "a value is neither a boolean nor a template reference, or a port, path, scheme or duration is malformed; values are never guessed",
        fix: "correct the value: the message names the key, the value and the grammar",
    },
    Row {
        reason: Reason::TemplateNotFound,
        word: "template-not-found",
        event: "TemplateNotFound",
        meaning: "there is no such template that this namespace may use",
        cause: "the name is misspelt, no template applies, or a template of another namespace is not open to this one",
        fix: "correct the reference (near misses are named), create the PrometheusAgent, or ask its owner to allow the namespace",
    },
    Row {
        reason: Reason::TemplateNotClaimed,
        word: "template-not-claimed",
        event: "TemplateNotClaimed",
        meaning: "the PrometheusAgent is not a template",
        cause: "the object exists without the annotation operator.prometheus.io/controller-id: promsidecar, so prometheus-operator owns it",
        fix: "create a new PrometheusAgent with that annotation; do not add it to one that prometheus-operator runs",
    },
    Row {
        reason: Reason::TemplateNotPermitted,
        word: "template-not-permitted",
        event: "TemplateNotPermitted",
        meaning: "the template may not be used here",
        cause: "its owner does not list this namespace in allowed-namespaces, or this namespace does not list a Secret or ConfigMap of the template in allowed-secrets",
        fix: "add the namespace to the template's sidecar.prometheus.io/allowed-namespaces, and the named Secrets to the namespace's sidecar.prometheus.io/allowed-secrets",
    },
    Row {
        reason: Reason::TemplateAmbiguous,
        word: "template-ambiguous",
        event: "TemplateAmbiguous",
        meaning: "several templates apply",
        cause: "the pod asks with \"true\" and its namespace has more than one template",
        fix: "name one: sidecar.prometheus.io/inject: NAME on the pod, or sidecar.prometheus.io/template: NAME on the namespace",
    },
    Row {
        reason: Reason::TemplateInvalid,
        word: "template-invalid",
        event: "TemplateInvalid",
        meaning: "the template is invalid and never was valid",
        cause: "validation found violations; a template that was valid before keeps its last good version instead",
        fix: "correct the template: promsidecar validate -f FILE lists every violation with its fix",
    },
    Row {
        reason: Reason::TemplateDeleting,
        word: "template-deleting",
        event: "TemplateDeleting",
        meaning: "the template is being deleted",
        cause: "the object has a deletionTimestamp: what it configures is about to disappear",
        fix: "use another template, or wait for the deletion and create it again",
    },
    Row {
        reason: Reason::NeedsNativeSidecar,
        word: "needs-native-sidecar",
        event: "NeedsNativeSidecar",
        meaning: "the pod runs to completion and would not end with an ordinary container beside it",
        cause: "container mode (an old cluster, or the template's mode) and restartPolicy is not Always",
        fix: "use a cluster of Kubernetes 1.29 or later and mode auto or native",
    },
    Row {
        reason: Reason::NothingToScrape,
        word: "nothing-to-scrape",
        event: "NothingToScrape",
        meaning: "neither the template nor the pod says what to scrape",
        cause: "the template selects no monitors and the pod has no usable port hint",
        fix: "annotate the pod with sidecar.prometheus.io/port (a number or a port's name), or set podMonitorSelector or serviceMonitorSelector in the template",
    },
    Row {
        reason: Reason::NameTaken,
        word: "name-taken",
        event: "NameTaken",
        meaning: "a foreign container or volume has one of our names",
        cause: "a container named prometheus-agent without our status, or a volume named promsidecar, promsidecar-wal or promsidecar-notoken",
        fix: "rename the container or volume, or take the left-over of an earlier injection out of the manifest",
    },
    Row {
        reason: Reason::TooLarge,
        word: "too-large",
        event: "TooLarge",
        meaning: "the pod's annotations would pass the API server's limit",
        cause: "annotations may hold 256 KiB in all, of which 32 KiB are kept free for whoever annotates the pod later, and the agent's targets do not fit beside the pod's own",
        fix: "shorten the pod's labels and annotations, or declare fewer container ports",
    },
    Row {
        reason: Reason::InternalError,
        word: "internal-error",
        event: "InternalError",
        meaning: "promsidecar could not decide, or could not prove that its patch applies, so it made none",
        cause: "the pod has a field of an unexpected kind; or the API server called for labels of the namespace that did not come here within a second; or there is a bug in promsidecar",
        fix: "check the named field, and report the pod's shape as a bug if it is as Kubernetes documents it; create the pod again, and if labels are still not known, see whether the webhook may watch namespaces, or has this one in its directory",
    },
];

impl Reason {
    /// This reason's row.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The word used everywhere.
    pub const fn word(self) -> &'static str {
        self.row().word
    }

    /// The reason of a word, for `explain`.
    pub fn from_word(word: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.word == word).map(|row| row.reason)
    }

    /// Whether the user hears nothing of it.
    pub const fn is_silent(self) -> bool {
        matches!(self, Self::NotRequested | Self::OptedOut | Self::AlreadyInjected)
    }

    /// Whether a refusal may be written on the pod; the others never produce a patch.
    pub const fn marks_pod(self) -> bool {
        !self.is_silent()
            && !matches!(
                self,
                Self::NamespaceExcluded | Self::MirrorPod | Self::TooLarge | Self::InternalError
            )
    }

    /// Whether `required` turns the refusal into a denial.
    pub const fn denies_if_required(self) -> bool {
        !self.is_silent() && !matches!(self, Self::NamespaceExcluded | Self::MirrorPod | Self::InternalError)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, TABLE};

    #[test]
    fn rows_stand_in_order_of_precedence_and_words_are_kebab_case() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.reason as usize, index, "{}", row.word);
            assert_eq!(Reason::from_word(row.word), Some(row.reason));
            let camel: String =
                row.word.split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
            assert_eq!(row.event, camel);
        }
    }
}
