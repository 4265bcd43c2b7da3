//! Which of several controllers writes: the one that holds a Lease of our own namespace. IO: asks the API server, and waits.
//!
//! Input: a client, and who we are. Output: [`Leadership`], which says whether we may write. It is a claim that ends by itself
//! before another can take the Lease (`claim`). When another's is over is counted by our own clock, since its record changed
//! under our eyes (`record`): clocks of two machines are never compared. All of that holds among those who keep to it; who
//! deletes the Lease by hand lets another in within one retry interval.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::coordination::v1;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::{ApiResource, NotUsed, Object};
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use crate::cluster::explain::explain;
use crate::cluster::watch::Health;
use crate::names;
use crate::shutdown::{Phase, Shutdown};

mod claim;
mod clock;
mod record;

use claim::Claim;
pub use claim::{Leadership, Writing};
use clock::Clock;
pub use record::Terms;
use record::{Observed, Spec, Step, next};

type Lease = Object<Option<Spec>, NotUsed>;

/// How often in a row the Lease is read and written anew because another wrote in between.
const COLLISIONS: usize = 3;

/// One that wants to hold the Lease.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    identity: String,
    terms: Terms,
    clock: Clock,
    claim: Claim,
    health: Health,
    /// What the Lease says; `None` where there is none.
    observed: Option<Observed>,
    /// The Lease as we wrote it, while nothing suggests that it is different now.
    ours: Option<Lease>,
    /// Whether it may bear our name.
    staked: bool,
    /// What was logged last: whether we lead, and who else does.
    told: (bool, Option<String>),
}

impl Candidate {
    /// One that is called `identity`, as no other is or was: a pod's name and something random.
    pub fn new(client: Client, namespace: &str, identity: String, terms: Terms) -> anyhow::Result<Self> {
        anyhow::ensure!(!identity.is_empty(), "a candidate for the lease must have a name");
        Ok(Self {
            leases: Api::namespaced_with(client, namespace, &ApiResource::erase::<v1::Lease>(&())),
            identity,
            terms,
            clock: Clock::SYSTEM,
            claim: Claim::new(Clock::SYSTEM),
            health: Health::new("lease"),
            observed: None,
            ours: None,
            staked: false,
            told: (false, None),
        })
    }

    /// Whether we hold it, while [`Self::follow`] runs and after.
    pub fn leadership(&self) -> Leadership {
        self.claim.leadership()
    }

    /// How talking about it with the API server goes.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Takes the Lease whenever it can be had, and renews it, until the shutdown begins; then hands it over once the writes
    /// under way have ended.
    pub async fn follow(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        tokio::select! {
            never = self.compete() => match never {},
            () = shutdown.reached(Phase::Draining) => {}
        }
        let left = self.claim.left();
        self.claim.end();
        tokio::select! {
            () = self.hand_over(left) => {}
            () = shutdown.reached(Phase::Aborting) => {}
        }
        Ok(())
    }

    async fn compete(&mut self) -> Infallible {
        loop {
            let began = Instant::now();
            let outcome = match timeout(self.patience(), self.attempt()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.no_answer()),
            };
            let wait = match outcome {
                Ok(None) => {
                    self.health.succeeded();
                    self.terms.retry()
                }
                Ok(Some(over)) => {
                    self.health.succeeded();
                    self.spread_retry().min(self.clock.now().until(over) + began.elapsed())
                }
                Err(why) => {
                    self.health.failed(why);
                    self.spread_retry()
                }
            };
            self.tell();
            tokio::time::sleep_until(began + wait).await;
        }
    }

    /// Reads the Lease if it may be different, and writes it if that is our turn. Otherwise, it is another's until then.
    async fn attempt(&mut self) -> Result<Option<record::Moment>, String> {
        for _ in 0..COLLISIONS {
            let lease = self.read().await.map_err(|error| explain(&error))?;
            match next(self.observed.as_ref(), &self.identity, &self.terms, self.clock.now()) {
                Step::Wait(until) => return Ok(Some(until)),
                Step::Acquire | Step::Renew => {}
            }
            let held = |spec: &Spec| spec.held(&self.identity, &self.terms, wall());
            // Before it is sent: whoever reads it does so later.
            let sent = self.clock.now();
            self.staked = true;
            if let Some(stored) = self.write(lease, held).await? {
                self.see(&stored);
                self.claim.extend(sent.plus(self.terms.renew_deadline()));
                self.ours = Some(stored);
                return Ok(None);
            }
        }
        Err(COLLIDED.to_owned())
    }

    /// Gives the Lease back if it is ours, unless writes that the claim permitted go on when it would have ended.
    async fn hand_over(&mut self, left: Duration) {
        if !self.staked {
            return;
        }
        let Ok(_quiet) = timeout(left, self.claim.quiet()).await else {
            tracing::warn!("the lease is not handed over, since a write is still under way; it runs out");
            return;
        };
        let released = match timeout(self.patience(), self.release()).await {
            Ok(released) => released,
            Err(_) => Err(self.no_answer()),
        };
        match released {
            Ok(true) => tracing::info!(identity = self.identity, "lease handed over"),
            Ok(false) => {}
            Err(error) => tracing::warn!(error, "the lease could not be handed over; it runs out"),
        }
    }

    /// Gives the Lease back; whether it was ours.
    async fn release(&mut self) -> Result<bool, String> {
        for _ in 0..COLLISIONS {
            let lease = self.read().await.map_err(|error| explain(&error))?;
            if self.observed.as_ref().and_then(Observed::holder) != Some(&self.identity) {
                return Ok(false);
            }
            if self.write(lease, |spec| spec.released(wall())).await?.is_some() {
                return Ok(true);
            }
        }
        Err(COLLIDED.to_owned())
    }

    /// The Lease as it is, if there is one.
    async fn read(&mut self) -> kube::Result<Option<Lease>> {
        if let Some(ours) = self.ours.take() {
            return Ok(Some(ours));
        }
        let lease = self.leases.get_opt(names::LEASE).await?;
        match &lease {
            Some(lease) => self.see(lease),
            None => self.observed = None,
        }
        let holder = self.observed.as_ref().and_then(Observed::holder);
        if holder != Some(&self.identity) {
            self.claim.end();
            self.staked = false;
        }
        Ok(lease)
    }

    fn see(&mut self, lease: &Lease) {
        let spec = lease.spec.clone().unwrap_or_default();
        self.observed = Some(Observed::after(self.observed.take(), spec, self.clock.now()));
    }

    /// Writes `change` to the Lease that was read, or to a new one; gives it as it is stored, or nothing if it had changed
    /// meanwhile.
    async fn write(
        &self,
        lease: Option<Lease>,
        change: impl FnOnce(&Spec) -> Spec,
    ) -> Result<Option<Lease>, String> {
        let parameters = PostParams::default();
        let (written, existed) = match lease {
            Some(mut lease) => {
                lease.spec = Some(change(&lease.spec.unwrap_or_default()));
                (self.leases.replace(names::LEASE, &parameters, &lease).await, true)
            }
            None => {
                let kind = ApiResource::erase::<v1::Lease>(&());
                let lease = Object::new(names::LEASE, &kind, Some(change(&Spec::default())));
                (self.leases.create(&parameters, &lease).await, false)
            }
        };
        match written {
            Ok(stored) => Ok(Some(stored)),
            // It was written, made or deleted by another.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
            Err(kube::Error::Api(status)) if existed && status.is_not_found() => Ok(None),
            Err(error) => Err(explain(&error)),
        }
    }

    /// Logs what is different from before.
    fn tell(&mut self) {
        let leads = !self.claim.left().is_zero();
        let holder = self.observed.as_ref().and_then(Observed::holder);
        let other = holder.filter(|holder| *holder != self.identity).map(str::to_owned);
        let now = (leads, other);
        if now == self.told {
            return;
        }
        match &now {
            (true, _) => tracing::info!(identity = self.identity, "leading: the lease is ours"),
            (false, Some(leader)) => tracing::info!(leader, "another leads; nothing is written here"),
            (false, None) if self.told.0 => {
                tracing::warn!(
                    "the lease could not be renewed in time; nothing is written before it is ours again"
                );
            }
            (false, None) => {}
        }
        self.told = now;
    }

    /// How long an attempt may take: a second one fits into the renew deadline.
    fn patience(&self) -> Duration {
        self.terms.renew_deadline() / 2
    }

    fn no_answer(&self) -> String {
        format!("no answer of the API server within {:?}", self.patience())
    }

    /// The retry interval and up to a quarter more, so that candidates do not come all at once.
    fn spread_retry(&self) -> Duration {
        let random = RandomState::new().hash_one(&self.identity).to_le_bytes()[0];
        self.terms.retry() + self.terms.retry() * u32::from(random) / 1024
    }
}

const COLLIDED: &str =
    "others write the Lease whenever we do: see who holds it, and which of its fields they manage";

/// The time for humans, as the API wants it.
fn wall() -> String {
    format!("{:.6}", Timestamp::now())
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
