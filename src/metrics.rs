//! What the process counts, as `OpenMetrics` text.
//!
//! Input: outcomes of requests, handed in by the shell. Output: [`Metrics::encode`]. Label sets are closed: every value comes
//! from an enum of this crate; no names of pods, namespaces or templates.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::admission::catalog::{Catalog, TemplateEntry};
use crate::admission::reason::{Reason, TABLE};
use crate::admission::{Answer, Outcome, OutcomeKind};

pub mod certificate;
pub mod controller;
mod merge;

pub use merge::merged;

/// `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Buckets of the admission latency in seconds: 50 µs to 100 ms.
const LATENCY_BUCKETS: [f64; 11] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1];

/// A bound that turned a request or a connection away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `--max-in-flight`: answered 503.
    InFlight,
    /// `--max-connections`: closed before the handshake.
    Connections,
    /// The body cap: answered 413.
    BodySize,
    /// The bound on all bodies together: answered 503.
    BodyMemory,
    /// The body deadline: answered 408.
    BodyTime,
    /// The deadline of a client that does not read its answer: closed.
    WriteTime,
}

impl Limit {
    const ALL: [Self; 6] = [
        Self::InFlight,
        Self::Connections,
        Self::BodySize,
        Self::BodyMemory,
        Self::BodyTime,
        Self::WriteTime,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Connections => "connections",
            Self::BodySize => "body-size",
            Self::BodyMemory => "body-memory",
            Self::BodyTime => "body-time",
            Self::WriteTime => "write-time",
        }
    }
}

/// How a wait for what had not arrived yet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It came.
    Found,
    /// It did not come in time.
    InVain,
    /// Too many waited already.
    Full,
}

impl Wait {
    const ALL: [Self; 3] = [Self::Found, Self::InVain, Self::Full];

    const fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::InVain => "in-vain",
            Self::Full => "full",
        }
    }
}

/// How good a template is, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateState {
    /// Valid and in force.
    Valid,
    /// The current version is invalid; an older good one is in force.
    LastGood,
    /// Invalid, and never was valid.
    Invalid,
    /// Without our controller id: not a template.
    NotClaimed,
    /// Has a deletion timestamp.
    Deleting,
}

impl TemplateState {
    const ALL: [Self; 5] = [Self::Valid, Self::LastGood, Self::Invalid, Self::NotClaimed, Self::Deleting];

    /// The state of a template.
    pub fn of(entry: &TemplateEntry) -> Self {
        match (entry.claimed, entry.deleting, &entry.violation, &entry.sidecar) {
            (false, ..) => Self::NotClaimed,
            (true, true, ..) => Self::Deleting,
            (true, false, None, _) => Self::Valid,
            (true, false, Some(_), Some(_)) => Self::LastGood,
            (true, false, Some(_), None) => Self::Invalid,
        }
    }

    /// Counts the templates of a catalog.
    fn count(catalog: &Catalog, gauges: &Templates) {
        for state in Self::ALL {
            let count = catalog.templates().filter(|entry| Self::of(entry) == state).count();
            let gauge = gauges.get_or_create_owned(&StateLabels { state: state.word() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::LastGood => "last-good",
            Self::Invalid => "invalid",
            Self::NotClaimed => "not-claimed",
            Self::Deleting => "deleting",
        }
    }
}

/// Numbers of templates by state.
type Templates = Family<StateLabels, Gauge>;

/// The running version, for every process.
fn build(registry: &mut Registry) {
    registry.register(
        "build",
        "The running version",
        Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
    );
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// Every metric of the webhook and the registry that encodes them.
pub struct Metrics {
    registry: Registry,
    reviews: Family<ReviewLabels, Counter>,
    latency: Histogram,
    in_flight: Gauge,
    ready: Gauge,
    rejected: Family<LimitLabels, Counter>,
    waits: Family<WaitLabels, Counter>,
    staleness: Family<SourceLabels, Gauge<f64, AtomicU64>>,
    templates: Templates,
    certificate_expiry: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("promsidecar"),
            reviews: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS),
            in_flight: Gauge::default(),
            ready: Gauge::default(),
            rejected: Family::default(),
            waits: Family::default(),
            staleness: Family::default(),
            templates: Family::default(),
            certificate_expiry: Gauge::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "admission_reviews",
            "Admission reviews by outcome and true reason",
            self.reviews.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "Time from the head of a request to its response",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register(
            "admission_in_flight",
            "Admission requests being read or decided",
            self.in_flight.clone(),
        );
        registry.register(
            "admission_ready",
            "Whether this replica is ready for calls; /readyz says why not",
            self.ready.clone(),
        );
        registry.register(
            "admission_rejected",
            "Requests and connections turned away by a limit",
            self.rejected.clone(),
        );
        registry.register(
            "admission_waits",
            "Reviews that waited for a namespace or template to arrive, by result",
            self.waits.clone(),
        );
        registry.register_with_unit(
            "source_staleness",
            "For how long what is known of the cluster may be out of date; 0 while it is in order",
            Unit::Seconds,
            self.staleness.clone(),
        );
        registry.register("templates", "Templates by state", self.templates.clone());
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the serving certificate expires, in seconds since the epoch; 0 while there is none",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        build(registry);
        // Zeros from the start, so that rates are right for the first event too.
        for limit in Limit::ALL {
            let _ = self.rejected.get_or_create(&LimitLabels { limit: limit.word() });
        }
        for result in Wait::ALL {
            let _ = self.waits.get_or_create(&WaitLabels { result: result.word() });
        }
        for (outcome, reason) in outcomes() {
            let _ = self.reviews.get_or_create_owned(&ReviewLabels { outcome, reason });
        }
        self
    }

    /// Counts an answered review.
    pub fn review(&self, answer: &Answer) {
        let (outcome, reason) = match answer {
            Answer::Reviewed { outcome: Outcome { kind, reason, .. }, .. } => (kind_word(*kind), *reason),
            Answer::Failed { outcome, .. } => ("failed", outcome.reason),
            Answer::Unreadable { .. } => ("unreadable", None),
        };
        self.count(outcome, reason);
    }

    /// Counts a review whose handler panicked.
    pub fn panic(&self) {
        self.count("failed", Some(Reason::InternalError));
    }

    fn count(&self, outcome: &'static str, reason: Option<Reason>) {
        let reason = reason.map_or("none", Reason::word);
        self.reviews.get_or_create(&ReviewLabels { outcome, reason }).inc();
    }

    /// Records how long a request took.
    pub fn took(&self, elapsed: Duration) {
        self.latency.observe(elapsed.as_secs_f64());
    }

    /// Counts a request as in flight until the guard is dropped, however its handler ends.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Sets whether calls should come here.
    pub fn ready(&self, is_ready: bool) {
        self.ready.set(i64::from(is_ready));
    }

    /// Counts what a limit turned away.
    pub fn rejected(&self, limit: Limit) {
        self.rejected.get_or_create(&LimitLabels { limit: limit.word() }).inc();
    }

    /// Counts a review that waited, or would have.
    pub fn waited(&self, result: Wait) {
        self.waits.get_or_create(&WaitLabels { result: result.word() }).inc();
    }

    /// Sets the expiry of the serving certificate, in seconds since the epoch.
    pub fn certificate_expiry(&self, timestamp: i64) {
        self.certificate_expiry.set(timestamp);
    }

    /// The text of every metric; templates are counted from `catalog`, `staleness` is that of their source.
    pub fn encode(
        &self,
        catalog: &Catalog,
        staleness: &[(&'static str, Duration)],
    ) -> Result<String, fmt::Error> {
        for (source, stale_for) in staleness {
            self.staleness.get_or_create_owned(&SourceLabels { source }).set(stale_for.as_secs_f64());
        }
        TemplateState::count(catalog, &self.templates);
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Every outcome with each of its reasons.
fn outcomes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let [injected, skipped, denied] =
        [OutcomeKind::Injected, OutcomeKind::Skipped, OutcomeKind::Denied].map(kind_word);
    let others = [(injected, "none"), ("unreadable", "none"), ("failed", Reason::InternalError.word())];
    let skipped = TABLE.iter().map(move |row| (skipped, row.word));
    let denied =
        TABLE.iter().filter(|row| row.reason.denies_if_required()).map(move |row| (denied, row.word));
    others.into_iter().chain(skipped).chain(denied)
}

const fn kind_word(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Injected => "injected",
        OutcomeKind::Skipped => "skipped",
        OutcomeKind::Denied => "denied",
    }
}

/// Guard of one request in flight.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Limit, Metrics};
    use crate::admission::catalog::{AllowedNamespaces, Catalog, TemplateEntry};
    use crate::admission::reason::Reason;
    use crate::admission::{Answer, Outcome, OutcomeKind};
    use crate::template::agent::TemplateId;

    #[test]
    fn every_metric_is_exposed_by_its_documented_name() {
        let metrics = Metrics::default();
        let outcome = Outcome {
            kind: OutcomeKind::Denied,
            reason: Some(Reason::TemplateNotFound),
            refusal: None,
            missing: None,
        };
        metrics.review(&Answer::Reviewed { body: Vec::new(), outcome: outcome.clone() });
        metrics.review(&Answer::Failed { message: String::new(), outcome });
        metrics.review(&Answer::Unreadable { message: String::new() });
        metrics.panic();
        metrics.took(Duration::from_micros(80));
        metrics.rejected(Limit::InFlight);
        metrics.certificate_expiry(1_800_000_000);
        metrics.ready(true);
        let guard = metrics.in_flight();
        drop(metrics.in_flight());
        let mut catalog = Catalog::default();
        catalog.insert_template(TemplateEntry {
            id: TemplateId { namespace: "team-a".to_owned(), name: "agent".to_owned() },
            uid: String::new(),
            claimed: true,
            deleting: false,
            allowed_namespaces: AllowedNamespaces::parse(None),
            sidecar: None,
            violation: Some("spec: bad".to_owned()),
        });

        metrics.waited(super::Wait::Found);
        let text = metrics.encode(&catalog, &[("templates", Duration::from_millis(1500))]).unwrap();
        drop(guard);
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            "promsidecar_admission_reviews_total{outcome=\"injected\",reason=\"none\"} 0",
            "promsidecar_admission_reviews_total{outcome=\"skipped\",reason=\"internal-error\"} 0",
            "promsidecar_admission_reviews_total{outcome=\"denied\",reason=\"too-large\"} 0",
            "promsidecar_admission_reviews_total{outcome=\"denied\",reason=\"template-not-found\"} 1",
            "promsidecar_admission_reviews_total{outcome=\"failed\",reason=\"template-not-found\"} 1",
            "promsidecar_admission_reviews_total{outcome=\"unreadable\",reason=\"none\"} 1",
            "promsidecar_admission_reviews_total{outcome=\"failed\",reason=\"internal-error\"} 1",
            "promsidecar_admission_duration_seconds_bucket{le=\"0.00005\"} 0",
            "promsidecar_admission_duration_seconds_bucket{le=\"0.0001\"} 1",
            "promsidecar_admission_duration_seconds_bucket{le=\"0.1\"} 1",
            "promsidecar_admission_in_flight 1",
            "promsidecar_admission_ready 1",
            "promsidecar_admission_rejected_total{limit=\"in-flight\"} 1",
            "promsidecar_admission_rejected_total{limit=\"connections\"} 0",
            "promsidecar_admission_waits_total{result=\"found\"} 1",
            "promsidecar_admission_waits_total{result=\"in-vain\"} 0",
            "promsidecar_source_staleness_seconds{source=\"templates\"} 1.5",
            "promsidecar_templates{state=\"invalid\"} 1",
            "promsidecar_templates{state=\"valid\"} 0",
            "promsidecar_certificate_expiry_timestamp_seconds 1800000000",
            &format!("promsidecar_build_info{{version=\"{version}\"}} 1"),
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
