//! What has to be done next so that a certificate is served which the API server accepts, and goes on to be. PURE.
//!
//! Input: what is [`Seen`]. Output: a [`Judgement`]: one step with its reason, and whom the registration has to trust meanwhile.
//!
//! The state is in the Secret, so that whoever leads goes on where the one before stopped:
//!
//! | state | `ca.crt` | `ca-next.key` | what comes next |
//! | --- | --- | --- | --- |
//! | settled | the one that signs | empty | another is needed: [`Step::Prepare`] |
//! | publishing | the same, the next | key of the next | every entry trusts it for [`Times::wait`]: [`Step::Switch`] |
//! | overlapping | the one that signs, those before | empty | [`Times::overlap`] has passed and they are not needed: [`Step::Retire`] |
//!
//! Nothing is served that an API server may not know yet, and nobody is forgotten whose certificates may still be served: neither
//! by the Secret, nor, where another Secret was put in its place, by the registration ([`super::held`]). What has to pass for that
//! is measured by a clock that does not jump, anew by each process; the wall clock says when to begin, and never that something
//! may be taken away. A new certificate is in force wherever the one before was, whichever of two clocks was wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::held::Held;
use super::registration::Registration;
use super::secret::{CERTIFICATE, KEY, Stored};
use crate::admission::sidecar::hex;
use crate::x509::{self, Der};

/// A certificate is renewed this long before its end: a third of its life, time for everyone who mounts it and for people to
/// notice that it does not happen.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// An authority is replaced this long before its end: it must outlast what it signs.
pub const REPLACED_BEFORE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Authorities that stay trusted beside those that sign.
pub const MOST_OLD: usize = 8;

/// What has to pass between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long every entry has to trust an authority before it signs what is served: until every API server has heard of it.
    pub wait: Duration,
    /// How long a certificate has to be in the Secret before nobody serves the one before: until every kubelet has brought it.
    pub overlap: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { wait: Duration::from_mins(1), overlap: Duration::from_hours(1) }
    }
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The Secret.
    pub stored: Option<&'a Stored>,
    /// The registration.
    pub registration: Option<&'a Registration>,
    /// For how long its entries were seen as they are, or that there is none.
    pub registered_for: Duration,
    /// For how long the certificate of the Secret was seen as it is.
    pub kept_for: Duration,
    /// By the wall clock.
    pub now: Timestamp,
}

impl<'a> Seen<'a> {
    /// By somebody who has just come: nothing is due of what has to be watched for a while.
    pub const fn at_once(
        stored: Option<&'a Stored>,
        registration: Option<&'a Registration>,
        now: Timestamp,
    ) -> Self {
        let nothing = Duration::ZERO;
        Self { stored, registration, registered_for: nothing, kept_for: nothing, now }
    }
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
    /// Somebody asks for another authority.
    #[error("another authority is asked for by the annotation sidecar.prometheus.io/rotate")]
    Asked,
    /// The next authority is trusted everywhere.
    #[error("every entry of the registration trusts the next authority")]
    Published,
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

impl Why {
    /// Whether somebody should look how it came to that.
    pub const fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Unusable { .. } | Self::WrongKey { .. } | Self::NotInForce | Self::NotAccepted(_)
        )
    }
}

/// What has to be done. Each is one write of the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for now.
    Keep,
    /// Make an authority and a certificate: nobody is trusted so far, so there is nothing that could fail by it.
    Make(Why),
    /// Make an authority that signs next.
    Prepare {
        /// Why.
        why: Why,
        /// Whom clients trust beside it; the one that signs first.
        trusted: Vec<Der>,
        /// How many more are trusted now: a Secret holds no more than [`MOST_OLD`] beside those that sign.
        left_out: usize,
    },
    /// Let the next authority sign a certificate and forget the key of the one before.
    Switch {
        /// Whom clients trust from then on, the one that signs first.
        trusted: Vec<Der>,
    },
    /// Make a certificate of the authority that signs.
    Renew {
        /// Why.
        why: Why,
        /// Whom clients trust from then on, the one that signs first.
        trusted: Vec<Der>,
    },
    /// Trust the authority that signs and no other.
    Retire,
    /// Nothing: it is not ours to write.
    Refuse(String),
}

/// Where the rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One authority is trusted, or none.
    Settled,
    /// The next one is, and does not sign yet.
    Publishing,
    /// Those before the one that signs still are.
    Overlapping,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Settled, Self::Publishing, Self::Overlapping];

    /// As labels and the log say it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Publishing => "publishing",
            Self::Overlapping => "overlapping",
        }
    }
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What has to be done.
    pub step: Step,
    /// Whom clients have to trust now: the authority that signs, the next one, those before.
    pub trusted: Vec<Der>,
    /// Of which certificate bundles of these are, if that is the only one that is served: see [`super::held`].
    pub mark: Option<String>,
    /// How many of them every entry has to trust: those that sign, or are about to.
    pub needed: usize,
    /// When the authority that signs ends, if there is one.
    pub authority_end: Option<Timestamp>,
    /// When the certificate ends, if there is one.
    pub end: Option<Timestamp>,
    /// Where the rotation is.
    pub phase: Phase,
    /// When there is more to do though nothing changes.
    pub again: Option<Duration>,
    /// A new authority begins no later than this.
    pub begins: Option<Timestamp>,
    /// A new certificate ends no earlier than this.
    pub lasts: Option<Timestamp>,
}

impl Judgement {
    /// Whom every entry has to trust: those that sign, or are about to.
    pub fn needed(&self) -> &[Der] {
        self.trusted.get(..self.needed).unwrap_or_default()
    }
}

/// Judges what is there. Without a registration there are no names to compare: any will do.
pub fn judge(seen: &Seen<'_>, times: Times) -> Judgement {
    if let Some(why) = seen.stored.and_then(Stored::foreign) {
        return judged(Step::Refuse(why.to_owned()), &Held::of(None, seen.now));
    }
    let held = Held::of(seen.stored, seen.now);
    let published = seen.registration.map(Registration::trusted).unwrap_or_default();
    let certificate = certificate(seen, held.signs.as_ref());
    // Whatever Secret was there before, all that is served is of this one by then.
    let is_served = certificate.is_ok() && seen.kept_for >= times.overlap;
    let mark = mark(seen.stored);
    let held = match seen.registration.filter(|_| !is_served) {
        Some(registration) => held.beside(registration, &mark),
        None => held,
    };
    let is_new = held.signer().filter(|_| held.is_replaced).and_then(|signs| is_new(seen, times, signs));
    let (step, again) = match (is_new, &held.next) {
        (Some(again), _) => (Step::Keep, Some(again)),
        (None, Some(next)) => publishing(seen, times, &held, next, &certificate),
        (None, None) => settled(seen, times, &held, &published, &certificate),
    };
    let mark = Some(mark).filter(|_| !held.is_replaced);
    let trusted = held.trusted();
    let begins =
        trusted.iter().chain(&published).filter_map(|der| x509::life(der).ok()).map(|(begin, _)| begin);
    let (Ok(end) | Err((_, Some(end)))) = certificate else {
        return Judgement { again, mark, begins: begins.min(), ..judged(step, &held) };
    };
    let lasts = lasts(seen.stored, &trusted);
    Judgement { again, mark, begins: begins.min(), end: Some(end), lasts, ..judged(step, &held) }
}

/// Equal for equal certificates.
fn mark(stored: Option<&Stored>) -> String {
    hex(&Sha256::digest(stored.map(|stored| stored.get(CERTIFICATE)).unwrap_or_default()), 16)
}

fn judged(step: Step, held: &Held) -> Judgement {
    let phase = match held {
        Held { next: Some(_), .. } => Phase::Publishing,
        Held { old, .. } if old.is_empty() => Phase::Settled,
        _ => Phase::Overlapping,
    };
    Judgement {
        step,
        trusted: held.trusted(),
        mark: None,
        needed: usize::from(held.signs.is_some()) + usize::from(held.next.is_some()),
        authority_end: held.signs.as_ref().and_then(|signs| x509::end(signs).ok()),
        end: None,
        phase,
        again: None,
        begins: None,
        lasts: None,
    }
}

/// Whether what this authority signs may be refused by some API server that trusts others, since somebody put it into the Secret a
/// short while ago; and when to look again. Not for ever: bundles may be somebody else's to write.
fn is_new(seen: &Seen<'_>, times: Times, signs: &Der) -> Option<Duration> {
    let is_unpublished = seen.registration.is_some_and(|registration| registration.is_unpublished(signs));
    let remaining = if is_unpublished { times.wait } else { times.wait.saturating_sub(seen.registered_for) };
    Some(remaining).filter(|remaining| !remaining.is_zero() && seen.kept_for < times.overlap)
}

/// What comes next while one authority is to follow another.
fn publishing(
    seen: &Seen<'_>,
    times: Times,
    held: &Held,
    next: &Der,
    certificate: &Certificate,
) -> (Step, Option<Duration>) {
    let needed = std::slice::from_ref(next);
    let published = seen.registration.is_none_or(|registration| registration.lacking(needed).is_empty());
    let remaining = times.wait.saturating_sub(seen.registered_for);
    if published && remaining.is_zero() {
        let others = held.signs.iter().chain(&held.old).take(MOST_OLD);
        return (Step::Switch { trusted: std::iter::once(next).chain(others).cloned().collect() }, None);
    }
    let again = published.then_some(remaining);
    let (Err((why, _)), Some(signs)) = (certificate, held.signer()) else { return (Step::Keep, again) };
    match is_new(seen, times, signs) {
        Some(later) => (Step::Keep, again.or(Some(later))),
        None => (Step::Renew { why: why.clone(), trusted: held.trusted() }, again),
    }
}

/// What comes next while no authority is to follow.
fn settled(
    seen: &Seen<'_>,
    times: Times,
    held: &Held,
    published: &[Der],
    certificate: &Certificate,
) -> (Step, Option<Duration>) {
    let asked = seen.stored.is_some_and(Stored::is_rotation_asked) && held.old.len() < MOST_OLD;
    if let Some(why) = held.able.clone().err().or_else(|| asked.then_some(Why::Asked)) {
        let mut trusted = held.trusted();
        if held.signer().is_none() {
            // What these signed may be served for a while, whatever became of the Secret.
            let beside = |der: &&Der| x509::is_authority(der) && !held.trusted().contains(der);
            trusted.extend(published.iter().filter(beside).cloned());
        }
        if trusted.is_empty() {
            return (Step::Make(why), None);
        }
        let most = usize::from(held.signs.is_some()) + MOST_OLD;
        let left_out = trusted.len().saturating_sub(most);
        trusted.truncate(most);
        return (Step::Prepare { why, trusted, left_out }, None);
    }
    let remaining = times.overlap.saturating_sub(seen.kept_for);
    let retirable = !held.old.is_empty() && remaining.is_zero();
    let asked_before = seen.stored.is_some_and(Stored::was_rotation_asked);
    match certificate {
        Ok(_) if retirable && asked_before => (Step::Retire, None),
        Ok(_) => {
            let goes = (asked_before && !held.old.is_empty()) || held.is_replaced;
            (Step::Keep, goes.then_some(remaining))
        }
        Err((why, _)) => {
            let mut trusted = held.trusted();
            // All that is served is of this authority for long.
            if retirable && matches!(why, Why::Ends(_)) {
                trusted.truncate(1);
            }
            (Step::Renew { why: why.clone(), trusted }, None)
        }
    }
}

/// When the certificate ends, if it can be served for some time; otherwise why not, and when it ends all the same.
type Certificate = Result<Timestamp, (Why, Option<Timestamp>)>;

fn certificate(seen: &Seen<'_>, signs: Option<&Der>) -> Certificate {
    let Some(stored) = seen.stored else { return Err((Why::Missing, None)) };
    let unusable = |key| move |why| (Why::Unusable { key, why }, None);
    let chain = x509::certificates(stored.get(CERTIFICATE)).map_err(unusable(CERTIFICATE))?;
    let Some(first) = chain.first() else { return Err((Why::NotInForce, None)) };
    let end = x509::end(first).map_err(unusable(CERTIFICATE))?;
    if !x509::fits(first, stored.get(KEY)).map_err(unusable(KEY))? {
        return Err((Why::WrongKey { key: KEY, certificate: CERTIFICATE }, None));
    }
    let Some(signs) = signs else { return Err((Why::NotInForce, Some(end))) };
    x509::accepted(&chain, signs, seen.now).map_err(|why| (Why::NotAccepted(why), Some(end)))?;
    let have = x509::names(first).map_err(unusable(CERTIFICATE))?;
    let called = seen.registration.and_then(Registration::called);
    if let Some(want) = called.filter(|want| have.iter().collect::<BTreeSet<_>>() != want.iter().collect()) {
        return Err((Why::Names { have, want: want.into_iter().collect() }, Some(end)));
    }
    if end.duration_since(seen.now) <= RENEWED_BEFORE {
        return Err((Why::Ends(end), Some(end)));
    }
    Ok(end)
}

/// When the certificate ends, whenever it is in force, where one of these signed it.
fn lasts(stored: Option<&Stored>, trusted: &[Der]) -> Option<Timestamp> {
    let chain = x509::certificates(stored?.get(CERTIFICATE)).ok()?;
    let end = x509::end(chain.first()?).ok()?;
    let just_before = end - SignedDuration::from_secs(1);
    trusted.iter().any(|signs| x509::accepted(&chain, signs, just_before).is_ok()).then_some(end)
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
pub(super) mod tests;
