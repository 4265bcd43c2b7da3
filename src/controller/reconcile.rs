//! The loop of the controller: take a template, do what has to be done, tell how it went. IO: writes through [`Writer`].
//!
//! Input: the queue of templates that something happened to. Output: ConfigMaps as planned, the last good version kept, the
//! status written where it says something new.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::apply::{WriteError, Writer};
use super::backoff;
use super::condition::Undelivered;
use super::lease::Leadership;
use super::observe::Observer;
use super::world::{Keeping, Work};
use crate::metrics::controller::{Metrics, Outcome};
use crate::store::last_good;
use crate::template::agent::TemplateId;

/// ConfigMaps of one template that are written at once.
const AT_ONCE: usize = 8;
/// ConfigMaps of one template are written no more often than this: another that writes them otherwise must not race us.
const WRITES_EVERY: Duration = Duration::from_secs(1);
/// Statuses of one template are no closer together than this: another that writes them otherwise must not race us.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Everything is looked at this often, whatever the watches told.
const RESYNC: Duration = Duration::from_mins(10);

/// The loop and what it remembers.
pub struct Reconciler {
    observer: Arc<Observer>,
    writer: Writer,
    leadership: Leadership,
    own_namespace: String,
    metrics: Arc<Metrics>,
    /// Failures in a row.
    failures: HashMap<TemplateId, u32>,
    /// When something else was written last.
    wrote: HashMap<TemplateId, Instant>,
    /// When a status was written last.
    told: HashMap<TemplateId, Instant>,
    /// What was logged last of a template that is not delivered.
    complaints: HashMap<TemplateId, String>,
}

impl Reconciler {
    /// A loop that has done nothing yet.
    pub fn new(
        observer: Arc<Observer>,
        writer: Writer,
        leadership: Leadership,
        own_namespace: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (failures, wrote, told, complaints) = Default::default();
        Self { observer, writer, leadership, own_namespace, metrics, failures, wrote, told, complaints }
    }

    /// Runs for ever. Nothing is done before every watch has listed once, nor without the lease.
    pub async fn run(mut self) -> anyhow::Result<()> {
        for health in self.observer.health() {
            health.known().await;
        }
        let mut leadership = self.leadership.clone();
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            tokio::select! {
                // Whoever becomes the leader looks at everything: the one before may have left anything undone.
                _ = leadership.changed() => self.add_all(),
                _ = resync.tick() => self.add_all(),
                id = self.observer.queue.next() => {
                    let complete = self.leadership.is_held() && self.reconcile(id).await;
                    if !complete {
                        // It is made up for with everything else, once the lease is ours again; it may be by now.
                        leadership.forget();
                    }
                }
            }
        }
    }

    fn add_all(&self) {
        let all = self.observer.world().all();
        self.observer.queue.add(all);
    }

    /// Looks at one template; whether nothing was refused for want of the lease.
    async fn reconcile(&mut self, id: TemplateId) -> bool {
        let since = self.wrote.get(&id).map(Instant::elapsed);
        if let Some(early) =
            since.and_then(|since| WRITES_EVERY.checked_sub(since)).filter(|early| !early.is_zero())
        {
            self.observer.queue.add_after(id, early);
            return true;
        }
        self.wrote.remove(&id);
        let now = Timestamp::now();
        let work = self.observer.world().work(&id, now);
        let again = work.again;
        let outcome = match self.carry_out(&id, work).await {
            Ok(delivered) => match self.tell(&id, &delivered, now).await {
                Err(WriteError::NotLeader) => Outcome::NotLeader,
                told => {
                    let failed = matches!(delivered, Err(Undelivered::Failed(_))) || told.is_err();
                    // No watch tells when another's ConfigMap is gone.
                    let conflict = matches!(delivered, Err(Undelivered::Conflict(_)));
                    self.look_again(&id, failed || conflict, again, now);
                    if failed { Outcome::Failed } else { Outcome::Done }
                }
            },
            Err(NotLeader) => Outcome::NotLeader,
        };
        self.metrics.reconciled(outcome);
        outcome != Outcome::NotLeader
    }

    /// Does everything, even if some of it fails; the first failure counts.
    async fn carry_out(&mut self, id: &TemplateId, work: Work) -> Result<Result<(), Undelivered>, NotLeader> {
        let Work { steps, keeping, again: _ } = work;
        // First: whoever starts between the two delivers nothing older than what is there.
        let kept = match keeping {
            Keeping::AsItIs => Ok(()),
            Keeping::Keep(object) => self.writer.keep(&object).await,
            Keeping::Forget => self.writer.forget(&self.own_namespace, &last_good::name(id)).await,
        };
        let steps = match steps {
            Ok(steps) => steps,
            Err(_) if matches!(kept, Err(WriteError::NotLeader)) => return Err(NotLeader),
            Err(error) => return Ok(Err(Undelivered::TooLarge(error.to_string()))),
        };
        let count = steps.len();
        if count > 0 {
            self.wrote.insert(id.clone(), Instant::now());
        }
        let writes = steps.into_iter().map(|step| self.writer.step(step));
        let written: Vec<_> = futures_util::stream::iter(writes).buffered(AT_ONCE).collect().await;
        let failures: Vec<_> = std::iter::once(kept).chain(written).filter_map(Result::err).collect();
        if failures.iter().any(|failure| failure.undelivered().is_none()) {
            return Err(NotLeader);
        }
        let Some(first) = failures.first() else {
            self.complaints.remove(id);
            if count > 0 {
                tracing::debug!(template = %id, steps = count, "delivered");
            }
            return Ok(Ok(()));
        };
        // Once for each cause: it is tried again for as long as it takes, in as many namespaces as there are.
        let error = first.to_string();
        if self.complaints.get(id) != Some(&error) {
            tracing::warn!(template = %id, error, others = failures.len() - 1, "not delivered; trying again");
            self.complaints.insert(id.clone(), error);
        }
        Ok(first.undelivered().map_or(Ok(()), Err))
    }

    /// Writes the status, if there is something new to tell and it is time.
    async fn tell(
        &mut self,
        id: &TemplateId,
        delivered: &Result<(), Undelivered>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let (there, status, news) = {
            let mut world = self.observer.world();
            (world.known(id).is_some(), world.status(id, delivered, now), world.news(id, delivered))
        };
        self.observer.told.add([id.clone()]);
        // Before the status, after which it is no news any more.
        for event in news {
            self.observer.events.template(event);
        }
        if !there {
            self.told.remove(id);
            self.observer.world().forget(id);
        }
        let Some((status, urgent)) = status else { return Ok(()) };
        let since = self.told.get(id).map(Instant::elapsed);
        if let Some(early) =
            since.and_then(|since| STATUS_EVERY.checked_sub(since)).filter(|early| !early.is_zero())
        {
            self.observer.queue.add_after(id.clone(), early);
            return Ok(());
        }
        let told = self.writer.status(id, &status).await;
        if told.is_ok() {
            self.told.insert(id.clone(), Instant::now());
        }
        match &told {
            Err(WriteError::NotLeader) => {}
            Err(error) => tracing::warn!(template = %id, %error, "status not written; trying again"),
            Ok(()) if urgent => {
                let of = |at: usize| status["conditions"][at]["reason"].as_str().unwrap_or_default();
                tracing::info!(template = %id, reconciled = of(0), available = of(1), "status written");
            }
            Ok(()) => {}
        }
        told
    }

    /// When the template has to be looked at again, though nothing happens to it.
    fn look_again(&mut self, id: &TemplateId, failed: bool, again: Option<Timestamp>, now: Timestamp) {
        let queue = &self.observer.queue;
        if failed {
            let failures = self.failures.entry(id.clone()).or_default();
            queue.add_after(id.clone(), backoff::delay(*failures));
            *failures = failures.saturating_add(1);
        } else {
            self.failures.remove(id);
        }
        // Beyond the next look at everything, that one will do.
        let due = again.map(|at| at.duration_since(now)).and_then(|due| Duration::try_from(due).ok());
        if let Some(due) = due.filter(|due| *due < RESYNC) {
            queue.add_after(id.clone(), due);
        }
    }
}

/// Another replica writes, or will.
struct NotLeader;

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
