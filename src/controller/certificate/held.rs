//! The authorities of the Secret, and those that the registration trusts beside them. PURE.
//!
//! Input: Secret and registration as they are stored. Output: [`Held`]: who signs, who is next, who stays trusted.
//!
//! With the bundles the registration says of which certificate they were made (`names::CERTIFICATE`). While that is the one of
//! the Secret, the Secret is what it was: what it names no longer was taken out of it on purpose, and is trusted no longer at once.
//! Where it is another one and the Secret lacks what bundles trust, another Secret was put in its place, such as an older one from
//! a backup. Then both are trusted, and nothing is said of a certificate, until all that is served is of the Secret.

use k8s_openapi::jiff::Timestamp;

use super::registration::Registration;
use super::rotation::{MOST_OLD, REPLACED_BEFORE, Why};
use super::secret::{AUTHORITIES, AUTHORITY_KEY, NEXT_KEY, Stored};
use crate::x509::{self, Der};

/// The authorities.
#[derive(Debug)]
pub struct Held {
    /// The one whose key is there.
    pub signs: Option<Der>,
    /// Whether it may sign.
    pub able: Result<(), Why>,
    /// The one that signs next.
    pub next: Option<Der>,
    /// The others, the latest first.
    pub old: Vec<Der>,
    /// Whether another Secret was there a short while ago, as far as is known: what it named stays trusted.
    pub is_replaced: bool,
}

impl Held {
    /// Those of the Secret.
    pub fn of(stored: Option<&Stored>, now: Timestamp) -> Self {
        let nothing =
            |why| Self { signs: None, able: Err(why), next: None, old: Vec::new(), is_replaced: false };
        let Some(stored) = stored else { return nothing(Why::Missing) };
        let all = match x509::certificates(stored.get(AUTHORITIES)) {
            Ok(all) => all,
            Err(why) => return nothing(Why::Unusable { key: AUTHORITIES, why }),
        };
        let (signs, able) = match signs(&all, stored.get(AUTHORITY_KEY)) {
            Ok(signs) => (Some(signs.clone()).filter(x509::is_authority), in_force(signs, now)),
            Err(why) => (None, Err(why)),
        };
        let is_next = |der: &&Der| {
            let fits = x509::fits(der, stored.get(NEXT_KEY)).is_ok_and(|fits| fits);
            fits && Some(*der) != signs.as_ref() && in_force(der, now).is_ok()
        };
        let next = all.iter().find(is_next).cloned();
        let is_old =
            |der: &Der| x509::is_authority(der) && ![signs.as_ref(), next.as_ref()].contains(&Some(der));
        let old = all.iter().filter(|der| is_old(der)).cloned().collect();
        Self { signs, able, next, old, is_replaced: false }
    }

    /// With those of bundles that were made of another Secret, as far as they are kept; `mark` is that of the certificate now.
    #[must_use]
    pub fn beside(self, registration: &Registration, mark: &str) -> Self {
        let latest: Vec<&Der> = self.signs.iter().chain(&self.next).collect();
        let mut bundles = registration.ours().flatten().peekable();
        if latest.is_empty() || bundles.peek().is_none() || registration.mark() == Some(mark) {
            return self;
        }
        let mut old: Vec<Der> = Vec::new();
        for der in bundles.chain(self.old.iter().cloned()) {
            if x509::is_authority(&der) && !latest.contains(&&der) && !old.contains(&der) {
                old.push(der);
            }
        }
        old.truncate(MOST_OLD);
        if registration.mark().is_some() && old.iter().all(|der| self.old.contains(der)) {
            return self;
        }
        Self { old, is_replaced: true, ..self }
    }

    /// All of them: the one that signs, the next one, those before.
    pub fn trusted(&self) -> Vec<Der> {
        self.signs.iter().chain(&self.next).chain(&self.old).cloned().collect()
    }

    /// The one that signs, where it can sign at all.
    pub fn signer(&self) -> Option<&Der> {
        let can = matches!(self.able, Ok(()) | Err(Why::AuthorityEnds(_)));
        self.signs.as_ref().filter(|_| can)
    }
}

/// The certificate whose key this is.
fn signs<'a>(all: &'a [Der], key: &[u8]) -> Result<&'a Der, Why> {
    for certificate in all {
        if x509::fits(certificate, key).map_err(|why| Why::Unusable { key: AUTHORITY_KEY, why })? {
            return Ok(certificate);
        }
    }
    Err(Why::WrongKey { key: AUTHORITY_KEY, certificate: AUTHORITIES })
}

/// Whether an authority can sign something that lasts.
fn in_force(authority: &Der, now: Timestamp) -> Result<(), Why> {
    let life = x509::life(authority).ok().filter(|_| x509::is_authority(authority));
    let Some((_, end)) = life.filter(|(begin, end)| *begin <= now && now < *end) else {
        return Err(Why::NotInForce);
    };
    if end.duration_since(now) <= REPLACED_BEFORE { Err(Why::AuthorityEnds(end)) } else { Ok(()) }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
