//! The controller's templates and namespaces as the store of a webhook in the same process: one set of watches for both.
//!
//! Input: the [`Observer`]. Output: a [`Store`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::observe::Observer;
use crate::admission::catalog::Catalog;
use crate::cluster::watch::Health;
use crate::store::Store;

/// The store. A namespace that is being deleted is not in it: no pod can be created there.
#[derive(Debug)]
pub struct SharedStore {
    /// Made by [`Observer::shared`].
    pub observer: Arc<Observer>,
    /// Of whoever looks up what the cluster runs, if anyone does.
    pub version: Option<Health>,
}

impl SharedStore {
    fn health(&self) -> impl Iterator<Item = &Health> {
        self.observer.catalog_health().into_iter().chain(&self.version)
    }
}

impl Store for SharedStore {
    fn catalog(&self) -> Arc<Catalog> {
        self.observer.catalog().unwrap_or_default()
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        self.observer.catalog_changes()
    }

    fn staleness(&self) -> Vec<(&'static str, Duration)> {
        let now = Instant::now();
        self.health().map(|health| (health.name(), health.stale_for(now))).collect()
    }

    fn readiness(&self) -> Result<(), String> {
        let why: Vec<_> = self.health().filter_map(|health| health.readiness().err()).collect();
        if why.is_empty() { Ok(()) } else { Err(why.join("; ")) }
    }
}
