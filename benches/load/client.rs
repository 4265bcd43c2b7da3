//! A client that costs less than the servers it measures, and believes none of their answers. IO.
//!
//! Input: a server, reviews and a pace. Output: how long each review took. Every answer is compared byte by byte with what
//! this review has to be answered with, its uid included; the first that differs ends the run as an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest that one run takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(5);

/// Bytes of JSON in which the digits of a uid's last group stand for the number of the review.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    bytes: Vec<u8>,
    digits_at: Option<usize>,
}

/// Digits of a uid's last group.
const DIGITS: usize = 12;

impl Numbered {
    /// `uid` is looked for in `bytes`; where it is not there, all numbers give the same bytes.
    pub(crate) fn new(bytes: Vec<u8>, uid: Option<&str>) -> Self {
        let found = uid.and_then(|uid| {
            let at = bytes.windows(uid.len()).position(|window| window == uid.as_bytes())?;
            Some(at + uid.len() - DIGITS)
        });
        Self { bytes, digits_at: found }
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the bytes of that number.
    fn write(&self, number: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.digits_at
            && let Some(digits) = out.get_mut(start + at..start + at + DIGITS)
        {
            digits.copy_from_slice(format!("{number:012}").as_bytes());
        }
    }
}

/// A review with the one right answer to it.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) review: Numbered,
    pub(crate) answer: Numbered,
}

/// How reviews follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection sends its next review when it has the answer to the last one.
    Closed,
    /// So many a second, whether answers come or not: what waits for a connection is late already.
    PerSecond(u32),
}

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Taken in turn.
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) reviews: usize,
    pub(crate) pace: Pace,
    /// Whether the client has a core to itself and may wait by looking at the clock: timers are a millisecond coarse.
    pub(crate) spin: bool,
}

/// A set of connections to one server.
pub(crate) struct Client {
    connections: Vec<Connection>,
}

/// What a run measured.
pub(crate) struct Measured {
    /// From the first review to the last answer.
    pub(crate) elapsed: Duration,
    /// Of each review, sorted; from the moment at which its pace wanted it sent.
    pub(crate) latencies: Vec<Duration>,
}

impl Client {
    /// Connects with the handshakes done.
    pub(crate) async fn connect(address: SocketAddr, ca: &str, connections: usize) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let mut open = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
            open.push(Connection { stream, inbox: Vec::new(), outbox: Vec::new() });
        }
        Ok(Self { connections: open })
    }

    /// Runs a load over all connections.
    pub(crate) async fn run(&mut self, load: Load) -> anyhow::Result<Measured> {
        let (load, next) = (Arc::new(load), Arc::new(AtomicUsize::new(0)));
        // A client that sleeps is woken at the server's expense, and only by a server that lets it: never sleep.
        let awake = load.spin.then(|| tokio::spawn(stay_awake()));
        let start = Instant::now();
        let mut workers = JoinSet::new();
        for connection in self.connections.drain(..) {
            workers.spawn(connection.work(Arc::clone(&load), Arc::clone(&next), start));
        }
        let mut latencies = Vec::with_capacity(load.reviews);
        let all = async {
            while let Some(worked) = workers.join_next().await {
                let (connection, measured) = worked??;
                self.connections.push(connection);
                latencies.extend(measured);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("a run hangs")??;
        let elapsed = start.elapsed();
        if let Some(awake) = awake {
            awake.abort();
        }
        ensure!(latencies.len() == load.reviews, "{} of {} answers", latencies.len(), load.reviews);
        latencies.sort_unstable();
        Ok(Measured { elapsed, latencies })
    }
}

async fn stay_awake() {
    loop {
        tokio::task::yield_now().await;
    }
}

impl Measured {
    /// The latency that `percent` of the reviews did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(rank).copied().unwrap_or_default()
    }
}

/// One connection with its buffers.
struct Connection {
    stream: TlsStream<TcpStream>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Connection {
    /// Takes reviews by number until there are no more.
    async fn work(
        mut self,
        load: Arc<Load>,
        next: Arc<AtomicUsize>,
        start: Instant,
    ) -> anyhow::Result<(Self, Vec<Duration>)> {
        let (mut latencies, mut expected) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= load.reviews {
                return Ok((self, latencies));
            }
            let scheduled = load.due(start, number).await;
            let exchange = load.exchanges.get(number % load.exchanges.len()).context("a load has reviews")?;
            expected.clear();
            exchange.answer.write(number, &mut expected);
            let answer = self.exchange(&exchange.review, number).await?;
            latencies.push(scheduled.elapsed());
            if answer != expected {
                let (answer, expected) =
                    (String::from_utf8_lossy(answer), String::from_utf8_lossy(&expected));
                bail!("wrong answer to review {number}:\n{answer}\nwanted:\n{expected}");
            }
        }
    }

    /// Sends a review; returns the body of the response to it.
    async fn exchange(&mut self, review: &Numbered, number: usize) -> anyhow::Result<&[u8]> {
        self.outbox.clear();
        self.outbox.extend_from_slice(HEAD.as_bytes());
        self.outbox.extend_from_slice(format!("{}\r\n\r\n", review.len()).as_bytes());
        review.write(number, &mut self.outbox);
        self.stream.write_all(&self.outbox).await?;
        self.stream.flush().await?;
        self.inbox.clear();
        let body_at = loop {
            self.read().await?;
            if let Some(at) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = std::str::from_utf8(self.inbox.get(..body_at).unwrap_or_default())?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "not answered:\n{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = body_at + length.with_context(|| format!("no length:\n{head}"))?.parse::<usize>()?;
        while self.inbox.len() < end {
            self.read().await?;
        }
        ensure!(self.inbox.len() == end, "{} bytes too many", self.inbox.len() - end);
        Ok(self.inbox.get(body_at..).unwrap_or_default())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        self.inbox.reserve(32 * 1024);
        ensure!(self.stream.read_buf(&mut self.inbox).await? > 0, "the server closed the connection");
        Ok(())
    }
}

/// A request's head as the API server writes it, up to the body's length.
const HEAD: &str = concat!(
    "POST /mutate/pod/pod?timeout=5s HTTP/1.1\r\n",
    "Host: promsidecar.promsidecar-system.svc:443\r\n",
    "User-Agent: kube-apiserver-admission\r\n",
    "Accept: application/json, */*\r\n",
    "Content-Type: application/json\r\n",
    "Accept-Encoding: gzip\r\n",
    "Content-Length: "
);

impl Load {
    /// Waits until a review is to be sent; returns since when it should have been.
    async fn due(&self, start: Instant, number: usize) -> Instant {
        let Pace::PerSecond(rate) = self.pace else { return Instant::now() };
        let scheduled = start + Duration::from_secs(1).mul_f64(as_f64(number) / f64::from(rate.max(1)));
        if self.spin {
            while Instant::now() < scheduled {
                tokio::task::yield_now().await;
            }
        } else {
            tokio::time::sleep_until(scheduled.into()).await;
        }
        scheduled
    }
}

/// Counts of reviews are far below 2³².
pub(crate) fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
