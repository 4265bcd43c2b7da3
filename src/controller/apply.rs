//! Every write of the controller. IO: sends them.
//!
//! Input: steps and statuses as they were planned. Output: whether the API server took them. Nothing is written without the
//! lease, and nothing that is not ours is overwritten.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::bindings;
use super::certificate::registration;
use super::certificate::secret::Stored;
use super::condition::Undelivered;
use super::events::correlate::Written;
use super::lease::Leadership;
use super::plan::{Seen, Step};
use crate::cluster::explain::explain;
use crate::cluster::objects;
use crate::monitors::object::{self, MonitorKey};
use crate::names::{self, FIELD_MANAGER};
use crate::template::agent::TemplateId;
use crate::template::{API_VERSION, KIND};

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another replica may be the leader by now.
    #[error("not the leader")]
    NotLeader,
    /// There is an object of that name that is not ours.
    #[error("{0}")]
    Conflict(String),
    /// What this was made of has changed meanwhile.
    #[error("{0} has changed meanwhile")]
    Outdated(String),
    /// What is in the way of a new one goes at this moment.
    #[error("{0} is in the way of a new one and about to go")]
    Gone(String),
    /// The API server did not answer while we were sure to be the leader.
    #[error("{what}: no answer within {margin:?}")]
    Late {
        /// What was written.
        what: String,
        /// How long it was waited for.
        margin: Duration,
    },
    /// The API server refused, or was not reached.
    #[error("{what}: {}", explain(source))]
    Api {
        /// What was written.
        what: String,
        /// Why not.
        source: kube::Error,
    },
}

impl WriteError {
    /// Whether what was written over is no longer what we saw.
    pub fn is_outdated(&self) -> bool {
        match self {
            Self::Outdated(_) => true,
            Self::Api { source: kube::Error::Api(status), .. } => {
                status.is_conflict() || status.is_already_exists()
            }
            _ => false,
        }
    }

    /// As the template's condition tells it; nothing where another replica will.
    pub fn undelivered(&self) -> Option<Undelivered> {
        match self {
            Self::NotLeader => None,
            Self::Conflict(message) => Some(Undelivered::Conflict(message.clone())),
            Self::Api { .. } | Self::Late { .. } | Self::Gone(_) | Self::Outdated(_) => {
                Some(Undelivered::Failed(self.to_string()))
            }
        }
    }
}

/// The Secret that bundles were made of.
#[derive(Debug)]
pub struct Source<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// As it was seen.
    pub seen: &'a Stored,
}

/// Writes for whoever holds the lease.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Leadership,
    /// How long a write may take: before that, nobody else holds the lease.
    margin: Duration,
}

impl Writer {
    /// A writer that asks before each write.
    pub const fn new(client: Client, leadership: Leadership, margin: Duration) -> Self {
        Self { client, leadership, margin }
    }

    /// Does one step.
    pub async fn step(&self, step: Step) -> Result<(), WriteError> {
        match step {
            Step::Create(object) => self.create(&object).await,
            Step::Apply(object) => self.apply(&object).await,
            Step::Mark { namespace, name, unused_since, seen } => {
                let since = unused_since.map(|since| since.to_string());
                let patch = Patch::Merge(json!({"metadata": {
                    "uid": seen.uid,
                    "resourceVersion": seen.resource_version,
                    "annotations": {(names::UNUSED_SINCE): since},
                }}));
                let params =
                    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let api = self.config_maps(&namespace);
                self.write(&shown(&namespace, &name), api.patch(&name, &params, &patch)).await
            }
            Step::Delete { namespace, name, seen } => self.delete(&namespace, &name, seen).await,
        }
    }

    /// Creates a `ConfigMap`. One of that name that is ours, though no watch has told of it yet, is brought up to date.
    async fn create(&self, object: &Value) -> Result<(), WriteError> {
        let (namespace, name) = identity(object);
        let what = shown(namespace, name);
        let api = self.config_maps(namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let typed = serde_json::from_value(object.clone());
        let typed = typed.map_err(|error| failed(&what, kube::Error::SerdeError(error)))?;
        match self.write(&what, api.create(&params, &typed)).await {
            Err(WriteError::Api { source: kube::Error::Api(status), .. }) if status.is_already_exists() => {}
            created => return created,
        }
        match self.ours(namespace, name).await? {
            // Gone again, before any watch told of it: nothing else would bring the next look.
            None => Err(WriteError::Gone(what)),
            Some(found) => self.apply(&in_place_of(&found, object)).await,
        }
    }

    /// Keeps a last good version, but does not touch a `ConfigMap` of its name that is not ours.
    pub async fn keep(&self, object: &Value) -> Result<(), WriteError> {
        let (namespace, name) = identity(object);
        match self.ours(namespace, name).await? {
            None => self.create(object).await,
            Some(found) => self.apply(&in_place_of(&found, object)).await,
        }
    }

    /// Forgets a last good version; a `ConfigMap` of its name that is not ours stays.
    pub async fn forget(&self, namespace: &str, name: &str) -> Result<(), WriteError> {
        match self.ours(namespace, name).await {
            Ok(None) | Err(WriteError::Conflict(_)) => Ok(()),
            Ok(Some(seen)) => self.delete(namespace, name, seen).await,
            Err(error) => Err(error),
        }
    }

    /// The `ConfigMap` of that name, if there is one; one that is not ours is a conflict.
    async fn ours(&self, namespace: &str, name: &str) -> Result<Option<Seen>, WriteError> {
        let what = shown(namespace, name);
        let found = tokio::time::timeout(self.margin, self.config_maps(namespace).get_opt(name)).await;
        let Ok(found) = found else { return Err(WriteError::Late { what, margin: self.margin }) };
        let Some(found) = found.map_err(|source| failed(&what, source))? else { return Ok(None) };
        if found.labels().get(names::MANAGED_BY).is_none_or(|by| by != names::MANAGER) {
            return Err(WriteError::Conflict(format!(
                "{what} is not ours (it lacks the label {}: {}) and is left alone: delete or rename it",
                names::MANAGED_BY,
                names::MANAGER
            )));
        }
        Ok(Some(Seen {
            uid: found.uid().unwrap_or_default(),
            resource_version: found.resource_version().unwrap_or_default(),
        }))
    }

    /// Applies a `ConfigMap` that is ours as a whole, in place of the one whose UID it bears.
    async fn apply(&self, object: &Value) -> Result<(), WriteError> {
        let (namespace, name) = identity(object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.config_maps(namespace);
        self.write(&shown(namespace, name), api.patch(name, &params, &Patch::Apply(object))).await
    }

    /// Deletes a `ConfigMap`, unless it is another one by now, or was changed.
    async fn delete(&self, namespace: &str, name: &str, seen: Seen) -> Result<(), WriteError> {
        let api = self.config_maps(namespace);
        let Seen { uid, resource_version } = seen;
        let preconditions = Preconditions { uid: Some(uid), resource_version: Some(resource_version) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.write(&shown(namespace, name), api.delete(name, &params)).await
    }

    /// Writes a template's status; nothing takes back what we wrote there.
    pub async fn status(&self, id: &TemplateId, status: &Value) -> Result<(), WriteError> {
        let kind = objects::templates();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &kind);
        let mut object = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": id.name, "namespace": id.namespace},
        });
        if !status.is_null() {
            object["status"] = status.clone();
        }
        let object = Patch::Apply(object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.write(&format!("status of {id}"), api.patch_status(&id.name, &params, &object)).await
    }

    /// Writes what a template makes of a monitor into its status. Gives the monitor as it is stored; nothing where it is gone, or
    /// has no status: older definitions have none.
    pub async fn monitor_status(
        &self,
        template: &TemplateId,
        monitor: &MonitorKey,
        status: &Value,
    ) -> Result<Option<Value>, WriteError> {
        let MonitorKey { kind, id } = monitor;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &id.namespace, &objects::monitors(*kind));
        let object = json!({
            "apiVersion": object::API_VERSION,
            "kind": kind.word(),
            "metadata": {"name": id.name, "namespace": id.namespace},
            "status": status,
        });
        let params = PatchParams::apply(&bindings::field_manager(template)).force();
        let object = Patch::Apply(object);
        let write = api.patch_status(&id.name, &params, &object);
        let stored = self.send(&format!("status of {monitor}"), write).await?;
        Ok(stored.map(|stored| stored.data))
    }

    /// Creates an Event. One of that name says the same; of a namespace that is going, there is nobody to tell.
    pub async fn create_event(&self, event: &Value) -> Result<Written, WriteError> {
        let (namespace, name) = identity(event);
        let what = format!("Event {namespace}/{name}");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let typed = serde_json::from_value(event.clone());
        let typed = typed.map_err(|error| failed(&what, kube::Error::SerdeError(error)))?;
        match self.write(&what, api.create(&params, &typed)).await {
            Ok(()) => Ok(Written::Done),
            Err(WriteError::Api { source: kube::Error::Api(status), .. }) if status.is_already_exists() => {
                let found = self.send(&what, api.get_opt(name)).await?.flatten();
                let count = found.and_then(|found| found.series).map_or(1, |series| series.count);
                Ok(Written::Already(count.unsigned_abs()))
            }
            Err(error) => Err(error),
        }
    }

    /// Says how often an Event happened.
    pub async fn repeat_event(
        &self,
        namespace: &str,
        name: &str,
        series: &Value,
    ) -> Result<Written, WriteError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"series": series}));
        let written =
            self.send(&format!("Event {namespace}/{name}"), api.patch(name, &params, &patch)).await?;
        Ok(if written.is_some() { Written::Done } else { Written::Gone })
    }

    /// Creates the Secret of the certificate; one of that name that is there stays as it is.
    pub async fn create_secret(&self, object: &Value) -> Result<(), WriteError> {
        let what = format!("Secret {}", shown_identity(object));
        let params = PostParams {
            field_manager: Some(registration::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let typed = serde_json::from_value(object.clone());
        let typed = typed.map_err(|error| failed(&what, kube::Error::SerdeError(error)))?;
        self.attempt(&what, self.secrets(object).create(&params, &typed)).await.map(drop)
    }

    /// Applies the Secret of the certificate over the one that `object` names by its version, or over none.
    pub async fn apply_secret(&self, object: &Value) -> Result<(), WriteError> {
        let (_, name) = identity(object);
        let params = PatchParams::apply(registration::FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
        let write = self.secrets(object);
        let what = format!("Secret {}", shown_identity(object));
        self.attempt(&what, write.patch(name, &params, &patch)).await.map(drop)
    }

    /// Applies the bundles of the registration that `object` names by its version, or none; none either where the Secret is no
    /// longer the one that they were made of. Gives the registration's generation.
    pub async fn apply_bundles(&self, object: &Value, of: &Source<'_>) -> Result<i64, WriteError> {
        self.is_current(of).await?;
        let (_, name) = identity(object);
        let params = PatchParams::apply(registration::FIELD_MANAGER).force();
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let what = format!("caBundle of MutatingWebhookConfiguration {name}");
        let written = self.attempt(&what, api.patch(name, &params, &Patch::Apply(object))).await?;
        Ok(written.metadata.generation.unwrap_or_default())
    }

    /// Whether the Secret is still the one that was seen, as the API server has it and not as a watch told of it.
    async fn is_current(&self, Source { namespace, name, seen }: &Source<'_>) -> Result<(), WriteError> {
        let what = format!("Secret {namespace}/{name}");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        // By name, so that the permission to list this one is enough.
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = self.attempt(&what, api.list_metadata(&named)).await?;
        let is_same = |found: &PartialObjectMeta<Secret>| {
            let Stored { uid, resource_version, .. } = seen;
            found.uid().as_ref() == Some(uid) && found.resource_version().as_ref() == Some(resource_version)
        };
        if found.items.iter().any(is_same) { Ok(()) } else { Err(WriteError::Outdated(what)) }
    }

    fn secrets(&self, object: &Value) -> Api<Secret> {
        Api::namespaced(self.client.clone(), identity(object).0)
    }

    fn config_maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Sends a write. One whose object is gone, or going with its namespace, needs no other: the watches tell of that.
    async fn write<T>(
        &self,
        what: &str,
        send: impl Future<Output = kube::Result<T>>,
    ) -> Result<(), WriteError> {
        self.send(what, send).await.map(drop)
    }

    /// The same with the answer; nothing where the object, or its namespace, is gone.
    async fn send<T>(
        &self,
        what: &str,
        send: impl Future<Output = kube::Result<T>>,
    ) -> Result<Option<T>, WriteError> {
        match self.attempt(what, send).await {
            Err(WriteError::Api { source: kube::Error::Api(status), .. })
                if status.is_not_found() || is_terminating(&status) =>
            {
                Ok(None)
            }
            answered => answered.map(Some),
        }
    }

    /// Sends a write if we may, for as long as nobody else may.
    async fn attempt<T>(
        &self,
        what: &str,
        send: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let _writing = self.leadership.begin().ok_or(WriteError::NotLeader)?;
        match tokio::time::timeout(self.margin, send).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(failed(what, source)),
            Err(_) => Err(WriteError::Late { what: what.to_owned(), margin: self.margin }),
        }
    }
}

fn failed(what: &str, source: kube::Error) -> WriteError {
    WriteError::Api { what: what.to_owned(), source }
}

fn shown(namespace: &str, name: &str) -> String {
    format!("ConfigMap {namespace}/{name}")
}

/// The object, to be applied in place of one that was seen and of no other.
fn in_place_of(found: &Seen, object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["uid"] = json!(found.uid);
    object
}

/// Namespace and name of an object.
fn identity(object: &Value) -> (&str, &str) {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

fn shown_identity(object: &Value) -> String {
    let (namespace, name) = identity(object);
    format!("{namespace}/{name}")
}

/// The API server creates nothing in a namespace that is being deleted (cause `NamespaceTerminating`).
fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_forbidden() && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
