//! Certificates and templates that change under load: files of a mounted volume, swapped as the kubelet does it, while
//! requests run.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "support/open_files.rs"]
mod open_files;
#[path = "support/https.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod support;
#[path = "support/volume.rs"]
mod volume;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use base64::Engine;
use open_files::may_open;
use promsidecar::metrics::Metrics;
use promsidecar::store::Store;
use promsidecar::store::files::FileStore;
use promsidecar::template::Settings;
use promsidecar::webhook::certificate::{Authority, LEAF_LIFETIME, Leaf};
use promsidecar::webhook::config::Limits;
use promsidecar::webhook::tls::{Keeper, Slot, Source};
use serde_json::Value;
use support::{Client, Server, patient, read_all, reviewed, status, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use volume::Volume;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Requests that wait for the rest of their body while the certificate changes.
const HELD: usize = 1000;
/// Connections that send requests all the time, and as many tasks that open one for each request.
const BUSY: usize = 4;
const DAY: Duration = Duration::from_hours(24);

/// A certificate and its key as the files of a Secret.
struct Pair {
    certificate: String,
    key: String,
    serial: Vec<u8>,
}

impl Pair {
    fn new(authority: &Authority, now: SystemTime) -> Self {
        let Leaf { chain, key } = authority.leaf(&["localhost".to_owned()], now).unwrap();
        let certificate = pem("CERTIFICATE", &chain[0]);
        Self { certificate, key: pem("PRIVATE KEY", key.secret_der()), serial: serial(&chain[0]) }
    }

    fn publish(&self, volume: &mut Volume) {
        volume.publish(&[("tls.crt", self.certificate.as_bytes()), ("tls.key", self.key.as_bytes())]);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn serial(certificate: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(certificate).unwrap().1.raw_serial().to_vec()
}

/// Serial number of the certificate that a connection was greeted with.
fn greeted(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    serial(&stream.get_ref().1.peer_certificates().unwrap()[0])
}

/// A server whose certificate comes from a volume that is looked at all the time.
struct Mounted {
    server: Server,
    volume: Volume,
    _directory: tempfile::TempDir,
}

impl Mounted {
    fn start(authority: &Authority, pair: &Pair, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut volume = Volume::new(directory.path());
        pair.publish(&mut volume);
        let (slot, metrics) = (Arc::new(Slot::default()), Arc::new(Metrics::default()));
        let file = |name: &str| directory.path().join(name);
        let source = Source::Files { certificate: file("tls.crt"), key: file("tls.key") };
        let mut keeper = Keeper::new(source, Arc::clone(&slot), Arc::clone(&metrics));
        keeper.refresh(SystemTime::now());
        assert!(slot.is_loaded());
        tokio::spawn(keeper.keep(Duration::from_millis(2)));
        let echo = |body: &[u8]| reviewed(body);
        let server = Server::with_certificate(echo, limits, slot, authority.pem().to_owned(), metrics);
        Self { server, volume, _directory: directory }
    }

    /// Waits until new connections are greeted with this certificate.
    async fn greets_with(&self, pair: &Pair) {
        until("the certificate is served", || async { greeted(&self.server.connect().await) == pair.serial })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_in_flight_and_all_others_survive_swaps_of_the_certificate() {
    // Both ends of each connection.
    let test = "a_thousand_requests_in_flight_and_all_others_survive_swaps_of_the_certificate";
    if !may_open(2 * HELD + 500, test) {
        return;
    }
    let authority = Authority::new(SystemTime::now()).unwrap();
    let pairs = [0, 1].map(|_| Pair::new(&authority, SystemTime::now()));
    let limits = Limits { max_in_flight: 2 * HELD, max_connections: 2 * HELD, ..patient() };
    let mut mounted = Mounted::start(&authority, &pairs[0], limits);

    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut stream = mounted.server.connect().await;
        assert_eq!(greeted(&stream), pairs[0].serial);
        let unfinished = "POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{";
        stream.write_all(unfinished.as_bytes()).await.unwrap();
        held.push(stream);
    }
    mounted.server.metric(&format!("promsidecar_admission_in_flight {HELD}")).await;

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let serials = Arc::new(Mutex::new(BTreeSet::new()));
    let mut busy = tokio::task::JoinSet::new();
    for index in 0..2 * BUSY {
        let (over, answered, serials) = (Arc::clone(&over), Arc::clone(&answered), Arc::clone(&serials));
        let (address, ca) = (mounted.server.webhook, mounted.server.ca.clone());
        let connect = async move || support::tls(address, "localhost", &ca).await.unwrap();
        let mut client = Client::new(connect().await).await;
        busy.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if index < BUSY {
                    let stream = connect().await;
                    serials.lock().unwrap().insert(greeted(&stream));
                    client = Client::new(stream).await;
                }
                // Whatever fails here fails the test.
                assert_eq!(client.post(b"{}").await.status(), 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for pair in [&pairs[1], &pairs[0], &pairs[1]] {
        let before = answered.load(Ordering::Relaxed);
        pair.publish(&mut mounted.volume);
        mounted.greets_with(pair).await;
        until("requests go on", || async { answered.load(Ordering::Relaxed) > before + 4 * BUSY }).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = busy.join_next().await {
        ended.unwrap();
    }
    let seen = serials.lock().unwrap().clone();
    assert_eq!(seen, pairs.iter().map(|pair| pair.serial.clone()).collect());

    for mut stream in held {
        stream.write_all(b"}").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert_eq!((status(&answer), answer.ends_with("\r\n\r\n{}")), (200, true), "{answer}");
    }
}

#[test]
fn templates_stay_known_while_their_volume_is_swapped() {
    const SWAPS: usize = 300;
    let directory = tempfile::tempdir().unwrap();
    let mut volume = Volume::new(directory.path());
    let names: Vec<String> = (0..20).map(|index| format!("n{index}")).collect();
    let manifests: Vec<(String, String)> = names
        .iter()
        .map(|name| {
            (format!("{name}.yaml"), format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))
        })
        .collect();
    let files: Vec<(&str, &[u8])> =
        manifests.iter().map(|(file, text)| (file.as_str(), text.as_bytes())).collect();
    volume.publish(&files);
    let store = FileStore::new(directory.path().to_path_buf(), Settings::default());
    store.poll();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..SWAPS {
                volume.publish(&files);
            }
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            store.poll();
            let catalog = store.catalog();
            let unknown: Vec<_> = names.iter().filter(|name| catalog.namespace(name).is_none()).collect();
            assert_eq!((unknown, store.problems()), (vec![], vec![]));
        }
    });
}

/// Lines that the process logged.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| ToLog);
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        Mutex::default()
    })
}

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log().lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Errors of refused certificates that were logged.
fn refusals() -> Vec<String> {
    let log = log().lock().unwrap();
    let lines =
        std::str::from_utf8(&log).unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["message"] == "certificate refused")
        .map(|line| {
            assert_eq!(line["previous_kept"], true);
            line["error"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn each_bad_pair_is_refused_with_one_line_while_the_old_one_is_served_until_a_good_one_comes() {
    log();
    let now = SystemTime::now();
    let authority = Authority::new(now - LEAF_LIFETIME - 2 * DAY).unwrap();
    let pair = |now| Pair::new(&authority, now);
    let (first, second, last) = (pair(now), pair(now), pair(now));
    let (expired, early) = (pair(now - LEAF_LIFETIME - DAY), pair(now + DAY));
    let mut mounted = Mounted::start(&authority, &first, patient());
    let half = |text: &str| text[..text.len() / 2].to_owned();

    let cases = [
        (&second.certificate, Some(&first.key), "certificate and key are not a usable pair: "),
        (&expired.certificate, Some(&expired.key), "the certificate expired at "),
        (&early.certificate, Some(&early.key), "the certificate is not valid before "),
        (&half(&second.certificate), Some(&second.key), "tls.crt: no certificate in PEM format: "),
        (&second.certificate, Some(&half(&second.key)), "tls.key: no private key in PEM format: "),
        (
            &format!("{}{}", second.certificate, pem("CERTIFICATE", b"no chain")),
            Some(&second.key),
            "the certificate cannot be decoded: ",
        ),
        (&second.certificate, None, "tls.key: No such file or directory"),
        (&String::new(), Some(&String::new()), "tls.crt: no certificate in PEM format: no items found"),
    ];
    for (index, (certificate, key, expected)) in cases.iter().enumerate() {
        let key = key.map(|key| ("tls.key", key.as_bytes()));
        let files: Vec<_> = [("tls.crt", certificate.as_bytes())].into_iter().chain(key).collect();
        mounted.volume.publish(&files);
        until(expected, || async { refusals().len() > index }).await;
        assert!(refusals()[index].contains(expected), "{expected}: {:?}", refusals());
        assert_eq!(greeted(&mounted.server.connect().await), first.serial, "{expected}");
        assert_eq!(mounted.server.admin("/readyz").await.0, 200);
    }
    last.publish(&mut mounted.volume);
    mounted.greets_with(&last).await;
    assert_eq!(refusals().len(), cases.len(), "each is logged once: {:?}", refusals());
}
