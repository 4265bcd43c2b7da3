//! The rotation among everything that moves by itself: API servers that learn of a bundle late, replicas that learn of a
//! certificate late, controllers that end at any moment, clocks that jump, people and programs that damage one thing at a time.

use std::collections::HashMap;
use std::time::Duration;

use base64_simd::STANDARD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use proptest::{collection, sample};
use serde_json::{Value, json};

use super::issue::content;
use super::registration::{FIELD_MANAGER, Publication, Registration};
use super::rotation::{Judgement, Phase, Seen, Step, Times, judge};
use super::secret::{Stored, object};
use crate::names;
use crate::webhook::certificate::{Authority, LEAF_LIFETIME};
use crate::x509::{self, Der};

const TIMES: Times = Times { wait: Duration::from_mins(1), overlap: Duration::from_hours(1) };
const NAME: &str = "127.0.0.1";
const ENTRIES: usize = 2;
/// What is late at most: less than what is waited for.
const REGISTRATION_LAG: u64 = 59;
const SECRET_LAG: u64 = 3599;
/// What somebody put into the Secret is served no earlier: by then a leader has looked, and API servers have heard of it.
const RESTORED_LAG: u64 = 140;

/// Whoever was paused for longer leads no more.
const MOST_PAUSED: u64 = 10;

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes, by this many seconds.
    Pass(u64),
    /// The leader looks, and writes the Secret, the registration, or both, before it ends or goes on.
    Look { secret: bool, registration: bool },
    /// It decides what to write to the registration, and is paused before it writes it: until its next look, or for longer than it
    /// may write.
    Pause,
    /// Another leads, or the same after a restart.
    Restart,
    /// The leader's wall clock is wrong by this many hours, until more than ten minutes pass.
    Clock(i64),
    /// An API server hears of what is newest.
    Hear(usize),
    /// A replica's mount is brought up to date.
    Mount(usize),
    /// One thing is damaged.
    Damage(Damage),
    /// Somebody asks for another authority.
    Ask,
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    SecretDeleted,
    /// One that we wrote before is put back.
    SecretRestored(usize),
    AuthorityKeyLost,
    CertificateBroken,
    CertificateForeign,
    CertificateOver,
    BundleEmptied(usize),
    BundleForeign(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let damage = sample::select(vec![
        Damage::SecretDeleted,
        Damage::SecretRestored(0),
        Damage::SecretRestored(1),
        Damage::SecretRestored(2),
        Damage::SecretRestored(5),
        Damage::AuthorityKeyLost,
        Damage::CertificateBroken,
        Damage::CertificateForeign,
        Damage::CertificateOver,
        Damage::BundleEmptied(0),
        Damage::BundleForeign(1),
    ]);
    let years = 365 * 24;
    let event = prop_oneof![
        12 => (sample::select(vec![true, true, true, false]), sample::select(vec![true, true, true, false]))
            .prop_map(|(secret, registration)| Event::Look { secret, registration }),
        1 => sample::select(vec![0]).prop_map(|_| Event::Pause),
        6 => sample::select(vec![1, 20, 61, 61, 600, 3601]).prop_map(Event::Pass),
        1 => sample::select(vec![10 * 86_400, 61 * 86_400]).prop_map(Event::Pass),
        1 => sample::select(vec![0, 1]).prop_map(|_| Event::Restart),
        2 => sample::select(vec![-2 * years, -100 * 24, -2, 2, 40 * 24, 100 * 24, years, 20 * years]).prop_map(Event::Clock),
        2 => (0..2_usize).prop_map(Event::Hear),
        2 => (0..2_usize).prop_map(Event::Mount),
        2 => damage.prop_map(Event::Damage),
        2 => sample::select(vec![0]).prop_map(|_| Event::Ask),
    ];
    collection::vec(event, 1..60)
}

/// A value that somebody hears of late.
struct Late<T> {
    known: T,
    /// What is newer, with the moment of its writing; the oldest first.
    unknown: Vec<(u64, T)>,
}

impl<T: Clone> Late<T> {
    const fn new(known: T) -> Self {
        Self { known, unknown: Vec::new() }
    }

    /// Hears of what was written up to this moment.
    fn hear(&mut self, until: u64) {
        while self.unknown.first().is_some_and(|(at, _)| *at <= until) {
            self.known = self.unknown.remove(0).1;
        }
    }
}

/// What an API server trusts in one entry; nothing where others damaged it.
type Bundle = Option<Vec<Der>>;
/// A certificate of ours.
type Chain = Vec<Der>;
/// A certificate, if we answer for it, and when it can be served at the earliest.
type Mounted = (Option<Chain>, u64);

/// What is written to the registration: to which entries, whom they trust, and of which certificate that is.
type Decided = (Vec<usize>, Vec<Der>, Option<String>);

struct Cluster {
    /// Seconds since the beginning, by a clock that does not jump.
    time: u64,
    /// How wrong the leader's wall clock is.
    wrong: SignedDuration,
    secret: Option<Value>,
    is_certificate_foreign: bool,
    bundles: [Bundle; ENTRIES],
    /// Of which certificate they are.
    mark: Option<String>,
    foreign: Der,
    /// Of the registration, and of its entries.
    version: u64,
    generation: u64,
    asked: usize,
    apis: [[Late<Bundle>; ENTRIES]; 2],
    replicas: [Late<Mounted>; 2],
    /// The Secret whenever we wrote it, with a certificate of ours.
    written: Vec<Value>,
    /// What a paused leader writes, and over which version.
    paused: Option<(u64, Decided)>,
    /// Since when the leader has seen generation and certificate.
    registered: Option<(u64, u64)>,
    kept: Option<(Option<Value>, u64)>,
    /// Whether a certificate is an authority's: verifying takes its time.
    verified: HashMap<(Der, Der), bool>,
}

impl Cluster {
    fn new() -> Self {
        let foreign = Authority::new(Self::start().into()).unwrap();
        let foreign = x509::certificates(foreign.pem().as_bytes()).unwrap().remove(0);
        let late = || Late::new(None);
        Self {
            time: 0,
            wrong: SignedDuration::ZERO,
            secret: None,
            is_certificate_foreign: false,
            bundles: [None, None],
            mark: None,
            foreign,
            version: 1,
            generation: 1,
            asked: 0,
            apis: [[late(), late()], [late(), late()]],
            replicas: [Late::new((None, 0)), Late::new((None, 0))],
            written: Vec::new(),
            paused: None,
            registered: None,
            kept: None,
            verified: HashMap::new(),
        }
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn true_time(&self) -> Timestamp {
        Self::start() + SignedDuration::from_secs(i64::try_from(self.time).unwrap())
    }

    fn registration(&self) -> Registration {
        let entries = self.bundles.iter().enumerate().map(|(at, bundle)| {
            let mut client = json!({"url": format!("https://{NAME}/mutate")});
            if let Some(bundle) = bundle {
                client["caBundle"] = json!(STANDARD.encode_to_string(x509::pem(bundle)));
            }
            json!({"name": format!("e{at}"), "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"]})
        });
        let entries: Vec<_> = entries.collect();
        // Whoever damages an entry has its bundle; the other one stays ours.
        let ours = self.bundles.iter().enumerate().filter(|(_, bundle)| self.is_ours(bundle));
        let fields = ours.map(|(at, _)| {
            (format!("k:{{\"name\":\"e{at}\"}}"), json!({"f:clientConfig": {"f:caBundle": {}}}))
        });
        let fields: serde_json::Map<_, _> = fields.collect();
        let managed =
            json!([{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:webhooks": fields}}]);
        let annotations = self.mark.iter().map(|mark| (names::CERTIFICATE.to_owned(), json!(mark)));
        let annotations: serde_json::Map<_, _> = annotations.collect();
        let metadata = json!({
            "name": "promsidecar", "uid": "u", "generation": self.generation,
            "annotations": annotations, "managedFields": managed,
        });
        let object = json!({"metadata": metadata, "webhooks": entries});
        Registration::of(&serde_json::from_value(object).unwrap())
    }

    fn stored(&self) -> Option<Stored> {
        self.secret.as_ref().map(|secret| Stored::of(&serde_json::from_value(secret.clone()).unwrap()))
    }

    fn certificate(&self) -> Option<Value> {
        self.secret.as_ref().map(|secret| secret["data"]["tls.crt"].clone())
    }

    /// What the leader comes to.
    fn judged(&mut self) -> (Judgement, Registration) {
        let (stored, registration, certificate) = (self.stored(), self.registration(), self.certificate());
        if self.registered.is_none_or(|(generation, _)| generation != self.generation) {
            self.registered = Some((self.generation, self.time));
        }
        if self.kept.as_ref().is_none_or(|(kept, _)| *kept != certificate) {
            self.kept = Some((certificate, self.time));
        }
        let since = |at: u64| Duration::from_secs(self.time - at);
        let seen = Seen {
            stored: stored.as_ref(),
            registration: Some(&registration),
            registered_for: since(self.registered.unwrap().1),
            kept_for: since(self.kept.as_ref().unwrap().1),
            now: self.true_time() + self.wrong,
        };
        (judge(&seen, TIMES), registration)
    }

    /// The leader looks.
    fn look(&mut self, write_secret: bool, write_registration: bool) -> (Step, Phase) {
        self.go_on();
        let (judgement, registration) = self.judged();
        let (stored, certificate) = (self.stored(), self.certificate());
        let now = self.true_time() + self.wrong;
        let mut wrote = false;
        if write_secret
            && let Some(content) = content(&judgement, stored.as_ref(), &[NAME.to_owned()], now).unwrap()
        {
            let mut object = object("own", "tls", &content, stored.as_ref());
            if let Some(asked) =
                self.secret.as_ref().and_then(|secret| secret["metadata"]["annotations"].get(names::ROTATE))
            {
                object["metadata"]["annotations"][names::ROTATE] = asked.clone();
            }
            self.secret = Some(object.clone());
            self.is_certificate_foreign &= self.certificate() == certificate;
            if !self.is_certificate_foreign {
                self.written.push(object);
            }
            self.spread_certificate(0);
            wrote = true;
        }
        // What is made of a Secret is written while that is the one.
        if write_registration && !wrote {
            self.publish(decided(&judgement, &registration));
        }
        (judgement.step, judgement.phase)
    }

    /// The leader decides, and does not write yet.
    fn pause(&mut self) {
        self.go_on();
        let (judgement, registration) = self.judged();
        self.paused = Some((self.version, decided(&judgement, &registration)));
    }

    /// A paused leader goes on; what it writes is refused where the registration is another by now.
    fn go_on(&mut self) {
        if let Some((version, decided)) = self.paused.take()
            && version == self.version
        {
            self.publish(decided);
        }
    }

    fn publish(&mut self, (entries, trusted, mark): Decided) {
        if !entries.is_empty() {
            self.version += 1;
            self.mark = mark;
            let before = self.bundles.clone();
            for at in entries {
                self.bundles[at] = Some(trusted.clone());
            }
            if self.bundles != before {
                self.spread_bundles();
            }
        }
    }

    fn spread_certificate(&mut self, lag: u64) {
        let stored = self.stored().unwrap();
        // Whoever put another certificate there has to answer for it.
        let chain = x509::certificates(stored.get("tls.crt")).ok().filter(|_| !self.is_certificate_foreign);
        for replica in &mut self.replicas {
            // What is written again comes no earlier by that.
            let same = replica.unknown.iter().map(|(_, mounted)| mounted).find(|(known, _)| *known == chain);
            let earliest = same.map_or(self.time + lag, |(_, earliest)| *earliest);
            replica.unknown.push((self.time, (chain.clone(), earliest)));
        }
    }

    /// What others put there is nothing that we answer for.
    fn is_ours(&self, bundle: &Bundle) -> bool {
        bundle.as_ref().is_some_and(|bundle| !bundle.starts_with(std::slice::from_ref(&self.foreign)))
    }

    fn spread_bundles(&mut self) {
        self.version += 1;
        self.generation += 1;
        let ours = self.bundles.clone().map(|bundle| if self.is_ours(&bundle) { bundle } else { None });
        for api in &mut self.apis {
            for (entry, bundle) in api.iter_mut().zip(&ours) {
                entry.unknown.push((self.time, bundle.clone()));
            }
        }
    }

    /// Whether nothing is damaged: one thing at a time.
    fn is_whole(&self) -> bool {
        let Some(stored) = self.stored() else { return false };
        let Ok(trusted) = x509::certificates(stored.get("ca.crt")) else { return false };
        self.bundles.iter().all(|bundle| {
            bundle.as_ref().is_some_and(|bundle| trusted.iter().all(|der| bundle.contains(der)))
        })
    }

    fn damage(&mut self, damage: Damage) {
        if !self.is_whole() {
            return;
        }
        if let Damage::SecretRestored(back) = damage {
            if let Some(at) = self.written.len().checked_sub(back + 1) {
                self.secret = Some(self.written[at].clone());
                self.is_certificate_foreign = false;
                self.spread_certificate(RESTORED_LAG);
            }
            return;
        }
        let secret = self.secret.as_mut().unwrap();
        let encoded = |text: &str| json!(STANDARD.encode_to_string(text));
        let mut foreign = |begin: Timestamp| {
            let authority = Authority::new(begin.into()).unwrap();
            let pair = authority.pem_pair(&[NAME.to_owned()], begin.into(), LEAF_LIFETIME).unwrap();
            secret["data"]["tls.crt"] = encoded(&pair.certificate);
            secret["data"]["tls.key"] = encoded(&pair.key);
        };
        self.is_certificate_foreign |= matches!(damage, Damage::CertificateForeign | Damage::CertificateOver);
        match damage {
            Damage::SecretDeleted => self.secret = None,
            Damage::SecretRestored(_) => {}
            Damage::AuthorityKeyLost => secret["data"]["ca.key"] = encoded("lost"),
            Damage::CertificateBroken => secret["data"]["tls.crt"] = encoded("broken"),
            Damage::CertificateForeign => foreign(Self::start()),
            Damage::CertificateOver => foreign(Self::start() - SignedDuration::from_hours(9000)),
            Damage::BundleEmptied(at) => self.bundles[at] = None,
            Damage::BundleForeign(at) => self.bundles[at] = Some(vec![self.foreign.clone()]),
        }
        if matches!(damage, Damage::BundleEmptied(_) | Damage::BundleForeign(_)) {
            self.spread_bundles();
        }
    }

    /// Those who hear late have heard by now what is old enough.
    fn catch_up(&mut self) {
        let (registration, secret) =
            (self.time.saturating_sub(REGISTRATION_LAG + 1), self.time.saturating_sub(SECRET_LAG + 1));
        for entry in self.apis.iter_mut().flatten() {
            entry.hear(registration);
        }
        (0..2).for_each(|at| self.mount(at, secret));
    }

    /// A replica takes what it can serve of what was written up to this moment.
    fn mount(&mut self, replica: usize, until: u64) {
        let (time, now) = (self.time, self.true_time());
        let in_force = |der: &Der| x509::life(der).is_ok_and(|(begin, end)| begin <= now && now < end);
        let replica = &mut self.replicas[replica];
        while replica.unknown.first().is_some_and(|(at, _)| *at <= until) {
            let comes = |(_, (_, earliest)): &(u64, Mounted)| *earliest <= time;
            // What is newer comes in its place.
            if replica.unknown.len() == 1 && !replica.unknown.iter().all(comes) {
                return;
            }
            let (_, mounted) = replica.unknown.remove(0);
            if mounted.1 <= time && mounted.0.as_ref().is_some_and(|chain| chain.iter().all(in_force)) {
                replica.known = mounted;
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Pass(seconds) => {
                self.paused = self.paused.take().filter(|_| seconds < MOST_PAUSED);
                // Nobody sleeps over what is due: the leader looks in between. Its clock is not wrong for ever.
                if seconds > 600 {
                    self.wrong = SignedDuration::ZERO;
                }
                let mut pauses = [70, 70, 70, 3700].into_iter().chain(std::iter::repeat(5 * 86_400));
                let end = self.time + seconds;
                while self.time < end {
                    self.time = end.min(self.time + pauses.next().unwrap());
                    self.catch_up();
                    self.assert_trusted(event);
                    self.look(true, true);
                }
            }
            Event::Look { secret, registration } => drop(self.look(secret, registration)),
            Event::Pause => self.pause(),
            Event::Restart => (self.registered, self.kept, self.paused) = (None, None, None),
            Event::Clock(hours) => self.wrong = SignedDuration::from_hours(hours),
            Event::Hear(at) => self.apis[at].iter_mut().for_each(|entry| entry.hear(self.time)),
            Event::Mount(at) => self.mount(at, self.time),
            Event::Damage(damage) => self.damage(damage),
            Event::Ask => {
                if let Some(secret) = &mut self.secret {
                    self.asked += 1;
                    secret["metadata"]["annotations"][names::ROTATE] = json!(self.asked.to_string());
                }
            }
        }
    }

    /// Whatever is served is accepted by whoever calls.
    fn assert_trusted(&mut self, after: &Event) {
        let now = self.true_time();
        for chain in self.replicas.iter().filter_map(|replica| replica.known.0.as_ref()) {
            let (begin, end) = x509::life(&chain[0]).unwrap();
            assert!(
                begin <= now && now < end,
                "after {after:?}: in force from {begin} to {end}, not at {now}"
            );
            for bundle in self.apis.iter().flatten().filter_map(|entry| entry.known.as_ref()) {
                let known = &mut self.verified;
                let mut accepts = |der: &Der| {
                    let pair = (chain[0].clone(), der.clone());
                    *known.entry(pair).or_insert_with(|| x509::accepted(chain, der, begin).is_ok())
                };
                let trusted = bundle
                    .iter()
                    .any(|der| accepts(der) && x509::life(der).is_ok_and(|(begin, _)| begin <= now));
                assert!(
                    trusted,
                    "after {after:?}: none of {} authorities signed what is served",
                    bundle.len()
                );
            }
        }
    }
}

/// What the leader writes to the registration.
fn decided(judgement: &Judgement, registration: &Registration) -> Decided {
    let mark = judgement.mark.clone();
    let entries = match registration.publish(&judgement.trusted, judgement.needed(), mark.as_deref()) {
        Publication::Apply { object, .. } => {
            let entries = object["webhooks"].as_array().unwrap().iter();
            entries.map(|entry| usize::from(entry["name"] == "e1")).collect()
        }
        Publication::Current | Publication::Left { .. } => Vec::new(),
    };
    (entries, judgement.trusted.clone(), mark)
}

/// Everything comes to rest: one authority, trusted by every entry, and a certificate of it.
fn assert_recovers(cluster: &mut Cluster) {
    for _ in 0..3 {
        cluster.happen(&Event::Pass(3 * 3700));
    }
    let (_, phase) = cluster.look(true, true);
    assert_ne!(phase, Phase::Publishing);
    // With the Secret, what was asked of it is lost.
    let asked = cluster.stored().is_some_and(|stored| stored.was_rotation_asked());
    assert_eq!(cluster.look(true, true), (Step::Keep, if asked { Phase::Settled } else { phase }));
    for (replica, api) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let chain = cluster.replicas[replica].known.0.as_ref().unwrap();
        for entry in &cluster.apis[api] {
            let bundle = entry.known.as_ref().unwrap();
            assert!(phase == Phase::Overlapping || bundle.len() == 1, "{phase:?}: {}", bundle.len());
            let signs = bundle.iter().find(|der| {
                cluster.stored().unwrap().get("ca.crt").starts_with(x509::pem([*der]).as_bytes())
            });
            assert_eq!(x509::accepted(chain, signs.unwrap(), cluster.true_time()), Ok(()));
        }
    }
}

#[test]
fn whatever_happens_and_in_whatever_order_what_is_served_is_trusted_by_whoever_calls() {
    let mut runner = TestRunner::new(Config { cases: 100, ..Config::default() });
    let outcome = runner.run(&events(), |events| {
        let mut cluster = Cluster::new();
        cluster.happen(&Event::Pass(1));
        cluster.happen(&Event::Pass(3601));
        for event in &events {
            cluster.happen(event);
            cluster.assert_trusted(event);
        }
        assert_recovers(&mut cluster);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
