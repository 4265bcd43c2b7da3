//! A receiver of traces: OTLP over HTTP on a free loopback port.
//!
//! Input: the header that it waits for. Output: whether a span of a name has arrived.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use tokio::net::TcpListener;

/// The running server; it ends with the test.
pub(crate) struct Traces {
    pub(crate) port: u16,
    /// Bodies as they came, with what they are compressed by.
    requests: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl Traces {
    /// A server that takes requests with this header alone.
    pub(crate) async fn start(name: &'static str, value: &'static str) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let take = post(async move |headers: HeaderMap, body: Bytes| {
            if headers.get(name).is_none_or(|given| given != value) {
                return StatusCode::FORBIDDEN;
            }
            let encoding = headers.get(header::CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok());
            let encoding = encoding.unwrap_or_default().to_owned();
            kept.lock().expect("nobody panics with it in hand").push((encoding, body));
            StatusCode::OK
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        tokio::spawn(async { axum::serve(listener, Router::new().route("/v1/traces", take)).await });
        Self { port, requests }
    }

    /// Whether a request that was compressed by gzip has all of these texts in it, such as names of spans and attributes.
    pub(crate) fn have(&self, texts: &[&str]) -> bool {
        let requests = self.requests.lock().expect("nobody panics with it in hand").clone();
        requests.iter().any(|(encoding, body)| {
            let whole = if encoding == "gzip" { unpacked(body) } else { Vec::new() };
            texts.iter().all(|text| whole.windows(text.len()).any(|window| window == text.as_bytes()))
        })
    }
}

/// Strings stand as they are in the messages, once they are unpacked.
fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut gunzip = Command::new("busybox")
        .args(["gunzip", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("busybox is installed");
    // A request of a few spans fits into a pipe.
    gunzip.stdin.take().expect("a pipe").write_all(body).expect("gunzip reads");
    gunzip.wait_with_output().expect("gunzip ends").stdout
}
