//! The Secret of the webhook's certificate: what it holds, and whose it is. PURE.
//!
//! Input: the Secret as it is stored. Output: the same as far as it matters; the object to write in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64_simd::STANDARD;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::super::events::event::{Event, Regarding, Sameness};
use super::registration::FIELD_MANAGER;
use crate::names;
use crate::release;

/// Type of the Secret.
const TYPE: &str = "kubernetes.io/tls";
/// Key of the certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Key of the certificate's key.
pub const KEY: &str = "tls.key";
/// Key of the authorities that clients trust; the first is the one that signs.
pub const AUTHORITIES: &str = "ca.crt";
/// Key of the key of the authority that signs.
pub const AUTHORITY_KEY: &str = "ca.key";
/// Key of the key of the authority that signs next; empty while there is none, so that no key outlives its use whoever wrote it.
pub const NEXT_KEY: &str = "ca-next.key";

/// The Secret as it is stored, as far as it matters here.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which object of the name it is.
    pub uid: String,
    /// Which version of it.
    pub resource_version: String,
    /// Why it must not be written.
    foreign: Option<String>,
    /// What somebody asks for another authority by.
    rotate: Option<String>,
    /// The same when an authority was made last.
    rotated: Option<String>,
    /// Field managers of what we write there, beside ourselves.
    writers: BTreeSet<String>,
    data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("resource_version", &self.resource_version).finish_non_exhaustive()
    }
}

impl Stored {
    /// What matters of a Secret.
    pub fn of(secret: &v1::Secret) -> Self {
        let data = secret.data.iter().flatten();
        let annotation = |key: &str| secret.metadata.annotations.as_ref()?.get(key).cloned();
        Self {
            uid: secret.metadata.uid.clone().unwrap_or_default(),
            resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
            foreign: foreign(secret),
            rotate: annotation(names::ROTATE).filter(|value| !value.is_empty()),
            rotated: annotation(names::ROTATED),
            writers: writers(secret),
            data: data.map(|(key, value)| (key.clone(), value.0.clone())).collect(),
        }
    }

    /// What is under a key; nothing is empty.
    pub fn get(&self, key: &str) -> &[u8] {
        self.data.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) const fn data_mut(&mut self) -> &mut BTreeMap<String, Vec<u8>> {
        &mut self.data
    }

    /// Why it must not be written by us, if that is so.
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    /// Whether somebody asks for another authority, and has not got one since.
    pub fn is_rotation_asked(&self) -> bool {
        self.rotate.is_some() && self.rotate != self.rotated
    }

    /// Whether somebody asked for another authority, so that those before it are not to be trusted longer than they must.
    pub const fn was_rotation_asked(&self) -> bool {
        self.rotate.is_some()
    }

    /// Who else wrote what it holds, as far as that is known.
    pub fn others(&self) -> String {
        if self.writers.is_empty() {
            return "somebody".to_owned();
        }
        self.writers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// A warning about it.
    pub fn event(&self, namespace: &str, name: &str, reason: &'static str, note: String) -> Event {
        let regarding = Regarding {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: self.uid.clone(),
        };
        Event { regarding, reason, action: "Replace", note, sameness: Sameness::Subject(String::new()) }
    }
}

/// Field managers of the data, or of the wish for another authority, other than ours.
fn writers(secret: &v1::Secret) -> BTreeSet<String> {
    let wish = format!("f:{}", names::ROTATE);
    let writes = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| {
            fields.get("f:data").is_some() || fields["f:metadata"]["f:annotations"].get(&wish).is_some()
        })
    };
    let managed = secret.metadata.managed_fields.iter().flatten().filter(writes);
    let managers = managed.filter_map(|entry| entry.manager.clone());
    managers.filter(|manager| manager != FIELD_MANAGER).collect()
}

/// Why a Secret must not be written by us.
fn foreign(secret: &v1::Secret) -> Option<String> {
    let metadata = &secret.metadata;
    let label = |key: &str| metadata.labels.iter().flatten().find(|(found, _)| *found == key);
    let mut annotations = metadata.annotations.iter().flatten().map(|(key, _)| key);
    if label("controller.cert-manager.io/fao").is_some()
        || annotations.any(|key| key.starts_with("cert-manager.io/"))
    {
        return Some(
            "is written by cert-manager: use --certificate external, or another --tls-secret".to_owned(),
        );
    }
    if label(names::MANAGED_BY).is_none_or(|(_, by)| by != names::MANAGER) {
        return Some(format!(
            "is not ours (it lacks the label {}: {}) and is left alone: delete it, or use another --tls-secret",
            names::MANAGED_BY,
            names::MANAGER
        ));
    }
    let kind = secret.type_.as_deref().unwrap_or_default();
    if kind != TYPE {
        return Some(format!("has the type {kind:?}, which cannot be changed to {TYPE}: delete it"));
    }
    (secret.immutable == Some(true)).then(|| "is immutable: delete it".to_owned())
}

/// What the Secret is to hold.
pub struct Content {
    /// Whom clients trust; the authority that signs first.
    pub authorities: String,
    /// The key of the first.
    pub authority_key: String,
    /// The key of the one that signs next; empty where there is none.
    pub next_key: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Whether this is what somebody asked for.
    pub answers: bool,
}

/// The Secret to apply over the one that was seen, and over no other; or to create.
pub fn object(namespace: &str, name: &str, content: &Content, over: Option<&Stored>) -> Value {
    let mut metadata = json!({
        "name": name,
        "namespace": namespace,
        "labels": {(names::MANAGED_BY): names::MANAGER},
    });
    let rotated = over
        .and_then(|stored| if content.answers { stored.rotate.as_ref() } else { stored.rotated.as_ref() });
    if let Some(rotated) = rotated {
        metadata["annotations"] = json!({(names::ROTATED): rotated});
    }
    if let Some(stored) = over {
        metadata["uid"] = json!(stored.uid);
        metadata["resourceVersion"] = json!(stored.resource_version);
    }
    let encoded = |text: &str| STANDARD.encode_to_string(text);
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": TYPE,
        "data": {
            (AUTHORITIES): encoded(&content.authorities),
            (AUTHORITY_KEY): encoded(&content.authority_key),
            (NEXT_KEY): encoded(&content.next_key),
            (CERTIFICATE): encoded(&content.certificate),
            (KEY): encoded(&content.key),
        },
    });
    release::extend(&mut secret, encoded);
    secret
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
