//! Candidates before an API server in this process that does as it is told, with a clock that does not wait.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::claim::Claim;
use super::clock::Clock;
use super::record::Moment;
use super::{Candidate, Leadership, Terms};
use crate::shutdown::Shutdown;

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Act {
    /// As a real one.
    Answer,
    /// The same, but the answer takes so long.
    Slow(Duration),
    /// It does what is asked, and its answer is lost.
    Lost,
    /// It never answers.
    Silent,
    Refuse(u16, &'static str),
    /// Another writes this just before.
    Overtaken(Value),
}

#[derive(Debug, Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    script: VecDeque<Act>,
    /// After the script.
    silent: bool,
    log: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

impl Fake {
    fn acting(script: impl IntoIterator<Item = Act>) -> Self {
        let fake = Self::default();
        fake.with(|server| server.script.extend(script));
        fake
    }

    fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another's Lease.
    fn put(&self, spec: &Value) {
        self.with(|server| {
            server.store(json!({"metadata": {"name": "promsidecar-controller"}, "spec": spec}));
        });
    }

    fn spec(&self) -> Value {
        self.with(|server| server.lease.clone().unwrap()["spec"].clone())
    }

    fn log(&self) -> Vec<String> {
        self.with(|server| std::mem::take(&mut server.log))
    }

    fn client(&self) -> Client {
        let fake = self.clone();
        let answer = move |request: Request| {
            let fake = fake.clone();
            async move { fake.answer(request).await }
        };
        Client::new(Router::new().fallback(answer), "ours")
    }

    async fn answer(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let act = self.with(|server| {
            server.log.push(format!("{} {}", head.method, head.uri.path()));
            let last = if server.silent { Act::Silent } else { Act::Answer };
            server.script.pop_front().unwrap_or(last)
        });
        if let Act::Overtaken(lease) = &act {
            self.with(|server| server.store(lease.clone()));
        }
        let (code, answer) = match act {
            Act::Silent => std::future::pending().await,
            Act::Refuse(code, message) => (code, json!({"message": message})),
            _ => self.with(|server| server.serve(head.method.as_str(), body)),
        };
        match act {
            Act::Slow(time) => tokio::time::sleep(time).await,
            Act::Lost => std::future::pending().await,
            _ => {}
        }
        let answer = if code < 300 { answer } else { status(code, &answer) };
        Response::builder().status(code).body(Body::from(answer.to_string())).unwrap()
    }
}

fn status(code: u16, said: &Value) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": said["message"]})
}

impl Server {
    fn store(&mut self, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease);
    }

    fn serve(&mut self, method: &str, body: Value) -> (u16, Value) {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (method, &self.lease) {
            ("GET", None) => return (404, json!({"message": "not found"})),
            ("GET", Some(_)) => {}
            ("POST", None) => self.store(body),
            ("PUT", Some(lease)) if version(lease) == version(&body) => self.store(body),
            _ => return (409, json!({"message": "conflict"})),
        }
        (if method == "POST" { 201 } else { 200 }, self.lease.clone().unwrap())
    }
}

/// The clock of the test, which jumps.
fn tokio_clock() -> Moment {
    static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    Moment::new(Instant::now().into_std().saturating_duration_since(*ORIGIN))
}

struct Running {
    leadership: Leadership,
    health: crate::cluster::watch::Health,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
    began: Instant,
}

impl Running {
    fn start(fake: &Fake, identity: &str) -> Self {
        // Before any candidate counts.
        tokio_clock();
        let candidate = Candidate::new(fake.client(), "ours", identity.to_owned(), Terms::default()).unwrap();
        let clock = Clock::of(tokio_clock);
        let candidate = Candidate { clock, claim: Claim::new(clock), ..candidate };
        let (leadership, health) = (candidate.leadership(), candidate.health());
        let shutdown = Shutdown::default();
        let task = tokio::spawn(candidate.follow(shutdown.clone()));
        Self { leadership, health, shutdown, task, began: Instant::now() }
    }

    /// Whether it leads after the next change, and in which second that comes.
    async fn changed(&mut self) -> (bool, u64) {
        (self.leadership.changed().await, self.began.elapsed().as_secs())
    }

    async fn ended(self) {
        self.shutdown.drain();
        self.task.await.unwrap().unwrap();
        assert!(!self.leadership.is_held());
    }
}

const GET: &str = "GET /apis/coordination.k8s.io/v1/namespaces/ours/leases/promsidecar-controller";
const PUT: &str = "PUT /apis/coordination.k8s.io/v1/namespaces/ours/leases/promsidecar-controller";
const POST: &str = "POST /apis/coordination.k8s.io/v1/namespaces/ours/leases";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_counts_from_before_the_request_and_ends_without_a_task() {
    let slow = || Fake::acting([Act::Answer, Act::Slow(Duration::from_secs(4)), Act::Silent]);
    let fake = slow();
    fake.with(|server| server.silent = true);
    let mut cut_off = Running::start(&fake, "me");
    assert_eq!(cut_off.changed().await, (true, 4));
    assert!(cut_off.leadership.clone().is_held());
    assert_eq!(cut_off.changed().await, (false, 10));
    assert!(!cut_off.leadership.is_held());

    let mut dead = Running::start(&slow(), "me");
    assert_eq!(dead.changed().await, (true, 4));
    dead.task.abort();
    assert_eq!(dead.changed().await, (false, 10));
    assert!(dead.leadership.begin().is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_missed_something_for_want_of_the_lease_is_told_again_that_it_is_held() {
    let fake = Fake::default();
    let mut leader = Running::start(&fake, "me");
    assert_eq!(leader.changed().await, (true, 0));
    let nothing = tokio::time::timeout(Duration::from_mins(1), leader.leadership.changed()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    leader.leadership.forget();
    assert!(leader.leadership.changed().await);
    let nothing = tokio::time::timeout(Duration::from_mins(1), leader.leadership.changed()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_for_ever_and_a_follower_only_looks() {
    let fake = Fake::default();
    let mut leader = Running::start(&fake, "me");
    assert_eq!(leader.changed().await, (true, 0));
    seconds(60).await;
    let mut log = fake.log();
    assert_eq!(log.drain(..2).collect::<Vec<_>>(), [GET, POST]);
    assert!(log.len() >= 29 && log.iter().all(|line| line == PUT), "{log:?}");
    let spec = fake.spec();
    assert_ne!(spec["renewTime"], spec["acquireTime"]);

    let follower = Running::start(&fake, "you");
    leader.task.abort();
    seconds(14).await;
    let version = fake.with(|server| server.version);
    assert!(!follower.leadership.is_held());
    follower.ended().await;
    assert_eq!(fake.with(|server| server.version), version, "it wrote");
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_followed_after_its_duration_and_not_before() {
    let fake = Fake::default();
    fake.put(&json!({"holderIdentity": "other", "leaseDurationSeconds": 30, "leaseTransitions": 4}));
    let mut follower = Running::start(&fake, "me");
    assert_eq!(follower.changed().await, (true, 30));
    let spec = fake.spec();
    assert_eq!(
        [&spec["holderIdentity"], &spec["leaseDurationSeconds"], &spec["leaseTransitions"]],
        [&json!("me"), &json!(15), &json!(5)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_with_its_fix_and_tried_again() {
    for (act, until, why) in [
        (
            Act::Refuse(403, "leases is forbidden"),
            1,
            "not allowed: leases is forbidden; grant it to our service account",
        ),
        (Act::Refuse(500, "etcd is away"), 1, "etcd is away (500)"),
        (Act::Silent, 6, "no answer of the API server within 5s"),
        (Act::Lost, 6, "no answer of the API server within 5s"),
    ] {
        // The first is to a question, the second to a Lease.
        for mut script in [vec![], vec![Act::Answer]] {
            script.extend([act.clone(), act.clone()]);
            let mut running = Running::start(&Fake::acting(script), "me");
            // A silent server is asked again at once: the attempt took longer than the interval.
            tokio::time::sleep_until(running.began + Duration::from_secs(until)).await;
            assert_eq!(running.health.readiness(), Err(format!("lease not known: {why}")));
            assert!(!running.leadership.is_held());
            assert!(running.changed().await.0);
            seconds(1).await;
            assert_eq!(running.health.readiness(), Ok(()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_overtaken_reads_again_at_once() {
    let others = json!({
        "metadata": {"name": "promsidecar-controller"},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15},
    });
    let fake = Fake::acting([Act::Answer, Act::Overtaken(others)]);
    let running = Running::start(&fake, "me");
    seconds(1).await;
    assert_eq!(fake.log(), [GET, POST, GET]);
    assert!(!running.leadership.is_held());
    assert_eq!(fake.spec()["holderIdentity"], "other");

    // A label on the Lease of a leader costs it nothing, and stays.
    let fake = Fake::default();
    let mut leader = Running::start(&fake, "me");
    assert!(leader.changed().await.0);
    let mut labelled = fake.with(|server| server.lease.clone()).unwrap();
    labelled["metadata"]["labels"] = json!({"app": "shop"});
    fake.with(|server| server.script.push_back(Act::Overtaken(labelled)));
    fake.log();
    seconds(3).await;
    assert_eq!(fake.log(), [PUT, GET, PUT]);
    let lease = fake.with(|server| server.lease.clone()).unwrap();
    assert_eq!(lease["metadata"]["labels"], json!({"app": "shop"}));
    assert_ne!(lease["spec"]["renewTime"], lease["spec"]["acquireTime"]);

    // One whose Lease was taken by force stops with the first look.
    fake.put(&json!({"holderIdentity": "other", "leaseDurationSeconds": 15}));
    assert_eq!(leader.changed().await, (false, 4));
}

#[tokio::test(start_paused = true)]
async fn strange_records_are_taken_over_and_what_they_say_beside_is_kept() {
    for spec in [
        json!(null),
        json!({}),
        json!({"holderIdentity": "", "leaseDurationSeconds": -7, "renewTime": "9999-12-31T23:59:59.999999Z"}),
        json!({"holderIdentity": "other"}),
        json!({"holderIdentity": "other", "leaseDurationSeconds": i32::MIN, "leaseTransitions": i32::MIN}),
        json!({"holderIdentity": "other", "acquireTime": "0000-01-01T00:00:00.000000Z", "strategy": "Newest"}),
    ] {
        let fake = Fake::default();
        fake.put(&spec);
        let mut running = Running::start(&fake, "me");
        assert!(running.changed().await.0, "{spec}");
        let taken = fake.spec();
        assert_eq!((&taken["holderIdentity"], &taken["strategy"]), (&json!("me"), &spec["strategy"]));
        running.ended().await;
        assert_eq!(fake.spec()["holderIdentity"], "");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_handed_over_once_the_writes_under_way_have_ended() {
    let fake = Fake::default();
    let mut running = Running::start(&fake, "me");
    assert!(running.changed().await.0);
    let writing = running.leadership.begin().unwrap();
    running.shutdown.drain();
    assert!(!running.changed().await.0);
    assert!(running.leadership.begin().is_none());
    seconds(3).await;
    assert_eq!(fake.spec()["holderIdentity"], "me");
    drop(writing);
    running.ended().await;
    let spec = fake.spec();
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(""), &json!(1)));

    // One that does not end is not overtaken: the lease runs out.
    let fake = Fake::default();
    let mut running = Running::start(&fake, "me");
    assert!(running.changed().await.0);
    let writing = running.leadership.begin();
    let began = running.began;
    running.ended().await;
    assert_eq!((began.elapsed().as_secs(), &fake.spec()["holderIdentity"]), (10, &json!("me")));
    drop(writing);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_may_bear_our_name_is_handed_over_too() {
    // Nobody knows yet whether it was made.
    let fake = Fake::acting([Act::Answer, Act::Lost]);
    let running = Running::start(&fake, "me");
    seconds(1).await;
    assert!(!running.leadership.is_held());
    assert_eq!(fake.spec()["holderIdentity"], "me");
    running.ended().await;
    assert_eq!(fake.spec()["holderIdentity"], "");

    // A renewal in flight, and one that comes between.
    let fake = Fake::acting([Act::Answer, Act::Answer, Act::Lost]);
    let running = Running::start(&fake, "me");
    seconds(3).await;
    assert_eq!(fake.log(), [GET, POST, PUT]);
    let mut again = fake.with(|server| server.lease.clone()).unwrap();
    again["spec"]["renewTime"] = json!("later");
    fake.with(|server| server.script.extend([Act::Answer, Act::Overtaken(again)]));
    running.ended().await;
    assert_eq!(fake.log(), [GET, PUT, GET, PUT]);
    assert_eq!(fake.spec()["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_holds_up_no_shutdown() {
    for (abort, longest) in [(false, 5), (true, 0)] {
        let fake = Fake::default();
        let mut running = Running::start(&fake, "me");
        assert!(running.changed().await.0);
        fake.with(|server| server.silent = true);
        let began = running.began;
        if abort {
            running.shutdown.abort();
        }
        running.ended().await;
        assert_eq!(began.elapsed().as_secs(), longest);
    }
}

#[tokio::test]
async fn a_candidate_without_a_name_is_refused() {
    let refused = Candidate::new(Fake::default().client(), "ours", String::new(), Terms::default());
    assert_eq!(refused.unwrap_err().to_string(), "a candidate for the lease must have a name");
}

#[test]
fn the_system_clock_goes_on() {
    let (first, started) = (Clock::SYSTEM.now(), std::time::Instant::now());
    std::thread::sleep(Duration::from_millis(20));
    // Read after the other one, so that it can only be ahead.
    let passed = started.elapsed();
    assert!(first.until(Clock::SYSTEM.now()) >= passed);
}
