//! What the controller counts, as `OpenMetrics` text.
//!
//! Input: outcomes of reconciliations, handed in by the loop, and what is known at the time of a scrape. Output:
//! [`Metrics::encode`]. Label sets are closed, as those of the webhook.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::certificate::Certificates;
use super::{SourceLabels, TemplateState, Templates, build};
use crate::admission::catalog::Catalog;
use crate::controller::condition::Undelivered;
use crate::controller::fleet::Counts;

/// How a reconciliation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it should be.
    Done,
    /// A ConfigMap cannot be what it should, and trying again does not mend it: one of that name is not ours, or none holds it.
    Undeliverable,
    /// It is tried again.
    Failed,
    /// Another replica is the leader.
    NotLeader,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Done, Self::Undeliverable, Self::Failed, Self::NotLeader];

    /// Of what was delivered, and whether something else `failed`.
    pub const fn of(delivered: &Result<(), Undelivered>, failed: bool) -> Self {
        match delivered {
            Err(Undelivered::Failed(_)) => Self::Failed,
            _ if failed => Self::Failed,
            Err(Undelivered::Conflict(_) | Undelivered::TooLarge(_)) => Self::Undeliverable,
            Ok(()) => Self::Done,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Undeliverable => "undeliverable",
            Self::Failed => "failed",
            Self::NotLeader => "not-leader",
        }
    }
}

/// What became of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The API server has it, or one more repetition of it.
    Written,
    /// Another process told it, or this one before a restart.
    Known,
    /// The API server did not take it; it is tried a few times.
    Failed,
    /// There was no room for it.
    Dropped,
}

impl Told {
    const ALL: [Self; 4] = [Self::Written, Self::Known, Self::Failed, Self::Dropped];

    const fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Known => "known",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FleetLabels {
    state: &'static str,
}

/// Every metric of the controller and the registry that encodes them.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<OutcomeLabels, Counter>,
    events: Family<OutcomeLabels, Counter>,
    leader: Gauge,
    templates: Templates,
    fleet: Family<FleetLabels, Gauge>,
    staleness: Family<SourceLabels, Gauge<f64, AtomicU64>>,
    /// Of the certificate that is made here.
    pub certificates: Certificates,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("promsidecar"),
            reconciles: Family::default(),
            events: Family::default(),
            leader: Gauge::default(),
            templates: Templates::default(),
            fleet: Family::default(),
            staleness: Family::default(),
            certificates: Certificates::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("reconciles", "Reconciliations of templates by result", metrics.reconciles.clone());
        registry.register("events", "Events by result", metrics.events.clone());
        registry.register("leader", "Whether this replica writes", metrics.leader.clone());
        registry.register("templates", "Templates by state", metrics.templates.clone());
        registry.register(
            "injected_pods",
            "Injected pods: all, those with the present version of their template, those whose agent is ready, those of them \
             that have a target, and those that a newer promsidecar injected",
            metrics.fleet.clone(),
        );
        registry.register_with_unit(
            "source_staleness",
            "For how long what is known of the cluster may be out of date; 0 while it is in order",
            Unit::Seconds,
            metrics.staleness.clone(),
        );
        metrics.certificates.register(registry);
        build(registry);
        // Zeros from the start, so that rates are right for the first event too.
        for outcome in Outcome::ALL {
            let _ = metrics.reconciles.get_or_create(&OutcomeLabels { result: outcome.word() });
        }
        for told in Told::ALL {
            let _ = metrics.events.get_or_create(&OutcomeLabels { result: told.word() });
        }
        metrics
    }
}

impl Metrics {
    /// Counts a reconciliation.
    pub fn reconciled(&self, outcome: Outcome) {
        self.reconciles.get_or_create(&OutcomeLabels { result: outcome.word() }).inc();
    }

    /// Counts Events.
    pub fn told(&self, told: Told, count: u64) {
        self.events.get_or_create(&OutcomeLabels { result: told.word() }).inc_by(count);
    }

    /// The text of every metric at this moment.
    pub fn encode(
        &self,
        leads: bool,
        catalog: &Catalog,
        pods: Counts,
        staleness: &[(&'static str, Duration)],
    ) -> Result<String, fmt::Error> {
        self.leader.set(i64::from(leads));
        TemplateState::count(catalog, &self.templates);
        let states = [
            ("all", pods.all),
            ("updated", pods.updated),
            ("ready", pods.ready),
            ("targeted", pods.targeted),
            ("newer", pods.newer),
        ];
        for (state, count) in states {
            let gauge = self.fleet.get_or_create_owned(&FleetLabels { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (source, stale_for) in staleness {
            self.staleness.get_or_create_owned(&SourceLabels { source }).set(stale_for.as_secs_f64());
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use k8s_openapi::jiff::Timestamp;

    use super::super::certificate::{Certificate, Problem};
    use super::{Metrics, Outcome, Told};
    use crate::admission::catalog::Catalog;
    use crate::controller::condition::Undelivered;
    use crate::controller::fleet::Counts;

    #[test]
    fn what_no_further_try_mends_is_a_result_of_its_own() {
        let text = String::new;
        for (delivered, failed, expected) in [
            (Ok(()), false, Outcome::Done),
            (Ok(()), true, Outcome::Failed),
            (Err(Undelivered::Conflict(text())), false, Outcome::Undeliverable),
            (Err(Undelivered::TooLarge(text())), false, Outcome::Undeliverable),
            (Err(Undelivered::TooLarge(text())), true, Outcome::Failed),
            (Err(Undelivered::Failed(text())), false, Outcome::Failed),
        ] {
            assert_eq!(Outcome::of(&delivered, failed), expected, "{delivered:?} {failed}");
        }
    }

    #[test]
    fn every_metric_is_exposed_by_its_documented_name() {
        let metrics = Metrics::default();
        metrics.reconciled(Outcome::Done);
        metrics.certificates.issued(Certificate::Leaf);
        metrics.certificates.published();
        metrics.certificates.problems(&BTreeMap::from([(Problem::SecretNotOurs, String::new())]));
        metrics.certificates.ends(Timestamp::from_second(1_900_000_000).ok(), None);
        metrics.told(Told::Dropped, 2);
        let counts = Counts { all: 4, updated: 3, ready: 2, targeted: 1, newer: 0 };
        let text =
            metrics.encode(true, &Catalog::default(), counts, &[("templates", Duration::ZERO)]).unwrap();
        for line in [
            "promsidecar_reconciles_total{result=\"done\"} 1",
            "promsidecar_reconciles_total{result=\"failed\"} 0",
            "promsidecar_reconciles_total{result=\"undeliverable\"} 0",
            "promsidecar_events_total{result=\"written\"} 0",
            "promsidecar_events_total{result=\"known\"} 0",
            "promsidecar_events_total{result=\"failed\"} 0",
            "promsidecar_events_total{result=\"dropped\"} 2",
            "promsidecar_leader 1",
            "promsidecar_templates{state=\"valid\"} 0",
            "promsidecar_injected_pods{state=\"all\"} 4",
            "promsidecar_injected_pods{state=\"updated\"} 3",
            "promsidecar_injected_pods{state=\"ready\"} 2",
            "promsidecar_injected_pods{state=\"targeted\"} 1",
            "promsidecar_injected_pods{state=\"newer\"} 0",
            "promsidecar_source_staleness_seconds{source=\"templates\"} 0.0",
            "promsidecar_managed_certificate_expiry_timestamp_seconds{certificate=\"authority\"} 1900000000",
            "promsidecar_managed_certificate_expiry_timestamp_seconds{certificate=\"leaf\"} 0",
            "promsidecar_managed_certificates_issued_total{certificate=\"leaf\"} 1",
            "promsidecar_ca_bundle_publications_total 1",
            "promsidecar_managed_certificate_problem{problem=\"secret-not-ours\"} 1",
            "promsidecar_managed_certificate_problem{problem=\"bundle-contested\"} 0",
            &format!("promsidecar_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
