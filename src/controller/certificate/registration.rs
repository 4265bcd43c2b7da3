//! The registration of the webhook: by which names it is called, and whom the API server trusts for it. PURE.
//!
//! Input: the `MutatingWebhookConfiguration` as it is stored, and our authorities. Output: names for the certificate, and the
//! `caBundle`s to apply, as far as they are needed.
//!
//! A bundle is written where it would not let the API server accept what we serve or are about to, or where it is ours and out
//! of date. One of somebody else's that holds our authorities is enough, and stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base64_simd::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::names;
use crate::x509::{self, Der};

/// Field manager of the bundles that we write.
pub const FIELD_MANAGER: &str = "promsidecar-certificates";

/// More names than any registration of ours has; a certificate must fit into a handshake.
const MOST_NAMES: usize = 64;

/// Annotations by which others are told to write the bundles, and who they are.
const INJECTORS: [(&str, &str); 4] = [
    ("cert-manager.io/inject-ca-from", "cert-manager"),
    ("cert-manager.io/inject-ca-from-secret", "cert-manager"),
    ("cert-manager.io/inject-apiserver-ca", "cert-manager"),
    ("service.beta.openshift.io/inject-cabundle", "OpenShift's service CA operator"),
];

/// The registration, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    name: String,
    uid: String,
    resource_version: String,
    /// Grows with every change of an entry.
    generation: i64,
    /// Of which certificate our bundles were made, if it is known.
    mark: Option<String>,
    /// Who was told to write its bundles, and by which annotation.
    injector: Option<(&'static str, &'static str)>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    /// By which the API server calls us.
    called: Vec<String>,
    bundle: Vec<u8>,
    /// Field managers of the bundle.
    writers: BTreeSet<String>,
}

impl Entry {
    /// Who wrote the bundle, if there is one. It may be another installation that thinks the registration its own.
    fn wrote(&self) -> BTreeSet<String> {
        match &self.bundle[..] {
            [] => BTreeSet::new(),
            _ if self.writers.is_empty() => BTreeSet::from(["somebody".to_owned()]),
            _ => self.writers.clone(),
        }
    }

    fn is_ours(&self) -> bool {
        self.writers.contains(FIELD_MANAGER)
    }
}

/// What has to be done about the bundles.
#[derive(Debug, Clone, PartialEq)]
pub enum Publication {
    /// Nothing.
    Current,
    /// Apply this object.
    Apply {
        /// For server-side apply.
        object: Value,
        /// Entries whose bundle changes.
        entries: usize,
        /// Who wrote what is replaced.
        replaced: BTreeSet<String>,
    },
    /// Nothing: somebody else was told to, and has not yet, or otherwise.
    Left {
        /// Who.
        injector: &'static str,
        /// The annotation.
        annotation: &'static str,
    },
}

/// The default names of a Service: those by which the API server calls it, the longer one for people.
pub fn service_names(service: &str, namespace: &str) -> [String; 2] {
    let name = format!("{service}.{namespace}.svc");
    [name.clone(), format!("{name}.cluster.local")]
}

impl Registration {
    /// What matters of a registration.
    pub fn of(object: &MutatingWebhookConfiguration) -> Self {
        let metadata = &object.metadata;
        let annotations = metadata.annotations.as_ref();
        let told = |key: &str| annotations.is_some_and(|annotations| annotations.contains_key(key));
        let managed = metadata.managed_fields.as_deref().unwrap_or_default();
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            mark: annotations.and_then(|annotations| annotations.get(names::CERTIFICATE)).cloned(),
            injector: INJECTORS.into_iter().find(|(key, _)| told(key)),
            entries: object.webhooks.iter().flatten().map(|webhook| entry(webhook, managed)).collect(),
        }
    }

    /// The names by which the API server calls us, if there is any.
    pub fn called(&self) -> Option<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for name in self.entries.iter().flat_map(|entry| &entry.called) {
            if names.len() < MOST_NAMES {
                names.insert(name.clone());
            }
        }
        (!names.is_empty()).then_some(names)
    }

    /// Whom the API server trusts, whoever wrote it: what is served when the first authority of ours is made may be signed by
    /// one of somebody's own.
    pub fn trusted(&self) -> Vec<Der> {
        let mut trusted: Vec<Der> = Vec::new();
        for entry in &self.entries {
            for authority in x509::certificates(&entry.bundle).unwrap_or_default() {
                if !trusted.contains(&authority) {
                    trusted.push(authority);
                }
            }
        }
        trusted
    }

    /// Which state of the entries this is: the same for as long as nobody changes one of them.
    pub fn state(&self) -> (&str, i64) {
        (&self.uid, self.generation)
    }

    /// Of which certificate our bundles were made, if that was the only one that was served.
    pub fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }

    /// The bundles that are ours, as we wrote them.
    pub fn ours(&self) -> impl Iterator<Item = Vec<Der>> {
        let ours = self.entries.iter().filter(|entry| entry.is_ours());
        ours.filter_map(|entry| x509::certificates(&entry.bundle).ok())
    }

    /// The entries whose bundle is somebody else's, holds what we need, and trusts others than `authorities` as well; and who
    /// wrote it.
    pub fn beyond(&self, authorities: &[Der], needed: &[Der]) -> BTreeMap<&str, BTreeSet<String>> {
        let beyond = |entry: &&Entry| {
            let trusted = x509::certificates(&entry.bundle).unwrap_or_default();
            !entry.is_ours()
                && needed.iter().all(|authority| trusted.contains(authority))
                && trusted.iter().any(|der| x509::is_authority(der) && !authorities.contains(der))
        };
        self.entries.iter().filter(beyond).map(|entry| (&*entry.name, entry.wrote())).collect()
    }

    /// Whether a bundle of ours does not trust this authority.
    pub fn is_unpublished(&self, authority: &Der) -> bool {
        self.ours().any(|bundle| !bundle.contains(authority))
    }

    /// The entries that do not trust all of these authorities.
    pub fn lacking(&self, authorities: &[Der]) -> Vec<&str> {
        let lacks = |entry: &&Entry| {
            let trusted = x509::certificates(&entry.bundle).unwrap_or_default();
            authorities.iter().any(|authority| !trusted.contains(authority))
        };
        self.entries.iter().filter(lacks).map(|entry| &*entry.name).collect()
    }

    /// What has to be done so that the API server trusts `authorities`; of these, the `needed` sign what is served, or are about
    /// to. While there is none nothing is done. `mark` says of which certificate they are.
    pub fn publish(&self, authorities: &[Der], needed: &[Der], mark: Option<&str>) -> Publication {
        if needed.is_empty() {
            return Publication::Current;
        }
        let set = |all: &[Der]| all.iter().map(|der| der.to_vec()).collect::<BTreeSet<_>>();
        let wanted = set(authorities);
        let (mut entries, mut replaced, mut applied) = (0, BTreeSet::new(), Vec::new());
        let bundle = x509::pem(authorities);
        for entry in &self.entries {
            let trusted = x509::certificates(&entry.bundle).unwrap_or_default();
            let current = set(&trusted) == wanted;
            let enough = needed.iter().all(|authority| trusted.contains(authority));
            if !entry.is_ours() && !current && enough {
                continue;
            }
            // What we leave out of an apply would be taken away.
            applied.push(json!({
                "name": entry.name,
                "clientConfig": {"caBundle": STANDARD.encode_to_string(&bundle)},
            }));
            if !current {
                entries += 1;
                replaced.extend(entry.wrote());
            }
        }
        let is_marked = self.mark() == mark || !self.entries.iter().any(Entry::is_ours);
        match (entries, self.injector) {
            (0, None) if is_marked => Publication::Current,
            (0, Some(_)) => Publication::Current,
            (_, Some((annotation, injector))) => Publication::Left { injector, annotation },
            (entries, None) => Publication::Apply { object: self.object(&applied, mark), entries, replaced },
        }
    }

    /// For server-side apply: on this object and this version of it, or not at all. So nothing is created, and no entry that went
    /// in between comes back without what makes it one.
    fn object(&self, webhooks: &[Value], mark: Option<&str>) -> Value {
        let mut object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {
                "name": self.name,
                "uid": self.uid,
                "resourceVersion": self.resource_version,
            },
            "webhooks": webhooks,
        });
        // What is left out goes.
        if let Some(mark) = mark {
            object["metadata"]["annotations"] = json!({(names::CERTIFICATE): mark});
        }
        object
    }
}

fn entry(webhook: &MutatingWebhook, managed: &[ManagedFieldsEntry]) -> Entry {
    let client = &webhook.client_config;
    let service = client.service.as_ref().map(|service| service_names(&service.name, &service.namespace));
    let host = client.url.as_deref().and_then(host);
    Entry {
        name: webhook.name.clone(),
        called: service.into_iter().flatten().chain(host).filter_map(|name| certified(&name)).collect(),
        bundle: client.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default(),
        writers: managed.iter().filter(|entry| wrote_bundle(entry, &webhook.name)).map(manager).collect(),
    }
}

fn manager(entry: &ManagedFieldsEntry) -> String {
    entry.manager.clone().unwrap_or_default()
}

/// Whether a field manager has the bundle of an entry.
fn wrote_bundle(managed: &ManagedFieldsEntry, entry: &str) -> bool {
    let key = format!("k:{}", json!({"name": entry}));
    let fields = managed.fields_v1.as_ref().map(|fields| &fields.0);
    let path = ["f:webhooks", &key, "f:clientConfig", "f:caBundle"];
    path.iter().try_fold(fields, |fields, step| fields?.get(step).map(Some)).is_some()
}

/// The host of an `https` URL as the API server takes them: without user, query and fragment.
fn host(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.split(':').next()?,
    };
    Some(host.to_owned())
}

/// A name as a certificate of ours holds it, if it can hold it.
fn certified(name: &str) -> Option<String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    ServerName::try_from(name).ok().map(|_| name.to_ascii_lowercase())
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
