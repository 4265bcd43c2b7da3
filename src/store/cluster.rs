//! Templates and namespaces from the API server. IO: follows watches.
//!
//! Input: a client. Output: a [`Store`] whose snapshots follow the cluster. Each object is compiled when its watch event
//! arrives, never for a request. Without the API server the last snapshot stays in use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, TypeMeta};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::watch;

use super::Store;
use super::compile::compile;
use crate::admission::catalog::{Catalog, NamespaceMeta};
use crate::cluster::watch::{Change, Health, follow};
use crate::template::agent::TemplateId;
use crate::template::{API_VERSION, KIND, Settings};

/// Group and version of templates.
const GROUP: &str = "monitoring.coreos.com";
const VERSION: &str = "v1alpha1";
/// Objects a page of the first list.
const PAGE: u32 = 500;

/// The cluster's templates and namespaces.
#[derive(Debug)]
pub struct ClusterStore {
    settings: Settings,
    catalog: ArcSwap<Catalog>,
    changes: watch::Sender<()>,
    /// Held by whoever makes the next snapshot of the present one.
    writing: Mutex<()>,
    templates: Health,
    namespaces: Health,
    /// Of whoever looks up what the cluster runs, if anyone does.
    version: Option<Health>,
}

impl ClusterStore {
    /// A store that knows nothing yet; follow [`Self::watch_templates`] and [`Self::watch_namespaces`]. It is not ready before
    /// the cluster's version is known, where anyone looks that up.
    pub fn new(settings: Settings, version: Option<Health>) -> Self {
        Self {
            settings,
            catalog: ArcSwap::default(),
            changes: watch::Sender::new(()),
            writing: Mutex::default(),
            templates: Health::new("templates"),
            namespaces: Health::new("namespaces"),
            version,
        }
    }

    fn health(&self) -> impl Iterator<Item = &Health> {
        [&self.templates, &self.namespaces].into_iter().chain(&self.version)
    }

    /// Follows the templates of all namespaces for ever.
    pub async fn watch_templates(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, KIND));
        let start = || watcher(Api::<DynamicObject>::all_with(client.clone(), &kind), config());
        follow(self.templates.clone(), start, |change| self.templates_changed(change)).await
    }

    /// Follows the metadata of all namespaces for ever.
    pub async fn watch_namespaces(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let start = || watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), config());
        follow(self.namespaces.clone(), start, |change| self.namespaces_changed(change)).await
    }

    fn templates_changed(&self, change: Change<DynamicObject>) {
        self.swap(|before| match change {
            Change::All(objects) => {
                let mut catalog = before.without_templates();
                for object in objects {
                    self.insert(&mut catalog, before, object);
                }
                tracing::info!(templates = catalog.templates().count(), "templates listed");
                catalog
            }
            Change::Applied(object) => {
                let mut catalog = before.clone();
                self.insert(&mut catalog, before, object);
                catalog
            }
            Change::Deleted(object) => {
                let mut catalog = before.clone();
                catalog.remove_template(&id(&object));
                catalog
            }
        });
    }

    /// Compiles one template; one that cannot be is left out and costs no other.
    fn insert(&self, catalog: &mut Catalog, before: &Catalog, object: DynamicObject) {
        let id = id(&object);
        let previous = before.template(&id.namespace, &id.name).map(AsRef::as_ref);
        match serde_json::to_value(narrowed(object)) {
            Ok(object) => match compile(&object, &self.settings, previous) {
                Ok(compiled) => catalog.insert_template(compiled.entry),
                Err(error) => tracing::warn!(template = %id, %error, "object left out"),
            },
            Err(error) => tracing::warn!(template = %id, %error, "object left out"),
        }
    }

    fn namespaces_changed(&self, change: Change<PartialObjectMeta<Namespace>>) {
        self.swap(|before| match change {
            Change::All(namespaces) => {
                let mut catalog = before.without_namespaces();
                tracing::info!(namespaces = namespaces.len(), "namespaces listed");
                for namespace in namespaces {
                    catalog.insert_namespace(namespace.name_any(), meta(&namespace));
                }
                catalog
            }
            Change::Applied(namespace) => {
                let mut catalog = before.clone();
                catalog.insert_namespace(namespace.name_any(), meta(&namespace));
                catalog
            }
            Change::Deleted(namespace) => {
                let mut catalog = before.clone();
                catalog.remove_namespace(&namespace.name_any());
                catalog
            }
        });
    }

    /// Replaces the snapshot and tells of it.
    fn swap(&self, next: impl FnOnce(&Catalog) -> Catalog) {
        // The next snapshot appears whole or not at all, so a panic of another writer changes nothing.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.catalog.load_full();
        let catalog = next(&before);
        super::log_violations(&before, &catalog);
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

fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

fn id(object: &DynamicObject) -> TemplateId {
    TemplateId { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// The object without what nobody here reads.
fn narrowed(mut object: DynamicObject) -> DynamicObject {
    object.metadata.managed_fields = None;
    // An item of a list need not say what it is.
    object.types = Some(TypeMeta { api_version: API_VERSION.to_owned(), kind: KIND.to_owned() });
    if let Value::Object(fields) = &mut object.data {
        fields.remove("status");
    }
    object
}

fn meta(namespace: &PartialObjectMeta<Namespace>) -> NamespaceMeta {
    let (labels, annotations) = (namespace.labels(), namespace.annotations());
    NamespaceMeta::new(
        |key| labels.get(key).map(String::as_str),
        |key| annotations.get(key).map(String::as_str),
    )
}
