//! `decide`: whether a pod is injected, from which template, and why not. PURE.
//!
//! Input: the pod, its namespace's name, the entry that asks, the catalog and the policy. Output: a [`Decision`] with its trace; `explain`
//! prints the trace and decides nothing itself. The rows of [`Reason`] are tried in order, the first that applies wins.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Policy;
use super::catalog::{self, Catalog, NamespaceMeta, TemplateEntry};
use super::entry::Entry;
use super::hints::{self, Hints, InvalidValue};
use super::inject::{self, Injected};
use super::json::Field;
use super::lookup;
use super::pod::PodView;
use super::reason::Reason;
use super::request::{self, Source, Wanted};
use super::sidecar::{Mode, Sidecar};
use crate::names;
use crate::template::agent::TemplateId;

/// What is done with a pod.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Inject, or why not.
    pub verdict: Verdict<'a>,
    /// Whether the pod or its namespace denies the pod rather than going without.
    pub required: bool,
    /// The rows that were tried, in order; the last one is the verdict's.
    pub trace: Vec<Step<'a>>,
    /// What was not there and may change the decision, whatever that is.
    pub missing: Option<Box<Missing>>,
}

/// Inject or not.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// The patch, and what it was made from.
    Inject(Box<(Injection<'a>, Injected)>),
    /// Why not.
    Refuse(Refusal),
}

/// A decision to inject.
#[derive(Debug)]
pub struct Injection<'a> {
    /// The template.
    pub entry: &'a TemplateEntry,
    /// Its newest good version, compiled.
    pub sidecar: &'a Sidecar,
    /// Native sidecar or ordinary container.
    pub mode: Mode,
    /// What the pod's annotations say about scraping.
    pub hints: Hints<'a>,
    /// Metadata of the pod's namespace.
    pub namespace: &'a NamespaceMeta,
}

/// A decision not to inject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The true reason.
    pub reason: Reason,
    /// The true detail; empty for silent reasons.
    pub detail: String,
    /// What the pod's owner is told instead, where the truth would give away another namespace's templates.
    pub told: Option<(Reason, String)>,
    /// A warning for an injected pod that needs no patch but attention.
    pub warning: Option<String>,
    /// What was not there and would have changed the decision.
    pub missing: Option<Box<Missing>>,
}

/// What the catalog does not have. It may be on its way: objects that are applied together arrive within milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The namespace, or labels of it.
    Namespace(String),
    /// A template that was named.
    Template(TemplateId),
    /// Any template that applies in this namespace.
    AnyTemplate(String),
}

impl Refusal {
    /// A refusal whose truth everybody may know.
    pub const fn new(reason: Reason, detail: String) -> Self {
        Self { reason, detail, told: None, warning: None, missing: None }
    }

    /// The same for the lack of something.
    pub(super) fn for_lack_of(self, missing: Missing) -> Self {
        Self { missing: Some(Box::new(missing)), ..self }
    }

    const fn silent(reason: Reason) -> Self {
        Self::new(reason, String::new())
    }

    /// Reason and detail for the pod's owner.
    pub fn public(&self) -> (Reason, &str) {
        self.told.as_ref().map_or((self.reason, &*self.detail), |(reason, detail)| (*reason, detail))
    }
}

/// One row that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// The row.
    pub row: Reason,
    /// Whether it applied, which ends the trace.
    pub applies: bool,
    /// What was looked at, where there is something to show.
    pub finding: Finding<'a>,
}

/// What a row looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    /// Nothing worth showing.
    Nothing,
    /// A template was asked for here; `None` means whichever applies.
    Asked(Source, Option<request::Reference<'a>>),
    /// This template.
    Template(&'a TemplateId),
    /// A number of hinted ports.
    Ports(usize),
    /// The mode of the container.
    Mode(Mode),
}

/// The members of our status annotation that admission reads back.
#[derive(Debug, Deserialize)]
struct WrittenStatus {
    version: u32,
    mode: Option<WrittenMode>,
}

/// A later version may say the mode in another way.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenMode {
    Known(Mode),
    Later(serde::de::IgnoredAny),
}

impl WrittenStatus {
    /// Whether it counts as ours: the present version says its mode as we do, a later one may say it as it likes.
    const fn is_ours(&self) -> bool {
        match self.mode {
            Some(WrittenMode::Known(_)) => self.version >= super::status::FIRST_VERSION,
            Some(WrittenMode::Later(_)) | None => self.version > super::status::VERSION,
        }
    }

    /// Whether it says that the agent is a native sidecar.
    const fn is_native(&self) -> bool {
        matches!(self.mode, Some(WrittenMode::Known(Mode::Native)))
    }
}

/// The pod's namespace, and what is known around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a, 'p> {
    /// Name of the namespace.
    pub(super) namespace: &'a str,
    /// Its metadata.
    pub(super) meta: &'a NamespaceMeta,
    /// All templates.
    pub(super) catalog: &'a Catalog,
    /// The operator's choices.
    pub(super) policy: &'p Policy,
    /// Whether the API server saw labels of the namespace that are not known here, so that its wishes are not either.
    pub(super) behind: bool,
}

/// Decides about one pod that no entry asks for: as if all that there is were known.
pub fn decide<'a>(
    namespace: &'a str,
    pod: &'a PodView<'a>,
    catalog: &'a Catalog,
    policy: &Policy,
) -> Decision<'a> {
    decide_by(None, namespace, pod, catalog, policy)
}

/// Decides about one pod. `entry`: the one of the registration that asks. `namespace` is the one of the request, which is
/// authoritative.
pub fn decide_by<'a>(
    entry: Option<Entry>,
    namespace: &'a str,
    pod: &'a PodView<'a>,
    catalog: &'a Catalog,
    policy: &Policy,
) -> Decision<'a> {
    let known = catalog.namespace(namespace);
    let meta = known.unwrap_or(&catalog::UNKNOWN_NAMESPACE);
    let behind = entry.is_some_and(|entry| entry.saw_more_than(known, pod));
    let scope = Scope { namespace, meta, catalog, policy, behind };
    let (required, bad_required) = request::required(pod, meta);
    let required = required || entry.is_some_and(Entry::required_by_namespace);
    let mut walk = Walk { trace: Vec::with_capacity(Reason::InternalError as usize + 1) };
    let injected = walk.rows(&scope, pod, bad_required).and_then(|injection| {
        let injected = inject::build(&injection, namespace, pod, required)?;
        Ok((injection, injected))
    });
    let verdict = match injected {
        Ok(injected) => {
            walk.passed(Reason::TooLarge, Finding::Nothing);
            walk.passed(Reason::InternalError, Finding::Nothing);
            Verdict::Inject(Box::new(injected))
        }
        Err(refusal) => {
            walk.trace.push(Step { row: refusal.reason, applies: true, finding: Finding::Nothing });
            Verdict::Refuse(refusal)
        }
    };
    let unknown = entry.is_some() && known.is_none();
    let missing = missing(&verdict, unknown, namespace);
    Decision { verdict, required, trace: walk.trace, missing }
}

/// What may change the decision once it is there. `unknown`: nothing is known of the namespace, and it exists.
fn missing(verdict: &Verdict<'_>, unknown: bool, namespace: &str) -> Option<Box<Missing>> {
    let (lacked, rests_on_namespace) = match verdict {
        Verdict::Inject(_) => (None, true),
        // What comes before is said by the pod, or by the namespace's name.
        Verdict::Refuse(refusal) => (refusal.missing.clone(), refusal.reason > Reason::InvalidAnnotation),
    };
    let namespace = || Box::new(Missing::Namespace(namespace.to_owned()));
    lacked.or_else(|| (unknown && rests_on_namespace).then(namespace))
}

/// The template that pods of `namespace` get by its label alone, if it asks and one applies.
pub fn template_of_namespace<'a>(
    namespace: &'a str,
    catalog: &'a Catalog,
    policy: &Policy,
) -> Option<&'a TemplateEntry> {
    let meta = catalog.namespace(namespace)?;
    let scope = Scope { namespace, meta, catalog, policy, behind: false };
    let pod = PodView::default();
    match Wanted::of(&pod, meta) {
        wanted @ (Wanted::Template(..) | Wanted::Any(_)) if !is_excluded(namespace, policy) => {
            lookup::find(&scope, wanted).ok()
        }
        _ => None,
    }
}

/// What a pod of `namespace` whose annotation is `inject` is refused for in truth where its owner is told something else; and the
/// template, whose owner may know.
pub fn withheld<'a>(
    namespace: &str,
    inject: Option<&str>,
    catalog: &'a Catalog,
    policy: &Policy,
) -> Option<(&'a TemplateEntry, Refusal)> {
    let annotations: BTreeMap<&str, &str> =
        inject.map(|inject| (names::INJECT, inject)).into_iter().collect();
    let pod = serde_json::json!({"metadata": {"annotations": annotations}}).to_string();
    let pod: Field<PodView<'_>> = serde_json::from_str(&pod).ok()?;
    let pod = pod.value()?;
    let meta = catalog.namespace(namespace).unwrap_or(&catalog::UNKNOWN_NAMESPACE);
    let scope = Scope { namespace, meta, catalog, policy, behind: false };
    let wanted = Wanted::of(pod, meta);
    let (home, name) = match wanted {
        Wanted::Template(reference, _) => (reference.namespace.unwrap_or(namespace), reference.name),
        Wanted::Any(_) => {
            let default = policy.default_template.as_ref()?;
            (&*default.namespace, &*default.name)
        }
        Wanted::Nothing | Wanted::Declined(_) | Wanted::Unreadable(_) => return None,
    };
    let refusal = lookup::find(&scope, wanted).err().filter(|refusal| refusal.told.is_some())?;
    Some((catalog.template(home, name)?, refusal))
}

/// Row 4.
fn is_excluded(namespace: &str, policy: &Policy) -> bool {
    ALWAYS_EXCLUDED.contains(&namespace) || policy.excluded_namespaces.contains(namespace)
}

/// The rows that were passed so far.
struct Walk<'a> {
    trace: Vec<Step<'a>>,
}

impl<'a> Walk<'a> {
    fn passed(&mut self, row: Reason, finding: Finding<'a>) {
        self.trace.push(Step { row, applies: false, finding });
    }

    /// One row: refuse if it applies, else note that it was passed.
    fn row(&mut self, row: Reason, applies: Option<String>) -> Result<(), Refusal> {
        if let Some(detail) = applies {
            return Err(Refusal::new(row, detail));
        }
        self.passed(row, Finding::Nothing);
        Ok(())
    }

    fn rows(
        &mut self,
        scope: &Scope<'a, '_>,
        pod: &'a PodView<'a>,
        bad_required: Option<InvalidValue<'a>>,
    ) -> Result<Injection<'a>, Refusal> {
        let wanted = self.asked(scope, pod)?;
        self.injected_before(pod)?;
        self.place(scope, pod)?;
        if scope.behind {
            let namespace = scope.namespace;
            let detail =
                format!("labels of namespace {namespace} that the API server has are not known here");
            let missing = Missing::Namespace(namespace.to_owned());
            return Err(Refusal::new(Reason::InternalError, detail).for_lack_of(missing));
        }
        let hints = self.values(wanted, bad_required, pod)?;
        let found = self.template(scope, wanted)?;
        let Some(sidecar) = found.sidecar.as_deref() else {
            let violation = found.violation.as_deref().unwrap_or("it was never compiled");
            return Err(Refusal::new(Reason::TemplateInvalid, format!("{}: {violation}", found.id)));
        };
        self.passed(Reason::TemplateInvalid, Finding::Nothing);
        let deleting = found.deleting.then(|| format!("{} is being deleted", found.id));
        self.row(Reason::TemplateDeleting, deleting)?;

        let mode = sidecar.mode(scope.policy.native_sidecars);
        if mode == Mode::Container && pod.restart_policy() != "Always" {
            let detail =
                format!("restartPolicy {} and template {} in container mode", pod.restart_policy(), found.id);
            return Err(Refusal::new(Reason::NeedsNativeSidecar, detail));
        }
        self.passed(Reason::NeedsNativeSidecar, Finding::Mode(mode));
        if !sidecar.selects_monitors && hints.ports.is_empty() {
            let detail = format!("{} selects no monitors and the pod has no port hint", found.id);
            return Err(Refusal::new(Reason::NothingToScrape, detail));
        }
        self.passed(Reason::NothingToScrape, Finding::Ports(hints.ports.len()));
        self.row(Reason::NameTaken, name_taken(pod, sidecar))?;
        Ok(Injection { entry: found, sidecar, mode, hints, namespace: scope.meta })
    }

    /// Rows 7 to 10.
    fn template(&mut self, scope: &Scope<'a, '_>, wanted: Wanted<'_>) -> Result<&'a TemplateEntry, Refusal> {
        let found = lookup::find(scope, wanted);
        let refused = found.as_ref().err().map(|refusal| refusal.reason);
        let finding = found.as_ref().map_or(Finding::Nothing, |entry| Finding::Template(&entry.id));
        for row in LOOKUP_ROWS.into_iter().take_while(|row| refused.is_none_or(|reason| *row < reason)) {
            self.passed(row, finding);
        }
        found
    }

    /// Rows 1 and 2.
    fn asked(&mut self, scope: &Scope<'a, '_>, pod: &'a PodView<'a>) -> Result<Wanted<'a>, Refusal> {
        let wanted = Wanted::of(pod, scope.meta);
        let finding = match wanted {
            Wanted::Nothing if scope.behind => Finding::Asked(Source::NamespaceLabel, None),
            Wanted::Nothing => return Err(Refusal::silent(Reason::NotRequested)),
            Wanted::Declined(_) => Finding::Nothing,
            Wanted::Template(reference, source) => Finding::Asked(source, Some(reference)),
            Wanted::Any(source) => Finding::Asked(source, None),
            Wanted::Unreadable(invalid) => {
                let source = match (invalid.on_namespace, invalid.key) {
                    (false, _) => Source::PodAnnotation,
                    (true, names::TEMPLATE) => Source::NamespaceAnnotation,
                    (true, _) => Source::NamespaceLabel,
                };
                Finding::Asked(source, None)
            }
        };
        self.passed(Reason::NotRequested, finding);
        if let Wanted::Declined(_) = wanted {
            return Err(Refusal::silent(Reason::OptedOut));
        }
        self.passed(Reason::OptedOut, Finding::Nothing);
        Ok(wanted)
    }

    /// Row 3. Our status without our container counts as not injected; our container without our status is foreign.
    fn injected_before(&mut self, pod: &'a PodView<'a>) -> Result<(), Refusal> {
        let ours = pod.all_containers().find(|(container, _)| container.name.text() == names::CONTAINER);
        if let Some((container, init)) = ours
            && let Some(status) = pod.annotation(names::STATUS)
            && let Ok(status) = serde_json::from_str::<WrittenStatus>(status)
            && status.is_ours()
        {
            let mut refusal = Refusal::silent(Reason::AlreadyInjected);
            // An API server or webhook that drops what it does not know turns our sidecar into an init step without end.
            if status.is_native() && init && !container.is_native_sidecar() {
                refusal.warning = Some(format!(
                    "another webhook or an old API server removed restartPolicy from {}: the pod will not start",
                    names::CONTAINER
                ));
            }
            return Err(refusal);
        }
        self.passed(Reason::AlreadyInjected, Finding::Nothing);
        Ok(())
    }

    /// Rows 4 and 5: where the pod runs.
    fn place(&mut self, scope: &Scope<'_, '_>, pod: &'a PodView<'a>) -> Result<(), Refusal> {
        let namespace = scope.namespace;
        let excluded =
            is_excluded(namespace, scope.policy).then(|| format!("pods of {namespace} are never injected"));
        self.row(Reason::NamespaceExcluded, excluded)?;
        let mirror = pod.annotation(names::MIRROR_POD).map(|_| "static pods cannot be changed".to_owned());
        self.row(Reason::MirrorPod, mirror)?;
        let spec = pod.spec.value();
        let host_network = spec.and_then(|spec| spec.host_network.value()) == Some(&true);
        self.row(Reason::HostNetwork, host_network.then(|| "spec.hostNetwork is true".to_owned()))?;
        let os = spec.and_then(|spec| spec.os.value()).map_or("", |os| os.name.text());
        let node_os = spec.and_then(|spec| {
            let selector = &spec.node_selector;
            selector.string("kubernetes.io/os").or_else(|| selector.string("beta.kubernetes.io/os"))
        });
        let windows = [os, node_os.unwrap_or("")].iter().any(|os| os.eq_ignore_ascii_case("windows"));
        self.row(Reason::Windows, windows.then(|| "the pod is for Windows nodes".to_owned()))
    }

    /// Row 6: every value of ours that the decision rests on.
    fn values(
        &mut self,
        wanted: Wanted<'a>,
        bad_required: Option<InvalidValue<'a>>,
        pod: &'a PodView<'a>,
    ) -> Result<Hints<'a>, Refusal> {
        let unreadable = match wanted {
            Wanted::Unreadable(invalid) => Some(invalid),
            _ => bad_required,
        };
        let hints = match unreadable {
            Some(invalid) => Err(invalid),
            None => hints::read(pod),
        };
        match hints {
            Ok(hints) => {
                self.passed(Reason::InvalidAnnotation, Finding::Nothing);
                Ok(hints)
            }
            Err(invalid) => Err(Refusal::new(Reason::InvalidAnnotation, invalid.to_string())),
        }
    }
}

/// The rows that a look-up answers.
const LOOKUP_ROWS: [Reason; 4] = [
    Reason::TemplateNotFound,
    Reason::TemplateNotClaimed,
    Reason::TemplateNotPermitted,
    Reason::TemplateAmbiguous,
];

/// Namespaces of the control plane: an admission webhook must not stand before them.
pub const ALWAYS_EXCLUDED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Row 15, first half: a foreign container or volume of one of our names.
fn name_taken(pod: &PodView<'_>, sidecar: &Sidecar) -> Option<String> {
    if pod.container_names().any(|name| name == names::CONTAINER) {
        return Some(format!("the pod has a container named {} of its own", names::CONTAINER));
    }
    let taken = pod.volume_names().find(|name| sidecar.volume_names().any(|ours| ours == *name))?;
    Some(format!("the pod has a volume named {taken} of its own"))
}
