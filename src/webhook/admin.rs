//! What the admin port tells of the webhook.
//!
//! Input: the present state of store, certificate and shutdown. Output: a [`Report`].

use std::fmt;
use std::sync::Arc;

use super::tls::Slot;
use crate::admin::Report;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};
use crate::store::Store;

/// What the admin port reports on.
#[derive(Clone)]
pub struct Status {
    /// Templates and namespaces.
    pub store: Arc<dyn Store>,
    /// The serving certificate.
    pub certificate: Arc<Slot>,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The phase of the process.
    pub shutdown: Shutdown,
}

impl Report for Status {
    fn not_ready(&self) -> Vec<String> {
        let draining = self.shutdown.phase() > Phase::Serving;
        let certificate = !self.certificate.is_loaded();
        self.store
            .readiness()
            .err()
            .into_iter()
            .chain(certificate.then(|| "no certificate is loaded; the log says why".to_owned()))
            .chain(draining.then(|| "draining".to_owned()))
            .collect()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.encode(&self.store.catalog(), &self.store.staleness())
    }
}
