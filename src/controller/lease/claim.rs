//! The claim to the lease, and what it permits. IO: reads the clock, and waits.
//!
//! Input: each success of the task that renews it. Output: whether it holds, to whoever is about to write. No task has to run
//! for it to end: a process that slept beyond it sees that with its first look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};

use super::clock::Clock;
use super::record::Moment;

/// The side that makes the claim.
#[derive(Debug)]
pub(super) struct Claim {
    until: watch::Sender<Option<Moment>>,
    clock: Clock,
    writes: Arc<RwLock<()>>,
}

impl Claim {
    pub(super) fn new(clock: Clock) -> Self {
        Self { until: watch::Sender::new(None), clock, writes: Arc::default() }
    }

    pub(super) fn leadership(&self) -> Leadership {
        let until = self.until.subscribe();
        Leadership { until, clock: self.clock, writes: Arc::clone(&self.writes), told: false }
    }

    pub(super) fn extend(&self, until: Moment) {
        self.until.send_replace(Some(until));
    }

    pub(super) fn end(&self) {
        self.until.send_replace(None);
    }

    /// How long it still holds.
    pub(super) fn left(&self) -> Duration {
        left(*self.until.borrow(), self.clock)
    }

    /// Waits for the writes under way; as long as this is held, none begins.
    pub(super) async fn quiet(&self) -> impl Drop + use<> {
        Arc::clone(&self.writes).write_owned().await
    }
}

fn left(until: Option<Moment>, clock: Clock) -> Duration {
    until.map_or(Duration::ZERO, |until| clock.now().until(until))
}

/// Whether we hold the lease. Cheap to ask, before each write anew.
///
/// It holds from an answer of the API server on, for the renew deadline, counted from before the request was sent. Others wait
/// for the lease duration from after that, so a write that was begun while it held has [`super::Terms::margin`] to end.
#[derive(Debug, Clone)]
pub struct Leadership {
    until: watch::Receiver<Option<Moment>>,
    clock: Clock,
    writes: Arc<RwLock<()>>,
    /// What [`Self::changed`] said last.
    told: bool,
}

/// A write under way: the lease is not handed over before it ends, but it may run out.
#[derive(Debug)]
pub struct Writing {
    _open: OwnedRwLockReadGuard<()>,
}

impl Leadership {
    /// Whether it is held now.
    pub fn is_held(&self) -> bool {
        !self.left().is_zero()
    }

    /// Begins a write, if it is held.
    pub fn begin(&self) -> Option<Writing> {
        // In this order: whoever hands over ends the claim first and waits for the writes then.
        let open = Arc::clone(&self.writes).try_read_owned().ok()?;
        self.is_held().then_some(Writing { _open: open })
    }

    /// Waits until [`Self::is_held`] is no longer what this said last, which is false at first; says what it is.
    /// After a suspension of the machine this may come late; [`Self::is_held`] is right at once.
    pub async fn changed(&mut self) -> bool {
        loop {
            let left = self.left();
            if self.told == left.is_zero() {
                self.told = !self.told;
                return self.told;
            }
            let renewed = async {
                // Without its task, time alone ends a claim.
                if self.until.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            if left.is_zero() {
                renewed.await;
            } else {
                let _ = tokio::time::timeout(left, renewed).await;
            }
        }
    }

    /// Makes [`Self::changed`] say anew that it is held, if it is: whoever was refused a write has to make up for it, and the
    /// time without the lease may have been too short for [`Self::changed`] to tell of it.
    pub const fn forget(&mut self) {
        self.told = false;
    }

    fn left(&self) -> Duration {
        left(*self.until.borrow(), self.clock)
    }

    /// One without a task, for tests of those who write.
    #[cfg(test)]
    pub(in crate::controller) fn held_for_long() -> Self {
        let claim = Claim::new(Clock::SYSTEM);
        claim.extend(Clock::SYSTEM.now().plus(Duration::from_hours(1)));
        claim.leadership()
    }
}
