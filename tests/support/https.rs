//! A webhook on real sockets, and clients for it that share nothing with the server but rustls and hyper.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::{Answer, Outcome, OutcomeKind};
use promsidecar::metrics::Metrics;
use promsidecar::shutdown::Shutdown;
use promsidecar::store::Store;
use promsidecar::webhook::admin::Status;
use promsidecar::webhook::certificate::Authority;
use promsidecar::webhook::config::Limits;
use promsidecar::webhook::server::{Listeners, serve};
use promsidecar::webhook::tls::{Keeper, Slot, Source};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Far above anything a test waits for; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a future that must not hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this should have happened long ago")
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let asking = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// An answer with this body.
pub(crate) fn reviewed(body: impl Into<Vec<u8>>) -> Answer {
    let outcome = Outcome { kind: OutcomeKind::Injected, reason: None, refusal: None, missing: None };
    Answer::Reviewed { body: body.into(), outcome }
}

/// A store without anything in it.
struct Empty;

impl Store for Empty {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::default()
    }

    fn readiness(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A running webhook for `localhost`.
pub(crate) struct Server {
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ca: String,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// With a certificate of its own.
    pub(crate) fn start(core: impl Fn(&[u8]) -> Answer + Send + Sync + 'static, limits: Limits) -> Self {
        let metrics = Arc::new(Metrics::default());
        let authority = Authority::new(SystemTime::now()).unwrap();
        let ca = authority.pem().to_owned();
        let slot = Arc::new(Slot::default());
        let source = Source::Own {
            authority: Box::new(authority),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        Keeper::new(source, Arc::clone(&slot), Arc::clone(&metrics)).refresh(SystemTime::now());
        Self::with_certificate(core, limits, slot, ca, metrics)
    }

    /// With the certificate in `slot`, which clients trust by `ca`.
    pub(crate) fn with_certificate(
        core: impl Fn(&[u8]) -> Answer + Send + Sync + 'static,
        limits: Limits,
        slot: Arc<Slot>,
        ca: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = Listeners { webhook: bind(), admin: bind() };
        let (webhook, admin) =
            (listeners.webhook.local_addr().unwrap(), listeners.admin.local_addr().unwrap());
        let shutdown = Shutdown::default();
        let status = Status {
            store: Arc::new(Empty),
            certificate: slot,
            metrics: Arc::clone(&metrics),
            shutdown: shutdown.clone(),
        };
        // The drain ends when the test says so.
        let task = tokio::spawn(serve(listeners, Arc::new(core), status, limits, PATIENCE * 10));
        Self { webhook, admin, ca, shutdown, metrics, task }
    }

    /// A connection with its handshake done.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        tls(self.webhook, "localhost", &self.ca).await.unwrap()
    }

    /// A client on a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::new(self.connect().await).await
    }

    /// `GET` on the admin port: status and body.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await
    }

    /// Waits until a line of the metrics appears.
    pub(crate) async fn metric(&self, line: &str) {
        until(line, || async {
            let text = self.metrics.encode(&Catalog::default(), &[]).unwrap();
            text.lines().any(|found| found == line)
        })
        .await;
    }
}

/// `GET` over plain HTTP: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let text = read_all(&mut stream).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (status(head), body.to_owned())
}

/// Status of a raw response.
pub(crate) fn status(response: &str) -> u16 {
    response.split(' ').nth(1).expect("a status line").parse().unwrap()
}

/// Everything until the peer closes, however it does.
pub(crate) async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    String::from_utf8(bytes).unwrap()
}

/// A TLS connection that trusts `ca` alone and offers h2 first, as curl does.
pub(crate) async fn tls(address: SocketAddr, name: &str, ca: &str) -> std::io::Result<TlsStream<TcpStream>> {
    tls_offering(&["h2", "http/1.1"], address, name, ca).await
}

/// A TLS connection that trusts `ca` alone and offers these protocols, the favourite first.
pub(crate) async fn tls_offering(
    protocols: &[&str],
    address: SocketAddr,
    name: &str,
    ca: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// HTTP/1.1 with keep-alive on one connection.
pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn new(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a request; `headers` are `name: value`.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Response<Bytes> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        // After an answer the connection gets ready in a task of its own.
        soon(self.0.ready()).await.unwrap();
        let response = soon(self.0.send_request(request)).await.unwrap();
        let (head, body) = response.into_parts();
        Response::from_parts(head, soon(body.collect()).await.unwrap().to_bytes())
    }

    /// Posts a review.
    pub(crate) async fn post(&mut self, body: &[u8]) -> Response<Bytes> {
        self.send("POST", "/mutate?timeout=3s", &["content-type: application/json"], body).await
    }
}

/// No deadline that a test could meet by accident.
pub(crate) fn patient() -> Limits {
    let deadline = PATIENCE;
    Limits { handshake: deadline, header: deadline, body: deadline, write: deadline, ..Limits::default() }
}

/// The head of a request for a review of `length` bytes.
pub(crate) fn head(length: usize) -> Vec<u8> {
    format!(
        "POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}
