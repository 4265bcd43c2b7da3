//! Every write of the controller. IO: sends them.
//!
//! Input: steps and statuses as they were planned. Output: whether the API server took them. Nothing is written without the
//! lease, and nothing that is not ours is overwritten.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::certificate::registration;
use super::condition::Undelivered;
use super::lease::Leadership;
use super::plan::Step;
use crate::cluster::explain::explain;
use crate::cluster::objects;
use crate::names;
use crate::template::agent::TemplateId;
use crate::template::{API_VERSION, KIND};

/// Field manager of everything that we write.
pub const FIELD_MANAGER: &str = "promsidecar-controller";

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another replica may be the leader by now.
    #[error("not the leader")]
    NotLeader,
    /// There is an object of that name that is not ours.
    #[error("{0}")]
    Conflict(String),
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
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.is_conflict() || status.is_already_exists())
    }

    /// As the template's condition tells it; nothing where another replica will.
    pub fn undelivered(&self) -> Option<Undelivered> {
        match self {
            Self::NotLeader => None,
            Self::Conflict(message) => Some(Undelivered::Conflict(message.clone())),
            Self::Api { .. } | Self::Late { .. } | Self::Gone(_) => {
                Some(Undelivered::Failed(self.to_string()))
            }
        }
    }
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
            Step::Mark { namespace, name, unused_since } => {
                let since = unused_since.map(|since| since.to_string());
                let patch =
                    Patch::Merge(json!({"metadata": {"annotations": {(names::UNUSED_SINCE): since}}}));
                let params =
                    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let api = self.config_maps(&namespace);
                self.write(&shown(&namespace, &name), api.patch(&name, &params, &patch)).await
            }
            Step::Delete { namespace, name } => self.delete(&namespace, &name).await,
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
        let ours =
            |found: &ConfigMap| found.labels().get(names::MANAGED_BY).is_some_and(|by| by == names::MANAGER);
        match tokio::time::timeout(self.margin, api.get_opt(name)).await {
            // Gone again, before any watch told of it: nothing else would bring the next look.
            Ok(Ok(None)) => Err(WriteError::Gone(what)),
            Ok(Ok(Some(found))) if ours(&found) => self.apply(object).await,
            Ok(Ok(Some(_))) => Err(WriteError::Conflict(format!(
                "{what} is not ours (it lacks the label {}: {}) and is left alone: delete or rename it",
                names::MANAGED_BY,
                names::MANAGER
            ))),
            Ok(Err(source)) => Err(failed(&what, source)),
            Err(_) => Err(WriteError::Late { what, margin: self.margin }),
        }
    }

    /// Applies a `ConfigMap` that is ours as a whole.
    pub async fn apply(&self, object: &Value) -> Result<(), WriteError> {
        let (namespace, name) = identity(object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.config_maps(namespace);
        self.write(&shown(namespace, name), api.patch(name, &params, &Patch::Apply(object))).await
    }

    /// Deletes a `ConfigMap`.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), WriteError> {
        let api = self.config_maps(namespace);
        self.write(&shown(namespace, name), api.delete(name, &DeleteParams::default())).await
    }

    /// Writes a template's status.
    pub async fn status(&self, id: &TemplateId, status: &Value) -> Result<(), WriteError> {
        let kind = objects::templates();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &kind);
        let object = Patch::Apply(json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": id.name, "namespace": id.namespace},
            "status": status,
        }));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.write(&format!("status of {id}"), api.patch_status(&id.name, &params, &object)).await
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
        self.send(&what, self.secrets(object).create(&params, &typed)).await
    }

    /// Applies the Secret of the certificate over the one that `object` names by its version, or over none.
    pub async fn apply_secret(&self, object: &Value) -> Result<(), WriteError> {
        let (_, name) = identity(object);
        let params = PatchParams::apply(registration::FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
        let write = self.secrets(object);
        self.send(&format!("Secret {}", shown_identity(object)), write.patch(name, &params, &patch)).await
    }

    /// Applies the bundles of the registration that `object` names by its version, or none.
    pub async fn apply_bundles(&self, object: &Value) -> Result<(), WriteError> {
        let (_, name) = identity(object);
        let params = PatchParams::apply(registration::FIELD_MANAGER).force();
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let what = format!("caBundle of MutatingWebhookConfiguration {name}");
        self.send(&what, api.patch(name, &params, &Patch::Apply(object))).await
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
        match self.send(what, send).await {
            Err(WriteError::Api { source: kube::Error::Api(status), .. })
                if status.is_not_found() || is_terminating(&status) =>
            {
                Ok(())
            }
            written => written,
        }
    }

    /// Sends a write if we may, for as long as nobody else may.
    async fn send<T>(
        &self,
        what: &str,
        send: impl Future<Output = kube::Result<T>>,
    ) -> Result<(), WriteError> {
        let _writing = self.leadership.begin().ok_or(WriteError::NotLeader)?;
        match tokio::time::timeout(self.margin, send).await {
            Ok(Ok(_)) => Ok(()),
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
