//! The program under load: a drain under fire, floods of connections and handshakes, and what is left afterwards.
//!
//! Everything is on loopback, and bounded in count and time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "support/open_files.rs"]
mod open_files;
#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
#[path = "support/reviews.rs"]
mod reviews;
#[path = "support/https.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use open_files::{may_open, with_open_files};
use program::{Program, webhook};
use promsidecar::admission::catalog::Catalog;
use promsidecar::webhook::config::Limits;
use rustls::pki_types::ServerName;
use serde_json::json;
use support::{Client, Server, get, patient, reviewed, tls, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections at once where a test opens many one after the other.
const AT_ONCE: usize = 50;

/// The program with a directory of its own and its CA.
struct Served {
    program: Program,
    ca: String,
    _directory: tempfile::TempDir,
}

impl Served {
    fn start(flags: &[&str], open_files: Option<usize>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca: PathBuf = directory.path().join("ca.crt");
        let ca_out = format!("--ca-out={}", ca.display());
        let flags: Vec<&str> = flags.iter().copied().chain([ca_out.as_str()]).collect();
        let mut command = webhook(directory.path(), &flags);
        if let Some(files) = open_files {
            command = with_open_files(&command, files);
        }
        let program = Program::start(&mut command);
        Self { program, ca: std::fs::read_to_string(ca).unwrap(), _directory: directory }
    }

    async fn client(&self) -> Client {
        Client::new(tls(self.program.webhook, "localhost", &self.ca).await.unwrap()).await
    }
}

/// A review that the real core answers.
fn review() -> Vec<u8> {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "app"}]}});
    serde_json::to_vec(&reviews::creation(&pod, "team-a")).unwrap()
}

/// The first bytes of a TLS client.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// Opens a connection, begins a handshake, and goes away in the middle of it.
async fn abort_handshake(address: SocketAddr, hello: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(hello).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_fire_loses_no_request_and_exits_0() {
    const CLIENTS: usize = 50;
    let served = Served::start(&["--drain-time=3s"], None);
    let (sent, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let admin = served.program.admin;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = served.client().await;
        let (sent, answered) = (Arc::clone(&sent), Arc::clone(&answered));
        clients.spawn(async move {
            // As the API server does it: the connection is kept until a response says otherwise.
            loop {
                sent.fetch_add(1, Ordering::Relaxed);
                let response = client.post(&review()).await;
                assert_eq!(response.status(), 200);
                answered.fetch_add(1, Ordering::Relaxed);
                if let Some(connection) = response.headers().get("connection") {
                    assert_eq!(connection, "close");
                    // Red before any client is sent away: whoever looks now finds another replica.
                    return get(admin, "/readyz").await;
                }
            }
        });
    }
    until("everyone sends", || async { answered.load(Ordering::Relaxed) > 10 * CLIENTS }).await;
    served.program.signal("TERM");
    let red = (503, "not ready: draining\n".to_owned());
    let mut told = 0;
    while let Some(ended) = clients.join_next().await {
        assert_eq!(ended.unwrap(), red);
        told += 1;
    }
    assert_eq!(told, CLIENTS);
    assert_eq!(sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
    let Served { program, .. } = served;
    assert_eq!(program.ended().0, Some(0));
}

#[tokio::test]
async fn no_task_is_left_of_500_connections_and_500_aborted_handshakes() {
    let server = Server::start(|body: &[u8]| reviewed(body), patient());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(server.client().await.post(b"{}").await.status(), 200);
    until("the first connection's tasks have ended", || async { tasks() == 1 }).await;
    let hello = client_hello();
    for _ in 0..500 / AT_ONCE {
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE {
            clients.push(server.client().await);
            abort_handshake(server.webhook, &hello).await;
        }
        for client in &mut clients {
            assert_eq!(client.post(b"{}").await.status(), 200);
        }
    }
    until("only the server's own task is left", || async { tasks() == 1 }).await;
}

#[tokio::test]
async fn no_file_descriptor_is_left_of_500_connections_and_500_aborted_handshakes() {
    let served = Served::start(&[], None);
    let hello = client_hello();
    let before = served.program.open_files();
    for _ in 0..500 / AT_ONCE {
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE {
            let mut client = served.client().await;
            assert_eq!(client.post(&review()).await.status(), 200);
            clients.push(client);
            abort_handshake(served.program.webhook, &hello).await;
        }
        for client in &mut clients {
            assert_eq!(client.post(&review()).await.status(), 200);
        }
    }
    until("every descriptor is closed", || async { served.program.open_files() <= before }).await;
}

#[tokio::test]
async fn ten_thousand_idle_connections_and_a_flood_of_handshakes_cost_bounded_memory_and_no_answer() {
    const IDLE: usize = 10_000;
    const HANDSHAKES: usize = 1000;
    const FILES: usize = IDLE + HANDSHAKES + 500;
    /// For a socket and its task before the handshake; a multiple of what is measured.
    const PER_CONNECTION: usize = 24 * 1024;
    if !may_open(
        FILES,
        "ten_thousand_idle_connections_and_a_flood_of_handshakes_cost_bounded_memory_and_no_answer",
    ) {
        return;
    }
    let served = Served::start(&["--max-connections=65536"], Some(FILES));
    let address = served.program.webhook;
    let mut caller = served.client().await;
    assert_eq!(caller.post(&review()).await.status(), 200);
    let (files, memory) = (served.program.open_files(), served.program.peak_memory());

    let mut idle = Vec::new();
    for index in 0..IDLE {
        idle.push(TcpStream::connect(address).await.unwrap());
        if index % 100 == 0 {
            assert_eq!(caller.post(&review()).await.status(), 200);
        }
    }
    let hello = client_hello();
    for index in 0..HANDSHAKES {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        idle.push(stream);
        if index % 10 == 0 {
            assert_eq!(caller.post(&review()).await.status(), 200);
        }
    }
    until("a new caller gets through", || async { tls(address, "localhost", &served.ca).await.is_ok() })
        .await;
    let used = served.program.peak_memory() - memory;
    assert!(used < (IDLE + HANDSHAKES) * PER_CONNECTION, "{used} bytes for {IDLE} and {HANDSHAKES}");
    // The handshake's deadline cuts them all: nobody closes them here.
    until("the deadlines have closed every connection but one", || async {
        served.program.open_files() <= files
    })
    .await;
    assert_eq!(caller.post(&review()).await.status(), 200);
}

#[tokio::test]
async fn who_holds_every_connection_keeps_callers_out_until_the_deadline_and_kept_ones_are_still_answered() {
    const BOUND: usize = 20;
    let limits = Limits { max_connections: BOUND, handshake: Duration::from_secs(2), ..patient() };
    let server = Server::start(|body: &[u8]| reviewed(body), limits);
    let mut kept = server.client().await;
    let mut held = Vec::new();
    until("one is above the bound", || {
        held.push(std::net::TcpStream::connect(server.webhook).unwrap());
        let text = server.metrics.encode(&Catalog::default(), &[]).unwrap();
        let rejected = !text.contains("promsidecar_admission_rejected_total{limit=\"connections\"} 0\n");
        async move { rejected }
    })
    .await;
    // Closed at once: the failure policy decides without waiting. Kept connections serve on.
    assert_eq!(kept.post(b"{}").await.status(), 200);
    // They are still open here: the deadline gives the permits back.
    until("permits are back", || async { tls(server.webhook, "localhost", &server.ca).await.is_ok() }).await;
    assert_eq!(kept.post(b"{}").await.status(), 200);
}

#[tokio::test]
async fn a_low_limit_on_open_files_lowers_the_bound_on_connections_and_is_told() {
    let mut served = Served::start(&[], Some(200));
    let warning = served.program.logged(
        "the limit on open files is too low for --max-connections: raise it (ulimit -n) or lower the flag",
    );
    assert_eq!((&warning["open_files"], &warning["bound"]), (&json!(200), &json!(72)), "{warning}");
    let mut caller = served.client().await;
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(served.program.webhook).await.unwrap());
    }
    // Were the descriptors used up instead, they would wait in the listener's queue.
    until("those above the bound are closed", || async {
        let text = get(served.program.admin, "/metrics").await.1;
        !text.contains("promsidecar_admission_rejected_total{limit=\"connections\"} 0\n")
    })
    .await;
    assert_eq!(caller.post(&review()).await.status(), 200);
    assert_eq!(get(served.program.admin, "/readyz").await.0, 200);
}
