//! The receiver of a node: Prometheus in server mode, and an address that takes connections and never answers.
//!
//! Input: queries. Output: series with their newest values.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use promsidecar::template::Settings;
use serde_json::Value;

use super::leashed;
use super::settings::NODE_IP;
use crate::control_plane::https::{PATIENCE, soon};
use crate::control_plane::leash::Leash;

/// Labels of a series, its name among them.
pub(crate) type Labels = BTreeMap<String, String>;

const PORT: u16 = 9090;
/// Where [`Receiver`] never answers.
const SILENT_PORT: u16 = 9;

/// The running server.
#[derive(Debug)]
pub(crate) struct Receiver {
    _process: Leash,
    waiting: Arc<Mutex<Vec<TcpStream>>>,
}

impl Receiver {
    /// Starts the server in the network of the calling thread.
    pub(crate) fn start(directory: &Path) -> Self {
        let data = directory.join("receiver");
        fs::create_dir(&data).unwrap();
        let config = data.join("receiver.yml");
        fs::write(&config, "{}").unwrap();
        let version = Settings::default().agent_version;
        let program = format!(".cache/tools/prometheus-{version}/prometheus");
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.join("data").display()),
            format!("--web.listen-address={NODE_IP}:{PORT}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
        let process = leashed(&program, &arguments, &directory.join("receiver.log"));
        Self { _process: process, waiting: stay_silent() }
    }

    /// Whether somebody at this address waits for an answer that will not come.
    pub(crate) fn keeps_waiting(&self, address: &str) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .iter()
            .filter_map(|stream| stream.peer_addr().ok())
            .any(|peer| peer.ip().to_string() == address)
    }

    /// Where agents write to, for a template.
    pub(crate) fn remote() -> String {
        format!("url: 'http://{NODE_IP}:{PORT}/api/v1/write'")
    }

    /// Where it is asked, by others than the test.
    pub(crate) fn query_url() -> String {
        format!("http://{NODE_IP}:{PORT}")
    }

    /// The same where nobody answers: connections are established, and no one reads from them.
    pub(crate) fn silent() -> String {
        format!("url: 'http://{NODE_IP}:{SILENT_PORT}/api/v1/write'")
    }

    /// Series that a query gives, with their newest values.
    pub(crate) async fn query(&self, query: &str) -> Vec<(Labels, String)> {
        let address = SocketAddr::new(NODE_IP.parse().expect("an address"), PORT);
        let encoded = query.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02X}").expect("a string takes every write");
            text
        });
        let answer = get(address, &format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().expect("a vector");
        let read = |sample: &Value| {
            let labels = serde_json::from_value(sample["metric"].clone()).expect("labels");
            (labels, sample["value"][1].as_str().expect("a value").to_owned())
        };
        series.iter().map(read).collect()
    }

    /// Asks until the query gives something, and gives that.
    pub(crate) async fn arrived(&self, query: &str) -> Vec<(Labels, String)> {
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            let series = self.query(query).await;
            if !series.is_empty() {
                return series;
            }
            assert!(Instant::now() < end, "nothing arrived for {query}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Takes connections and keeps them.
fn stay_silent() -> Arc<Mutex<Vec<TcpStream>>> {
    let listener =
        TcpListener::bind((NODE_IP, SILENT_PORT)).expect("the port is free in a network of its own");
    let waiting = Arc::<Mutex<Vec<TcpStream>>>::default();
    let kept = Arc::clone(&waiting);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    });
    waiting
}

/// `GET` of a JSON document.
async fn get(address: SocketAddr, path: &str) -> Value {
    let stream = soon(tokio::net::TcpStream::connect(address)).await.expect("the receiver listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    // The connection is driven beside the request and ends with its sender.
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", address.to_string());
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let response = soon(sender.send_request(request)).await.expect("a response");
    let body = soon(response.into_body().collect()).await.expect("a body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}
