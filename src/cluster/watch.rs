//! Watches that go on for ever. IO: reads streams of the API server, and waits between attempts.
//!
//! Input: how to start a watch. Output: every [`Change`] to whoever keeps the objects, and its [`Health`]. After an error the
//! watch is begun anew, list included: only a complete list shows that what is known is true again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use tokio::sync::Notify;

use super::explain::{explain, explain_status};

/// What happened to the objects of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<K> {
    /// These are all; others are gone.
    All(Vec<K>),
    /// One is new or different.
    Applied(K),
    /// One is gone; this is how it was.
    Deleted(K),
}

/// An event with something made of its object, so that nothing else of the object is held on to.
pub fn map<K, N>(event: Event<K>, make: impl FnOnce(K) -> N) -> Event<N> {
    match event {
        Event::Apply(object) => Event::Apply(make(object)),
        Event::Delete(object) => Event::Delete(make(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(make(object)),
        Event::InitDone => Event::InitDone,
    }
}

/// How a watch, or another question to the API server, goes; clones tell of the same one.
#[derive(Debug, Clone)]
pub struct Health {
    name: &'static str,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    /// Whether there ever was a complete answer.
    synced: bool,
    /// Since when it fails, and why.
    failing: Option<(Instant, String)>,
}

impl Health {
    /// Nothing is known yet of what `name` says.
    pub fn new(name: &'static str) -> Self {
        Self { name, state: Arc::default(), changed: Arc::default() }
    }

    /// What it is about.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether there was a complete answer; otherwise why not. What was known once stays in use while the API server is away.
    pub fn readiness(&self) -> Result<(), String> {
        let State { synced, failing } = &*self.state();
        match (synced, failing) {
            (true, _) => Ok(()),
            (false, None) => Err(format!("{} not known yet", self.name)),
            (false, Some((_, why))) => Err(format!("{} not known: {why}", self.name)),
        }
    }

    /// Waits for the first complete answer.
    pub async fn known(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().synced {
                return;
            }
            changed.await;
        }
    }

    /// For how long, at `now`, what is known may be out of date; zero while nothing fails.
    pub fn stale_for(&self, now: Instant) -> Duration {
        let state = self.state();
        state.failing.as_ref().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }

    /// There is a complete answer.
    pub(crate) fn succeeded(&self) {
        let mut state = self.state();
        if let Some((since, _)) = state.failing.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(what = self.name, failed_for_seconds = seconds, "following the cluster again");
        }
        state.synced = true;
        self.changed.notify_waiters();
    }

    /// There is none, or no longer.
    pub(crate) fn failed(&self, why: String) {
        let mut state = self.state();
        let (since, before) = match state.failing.take() {
            Some((since, before)) => (since, Some(before)),
            None => (Instant::now(), None),
        };
        // Once for each cause: it is tried again for as long as it takes.
        if before.as_ref() != Some(&why) {
            let in_use = state.synced;
            tracing::warn!(
                what = self.name,
                error = why,
                last_state_in_use = in_use,
                "following the cluster failed; trying again"
            );
        }
        state.failing = Some((since, why));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete at each point where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows a watch for ever: `start` begins one, `take` gets what it says.
pub async fn follow<K, S>(
    health: Health,
    start: impl Fn() -> S,
    take: impl FnMut(Change<K>),
) -> anyhow::Result<()>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    follow_for_ever(health, start, take, || false).await
}

/// Follows a watch of a kind that the cluster need not know, for ever. While it does not, there are no objects of it; unless
/// there are `any_known`: they do not go by its definition being out of sight for a moment.
pub async fn follow_optional<K, S>(
    health: Health,
    start: impl Fn() -> S,
    take: impl FnMut(Change<K>),
    any_known: impl Fn() -> bool,
) -> anyhow::Result<()>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    follow_for_ever(health, start, take, || !any_known()).await
}

/// `may_be_unknown`: whether it is an answer that the cluster does not know the kind.
async fn follow_for_ever<K, S>(
    health: Health,
    start: impl Fn() -> S,
    mut take: impl FnMut(Change<K>),
    may_be_unknown: impl Fn() -> bool,
) -> anyhow::Result<()>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    // Starts from the beginning after two minutes without an error; a list that works beside a watch that does not must not
    // reset it, or lists would be asked for without end.
    let mut backoff = DefaultBackoff::default();
    loop {
        let mut stream = std::pin::pin!(start());
        let mut all = Vec::new();
        let error = loop {
            match stream.next().await {
                Some(Ok(Event::Init)) => all.clear(),
                Some(Ok(Event::InitApply(object))) => all.push(object),
                Some(Ok(Event::InitDone)) => {
                    take(Change::All(std::mem::take(&mut all)));
                    health.succeeded();
                }
                Some(Ok(Event::Apply(object))) => take(Change::Applied(object)),
                Some(Ok(Event::Delete(object))) => take(Change::Deleted(object)),
                Some(Err(error)) if is_unknown_kind(&error) && may_be_unknown() => {
                    take(Change::All(Vec::new()));
                    break None;
                }
                Some(Err(error)) => break Some(explain_watch(&error)),
                None => break Some("the stream ended".to_owned()),
            }
        };
        match error {
            None => health.succeeded(),
            Some(error) => health.failed(error),
        }
        tokio::time::sleep(backoff.next().unwrap_or(LONGEST)).await;
    }
}

/// Where the backoff gives none, which it does not do.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether the API server does not know the kind of object.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status.code == 404,
        _ => false,
    }
}

fn explain_watch(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => explain(error),
        WatchError(status) => explain_status(status),
        NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
