//! Where templates, monitors and namespace metadata come from: one trait, one implementation for the cluster and one for a directory of
//! manifests.
//!
//! Input: a source that changes over time. Output: snapshots ([`Catalog`]) that requests read without waiting. What objects
//! mean is decided in [`compile`] and [`documents`]; [`cluster`] and [`files`] do the reading and the watching.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admission::catalog::Catalog;

pub mod cluster;
pub mod compile;
pub mod documents;
pub mod files;
pub mod inventory;
pub mod known;
pub mod last_good;
pub mod monitored;

/// A source of templates and namespace metadata.
pub trait Store: Send + Sync {
    /// The present snapshot; never waits.
    fn catalog(&self) -> Arc<Catalog>;

    /// Told of every new snapshot. `None` where nobody is: then there is nothing to wait for.
    fn changes(&self) -> Option<watch::Receiver<()>> {
        None
    }

    /// For how long each part of the source may be out of date by now, by its name; zero while it is in order.
    fn staleness(&self) -> Vec<(&'static str, Duration)> {
        Vec::new()
    }

    /// Whether the source was read completely at least once; otherwise why not, for `/readyz`.
    fn readiness(&self) -> Result<(), String>;
}

/// Logs violations of templates that are new or differ from before.
fn log_violations(before: &Catalog, now: &Catalog) {
    for entry in now.templates() {
        let known =
            before.template(&entry.id.namespace, &entry.id.name).and_then(|old| old.violation.as_ref());
        if let Some(violation) = entry.violation.as_ref().filter(|violation| known != Some(violation)) {
            let last_good = entry.sidecar.is_some();
            tracing::warn!(template = %entry.id, violation, last_good_in_force = last_good, "template invalid");
        }
    }
}
