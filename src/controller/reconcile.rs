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
/// Statuses of one template are no closer together than this, unless a condition changes.
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
    /// When a status was written last.
    told: HashMap<TemplateId, Instant>,
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
        let (failures, told) = (HashMap::new(), HashMap::new());
        Self { observer, writer, leadership, own_namespace, metrics, failures, told }
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
                    if self.leadership.is_held() {
                        self.reconcile(id).await;
                    }
                }
            }
        }
    }

    fn add_all(&self) {
        let all = self.observer.world().all();
        self.observer.queue.add(all);
    }

    async fn reconcile(&mut self, id: TemplateId) {
        let now = Timestamp::now();
        let work = self.observer.world().work(&id, now);
        let again = work.again;
        let outcome = match self.carry_out(&id, work).await {
            Ok(delivered) => {
                let told = self.tell(&id, &delivered, now).await;
                let failed = matches!(delivered, Err(Undelivered::Failed(_))) || told.is_err();
                self.look_again(&id, failed, again, now);
                if failed { Outcome::Failed } else { Outcome::Done }
            }
            Err(NotLeader) => Outcome::NotLeader,
        };
        self.metrics.reconciled(outcome);
    }

    /// Does everything, even if some of it fails; the first failure counts.
    async fn carry_out(&self, id: &TemplateId, work: Work) -> Result<Result<(), Undelivered>, NotLeader> {
        let Work { steps, keeping, again: _ } = work;
        // First: what is delivered must not be newer than what is kept.
        let kept = match keeping {
            Keeping::AsItIs => Ok(()),
            Keeping::Keep(object) => self.writer.apply(&object).await,
            Keeping::Forget => self.writer.delete(&self.own_namespace, &last_good::name(id)).await,
        };
        let steps = match steps {
            Ok(steps) => steps,
            Err(error) => return Ok(Err(Undelivered::TooLarge(error.to_string()))),
        };
        let count = steps.len();
        let writes = steps.into_iter().map(|step| self.writer.step(step));
        let written: Vec<_> = futures_util::stream::iter(writes).buffered(AT_ONCE).collect().await;
        let failures = std::iter::once(kept).chain(written).filter_map(Result::err);
        let mut first = Ok(());
        for failure in failures {
            let Some(why) = failure.undelivered() else { return Err(NotLeader) };
            tracing::warn!(template = %id, error = %failure, "not delivered");
            first = first.and(Err(why));
        }
        if count > 0 {
            tracing::debug!(template = %id, steps = count, "delivered");
        }
        Ok(first)
    }

    /// Writes the status, if there is something new to tell and it is time.
    async fn tell(
        &mut self,
        id: &TemplateId,
        delivered: &Result<(), Undelivered>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let (there, status) = {
            let world = self.observer.world();
            (world.known(id).is_some(), world.status(id, delivered, now))
        };
        if !there {
            self.told.remove(id);
            self.observer.world().forget(id);
        }
        let Some((status, urgent)) = status else { return Ok(()) };
        let since = self.told.get(id).map(Instant::elapsed);
        if let Some(early) = since.and_then(|since| STATUS_EVERY.checked_sub(since)).filter(|_| !urgent) {
            self.observer.queue.add_after(id.clone(), early);
            return Ok(());
        }
        self.told.insert(id.clone(), Instant::now());
        let told = self.writer.status(id, &status).await;
        match &told {
            Err(error) => tracing::warn!(template = %id, %error, "status not written"),
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
