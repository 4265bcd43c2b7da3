//! What a step of the rotation puts into the Secret: keys and certificates. IO: randomness.
//!
//! Input: a [`Judgement`] and the Secret that it is about. Output: the Secret's [`Content`].

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;

use super::rotation::{Judgement, Step};
use super::secret::{self, Content, Stored};
use crate::webhook::certificate::{AUTHORITY_LIFETIME, Authority, CLOCK_SKEW, LEAF_LIFETIME, PemPair};
use crate::x509::{self, Der};

/// What the Secret is to hold after the step, if that is another thing than before.
pub fn content(
    judgement: &Judgement,
    stored: Option<&Stored>,
    names: &[String],
    now: Timestamp,
) -> Result<Option<Content>, rcgen::Error> {
    let kept = |key| stored.map(|stored| text(stored, key)).unwrap_or_default();
    let certificate = || PemPair { certificate: kept(secret::CERTIFICATE), key: kept(secret::KEY) };
    let with = |authorities, authority_key, next_key, pair: PemPair| Content {
        authorities,
        authority_key,
        next_key,
        certificate: pair.certificate,
        key: pair.key,
        answers: false,
    };
    let content = match &judgement.step {
        Step::Keep | Step::Refuse(_) => return Ok(None),
        Step::Make(_) => {
            let authority = authority(judgement, now)?;
            let pair = pair(&authority, judgement, names, now)?;
            let content = with(authority.pem().to_owned(), authority.key_pem(), String::new(), pair);
            Content { answers: true, ..content }
        }
        Step::Prepare { trusted, .. } => {
            let next = authority(judgement, now)?;
            // After the one that signs, where there is one.
            let (signs, old) = trusted.split_at(judgement.needed.min(trusted.len()));
            let authorities = format!("{}{}{}", x509::pem(signs), next.pem(), x509::pem(old));
            let content = with(authorities, kept(secret::AUTHORITY_KEY), next.key_pem(), certificate());
            Content { answers: true, ..content }
        }
        Step::Switch { trusted } => {
            let key = kept(secret::NEXT_KEY);
            let signed = signed(trusted.first(), &key, judgement, names, now)?;
            with(x509::pem(trusted), key, String::new(), signed)
        }
        Step::Renew { trusted, .. } => {
            let key = kept(secret::AUTHORITY_KEY);
            let signed = signed(trusted.first(), &key, judgement, names, now)?;
            with(x509::pem(trusted), key, kept(secret::NEXT_KEY), signed)
        }
        Step::Retire => {
            let signs = x509::pem(judgement.trusted.first());
            with(signs, kept(secret::AUTHORITY_KEY), String::new(), certificate())
        }
    };
    Ok(Some(content))
}

fn text(stored: &Stored, key: &str) -> String {
    String::from_utf8_lossy(stored.get(key)).into_owned()
}

/// An authority that is in force wherever those before it were.
fn authority(judgement: &Judgement, now: Timestamp) -> Result<Authority, rcgen::Error> {
    let now = SystemTime::from(now);
    let begin = now - CLOCK_SKEW;
    let begin = judgement.begins.map_or(begin, |begins| begin.min(begins.into()));
    Authority::lasting([begin, now + AUTHORITY_LIFETIME])
}

fn signed(
    signs: Option<&Der>,
    key: &str,
    judgement: &Judgement,
    names: &[String],
    now: Timestamp,
) -> Result<PemPair, rcgen::Error> {
    pair(&Authority::restored(&x509::pem(signs), key)?, judgement, names, now)
}

/// A certificate that is in force from its authority's beginning on: whose clock is behind accepts it too. It outlasts the one
/// before, whatever our clock says.
fn pair(
    authority: &Authority,
    judgement: &Judgement,
    names: &[String],
    now: Timestamp,
) -> Result<PemPair, rcgen::Error> {
    let now = SystemTime::from(now);
    let signs = x509::certificates(authority.pem().as_bytes()).unwrap_or_default();
    let life = signs.first().and_then(|signs| x509::life(signs).ok());
    let begin = life.map_or(now - CLOCK_SKEW, |(begin, _)| begin.into());
    let end = now + LEAF_LIFETIME;
    let end = judgement.lasts.map_or(end, |lasts| end.max(lasts.into()));
    let end = life.map_or(end, |(_, last)| end.min(last.into()));
    authority.pem_pair_lasting(names, [begin, end])
}
