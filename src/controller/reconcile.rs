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
use super::plan::Step;
use super::refused::Refused;
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
    /// What was refused, and waits.
    refused: HashMap<TemplateId, Refused>,
    /// When something else was written last.
    wrote: HashMap<TemplateId, Instant>,
    /// How the last write of a status ended.
    told: HashMap<TemplateId, Told>,
    /// What was logged last of a template that is not delivered.
    complaints: HashMap<TemplateId, String>,
}

/// How the last write of a template's status ended.
struct Told {
    /// The next one is no earlier.
    not_before: Instant,
    /// How many were refused in a row, and what was logged of that last.
    failures: u32,
    complaint: String,
}

impl Told {
    const fn at(not_before: Instant) -> Self {
        Self { not_before, failures: 0, complaint: String::new() }
    }
}

/// How a write ended.
struct Written {
    namespace: String,
    /// [`Step::is_of_one_version`].
    of_one_version: bool,
    result: Result<(), WriteError>,
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
        let (refused, wrote, told, complaints) = Default::default();
        Self { observer, writer, leadership, own_namespace, metrics, refused, wrote, told, complaints }
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
                    self.look_again(&id, again, now);
                    let failed = matches!(delivered, Err(Undelivered::Failed(_))) || told.is_err();
                    Outcome::of(&delivered, failed)
                }
            },
            Err(NotLeader) => Outcome::NotLeader,
        };
        self.metrics.reconciled(outcome);
        outcome != Outcome::NotLeader
    }

    /// Does everything that was not refused a moment ago, even if some of it fails.
    async fn carry_out(&mut self, id: &TemplateId, work: Work) -> Result<Result<(), Undelivered>, NotLeader> {
        let Work { steps, keeping, again: _ } = work;
        let began = Instant::now();
        let mut refused = self.refused.remove(id).unwrap_or_default();
        let own = self.own_namespace.as_str();
        let (mut steps, too_large) = match steps {
            Ok(steps) => (steps, None),
            Err(error) => (Vec::new(), Some(Undelivered::TooLarge(error.to_string()))),
        };
        if too_large.is_none() {
            let is_kept = keeping != Keeping::AsItIs;
            let to_do = |namespace: &str| steps.iter().any(|step| step.namespace() == namespace);
            refused.keep(|namespace| to_do(namespace) || (is_kept && namespace == own));
        }
        // First: whoever starts between the two delivers nothing older than what is there.
        let mut written = Vec::new();
        if refused.allows(own, began) {
            let kept = self.keep(id, keeping).await;
            written.extend(kept.map(|result| Written {
                namespace: own.to_owned(),
                of_one_version: false,
                result,
            }));
        }
        steps.retain(|step| refused.allows(step.namespace(), began));
        if !steps.is_empty() {
            self.wrote.insert(id.clone(), began);
        }
        let writes = steps.into_iter().map(|step| self.write(step));
        written.extend(futures_util::stream::iter(writes).buffered(AT_ONCE).collect::<Vec<_>>().await);
        self.take_in(id, &mut refused, written)?;
        let failed = too_large.or_else(|| refused.why().cloned());
        if refused.next().is_some() {
            self.refused.insert(id.clone(), refused);
        }
        Ok(failed.map_or(Ok(()), Err))
    }

    /// Keeps the last good version, or forgets it; nothing where it is as it should be.
    async fn keep(&self, id: &TemplateId, keeping: Keeping) -> Option<Result<(), WriteError>> {
        match keeping {
            Keeping::AsItIs => None,
            Keeping::Keep(object) => Some(self.writer.keep(&object).await),
            Keeping::Forget => Some(self.writer.forget(&self.own_namespace, &last_good::name(id)).await),
        }
    }

    async fn write(&self, step: Step) -> Written {
        let (namespace, of_one_version) = (step.namespace().to_owned(), step.is_of_one_version());
        Written { namespace, of_one_version, result: self.writer.step(step).await }
    }

    /// Notes how writes ended. Logs what was refused once for each cause: it is tried again for as long as it takes, in as many
    /// namespaces as there are.
    fn take_in(
        &mut self,
        id: &TemplateId,
        refused: &mut Refused,
        written: Vec<Written>,
    ) -> Result<(), NotLeader> {
        let (mut done, mut failures, mut complaints) = (Vec::new(), Vec::new(), Vec::new());
        for Written { namespace, of_one_version, result } in written {
            match result {
                Ok(()) => done.push(namespace),
                Err(error) if of_one_version && error.is_outdated() => failures.push((namespace, None)),
                Err(error) => {
                    let why = error.undelivered().ok_or(NotLeader)?;
                    failures.push((namespace, Some(why)));
                    complaints.push(error.to_string());
                }
            }
        }
        if !done.is_empty() {
            tracing::debug!(template = %id, writes = done.len(), "delivered");
        }
        refused.note(done, failures, Instant::now());
        match complaints.first() {
            Some(error) if self.complaints.get(id) != Some(error) => {
                let others = complaints.len() - 1;
                tracing::warn!(template = %id, error, others, "not delivered; trying again");
                self.complaints.insert(id.clone(), error.clone());
            }
            None if refused.why().is_none() => drop(self.complaints.remove(id)),
            _ => {}
        }
        Ok(())
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
        let early = self.told.get(id).map(|told| told.not_before.saturating_duration_since(Instant::now()));
        if let Some(early) = early.filter(|early| !early.is_zero()) {
            self.observer.queue.add_after(id.clone(), early);
            return Ok(());
        }
        let written = self.writer.status(id, &status).await;
        if written.is_ok() {
            self.told.insert(id.clone(), Told::at(Instant::now() + STATUS_EVERY));
        }
        match &written {
            Err(WriteError::NotLeader) => {}
            Err(error) => self.not_told(id, error),
            Ok(()) if urgent => {
                let of = |at: usize| status["conditions"][at]["reason"].as_str().unwrap_or_default();
                tracing::info!(template = %id, reconciled = of(0), available = of(1), "status written");
            }
            Ok(()) => {}
        }
        written
    }

    /// A status that was refused is tried again later and later; the log has each cause once.
    fn not_told(&mut self, id: &TemplateId, error: &WriteError) {
        let told = self.told.entry(id.clone()).or_insert_with(|| Told::at(Instant::now()));
        let delay = backoff::delay(told.failures).max(STATUS_EVERY);
        told.failures = told.failures.saturating_add(1);
        told.not_before = Instant::now() + delay;
        self.observer.queue.add_after(id.clone(), delay);
        let complaint = error.to_string();
        if told.complaint != complaint {
            tracing::warn!(template = %id, %error, "status not written; trying again");
            told.complaint = complaint;
        }
    }

    /// When the template has to be looked at again, though nothing happens to it. Of what was refused no watch tells: it is tried
    /// again.
    fn look_again(&self, id: &TemplateId, again: Option<Timestamp>, now: Timestamp) {
        let queue = &self.observer.queue;
        if let Some(next) = self.refused.get(id).and_then(Refused::next) {
            queue.add_after(id.clone(), next.saturating_duration_since(Instant::now()));
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
