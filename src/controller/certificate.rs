//! The webhook's certificate, made here: an authority and what it signs in a Secret, and the authority in the registration. IO:
//! follows watches.
//!
//! Input: a client, and what Secret and registration are called. Output: both as they are stored, for the loop that keeps them
//! ([`keep`]) and for whoever serves the certificate. What has to be done is decided in [`rotation`] and [`registration`].

use std::sync::Arc;

use futures_util::TryStreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::watcher;
use kube::{Api, Client};
use tokio::sync::watch;

use self::registration::Registration;
use self::rotation::Times;
use self::secret::Stored;
use crate::cluster::objects;
use crate::cluster::watch::{Change, Health, follow, map};
use crate::webhook::certificate::PemPair;

pub mod held;
pub mod issue;
pub mod keep;
pub mod pace;
pub mod registration;
pub mod rotation;
pub mod secret;

#[cfg(test)]
#[path = "certificate/rotation_model_tests.rs"]
mod rotation_model;

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// Name of the Secret, in our own namespace.
    pub secret: String,
    /// Name of the `MutatingWebhookConfiguration`.
    pub registration: String,
    /// What has to pass before another authority signs, and before the one before is forgotten.
    pub times: Times,
}

/// Both objects, as the watches tell of them.
#[derive(Debug)]
pub struct Observer {
    own_namespace: String,
    objects: Objects,
    secret: watch::Sender<Option<Stored>>,
    registration: watch::Sender<Option<Registration>>,
    pair: watch::Sender<Option<PemPair>>,
    health: [Health; 2],
}

impl Observer {
    /// Nothing is known yet; follow both `watch_…`.
    pub fn new(own_namespace: String, objects: Objects) -> Self {
        Self {
            own_namespace,
            objects,
            secret: watch::Sender::default(),
            registration: watch::Sender::default(),
            pair: watch::Sender::default(),
            health: [Health::new("certificate Secret"), Health::new("registration")],
        }
    }

    /// How the watches are.
    pub const fn health(&self) -> &[Health; 2] {
        &self.health
    }

    /// Namespace and name of the Secret.
    pub fn secret_name(&self) -> String {
        format!("{}/{}", self.own_namespace, self.objects.secret)
    }

    /// The certificate of the Secret and its key, whosever it is.
    pub fn pair(&self) -> watch::Receiver<Option<PemPair>> {
        self.pair.subscribe()
    }

    /// Follows the Secret for ever.
    pub async fn watch_secret(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        // By name, so that a permission for this one is enough.
        let named = objects::paged().fields(&format!("metadata.name={}", self.objects.secret));
        let start = || {
            let api = Api::<Secret>::namespaced(client.clone(), &self.own_namespace);
            watcher(api, named.clone()).map_ok(|event| map(event, |secret| Stored::of(&secret)))
        };
        let take = |change| {
            let stored = one(change);
            set(&self.pair, stored.as_ref().and_then(pair));
            set(&self.secret, stored);
        };
        follow(self.health[0].clone(), start, take).await
    }

    /// Follows the registration for ever.
    pub async fn watch_registration(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let named = objects::paged().fields(&format!("metadata.name={}", self.objects.registration));
        let start = || {
            let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
            watcher(api, named.clone()).map_ok(|event| map(event, |object| Registration::of(&object)))
        };
        follow(self.health[1].clone(), start, |change| set(&self.registration, one(change))).await
    }
}

/// The object of a watch that is about one.
fn one<K>(change: Change<K>) -> Option<K> {
    match change {
        Change::All(mut objects) => objects.pop(),
        Change::Applied(object) => Some(object),
        Change::Deleted(_) => None,
    }
}

fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|present| {
        let differs = *present != value;
        *present = value;
        differs
    });
}

/// Nothing where either is missing; whether they can be used is for the one who serves them.
fn pair(stored: &Stored) -> Option<PemPair> {
    let text = |key| Some(stored.get(key)).filter(|bytes| !bytes.is_empty()).map(String::from_utf8_lossy);
    Some(PemPair {
        certificate: text(secret::CERTIFICATE)?.into_owned(),
        key: text(secret::KEY)?.into_owned(),
    })
}
