//! What a Lease says, and what a candidate does about it. PURE.
//!
//! Input: the spec of the Lease, since when it says so, and the time. Output: the next [`Step`], and what to write.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A moment by our own clock, which never goes back. It means nothing to other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    /// So long after the origin of the clock.
    pub(super) const fn new(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// So much later.
    #[must_use]
    pub(super) const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long it is from here until `later`; zero if that is over.
    pub(super) const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

/// How long a lease lasts, and how often it is renewed. The defaults are those of client-go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    seconds: u16,
    renew_deadline: Duration,
    retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { seconds: 15, renew_deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

impl Terms {
    /// A lease of `seconds` (the API knows whole ones), given up by its holder if it could not be renewed for
    /// `renew_deadline`, and tried for every `retry`.
    pub fn new(seconds: u16, renew_deadline: Duration, retry: Duration) -> Result<Self, String> {
        let terms = Self { seconds, renew_deadline, retry };
        if renew_deadline >= terms.duration() {
            return Err(format!(
                "renew deadline {renew_deadline:?}: must be shorter than the lease, which lasts {seconds} s: what was begun \
                 in time has the difference to end"
            ));
        }
        if retry >= renew_deadline || retry.is_zero() {
            return Err(format!(
                "retry interval {retry:?}: must be more than zero, and shorter than the renew deadline {renew_deadline:?}"
            ));
        }
        Ok(terms)
    }

    /// How long others wait after the last sign of life.
    pub const fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }

    /// How long a claim lasts without being renewed.
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// From one attempt to the next.
    pub const fn retry(&self) -> Duration {
        self.retry
    }

    /// How long a write may take that was begun while the lease was held: before that, nobody else holds it.
    pub const fn margin(&self) -> Duration {
        self.duration().saturating_sub(self.renew_deadline)
    }
}

/// The spec of a Lease. Times stay the text that they are: nothing depends on the clocks of others, so none is too strange to
/// be read. Fields that we do not know are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_duration_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_transitions: Option<i32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Spec {
    /// Who holds it, if anybody does.
    pub(super) fn holder(&self) -> Option<&str> {
        self.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// How long its holder is to be waited for, if it says so.
    fn duration(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.lease_duration_seconds?).ok()?;
        Some(Duration::from_secs(seconds)).filter(|duration| !duration.is_zero())
    }

    /// The same, held by `identity` as of `wall`, the time for humans.
    #[must_use]
    pub(super) fn held(&self, identity: &str, terms: &Terms, wall: String) -> Self {
        let ours = self.holder() == Some(identity);
        let before = self.lease_transitions.map(|transitions| transitions.max(0));
        let acquired = self.acquire_time.clone().filter(|_| ours);
        Self {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(i32::from(terms.seconds)),
            acquire_time: Some(acquired.unwrap_or_else(|| wall.clone())),
            renew_time: Some(wall),
            lease_transitions: Some(if ours {
                before.unwrap_or(0)
            } else {
                before.map_or(0, |before| before.saturating_add(1))
            }),
            rest: self.rest.clone(),
        }
    }

    /// The same, held by nobody as of `wall`. As client-go writes it: whoever asks for the holder and whoever waits for a second
    /// take it at once.
    #[must_use]
    pub(super) fn released(&self, wall: String) -> Self {
        Self {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(wall.clone()),
            renew_time: Some(wall),
            lease_transitions: self.lease_transitions,
            rest: self.rest.clone(),
        }
    }
}

/// The spec as it was read last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    spec: Spec,
    /// Since when we know it to say so.
    since: Moment,
}

impl Observed {
    /// `spec` was read, and it is `now`. It says the same for as long as every field is the same.
    #[must_use]
    pub(super) fn after(before: Option<Self>, spec: Spec, now: Moment) -> Self {
        match before {
            Some(before) if before.spec == spec => before,
            _ => Self { spec, since: now },
        }
    }

    /// Who holds it, if anybody does.
    pub(super) fn holder(&self) -> Option<&str> {
        self.spec.holder()
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is ours: say that we live.
    Renew,
    /// It is nobody's, or its holder's time is over: take it.
    Acquire,
    /// It is another's, until then at least.
    Wait(Moment),
}

/// What `identity` does about the Lease, of which `observed` is `None` where there is none.
pub(super) fn next(observed: Option<&Observed>, identity: &str, terms: &Terms, now: Moment) -> Step {
    let Some(observed) = observed else { return Step::Acquire };
    match observed.holder() {
        None => Step::Acquire,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) => {
            let until = observed.since.plus(observed.spec.duration().unwrap_or_else(|| terms.duration()));
            if until <= now { Step::Acquire } else { Step::Wait(until) }
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
