//! Admission: from the bytes of an `AdmissionReview` to the bytes of its answer. PURE.
//!
//! Input: a review, the [`catalog::Catalog`] and the [`Policy`]. Output: an [`Answer`]. Nothing here waits, reads a clock or
//! talks to anyone; the shell in `webhook` logs and counts what is returned.

use std::collections::BTreeSet;

use crate::template::agent::TemplateId;

pub mod catalog;
pub mod reason;
pub mod sidecar;

use catalog::Catalog;
use reason::Reason;

/// The operator's choices that decide about pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Namespaces whose pods are never injected, promsidecar's own among them.
    pub excluded_namespaces: BTreeSet<String>,
    /// `--default-template`.
    pub default_template: Option<TemplateId>,
    /// Whether the cluster runs native sidecars (KEP-753) on every node, for mode `auto`.
    pub native_sidecars: bool,
}

/// What the server sends back, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// HTTP 200 with this body.
    Reviewed {
        /// The `AdmissionReview` with the response.
        body: Vec<u8>,
        /// What was decided, for metrics and logs.
        outcome: Outcome,
    },
    /// HTTP 500, so that the registration's failure policy decides: a required pod met `internal-error`.
    Failed {
        /// For the log and the response's text.
        message: String,
        /// What was decided, for metrics and logs.
        outcome: Outcome,
    },
    /// HTTP 400: the body is not a review that can be answered.
    Unreadable {
        /// What is wrong with it.
        message: String,
    },
}

/// A decision in the few words that metrics and logs need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `injected`, `skipped` or `denied`.
    pub kind: OutcomeKind,
    /// Why not, where it was not injected. This is the true reason, which the pod's owner may not see.
    pub reason: Option<Reason>,
    /// For the log: who and why. Absent for silent outcomes and for injections.
    pub refusal: Option<RefusalLog>,
}

/// How a review ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutcomeKind {
    /// The patch adds the agent.
    Injected,
    /// Admitted without the agent.
    Skipped,
    /// Not admitted.
    Denied,
}

/// What a refusal's log line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalLog {
    /// Namespace of the pod.
    pub namespace: String,
    /// Workload of the pod, such as `Deployment/web`.
    pub workload: String,
    /// The true detail.
    pub detail: String,
}

/// Answers one review.
pub fn admit(body: &[u8], catalog: &Catalog, policy: &Policy) -> Answer {
    let _ = (body, catalog, policy);
    Answer::Unreadable { message: String::new() }
}
