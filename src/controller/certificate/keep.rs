//! The loop that keeps the certificate: looks, and does what has to be done. IO: randomness, and writes through [`Writer`].
//!
//! Input: Secret and registration as they are stored. Output: the Secret written where it cannot go on, the bundles where they do
//! not let the API server accept what is served. Every replica looks and tells; the one that holds the lease writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::Observer;
use super::registration::{Publication, service_names};
use super::secret::{self, Content, Judgement, Step, Stored, Why, judge};
use crate::controller::apply::{WriteError, Writer};
use crate::controller::backoff;
use crate::controller::lease::Leadership;
use crate::metrics::certificate::{Certificate, Certificates, Problem};
use crate::names;
use crate::webhook::certificate::{Authority, LEAF_LIFETIME};
use crate::x509;

/// Both are looked at this often, whatever the watches told.
const RESYNC: Duration = Duration::from_mins(10);

/// Whoever makes a second write necessary.
const ANYBODY: &str = "anybody";

/// The loop and what it remembers.
pub struct Keeper {
    observer: Arc<Observer>,
    writer: Writer,
    leadership: Leadership,
    metrics: Certificates,
    /// Failures in a row.
    failures: u32,
    /// Of the bundles.
    pace: Pace,
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
    fn written(&mut self, problem: Problem, written: Result<(), WriteError>) -> bool {
        match written {
            Ok(()) => return true,
            Err(WriteError::NotLeader) => self.not_leader = true,
            Err(error) => {
                self.failed = true;
                // The watch is about to tell what it is now.
                if !error.is_outdated() {
                    self.problems.insert(problem, error.to_string());
                }
            }
        }
        false
    }
}

impl Keeper {
    /// A loop that has done nothing yet.
    pub fn new(
        observer: Arc<Observer>,
        writer: Writer,
        leadership: Leadership,
        metrics: Certificates,
    ) -> Self {
        let (failures, pace, secret_pace, told) = Default::default();
        Self { observer, writer, leadership, metrics, failures, pace, secret_pace, told }
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
        let called = registration.as_ref().and_then(super::Registration::called);
        let published = registration.as_ref().map(super::Registration::trusted).unwrap_or_default();
        let judgement = judge(stored.as_ref(), called.as_ref(), &published, now);
        self.metrics.ends(judgement.authority_end(), judgement.end);

        let names = called.map_or_else(|| self.default_names(), |names| names.into_iter().collect());
        self.keep_secret(stored.as_ref(), &judgement, &names, now, &mut outcome).await;
        match registration {
            Some(registration) => {
                let publication = registration.publish(&judgement.authorities);
                self.publish(publication, &mut outcome).await;
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

    async fn keep_secret(
        &mut self,
        stored: Option<&Stored>,
        judgement: &Judgement,
        names: &[String],
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        let observer = Arc::clone(&self.observer);
        let Observer { own_namespace, objects, .. } = &*observer;
        if let Step::Refuse(why) = &judgement.step {
            let why = format!("Secret {own_namespace}/{} {why}", objects.secret);
            outcome.problems.insert(Problem::SecretNotOurs, why);
        }
        if !self.leadership.is_held() {
            return;
        }
        let (why, made) = match (&judgement.step, stored) {
            (Step::Make { why, old }, _) => (why, make(names, &x509::pem(old), now)),
            (Step::Renew { why, authorities }, Some(stored)) => {
                let (certificate, key) = secret::authority(stored, authorities);
                let restored = Authority::restored(&certificate, key);
                let bundle = x509::pem(authorities);
                (why, restored.and_then(|authority| renew(&authority, bundle, names, now)))
            }
            (Step::Keep | Step::Refuse(_) | Step::Renew { .. }, _) => return,
        };
        outcome.later = self.secret_pace.wait(ANYBODY);
        if outcome.later.is_some() {
            return;
        }
        let content = match made {
            Ok(content) => content,
            Err(error) => {
                outcome.failed = true;
                outcome.problems.insert(Problem::SecretNotWritten, format!("making a certificate: {error}"));
                return;
            }
        };
        let object = secret::object(own_namespace, &objects.secret, &content, stored);
        let written = match stored {
            None => self.writer.create_secret(&object).await,
            Some(_) => self.writer.apply_secret(&object).await,
        };
        if outcome.written(Problem::SecretNotWritten, written) {
            self.secret_pace.wrote(ANYBODY);
            self.made(&judgement.step, why, names);
        }
    }

    fn made(&self, step: &Step, why: &Why, names: &[String]) {
        let authority = matches!(step, Step::Make { .. });
        if authority {
            self.metrics.issued(Certificate::Authority);
        }
        self.metrics.issued(Certificate::Leaf);
        let what = if authority { "authority and certificate" } else { "certificate" };
        tracing::info!(
            secret = self.observer.objects.secret,
            made = what,
            %why,
            names = names.join(", "),
            "certificate made and kept"
        );
    }

    async fn publish(&mut self, publication: Publication, outcome: &mut Outcome) {
        let (object, entries, replaced) = match publication {
            Publication::Current => {
                self.pace.contested(outcome);
                return;
            }
            Publication::Left { injector, annotation } => {
                let why = format!(
                    "the caBundle of {} is {injector}'s to write (annotation {annotation}), and does not hold the authority of \
                     our Secret: remove the annotation, or use --certificate external",
                    self.observer.objects.registration
                );
                outcome.problems.insert(Problem::BundleNotOurs, why);
                return;
            }
            Publication::Apply { object, entries, replaced } => (object, entries, replaced),
        };
        if !self.leadership.is_held() {
            return;
        }
        let by = replaced.into_iter().collect::<Vec<_>>().join(", ");
        let wait = self.pace.wait(&by);
        outcome.later = outcome.later.into_iter().chain(wait).min();
        if wait.is_none() {
            let written = self.writer.apply_bundles(&object).await;
            if outcome.written(Problem::BundleNotWritten, written) {
                self.pace.wrote(&by);
                self.metrics.published();
                let registration = &self.observer.objects.registration;
                tracing::info!(registration, entries, replaced = by, "caBundle written");
            }
        }
        self.pace.contested(outcome);
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

fn make(names: &[String], old: &str, now: Timestamp) -> Result<Content, rcgen::Error> {
    let authority = Authority::new(now.into())?;
    let authorities = format!("{}{old}", authority.pem());
    renew(&authority, authorities, names, now)
}

fn renew(
    authority: &Authority,
    authorities: String,
    names: &[String],
    now: Timestamp,
) -> Result<Content, rcgen::Error> {
    let pair = authority.pem_pair(names, now.into(), LEAF_LIFETIME)?;
    let (certificate, key) = (pair.certificate, pair.key);
    Ok(Content { authorities, authority_key: authority.key_pem(), certificate, key })
}

/// How often something is written: at once where it is missing, ever more rarely where another puts its own in its place.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    /// How often in a row others replaced what was written, and who did.
    contests: u32,
    by: String,
}

impl Pace {
    /// Nothing is written more often than this.
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(1);
    /// After this time without another's, nothing is contested.
    const QUIET: Duration = Duration::from_mins(10);
    /// More than a person does by mistake.
    const CONTESTED: u32 = 3;

    fn since(&self) -> Option<Duration> {
        self.last.map(|last| last.elapsed()).filter(|since| *since < Self::QUIET)
    }

    /// How long the write has to wait, that replaces what these wrote.
    fn wait(&self, by: &str) -> Option<Duration> {
        let since = self.since()?;
        let factor = if by.is_empty() { 1 } else { 2_u32.saturating_pow(self.contests) };
        let pause = Self::SHORTEST.saturating_mul(factor).min(Self::LONGEST);
        pause.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    fn wrote(&mut self, by: &str) {
        match self.since() {
            Some(_) if by.is_empty() => {}
            Some(_) => self.contests = self.contests.saturating_add(1),
            None => self.contests = 0,
        }
        if !by.is_empty() {
            by.clone_into(&mut self.by);
        }
        self.last = Some(Instant::now());
    }

    /// Tells of it, if it is so.
    fn contested(&self, outcome: &mut Outcome) {
        if self.contests >= Self::CONTESTED && self.since().is_some() {
            let why = format!(
                "{} writes another caBundle again and again: stop it, or use --certificate external",
                self.by
            );
            outcome.problems.insert(Problem::BundleContested, why);
        }
    }
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
