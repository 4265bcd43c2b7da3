//! What has to be done so that our Secret holds an authority and a certificate that can be served. PURE.
//!
//! Input: the Secret as it is, how the API server calls us and whom it trusts, and the time. Output: a [`Judgement`]: one step, with
//! its reason, and what of the Secret is good meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64_simd::STANDARD;
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::names;
use crate::x509::{self, Der};

/// Type of the Secret.
const TYPE: &str = "kubernetes.io/tls";
/// Key of the certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Key of the certificate's key.
pub const KEY: &str = "tls.key";
/// Key of the authorities that clients trust; the first is the one that signs.
const AUTHORITIES: &str = "ca.crt";
/// Key of the authority's key.
const AUTHORITY_KEY: &str = "ca.key";

/// A certificate is renewed this long before its end: a third of its life, time for everyone who mounts it and for people to
/// notice that it does not happen.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// An authority is replaced this long before its end: it must outlast what it signs.
const REPLACED_BEFORE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Authorities that stay trusted beside a new one.
const MOST_OLD: usize = 2;

/// The Secret as it is stored, as far as it matters here.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which object of the name it is.
    pub uid: String,
    /// Which version of it.
    pub resource_version: String,
    /// Why it must not be written.
    foreign: Option<String>,
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
        Self {
            uid: secret.metadata.uid.clone().unwrap_or_default(),
            resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
            foreign: foreign(secret),
            data: data.map(|(key, value)| (key.clone(), value.0.clone())).collect(),
        }
    }

    /// What is under a key; nothing is empty.
    pub fn get(&self, key: &str) -> &[u8] {
        self.data.get(key).map(Vec::as_slice).unwrap_or_default()
    }
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

/// Why something is made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No Secret.
    #[error("there is no Secret of that name")]
    Missing,
    /// A key is missing or holds something else.
    #[error("{key} cannot be used: {why}")]
    Unusable {
        /// Key of the Secret.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// The key belongs to something else.
    #[error("{key} is not the key of {certificate}")]
    WrongKey {
        /// Key of the Secret with the key.
        key: &'static str,
        /// Key of the Secret with the certificate.
        certificate: &'static str,
    },
    /// The authority is none, or not in force.
    #[error("ca.crt is no authority that is in force")]
    NotInForce,
    /// The authority would end before what it signs.
    #[error("the authority ends at {0}")]
    AuthorityEnds(Timestamp),
    /// Clients would not accept the certificate.
    #[error("clients that trust ca.crt do not accept the certificate: {0}")]
    NotAccepted(String),
    /// The certificate is for other names.
    #[error("the certificate is for {}, and the registration calls {}", .have.join(", "), .want.join(", "))]
    Names {
        /// Of the certificate.
        have: Vec<String>,
        /// Of the registration.
        want: Vec<String>,
    },
    /// It is time.
    #[error("the certificate ends at {0}")]
    Ends(Timestamp),
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Make an authority and a certificate.
    Make {
        /// Why.
        why: Why,
        /// Authorities that clients trust further on, for as long as old certificates are served.
        old: Vec<Der>,
    },
    /// Make a certificate of the authority that is there.
    Renew {
        /// Why.
        why: Why,
        /// Whom clients trust from then on.
        authorities: Vec<Der>,
    },
    /// Nothing: it is not ours to write.
    Refuse(String),
}

/// One look at the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What has to be done.
    pub step: Step,
    /// Whom clients have to trust now: the authority that signs first; empty while there is none.
    pub authorities: Vec<Der>,
    /// When the certificate ends, if there is one.
    pub end: Option<Timestamp>,
}

impl Judgement {
    /// When the authority ends, if there is one.
    pub fn authority_end(&self) -> Option<Timestamp> {
        self.authorities.first().and_then(|authority| x509::end(authority).ok())
    }
}

/// Judges the Secret. Without a registration there are no names to compare: any will do. `published` are the authorities that
/// the API server trusts, whoever wrote them: what they signed may be served for a while, whatever became of the Secret.
pub fn judge(
    stored: Option<&Stored>,
    called: Option<&BTreeSet<String>>,
    published: &[Der],
    now: Timestamp,
) -> Judgement {
    let nothing = |step| Judgement { step, authorities: Vec::new(), end: None };
    let Some(stored) = stored else {
        let old = in_force(published, now).take(MOST_OLD).cloned().collect();
        return nothing(Step::Make { why: Why::Missing, old });
    };
    if let Some(why) = &stored.foreign {
        return nothing(Step::Refuse(why.clone()));
    }
    let authorities = match authorities(stored, now) {
        Ok(authorities) => authorities,
        Err(why) => {
            let mut old = trusted(stored, now);
            let others = in_force(published, now).filter(|other| !old.contains(other)).cloned();
            old.extend(others.collect::<Vec<_>>());
            old.truncate(MOST_OLD);
            return nothing(Step::Make { why, old });
        }
    };
    let (step, end) = match leaf(stored, &authorities, called, now) {
        Ok(end) => (Step::Keep, Some(end)),
        Err((why, end)) => {
            let mut authorities = authorities.clone();
            // All that is served is of this authority for long.
            if matches!(why, Why::Ends(_)) {
                authorities.truncate(1);
            }
            (Step::Renew { why, authorities }, end)
        }
    };
    Judgement { step, authorities, end }
}

/// The authorities whose key the Secret holds, and others that are in force, if what it signs can last.
fn authorities(stored: &Stored, now: Timestamp) -> Result<Vec<Der>, Why> {
    let unusable = |key| move |why| Why::Unusable { key, why };
    let all = x509::certificates(stored.get(AUTHORITIES)).map_err(unusable(AUTHORITIES))?;
    let key = stored.get(AUTHORITY_KEY);
    let mut signs = None;
    for certificate in &all {
        if x509::fits(certificate, key).map_err(unusable(AUTHORITY_KEY))? {
            signs = Some(certificate);
            break;
        }
    }
    let signs = signs.ok_or(Why::WrongKey { key: AUTHORITY_KEY, certificate: AUTHORITIES })?;
    if !x509::is_authority(signs, now) {
        return Err(Why::NotInForce);
    }
    let end = x509::end(signs).map_err(unusable(AUTHORITIES))?;
    if end.duration_since(now) <= REPLACED_BEFORE {
        return Err(Why::AuthorityEnds(end));
    }
    let others = in_force(&all, now).filter(|other| *other != signs).take(MOST_OLD);
    Ok(std::iter::once(signs).chain(others).cloned().collect())
}

/// Authorities of the Secret that are in force, whoever has their key.
fn trusted(stored: &Stored, now: Timestamp) -> Vec<Der> {
    let all = x509::certificates(stored.get(AUTHORITIES)).unwrap_or_default();
    in_force(&all, now).take(MOST_OLD).cloned().collect()
}

fn in_force(certificates: &[Der], now: Timestamp) -> impl Iterator<Item = &Der> {
    certificates.iter().filter(move |certificate| x509::is_authority(certificate, now))
}

/// When the certificate ends, if it can be served for some time; otherwise why not, and when it ends all the same.
fn leaf(
    stored: &Stored,
    authorities: &[Der],
    called: Option<&BTreeSet<String>>,
    now: Timestamp,
) -> Result<Timestamp, (Why, Option<Timestamp>)> {
    let unusable = |key| move |why| (Why::Unusable { key, why }, None);
    let chain = x509::certificates(stored.get(CERTIFICATE)).map_err(unusable(CERTIFICATE))?;
    let Some((first, authority)) = chain.first().zip(authorities.first()) else {
        return Err((Why::NotInForce, None));
    };
    let end = x509::end(first).map_err(unusable(CERTIFICATE))?;
    if !x509::fits(first, stored.get(KEY)).map_err(unusable(KEY))? {
        return Err((Why::WrongKey { key: KEY, certificate: CERTIFICATE }, None));
    }
    x509::accepted(&chain, authority, now).map_err(|why| (Why::NotAccepted(why), Some(end)))?;
    let have = x509::names(first).map_err(unusable(CERTIFICATE))?;
    if let Some(want) = called.filter(|want| have.iter().collect::<BTreeSet<_>>() != want.iter().collect()) {
        return Err((Why::Names { have, want: want.iter().cloned().collect() }, Some(end)));
    }
    if end.duration_since(now) <= RENEWED_BEFORE {
        return Err((Why::Ends(end), Some(end)));
    }
    Ok(end)
}

/// What the Secret is to hold.
pub struct Content {
    /// Whom clients trust; the authority that signs first.
    pub authorities: String,
    /// The key of the first.
    pub authority_key: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// The Secret to apply over the one that was seen, and over no other; or to create.
pub fn object(namespace: &str, name: &str, content: &Content, over: Option<&Stored>) -> Value {
    let mut metadata = json!({
        "name": name,
        "namespace": namespace,
        "labels": {(names::MANAGED_BY): names::MANAGER},
    });
    if let Some(stored) = over {
        metadata["uid"] = json!(stored.uid);
        metadata["resourceVersion"] = json!(stored.resource_version);
    }
    let encoded = |text: &str| STANDARD.encode_to_string(text);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": TYPE,
        "data": {
            (AUTHORITIES): encoded(&content.authorities),
            (AUTHORITY_KEY): encoded(&content.authority_key),
            (CERTIFICATE): encoded(&content.certificate),
            (KEY): encoded(&content.key),
        },
    })
}

/// The key of the authority that signs, and its certificate, as they are kept.
pub fn authority<'a>(stored: &'a Stored, authorities: &[Der]) -> (String, &'a str) {
    let key = std::str::from_utf8(stored.get(AUTHORITY_KEY)).unwrap_or_default();
    (x509::pem(authorities.first()), key)
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
