//! What the admin port tells of the controller.
//!
//! Input: what is known, the lease, and the shutdown. Output: a [`Report`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::certificate;
use super::lease::Leadership;
use super::observe::Observer;
use crate::admin::Report;
use crate::cluster::watch::Health;
use crate::metrics::controller::Metrics;
use crate::shutdown::{Phase, Shutdown};

/// What is reported on.
#[derive(Debug, Clone)]
pub struct Status {
    /// What is known.
    pub observer: Arc<Observer>,
    /// What is known of the certificate, where it is made here.
    pub certificate: Option<Arc<certificate::Observer>>,
    /// Whether this replica writes. One that does not is ready all the same.
    pub leadership: Leadership,
    /// How talking about the lease goes.
    pub lease: Health,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The phase of the process.
    pub shutdown: Shutdown,
}

impl Status {
    fn sources(&self) -> impl Iterator<Item = &Health> {
        let certificate = self.certificate.iter().flat_map(|observer| observer.health());
        self.observer.health().into_iter().chain([&self.lease]).chain(certificate)
    }

    /// For how long each part of what is known may be out of date.
    pub fn staleness(&self) -> Vec<(&'static str, Duration)> {
        let now = Instant::now();
        self.sources().map(|health| (health.name(), health.stale_for(now))).collect()
    }
}

impl Report for Status {
    fn not_ready(&self) -> Vec<String> {
        let draining = self.shutdown.phase() > Phase::Serving;
        let unknown = self.sources().filter_map(|health| health.readiness().err());
        unknown.chain(draining.then(|| "draining".to_owned())).collect()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let world = self.observer.world();
        self.metrics.encode(self.leadership.is_held(), world.catalog(), world.counts(), &self.staleness())
    }
}
