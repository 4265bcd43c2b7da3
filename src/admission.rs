//! Admission: from the bytes of an `AdmissionReview` to the bytes of its answer. PURE.
//!
//! Input: a review, the [`catalog::Catalog`] and the [`Policy`]. Output: an [`Answer`]. Nothing here waits, reads a clock or
//! talks to anyone; the shell in `webhook` logs and counts what is returned.

use std::collections::BTreeSet;

use crate::template::agent::TemplateId;

pub mod catalog;
pub mod decision;
pub mod entry;
mod fragment;
pub mod hints;
pub mod inject;
pub mod json;
mod lookup;
pub mod offline;
pub mod owner;
pub mod patch;
pub mod pod;
pub mod reason;
pub mod request;
mod resources;
pub mod review;
pub mod sidecar;
pub mod status;
pub(crate) mod targets;

use catalog::Catalog;
use decision::{Decision, Missing, Refusal, Verdict};
use entry::Entry;
use owner::Workload;
use pod::PodView;
use reason::Reason;
use review::{MAX_WARNING, Response, one_line};

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
    /// What was not there and would have changed the decision.
    pub missing: Option<Box<Missing>>,
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
    /// Namespace of the pod, as one short line like the others.
    pub namespace: String,
    /// Workload of the pod, such as `Deployment/web`.
    pub workload: String,
    /// The true detail.
    pub detail: String,
}

impl Answer {
    /// What the catalog did not have.
    pub fn missing(&self) -> Option<&Missing> {
        match self {
            Self::Reviewed { outcome, .. } | Self::Failed { outcome, .. } => outcome.missing.as_deref(),
            Self::Unreadable { .. } => None,
        }
    }

    /// The same, made for the lack of something.
    fn lacking(mut self, missing: Option<Box<Missing>>) -> Self {
        if let Self::Reviewed { outcome, .. } | Self::Failed { outcome, .. } = &mut self {
            outcome.missing = missing;
        }
        self
    }
}

/// Answers one review that comes by no entry in particular.
pub fn admit(body: &[u8], catalog: &Catalog, policy: &Policy) -> Answer {
    admit_by(None, body, catalog, policy)
}

/// Answers one review. `entry`: the one of the registration by which it comes.
pub fn admit_by(entry: Option<Entry>, body: &[u8], catalog: &Catalog, policy: &Policy) -> Answer {
    let request = match review::read(body) {
        Ok(request) => request,
        Err(error) => return Answer::Unreadable { message: error.to_string() },
    };
    let uid = request.uid.text();
    if let Some(mismatch) = request.mismatch() {
        let warnings = vec![warning(&format_args!("the webhook is {mismatch}"))];
        return reviewed(uid, &Response { warnings, ..Response::default() }, Outcome::skipped(None, None));
    }
    let missing = PodView::default();
    let pod = request.object.value().unwrap_or(&missing);
    let namespace = request.namespace.text();
    let decision = decision::decide_by(entry, namespace, pod, catalog, policy);
    conclude(uid, namespace, pod, decision)
}

/// Most characters of a namespace or workload in the log, more than Kubernetes accepts of a name.
const MAX_LOGGED: usize = 320;
/// Most characters of a refusal's detail in log and audit trail.
const MAX_DETAIL: usize = 512;

/// Turns a decision into the answer on the wire.
fn conclude(uid: &str, namespace: &str, pod: &PodView<'_>, decision: Decision<'_>) -> Answer {
    let answer = match decision.verdict {
        Verdict::Inject(injected) => {
            let (injection, injected) = *injected;
            let audit = vec![
                ("decision", "injected".to_owned()),
                ("template", injection.entry.id.to_string()),
                ("mode", injection.mode.word().to_owned()),
            ];
            let warnings = injected.warnings.iter().map(warning).collect();
            let response = Response { denied: None, warnings, audit, patch: Some(injected.patch) };
            let outcome = Outcome { kind: OutcomeKind::Injected, reason: None, refusal: None, missing: None };
            reviewed(uid, &response, outcome)
        }
        Verdict::Refuse(refusal) => refuse(uid, namespace, pod, &refusal, decision.required),
    };
    answer.lacking(decision.missing)
}

fn refuse(uid: &str, namespace: &str, pod: &PodView<'_>, refusal: &Refusal, required: bool) -> Answer {
    let reason = refusal.reason;
    if reason.is_silent() {
        let warnings = refusal.warning.iter().map(warning).collect();
        let response = Response { warnings, ..Response::default() };
        return reviewed(uid, &response, Outcome::skipped(Some(reason), None));
    }
    // Names are only checked after admission: what they hold must not break out of a log line, nor fill it.
    let log = RefusalLog {
        namespace: one_line(&namespace, MAX_LOGGED),
        workload: one_line(&Workload::of(pod), MAX_LOGGED),
        detail: one_line(&refusal.detail, MAX_DETAIL),
    };
    if required && reason == Reason::InternalError {
        let message = format!("{}: {}", reason.word(), refusal.detail);
        return Answer::Failed { message, outcome: Outcome::skipped(Some(reason), Some(log)) };
    }
    let denied = required && reason.denies_if_required();
    let audit = vec![
        ("decision", if denied { "denied" } else { "skipped" }.to_owned()),
        ("reason", reason.word().to_owned()),
        ("detail", log.detail.clone()),
    ];
    let (told, detail) = refusal.public();
    let mut response = Response { audit, ..Response::default() };
    let mut outcome = Outcome::skipped(Some(reason), Some(log));
    if denied {
        let fix = told.row().fix;
        response.denied = Some(one_line(&format_args!("{}: {detail}; {fix}", told.word()), 1024));
        outcome.kind = OutcomeKind::Denied;
    } else {
        response.warnings = vec![warning(&format_args!("not injected: {}: {detail}", told.word()))];
        if reason.marks_pod() {
            response.patch = inject::mark(pod, told, detail);
        }
    }
    reviewed(uid, &response, outcome)
}

fn warning(text: &impl std::fmt::Display) -> String {
    one_line(&format_args!("promsidecar: {text}"), MAX_WARNING)
}

fn reviewed(uid: &str, response: &Response, outcome: Outcome) -> Answer {
    Answer::Reviewed { body: response.write(uid), outcome }
}

impl Outcome {
    const fn skipped(reason: Option<Reason>, refusal: Option<RefusalLog>) -> Self {
        Self { kind: OutcomeKind::Skipped, reason, refusal, missing: None }
    }
}
