//! Candidates for one Lease on a real API server: at any time one of them leads at most, whatever happens to it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use control_plane::https::{soon, until};
use control_plane::wire::Wire;
use promsidecar::cluster::client::connect;
use promsidecar::cluster::watch::Health;
use promsidecar::controller::lease::{Candidate, Leadership, Terms};
use promsidecar::names;
use promsidecar::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A lease that runs out within a test, and not because the machine is busy.
fn short() -> Terms {
    Terms::new(6, Duration::from_secs(4), Duration::from_millis(200)).unwrap()
}

/// One that no test waits for: it is handed over, or never.
fn long() -> Terms {
    Terms::new(3600, Duration::from_mins(30), Duration::from_millis(200)).unwrap()
}

/// The Leases of a namespace.
fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// The one that is competed for.
fn path(namespace: &str) -> String {
    format!("{}/{}", leases(namespace), names::LEASE)
}

fn lease(spec: &Value) -> Value {
    let metadata = json!({"name": names::LEASE, "labels": {"app": "kept"}});
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
}

async fn spec(plane: &ControlPlane, namespace: &str) -> Value {
    plane.api.get(&path(namespace)).await["spec"].clone()
}

async fn namespace(plane: &ControlPlane, name: &str) {
    plane.api.create_namespace(&json!({"metadata": {"name": name}})).await;
}

/// The administrator's client, by way of this address.
async fn client(plane: &ControlPlane, directory: &Path, api: SocketAddr) -> kube::Client {
    let text = std::fs::read_to_string(plane.kubeconfig("admin")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://{api}"));
    let path = directory.join(format!("kubeconfig-{}", api.port()));
    std::fs::write(&path, config.to_string()).unwrap();
    connect(Some(&path)).await.unwrap()
}

struct Running {
    leadership: Leadership,
    health: Health,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(client: kube::Client, namespace: &str, identity: &str, terms: Terms) -> Self {
        let candidate = Candidate::new(client, namespace, identity.to_owned(), terms).unwrap();
        let (leadership, health) = (candidate.leadership(), candidate.health());
        let shutdown = Shutdown::default();
        let task = tokio::spawn(candidate.follow(shutdown.clone()));
        Self { leadership, health, shutdown, task }
    }

    fn leads(&self) -> bool {
        self.leadership.is_held()
    }

    async fn end(self) {
        self.shutdown.drain();
        soon(self.task).await.unwrap().unwrap();
    }
}

async fn until_it_leads(running: &Running) {
    until("it leads", || async { running.leads() }).await;
}

/// A span of time in which a candidate certainly held the lease.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    candidate: usize,
    from: Instant,
    to: Instant,
}

/// Looks of one candidate further apart than this prove nothing about the time between; less than it takes to lose and regain
/// the lease.
const GAP: Duration = Duration::from_millis(100);

/// Who held the lease when, seen by a thread that does nothing but look.
struct History {
    watched: Sender<Leadership>,
    spans: Arc<Mutex<Vec<Span>>>,
    thread: thread::JoinHandle<()>,
}

impl History {
    fn start() -> Self {
        let (watched, arrivals) = channel();
        let spans = Arc::default();
        let seen = Arc::clone(&spans);
        Self { watched, spans, thread: thread::spawn(move || look(&arrivals, &seen)) }
    }

    /// The first one is 0.
    fn watch(&self, running: &Running) {
        self.watched.send(running.leadership.clone()).unwrap();
    }

    /// Waits until this one leads, and is seen to.
    async fn until_leads(&self, candidate: usize) {
        until(&format!("candidate {candidate} leads"), || async {
            self.spans.lock().unwrap().last().is_some_and(|span| span.candidate == candidate)
        })
        .await;
    }

    /// Nobody held it while another did, and these held it, one after another.
    fn end(self, leaders: &[usize]) {
        drop(self.watched);
        self.thread.join().unwrap();
        let mut spans = self.spans.lock().unwrap();
        let both = overlaps(&spans);
        assert!(both.is_empty(), "two held it at once: {both:?}");
        spans.sort_by_key(|span| span.from);
        let mut seen: Vec<_> = spans.iter().map(|span| span.candidate).collect();
        seen.dedup();
        assert_eq!(seen, leaders);
    }
}

fn overlaps(spans: &[Span]) -> Vec<(Span, Span)> {
    let pairs = spans.iter().flat_map(|one| spans.iter().map(move |other| (*one, *other)));
    let both = pairs.filter(|(one, other)| {
        one.candidate < other.candidate && one.from <= other.to && other.from <= one.to
    });
    both.collect()
}

/// Looks until nobody can be added any more.
fn look(arrivals: &Receiver<Leadership>, seen: &Mutex<Vec<Span>>) {
    // Each with the span that the next look may prolong.
    let mut watched: Vec<(Leadership, Option<usize>)> = Vec::new();
    loop {
        match arrivals.try_recv() {
            Ok(leadership) => watched.push((leadership, None)),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return,
        }
        for (candidate, (leadership, open)) in watched.iter_mut().enumerate() {
            let before = Instant::now();
            let held = leadership.is_held();
            let after = Instant::now();
            let mut spans = seen.lock().unwrap();
            // It was true at one moment between the two: held from the later one of the first look on, to the earlier one of
            // the last.
            match open.filter(|span| held && after < spans[*span].to + GAP) {
                Some(span) => spans[span].to = spans[span].from.max(before),
                None if held => {
                    *open = Some(spans.len());
                    spans.push(Span { candidate, from: after, to: after });
                }
                None => *open = None,
            }
        }
        thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn a_history_shows_who_held_the_lease_at_once() {
    let now = Instant::now();
    let span = |candidate, from, to| Span {
        candidate,
        from: now + Duration::from_millis(from),
        to: now + Duration::from_millis(to),
    };
    let (one, two, three) = (span(0, 0, 10), span(1, 20, 40), span(0, 30, 50));
    assert_eq!(overlaps(&[one, two]), []);
    assert_eq!(overlaps(&[one, two, three]), [(three, two)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_hands_over_at_once_and_one_leads_at_any_time() {
    let plane = ControlPlane::shared().await;
    namespace(plane, "hand-over").await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let history = History::start();
    let start = |number: usize| {
        let running = Running::start(client.clone(), "hand-over", &format!("candidate-{number}"), long());
        history.watch(&running);
        running
    };
    let mut leader = start(0);
    history.until_leads(0).await;
    let first = spec(plane, "hand-over").await;
    assert_eq!((&first["leaseDurationSeconds"], &first["leaseTransitions"]), (&json!(3600), &json!(0)));
    for number in 1..6 {
        let follower = start(number);
        until("the leader lives", || async {
            spec(plane, "hand-over").await["renewTime"] != first["renewTime"]
        })
        .await;
        assert!(leader.leads() && !follower.leads());
        // Without this it would be an hour.
        leader.end().await;
        history.until_leads(number).await;
        let now = spec(plane, "hand-over").await;
        assert_eq!(now["holderIdentity"], format!("candidate-{number}"));
        assert_eq!(now["leaseTransitions"], number);
        leader = follower;
    }
    leader.end().await;
    let released = spec(plane, "hand-over").await;
    assert_eq!((&released["holderIdentity"], &released["leaseDurationSeconds"]), (&json!(""), &json!(1)));
    history.end(&[0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_candidates_at_once_make_one_leader() {
    let plane = ControlPlane::shared().await;
    namespace(plane, "crowd").await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let history = History::start();
    let mut crowd: Vec<Running> = (0..12)
        .map(|number| Running::start(client.clone(), "crowd", &format!("candidate-{number}"), long()))
        .collect();
    for running in &crowd {
        history.watch(running);
    }
    let mut order = Vec::new();
    let mut names: Vec<usize> = (0..12).collect();
    while !crowd.is_empty() {
        until("one leads", || async { crowd.iter().any(Running::leads) }).await;
        let leader = crowd.iter().position(Running::leads).unwrap();
        let number = names.remove(leader);
        history.until_leads(number).await;
        order.push(number);
        crowd.remove(leader).end().await;
    }
    history.end(&order);
    assert_eq!(spec(plane, "crowd").await["leaseTransitions"], 11);
}

/// Micros of a time that the Lease bears; both are of this machine.
fn micros(time: &Value) -> i64 {
    let time: k8s_openapi::jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_microsecond()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_crashes_is_followed_after_its_lease_is_over() {
    let plane = ControlPlane::shared().await;
    namespace(plane, "crash").await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let history = History::start();
    let mut dead = Running::start(client.clone(), "crash", "dead", short());
    history.watch(&dead);
    history.until_leads(0).await;
    let follower = Running::start(client, "crash", "follower", short());
    history.watch(&follower);
    until("the follower knows", || async { follower.health.readiness().is_ok() }).await;
    dead.task.abort();
    assert!((&mut dead.task).await.unwrap_err().is_cancelled());
    let last = spec(plane, "crash").await;
    assert_eq!(last["holderIdentity"], "dead");
    // Nobody tells its handle.
    assert!(soon(dead.leadership.changed()).await);
    assert!(!soon(dead.leadership.changed()).await);
    assert!(!dead.leads());
    history.until_leads(1).await;
    let now = spec(plane, "crash").await;
    let waited = micros(&now["acquireTime"]) - micros(&last["renewTime"]);
    assert!(waited >= 6_000_000, "{waited} µs after the last sign of life");
    assert_eq!(now["leaseTransitions"], 1);
    follower.end().await;
    history.end(&[0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_the_api_server_stops_before_another_begins() {
    let plane = ControlPlane::shared().await;
    namespace(plane, "cut-off").await;
    let directory = plane.directory("cut-off");
    let wire = Wire::to(plane.api.address).await;
    let far = client(plane, &directory, wire.address).await;
    let near = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let history = History::start();
    let cut_off = Running::start(far, "cut-off", "cut-off", short());
    history.watch(&cut_off);
    history.until_leads(0).await;
    let follower = Running::start(near, "cut-off", "follower", short());
    history.watch(&follower);
    wire.cut();
    history.until_leads(1).await;
    assert!(!cut_off.leads());
    assert!(cut_off.health.stale_for(Instant::now()) > Duration::ZERO);
    wire.mend();
    until("it follows", || async { cut_off.health.stale_for(Instant::now()).is_zero() }).await;
    assert!(follower.leads() && !cut_off.leads());
    // And it is a candidate like any other.
    follower.end().await;
    history.until_leads(0).await;
    cut_off.end().await;
    history.end(&[0, 1, 0]);
}

/// A process that stands still: no task of it runs, its timers do not fire.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_beyond_its_lease_writes_nothing_after() {
    let plane = ControlPlane::shared().await;
    namespace(plane, "paused").await;
    let kubeconfig = plane.kubeconfig("admin");
    let history = History::start();
    let (leading, leads) = channel();
    let (wake, pause) = channel::<()>();
    let writes = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&writes);
    let paused = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = connect(Some(&kubeconfig)).await.unwrap();
            let running = Running::start(client, "paused", "paused", short());
            until_it_leads(&running).await;
            let write = |when| written.lock().unwrap().push((when, running.leadership.begin().is_some()));
            write("before");
            leading.send(running.leadership.clone()).unwrap();
            // The only thread of this runtime.
            pause.recv().unwrap();
            write("at once after");
            running.end().await;
        });
    });
    let leadership = soon(tokio::task::spawn_blocking(move || leads.recv().unwrap())).await.unwrap();
    history.watched.send(leadership).unwrap();
    history.until_leads(0).await;
    let near = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let follower = Running::start(near, "paused", "follower", short());
    history.watch(&follower);
    history.until_leads(1).await;
    wake.send(()).unwrap();
    soon(tokio::task::spawn_blocking(move || paused.join().unwrap())).await.unwrap();
    assert_eq!(*writes.lock().unwrap(), [("before", true), ("at once after", false)]);
    assert_eq!(spec(plane, "paused").await["holderIdentity"], "follower", "what it wrote is not its own");
    follower.end().await;
    history.end(&[0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_others_wrote_are_taken_over_and_stay_theirs_in_all_else() {
    let plane = ControlPlane::shared().await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    for (number, odd) in [
        json!({}),
        json!({"holderIdentity": "gone"}),
        json!({"holderIdentity": "gone", "renewTime": "9999-12-31T23:59:59.999999Z", "leaseDurationSeconds": 1}),
        json!({"acquireTime": "0001-01-01T00:00:01.000000Z", "leaseTransitions": i32::MAX}),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("odd-{number}");
        namespace(plane, &name).await;
        plane.api.create(&leases(&name), &lease(&odd)).await;
        let running = Running::start(client.clone(), &name, "heir", short());
        until_it_leads(&running).await;
        let stored = plane.api.get(&path(&name)).await;
        assert_eq!(stored["spec"]["holderIdentity"], "heir", "{odd}");
        assert_eq!(stored["metadata"]["labels"], json!({"app": "kept"}));
        running.end().await;
        assert_eq!(spec(plane, &name).await["holderIdentity"], "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_edits_or_deletes_is_there_again() {
    let plane = ControlPlane::shared().await;
    namespace(plane, "meddled").await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let mut running = Running::start(client, "meddled", "leader", short());
    assert!(soon(running.leadership.changed()).await);
    let path = path("meddled");
    let label = json!({"metadata": {"labels": {"app": "meddled"}}});
    assert_eq!(plane.api.send("PATCH", &path, &label).await.status, 200);
    let before = plane.api.get(&path).await;
    until("it is renewed", || async {
        plane.api.get(&path).await["spec"]["renewTime"] != before["spec"]["renewTime"]
    })
    .await;
    let after = plane.api.get(&path).await;
    assert_eq!(after["metadata"]["labels"], json!({"app": "meddled"}));
    assert_eq!(after["spec"]["acquireTime"], before["spec"]["acquireTime"]);

    assert_eq!(plane.api.send("DELETE", &path, &Value::Null).await.status, 200);
    until("there is another", || async {
        let reply = plane.api.send("GET", &path, &Value::Null).await;
        reply.status == 200 && reply.body["metadata"]["uid"] != after["metadata"]["uid"]
    })
    .await;
    until_it_leads(&running).await;

    let stolen = json!({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600}});
    assert_eq!(plane.api.send("PATCH", &path, &stolen).await.status, 200);
    until("it stops", || async { !running.leads() }).await;
    running.end().await;
    assert_eq!(spec(plane, "meddled").await["holderIdentity"], "thief");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_there_is_named_and_waited_for() {
    let plane = ControlPlane::shared().await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let running = Running::start(client, "later", "early", short());
    let why = "lease not known: namespaces \"later\" not found (404)";
    until("it says what is missing", || async { running.health.readiness() == Err(why.to_owned()) }).await;
    namespace(plane, "later").await;
    until_it_leads(&running).await;
    running.end().await;
}
