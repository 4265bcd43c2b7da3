//! The loop that keeps the certificate: looks, and does what has to be done. IO: clocks, and writes through [`Writer`].
//!
//! Input: Secret and registration as they are stored. Output: the Secret written as [`super::rotation`] decides, the bundles where
//! they do not let the API server accept what is served. Every replica looks and tells; the one that holds the lease writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::pace::Pace;
use super::registration::{Publication, Registration, service_names};
use super::rotation::{Judgement, MOST_OLD, Seen, Step, judge};
use super::secret::{self, Stored};
use super::{Observer, issue};
use crate::controller::apply::{Source, WriteError, Writer};
use crate::controller::backoff;
use crate::controller::lease::Leadership;
use crate::controller::observe;
use crate::metrics::certificate::{Certificate, Certificates, Problem};
use crate::names;

/// Both are looked at this often, whatever the watches told.
const RESYNC: Duration = Duration::from_mins(10);

/// Who makes a write of the Secret necessary: nobody where it is the next step of what was begun. To ask is to provoke: who
/// takes the answer away again and again must not have authorities made without end.
fn provoked(step: &Step, stored: Option<&Stored>) -> String {
    match step {
        Step::Switch { .. } | Step::Retire => String::new(),
        _ => stored.map_or_else(|| "somebody who deletes it".to_owned(), Stored::others),
    }
}

/// The loop and what it remembers.
pub struct Keeper {
    observer: Arc<Observer>,
    writer: Writer,
    leadership: Leadership,
    metrics: Certificates,
    /// Whom Events are told by.
    events: Arc<observe::Observer>,
    /// Since when the registration's entries are as they are.
    registered: Since<(String, i64)>,
    /// Since when the certificate of the Secret is as it is.
    kept: Since<Vec<u8>>,
    /// Failures in a row.
    failures: u32,
    /// Of the bundles.
    pace: Pace,
    /// The state of the registration's entries after we wrote them.
    ours: Option<(String, i64)>,
    /// Of the Secret. Whoever else writes it must not race us.
    secret_pace: Pace,
    /// What was told last.
    told: BTreeMap<Problem, String>,
}

/// What one look came to.
#[derive(Debug, Default)]
struct Outcome {
    problems: BTreeMap<Problem, String>,
    /// Whether something has to be tried again.
    failed: bool,
    /// Whether a write was refused for want of the lease.
    not_leader: bool,
    /// When what had to wait may be written.
    later: Option<Duration>,
}

impl Outcome {
    /// Looks again after this time at the latest.
    fn wait(&mut self, wait: Duration) {
        self.later = self.later.into_iter().chain([wait]).min();
    }

    /// Tells of bundles of others that trust more than they have to, whoever took that out of the Secret.
    fn others(&mut self, registration: &Registration, judgement: &Judgement) {
        let beyond = registration.beyond(&judgement.trusted, judgement.needed());
        if beyond.is_empty() || judgement.needed().is_empty() {
            return;
        }
        let entries: Vec<_> = beyond.keys().copied().collect();
        let writers: BTreeSet<_> = beyond.values().flatten().map(String::as_str).collect();
        let writers: Vec<_> = writers.into_iter().collect();
        let why = format!(
            "the caBundle of {} trusts authorities that our Secret does not name, such as one that was replaced, and whoever has \
             the key of one can pass for the webhook; {} wrote it: take them out, or all of it, and ours is written",
            entries.join(", "),
            writers.join(", ")
        );
        self.problems.insert(Problem::BundleTrustsOthers, why);
    }

    fn written<T>(&mut self, problem: Problem, written: Result<T, WriteError>) -> Option<T> {
        match written {
            Ok(written) => return Some(written),
            Err(WriteError::NotLeader) => self.not_leader = true,
            Err(error) => {
                self.failed = true;
                // The watch is about to tell what it is now.
                if !error.is_outdated() {
                    self.problems.insert(problem, error.to_string());
                }
            }
        }
        None
    }
}

impl Keeper {
    /// A loop that has done nothing yet.
    pub fn new(
        observer: Arc<Observer>,
        writer: Writer,
        leadership: Leadership,
        metrics: Certificates,
        events: Arc<observe::Observer>,
    ) -> Self {
        let (registered, kept, failures, pace, ours, secret_pace, told) = Default::default();
        Self {
            observer,
            writer,
            leadership,
            metrics,
            events,
            registered,
            kept,
            failures,
            pace,
            ours,
            secret_pace,
            told,
        }
    }

    /// Runs for ever. Nothing is done before both watches have listed once.
    pub async fn run(mut self) -> anyhow::Result<()> {
        for health in self.observer.health() {
            health.known().await;
        }
        let mut leadership = self.leadership.clone();
        let (mut secret, mut registration) =
            (self.observer.secret.subscribe(), self.observer.registration.subscribe());
        loop {
            secret.mark_unchanged();
            registration.mark_unchanged();
            let outcome = self.look(Timestamp::now()).await;
            if outcome.not_leader {
                leadership.forget();
            }
            let wait = self.wait(&outcome);
            self.tell(outcome.problems);
            tokio::select! {
                // Whoever becomes the leader does what the one before may have left undone.
                _ = leadership.changed() => {}
                _ = secret.changed() => {}
                _ = registration.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn look(&mut self, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let stored = self.observer.secret.borrow().clone();
        let registration = self.observer.registration.borrow().clone();
        let state = registration.as_ref().map(Registration::state);
        let seen = Seen {
            stored: stored.as_ref(),
            registration: registration.as_ref(),
            registered_for: self.registered.look(state.map(|(uid, generation)| (uid.to_owned(), generation))),
            kept_for: self.kept.look(stored.as_ref().map(|stored| stored.get(secret::CERTIFICATE).to_vec())),
            now,
        };
        let judgement = judge(&seen, self.observer.objects.times);
        self.metrics.ends(judgement.authority_end, judgement.end);
        self.metrics.phase(judgement.phase);
        outcome.later = judgement.again;

        let called = registration.as_ref().and_then(Registration::called);
        let names = called.map_or_else(|| self.default_names(), |names| names.into_iter().collect());
        let wrote = self.keep_secret(stored.as_ref(), &judgement, &names, now, &mut outcome).await;
        self.secret_contested(stored.as_ref(), &mut outcome);
        match &registration {
            Some(registration) => {
                // What is written there now is for the next look, which the watch is about to bring.
                let seen = stored.as_ref().filter(|_| !wrote);
                self.publish(registration, seen, &judgement, &mut outcome).await;
                outcome.others(registration, &judgement);
            }
            None => {
                let why = format!(
                    "there is no MutatingWebhookConfiguration {} to write the caBundle to: apply it, or name it by --registration",
                    self.observer.objects.registration
                );
                outcome.problems.insert(Problem::RegistrationMissing, why);
            }
        }
        outcome
    }

    fn default_names(&self) -> Vec<String> {
        service_names(names::SERVICE, &self.observer.own_namespace).to_vec()
    }

    /// Does what comes next. Gives whether the Secret was written.
    async fn keep_secret(
        &mut self,
        stored: Option<&Stored>,
        judgement: &Judgement,
        names: &[String],
        now: Timestamp,
        outcome: &mut Outcome,
    ) -> bool {
        let observer = Arc::clone(&self.observer);
        let Observer { own_namespace, objects, .. } = &*observer;
        if let Step::Refuse(why) = &judgement.step {
            let why = format!("Secret {own_namespace}/{} {why}", objects.secret);
            outcome.problems.insert(Problem::SecretNotOurs, why);
        }
        if !self.leadership.is_held() || matches!(judgement.step, Step::Keep | Step::Refuse(_)) {
            return false;
        }
        let by = provoked(&judgement.step, stored);
        if let Some(wait) = self.secret_pace.wait(&by) {
            outcome.wait(wait);
            return false;
        }
        let content = match issue::content(judgement, stored, names, now) {
            Ok(Some(content)) => content,
            Ok(None) => return false,
            Err(error) => {
                outcome.failed = true;
                outcome.problems.insert(Problem::SecretNotWritten, format!("making a certificate: {error}"));
                return false;
            }
        };
        let object = secret::object(own_namespace, &objects.secret, &content, stored);
        let written = match stored {
            None => self.writer.create_secret(&object).await,
            Some(_) => self.writer.apply_secret(&object).await,
        };
        let written = outcome.written(Problem::SecretNotWritten, written).is_some();
        if written {
            self.secret_pace.wrote(&by);
            self.did(&judgement.step, stored, names);
        }
        written
    }

    /// Tells of who writes the Secret again and again, if somebody does.
    fn secret_contested(&self, stored: Option<&Stored>, outcome: &mut Outcome) {
        let Some(by) = self.secret_pace.contested() else { return };
        let Observer { own_namespace, objects, .. } = &*self.observer;
        let why = format!(
            "{by} writes Secret {own_namespace}/{} again and again, and what it says cannot be kept: stop it (the Secret is for no \
             repository and no backup), or use --certificate external",
            objects.secret
        );
        if let Some(stored) = stored.filter(|_| !self.told.contains_key(&Problem::SecretContested)) {
            let event = stored.event(own_namespace, &objects.secret, "CertificateContested", why.clone());
            self.events.events.template(event);
        }
        outcome.problems.insert(Problem::SecretContested, why);
    }

    /// Counts and tells what was done.
    fn did(&self, step: &Step, stored: Option<&Stored>, names: &[String]) {
        let Observer { own_namespace, objects, .. } = &*self.observer;
        let (made, why, message): (&[Certificate], _, _) = match step {
            Step::Keep | Step::Refuse(_) => return,
            Step::Make(why) => (&Certificate::ALL, Some(why), "authority and certificate made and kept"),
            Step::Prepare { why, left_out, .. } => {
                if *left_out > 0 {
                    tracing::warn!(
                        left_out,
                        most = MOST_OLD,
                        "the registration trusts more authorities than are kept"
                    );
                }
                let message =
                    "authority made and kept; it signs once every entry of the registration trusts it";
                (&[Certificate::Authority], Some(why), message)
            }
            Step::Switch { .. } => (
                &[Certificate::Leaf],
                None,
                "certificate made by the next authority and kept; the key before is gone",
            ),
            Step::Renew { why, .. } => (&[Certificate::Leaf], Some(why), "certificate made and kept"),
            Step::Retire => {
                (&[], None, "authorities of certificates that nobody serves are trusted no longer")
            }
        };
        for made in made {
            self.metrics.issued(*made);
        }
        let reason = why.map(ToString::to_string);
        tracing::info!(secret = objects.secret, why = reason, names = names.join(", "), "{message}");
        if let Some((stored, why)) = stored.zip(why.filter(|why| why.is_trouble())) {
            let note = format!("{why}: it is made anew");
            self.events.events.template(stored.event(
                own_namespace,
                &objects.secret,
                "CertificateUnusable",
                note,
            ));
        }
    }

    async fn publish(
        &mut self,
        registration: &Registration,
        seen: Option<&Stored>,
        judgement: &Judgement,
        outcome: &mut Outcome,
    ) {
        match registration.publish(&judgement.trusted, judgement.needed(), judgement.mark.as_deref()) {
            Publication::Current => {}
            Publication::Left { injector, annotation } => {
                let why = format!(
                    "the caBundle of {} is {injector}'s to write (annotation {annotation}), and does not hold the authority of \
                     our Secret: remove the annotation, or use --certificate external",
                    self.observer.objects.registration
                );
                outcome.problems.insert(Problem::BundleNotOurs, why);
                return;
            }
            Publication::Apply { object, entries, replaced } => {
                if !self.leadership.is_held() {
                    return;
                }
                let state = registration.state();
                // What we wrote ourselves is nobody's contest.
                let is_ours =
                    self.ours.as_ref().is_some_and(|(uid, generation)| (&**uid, *generation) == state);
                let by: Vec<_> = replaced.into_iter().filter(|_| !is_ours).collect();
                match (seen, self.pace.wait(&by.join(", "))) {
                    (Some(seen), None) => {
                        let written = self.apply(&object, seen, outcome).await;
                        if let Some(generation) = written {
                            self.ours = Some((state.0.to_owned(), generation));
                            self.pace.wrote(&by.join(", "));
                            let registration = &self.observer.objects.registration;
                            tracing::info!(
                                registration,
                                entries,
                                replaced = by.join(", "),
                                "caBundle written"
                            );
                        }
                    }
                    (_, wait) => outcome.wait(wait.unwrap_or(Pace::SHORTEST)),
                }
            }
        }
        if let Some(by) = self.pace.contested() {
            let why = format!(
                "{by} writes another caBundle again and again: stop it, or use --certificate external"
            );
            outcome.problems.insert(Problem::BundleContested, why);
        }
    }

    /// Applies bundles that were made of this Secret. Gives the registration's generation then.
    async fn apply(&self, object: &Value, seen: &Stored, outcome: &mut Outcome) -> Option<i64> {
        let Observer { own_namespace, objects, .. } = &*self.observer;
        let source = Source { namespace: own_namespace, name: &objects.secret, seen };
        let written = self.writer.apply_bundles(object, &source).await;
        let generation = outcome.written(Problem::BundleNotWritten, written)?;
        self.metrics.published();
        Some(generation)
    }

    fn wait(&mut self, outcome: &Outcome) -> Duration {
        self.failures = if outcome.failed { self.failures.saturating_add(1) } else { 0 };
        let again = outcome.failed.then(|| backoff::delay(self.failures - 1));
        [again, outcome.later].into_iter().flatten().min().unwrap_or(RESYNC)
    }

    /// Tells what is different from before; each problem is logged once.
    fn tell(&mut self, problems: BTreeMap<Problem, String>) {
        for (problem, why) in &problems {
            if self.told.get(problem) != Some(why) {
                tracing::error!(problem = problem.word(), error = why, "the certificate is not in order");
            }
        }
        for problem in self.told.keys().filter(|problem| !problems.contains_key(problem)) {
            tracing::info!(problem = problem.word(), "no longer a problem of the certificate");
        }
        self.metrics.problems(&problems);
        self.told = problems;
    }
}

/// Since when something is as it is, by a clock that does not jump.
#[derive(Debug)]
struct Since<T> {
    seen: Option<(Option<T>, Instant)>,
}

impl<T> Default for Since<T> {
    fn default() -> Self {
        Self { seen: None }
    }
}

impl<T: PartialEq> Since<T> {
    /// For how long it has been like this, as far as this process saw.
    fn look(&mut self, now: Option<T>) -> Duration {
        match &self.seen {
            Some((before, since)) if *before == now => since.elapsed(),
            _ => {
                self.seen = Some((now, Instant::now()));
                Duration::ZERO
            }
        }
    }
}
