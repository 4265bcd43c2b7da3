//! The watches of the controller, from objects to changes of the [`World`]. IO: follows watches.
//!
//! Input: a client. Output: every change told to the world, and the templates that it concerns to the queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::events::Events;
use super::events::refused::{self, Refused};
use super::fleet::{Member, PodKey, has_target};
use super::plan::{self, Observed};
use super::queue::Queue;
use super::world::World;
use crate::admission::catalog::Catalog;
use crate::admission::status;
use crate::cluster::objects;
use crate::cluster::watch::{self, Change, Health, follow, follow_optional};
use crate::monitors::object::Kind;
use crate::names;
use crate::store::inventory::{self, Concerned};
use crate::template::agent::TemplateId;

/// What is known, with what has to be looked at, for all who tell and who act.
#[derive(Debug)]
pub struct Observer {
    world: Mutex<World>,
    /// Templates that something happened to.
    pub queue: Queue,
    /// Templates whose monitors have to be told.
    pub told: Queue,
    /// What there is to tell in Events.
    pub events: Events,
    templates: Health,
    pod_monitors: Health,
    service_monitors: Health,
    services: Health,
    namespaces: Health,
    config_maps: Health,
    last_good: Health,
    pods: Health,
    snapshot: Option<Snapshot>,
}

/// Templates and namespaces as of the last change, for those who read them without waiting.
#[derive(Debug, Default)]
struct Snapshot {
    catalog: ArcSwap<Catalog>,
    changes: tokio::sync::watch::Sender<()>,
}

impl Observer {
    /// Nothing is known yet; follow every `watch_…`.
    pub fn new(world: World) -> Self {
        Self {
            world: Mutex::new(world),
            queue: Queue::default(),
            told: Queue::default(),
            events: Events::default(),
            templates: Health::new("templates"),
            pod_monitors: Health::new(Kind::Pod.plural()),
            service_monitors: Health::new(Kind::Service.plural()),
            services: Health::new("Services"),
            namespaces: Health::new("namespaces"),
            config_maps: Health::new("ConfigMaps"),
            last_good: Health::new("last good versions"),
            pods: Health::new("pods that asked"),
            snapshot: None,
        }
    }

    /// One whose templates and namespaces a webhook of this process reads, see [`super::shared`].
    pub fn shared(world: World) -> Self {
        Self { snapshot: Some(Snapshot::default()), ..Self::new(world) }
    }

    /// Templates and namespaces, if they are shared.
    pub fn catalog(&self) -> Option<Arc<Catalog>> {
        self.snapshot.as_ref().map(|snapshot| snapshot.catalog.load_full())
    }

    /// Told of every change of them.
    pub fn catalog_changes(&self) -> Option<tokio::sync::watch::Receiver<()>> {
        self.snapshot.as_ref().map(|snapshot| snapshot.changes.subscribe())
    }

    /// How the watches are that they come from.
    pub const fn catalog_health(&self) -> [&Health; 5] {
        [&self.templates, &self.pod_monitors, &self.service_monitors, &self.namespaces, &self.last_good]
    }

    /// How the watches are.
    pub const fn health(&self) -> [&Health; 8] {
        let [templates, pod_monitors, service_monitors, namespaces, last_good] = self.catalog_health();
        let (services, config_maps, pods) = (&self.services, &self.config_maps, &self.pods);
        [templates, pod_monitors, service_monitors, services, namespaces, config_maps, last_good, pods]
    }

    /// What is known at this moment.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // Every change of the world is complete at each point where it could panic.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut World) -> Concerned) {
        let concerned = change(&mut self.world());
        self.queue.add(concerned);
    }

    /// The same where the catalog may be another afterwards.
    fn tell_shared(&self, change: impl FnOnce(&mut World) -> Concerned) {
        let concerned = {
            let mut world = self.world();
            let concerned = change(&mut world);
            if let Some(snapshot) = &self.snapshot {
                snapshot.catalog.store(Arc::new(world.catalog().clone()));
                snapshot.changes.send_replace(());
            }
            concerned
        };
        self.queue.add(concerned);
    }

    /// Follows the templates of all namespaces for ever.
    pub async fn watch_templates(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let start = || objects::watch_templates(&client);
        let take = |change| self.tell_shared(|world| templates_changed(world, change));
        follow(self.templates.clone(), start, take).await
    }

    /// Follows the monitors of a kind, of all namespaces, for ever. A cluster without their definition has none.
    pub async fn watch_monitors(self: Arc<Self>, client: Client, kind: Kind) -> anyhow::Result<()> {
        let start = || objects::watch_monitors(&client, kind);
        let take = |change| self.tell_shared(|world| monitors_changed(world, kind, change));
        let any_known = || self.world().has_monitors(kind);
        let health = match kind {
            Kind::Pod => &self.pod_monitors,
            Kind::Service => &self.service_monitors,
        };
        follow_optional(health.clone(), start, take, any_known).await
    }

    /// Follows the Services of all namespaces for ever.
    pub async fn watch_services(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let start = || objects::watch_services(&client);
        let take = |change| self.tell(|world| services_changed(world, change));
        follow(self.services.clone(), start, take).await
    }

    /// Follows the metadata of all namespaces for ever.
    pub async fn watch_namespaces(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let start = || {
            watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), objects::paged())
                .map_ok(|event| watch::map(event, |object| namespace(&object)))
        };
        let take = |change| self.tell_shared(|world| namespaces_changed(world, change));
        follow(self.namespaces.clone(), start, take).await
    }

    /// Follows the ConfigMaps with configurations, in all namespaces, for ever.
    pub async fn watch_config_maps(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let ours = format!("{}={},!{}", names::MANAGED_BY, names::MANAGER, names::LAST_GOOD);
        let start = || {
            watcher(Api::<ConfigMap>::all(client.clone()), objects::paged().labels(&ours))
                .map_ok(|event| watch::map(event, |object| config_map(&object)))
        };
        let take = |change| self.tell(|world| config_maps_changed(world, change));
        follow(self.config_maps.clone(), start, take).await
    }

    /// Follows the last good versions that are kept in our own namespace, for ever.
    pub async fn watch_last_good(
        self: Arc<Self>,
        client: Client,
        own_namespace: String,
    ) -> anyhow::Result<()> {
        let start = || objects::watch_last_good(&client, &own_namespace);
        let take = |change| self.tell_shared(|world| kept_changed(world, change));
        follow(self.last_good.clone(), start, take).await
    }

    /// Follows the pods of all namespaces that asked, injected or not, for ever; first of all come templates and namespaces, by
    /// which refusals are understood.
    pub async fn watch_pods(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        self.templates.known().await;
        self.namespaces.known().await;
        let asked = format!("{} in (true,false)", names::INJECTED);
        let start = || {
            watcher(Api::<Pod>::all(client.clone()), objects::paged().labels(&asked))
                .map_ok(|event| watch::map(event, |pod| found_pod(&pod)))
        };
        let take = |change| self.tell(|world| pods_changed(world, &self.events, change));
        follow(self.pods.clone(), start, take).await
    }
}

fn templates_changed(world: &mut World, change: Change<(TemplateId, Value)>) -> Concerned {
    let applied = match change {
        Change::All(objects) => {
            let objects: Vec<_> = objects.into_iter().map(|(_, object)| object).collect();
            let (concerned, unreadable) = world.all_templates(&objects);
            for error in unreadable {
                tracing::warn!(%error, "object left out");
            }
            return concerned;
        }
        Change::Applied((_, object)) => world.template_applied(&object),
        Change::Deleted((id, _)) => return world.template_deleted(&id),
    };
    applied.unwrap_or_else(|error| {
        tracing::warn!(%error, "object left out");
        Concerned::new()
    })
}

/// A namespace; one that is being deleted has no metadata any more: nothing can be created there.
fn namespace(namespace: &PartialObjectMeta<Namespace>) -> (String, Option<inventory::Namespace>) {
    let there = namespace.metadata.deletion_timestamp.is_none();
    (namespace.name_any(), there.then(|| objects::namespace(namespace)))
}

fn monitors_changed(world: &mut World, kind: Kind, change: Change<objects::FoundMonitor>) -> Concerned {
    match change {
        Change::All(found) => {
            world.all_monitors(kind, found.into_iter().filter_map(objects::readable).collect())
        }
        Change::Applied((key, Err(error))) => {
            tracing::warn!(%error, "object left out");
            world.monitor_deleted(&key)
        }
        Change::Applied((_, Ok(monitor))) => world.monitor_applied(monitor),
        Change::Deleted((key, _)) => world.monitor_deleted(&key),
    }
}

fn services_changed(world: &mut World, change: Change<objects::FoundService>) -> Concerned {
    match change {
        Change::All(found) => {
            world.all_services(found.into_iter().filter_map(|(_, service)| service).collect())
        }
        Change::Applied((_, Some(service))) => world.service_applied(service),
        Change::Applied((id, None)) | Change::Deleted((id, _)) => world.service_deleted(&id),
    }
}

fn namespaces_changed(
    world: &mut World,
    change: Change<(String, Option<inventory::Namespace>)>,
) -> Concerned {
    match change {
        Change::All(namespaces) => {
            let there = namespaces.into_iter().filter_map(|(name, namespace)| Some((name, namespace?)));
            world.all_namespaces(there.collect())
        }
        Change::Applied((name, Some(namespace))) => world.namespace_applied(&name, namespace),
        Change::Applied((name, None)) | Change::Deleted((name, _)) => world.namespace_deleted(&name),
    }
}

/// Namespace, name, the template of the annotation, and what is compared.
type FoundConfigMap = (String, String, Option<TemplateId>, Observed);

fn config_map(object: &ConfigMap) -> FoundConfigMap {
    let annotation = |key: &str| object.annotations().get(key).map(String::as_str);
    let template = annotation(names::TEMPLATE).and_then(TemplateId::parse);
    let content = object.data.as_ref().and_then(|data| data.get(names::CONFIG_KEY));
    let name = object.name_any();
    let marked = template.as_ref().is_some_and(|id| crate::admission::sidecar::config_map_name(id) == name);
    let observed = Observed {
        digest: plan::digest(content.map_or("", String::as_str)),
        marked,
        unused_since: annotation(names::UNUSED_SINCE).and_then(|since| since.parse().ok()),
        seen: plan::Seen {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        },
    };
    (object.namespace().unwrap_or_default(), name, template, observed)
}

fn config_maps_changed(world: &mut World, change: Change<FoundConfigMap>) -> Concerned {
    match change {
        Change::All(found) => world.all_config_maps(found),
        Change::Applied((namespace, name, template, observed)) => {
            world.config_map_applied(&namespace, &name, template, observed)
        }
        Change::Deleted((namespace, name, ..)) => world.config_map_deleted(&namespace, &name),
    }
}

fn kept_changed(world: &mut World, change: Change<objects::Kept>) -> Concerned {
    match change {
        Change::All(kept) => world
            .all_kept(kept.into_iter().flatten().filter_map(|(id, object)| Some((id, object?))).collect()),
        Change::Applied(Some((id, object))) => world.kept(&id, object),
        Change::Deleted(Some((id, _))) => world.kept(&id, None),
        Change::Applied(None) | Change::Deleted(None) => Concerned::new(),
    }
}

/// A pod that asked, as far as anyone here asks.
enum FoundPod {
    /// One of the fleet.
    Member(TemplateId, Member),
    /// It was refused: told, and nothing is kept of it.
    Refused(Box<Refused>),
    /// It has ended, or its marks are not ours.
    Other,
}

fn found_pod(pod: &Pod) -> (PodKey, FoundPod) {
    let key = (pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(refused) = refused::read(&pod.metadata) {
        return (key, FoundPod::Refused(Box::new(refused)));
    }
    let injected = pod.labels().get(names::INJECTED).is_some_and(|injected| injected == "true");
    let written = pod.annotations().get(names::STATUS).filter(|_| injected);
    let Some(written) = written.and_then(|written| status::read(written)) else {
        return (key, FoundPod::Other);
    };
    let status = pod.status.as_ref();
    // A pod that has ended, as Jobs leave them, needs nothing more.
    let ended = status
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase));
    let statuses = status
        .into_iter()
        .flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten());
    let ready = statuses.into_iter().any(|container| container.name == names::CONTAINER && container.ready);
    if ended {
        return (key, FoundPod::Other);
    }
    let targeted = pod.annotations().get(names::TARGETS).is_none_or(|targets| has_target(targets));
    let newer = written.is_newer();
    (key, FoundPod::Member(written.template, Member { hash: written.hash, ready, targeted, newer }))
}

fn pods_changed(world: &mut World, events: &Events, change: Change<(PodKey, FoundPod)>) -> Concerned {
    let tell = |world: &World, refused: &Refused| events.refused(refused, world.withheld(refused));
    match change {
        Change::All(pods) => {
            let mut members = Vec::new();
            for (key, found) in pods {
                match found {
                    FoundPod::Member(id, member) => members.push((key, id, member)),
                    FoundPod::Refused(refused) => tell(world, &refused),
                    FoundPod::Other => {}
                }
            }
            world.all_pods(members)
        }
        Change::Applied((key, found)) => match found {
            FoundPod::Member(id, member) => world.pod_applied(key, id, member),
            FoundPod::Refused(refused) => {
                tell(world, &refused);
                world.pod_deleted(&key)
            }
            FoundPod::Other => world.pod_deleted(&key),
        },
        Change::Deleted((key, _)) => world.pod_deleted(&key),
    }
}
