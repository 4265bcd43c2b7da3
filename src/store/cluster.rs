//! Templates, monitors and namespaces from the API server. IO: follows watches.
//!
//! Input: a client. Output: a [`Store`] whose snapshots follow the cluster. Each object is compiled when its watch event
//! arrives, never for a request. Without the API server the last snapshot stays in use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::watch;

use super::Store;
use super::inventory::Inventory;
use crate::admission::catalog::Catalog;
use crate::cluster::objects;
use crate::cluster::watch::{Change, Health, follow, follow_optional};
use crate::monitors::object::Kind;
use crate::template::agent::TemplateId;
use crate::template::{ReadError, Settings};

/// The cluster's templates, monitors and namespaces.
#[derive(Debug)]
pub struct ClusterStore {
    inventory: Mutex<Inventory>,
    catalog: ArcSwap<Catalog>,
    changes: watch::Sender<()>,
    templates: Health,
    pod_monitors: Health,
    service_monitors: Health,
    namespaces: Health,
    last_good: Health,
    /// Of whoever looks up what the cluster runs, if anyone does.
    version: Option<Health>,
}

impl ClusterStore {
    /// A store that knows nothing yet; follow every `watch_…`. It is not ready before the cluster's version is known, where
    /// anyone looks that up.
    pub fn new(settings: Settings, version: Option<Health>) -> Self {
        Self {
            inventory: Mutex::new(Inventory::new(settings)),
            catalog: ArcSwap::default(),
            changes: watch::Sender::new(()),
            templates: Health::new("templates"),
            pod_monitors: Health::new(Kind::Pod.plural()),
            service_monitors: Health::new(Kind::Service.plural()),
            namespaces: Health::new("namespaces"),
            last_good: Health::new("last good versions"),
            version,
        }
    }

    fn health(&self) -> impl Iterator<Item = &Health> {
        let monitors = Kind::ALL.map(|kind| self.monitors(kind)).into_iter();
        let others = [&self.templates, &self.namespaces, &self.last_good];
        others.into_iter().chain(monitors).chain(&self.version)
    }

    const fn monitors(&self, kind: Kind) -> &Health {
        match kind {
            Kind::Pod => &self.pod_monitors,
            Kind::Service => &self.service_monitors,
        }
    }

    /// Follows the templates of all namespaces for ever.
    pub async fn watch_templates(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let start = || objects::watch_templates(&client);
        let take = |change| self.change(|inventory| templates_changed(inventory, change));
        follow(self.templates.clone(), start, take).await
    }

    /// Follows the monitors of a kind, of all namespaces, for ever. A cluster without their definition has none.
    pub async fn watch_monitors(self: Arc<Self>, client: Client, kind: Kind) -> anyhow::Result<()> {
        let start = || objects::watch_monitors(&client, kind);
        let take = |change| self.change(|inventory| monitors_changed(inventory, kind, change));
        let any_known = || self.inventory().monitors().of_kind(kind).next().is_some();
        follow_optional(self.monitors(kind).clone(), start, take, any_known).await
    }

    /// Follows the metadata of all namespaces for ever.
    pub async fn watch_namespaces(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let start = || watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), objects::paged());
        let take = |change| self.change(|inventory| namespaces_changed(inventory, change));
        follow(self.namespaces.clone(), start, take).await
    }

    /// Follows the last good versions that the controller keeps in our own namespace, for ever.
    pub async fn watch_last_good(
        self: Arc<Self>,
        client: Client,
        own_namespace: String,
    ) -> anyhow::Result<()> {
        let start = || objects::watch_last_good(&client, &own_namespace);
        let take = |change| self.change(|inventory| kept_changed(inventory, change));
        follow(self.last_good.clone(), start, take).await
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        // Every change of the inventory is complete at each point where it could panic.
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next snapshot and tells of it.
    fn change(&self, change: impl FnOnce(&mut Inventory)) {
        let mut inventory = self.inventory();
        change(&mut inventory);
        let catalog = inventory.catalog().clone();
        super::log_violations(&self.catalog.load(), &catalog);
        self.catalog.store(Arc::new(catalog));
        self.changes.send_replace(());
    }
}

impl Store for ClusterStore {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.changes.subscribe())
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

fn templates_changed(inventory: &mut Inventory, change: Change<(TemplateId, Value)>) {
    let left_out = |error: ReadError| tracing::warn!(%error, "object left out");
    match change {
        Change::All(objects) => {
            let objects: Vec<_> = objects.into_iter().map(|(_, object)| object).collect();
            let (_, unreadable) = inventory.replace_templates(&objects);
            unreadable.into_iter().for_each(left_out);
            tracing::info!(templates = inventory.catalog().templates().count(), "templates listed");
        }
        Change::Applied((_, object)) => drop(inventory.insert_template(&object).map_err(left_out)),
        Change::Deleted((id, _)) => inventory.remove_template(&id),
    }
}

fn monitors_changed(inventory: &mut Inventory, kind: Kind, change: Change<objects::FoundMonitor>) {
    match change {
        Change::All(found) => {
            inventory.replace_monitors(kind, found.into_iter().filter_map(objects::readable).collect());
            // Listed again and again where the cluster does not know the kind.
            let listed = inventory.monitors().of_kind(kind).count();
            if listed > 0 {
                tracing::info!(kind = kind.word(), monitors = listed, "monitors listed");
            }
        }
        Change::Applied((key, Err(error))) => {
            tracing::warn!(%error, "object left out");
            inventory.remove_monitor(&key);
        }
        Change::Applied((_, Ok(monitor))) => drop(inventory.insert_monitor(monitor)),
        Change::Deleted((key, _)) => drop(inventory.remove_monitor(&key)),
    }
}

fn namespaces_changed(inventory: &mut Inventory, change: Change<PartialObjectMeta<Namespace>>) {
    match change {
        Change::All(namespaces) => {
            tracing::info!(namespaces = namespaces.len(), "namespaces listed");
            let all =
                namespaces.iter().map(|namespace| (namespace.name_any(), objects::namespace(namespace)));
            inventory.replace_namespaces(all.collect());
        }
        Change::Applied(namespace) => {
            inventory.insert_namespace(&namespace.name_any(), objects::namespace(&namespace));
        }
        Change::Deleted(namespace) => drop(inventory.remove_namespace(&namespace.name_any())),
    }
}

fn kept_changed(inventory: &mut Inventory, change: Change<objects::Kept>) {
    match change {
        Change::All(kept) => {
            let readable = kept.into_iter().flatten().filter_map(|(id, object)| Some((id, object?)));
            inventory.replace_kept(readable.collect());
        }
        Change::Applied(Some((id, object))) => inventory.keep(&id, object),
        Change::Deleted(Some((id, _))) => inventory.keep(&id, None),
        Change::Applied(None) | Change::Deleted(None) => {}
    }
}
