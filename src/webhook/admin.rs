//! What the admin port tells of the webhook.
//!
//! Input: the present state of store, certificate and shutdown. Output: a [`Report`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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

impl Status {
    /// The text of every metric; `staleness` is that of what is followed.
    pub fn exposition(&self, staleness: &[(&'static str, Duration)]) -> Result<String, fmt::Error> {
        self.metrics.ready(self.not_ready().is_empty());
        self.metrics.encode(&self.store.catalog(), staleness)
    }
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
        self.exposition(&self.store.staleness())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::Status;
    use crate::admin::Report;
    use crate::shutdown::Shutdown;
    use crate::store::files::FileStore;
    use crate::template::Settings;
    use crate::webhook::config::Certificate;
    use crate::webhook::run::source;
    use crate::webhook::tls::Keeper;

    #[test]
    fn a_replica_counts_as_ready_while_it_has_a_certificate_and_does_not_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::new(directory.path().to_owned(), Settings::default()));
        store.poll();
        let (certificate, metrics, shutdown) = (Arc::default(), Arc::default(), Shutdown::default());
        let status = Status { store, certificate, metrics, shutdown };
        let is = |value: &str| {
            let text = status.metrics().unwrap();
            let line = format!("promsidecar_admission_ready {value}");
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        };
        is("0");
        let now = SystemTime::now();
        let own = Certificate::Own { names: vec!["localhost".to_owned()], ca_out: None };
        let source = source(&own, now).unwrap();
        Keeper::new(source, Arc::clone(&status.certificate), Arc::clone(&status.metrics)).refresh(now);
        is("1");
        status.shutdown.drain();
        is("0");
    }
}
