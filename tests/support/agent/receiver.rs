//! A remote-write receiver: Prometheus in server mode on a free loopback port, asked through its API.
//!
//! Input: a directory for its data, further flags, and whose password it takes. Output: the series that arrived.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::process::Process;
use super::tools::tool;
use super::until;

/// Labels of a series, its name among them.
pub(crate) type Labels = BTreeMap<String, String>;

/// Series and their newest values.
pub(crate) type Series = BTreeMap<Labels, String>;

/// What is not as expected.
#[derive(Debug)]
#[expect(dead_code, reason = "printed when time is up")]
struct Differences {
    missing: Vec<Labels>,
    more: Vec<Labels>,
}

/// A password of the user `agent`, and its hash of the lowest cost that bcrypt has.
pub(crate) struct Password {
    pub(crate) text: &'static str,
    hash: &'static str,
}

pub(crate) const FIRST_PASSWORD: Password =
    Password { text: "first password", hash: "$2a$04$6rlAelPp7jGai5sxezVgSeFgAnPch7BmFXprX3O4O/J09e0cW2aJa" };
pub(crate) const SECOND_PASSWORD: Password = Password {
    text: "second password",
    hash: "$2a$04$Ucth3es3BC7DB3U/RvAPUOMPQDLcxgMx4X6xjbPcO5Ri2d184AjAK",
};
/// User and password of the test itself, which stay.
const READER: &str = "reader:reader";
const READER_HASH: &str = "$2a$04$WF0qI8eLavE0l8Udnjgp/OvI7hAK3TjZXWKnsm5/3c7KB6/OSpIQ2";

/// The running server.
pub(crate) struct Receiver {
    pub(crate) process: Process,
    address: SocketAddr,
    /// File with the users, which the server reads at every request.
    users: PathBuf,
    asks_for_password: bool,
}

impl Receiver {
    /// Starts a server for everybody and waits until it answers.
    pub(crate) fn start(directory: &Path) -> Self {
        Self::with_flags(directory, &[])
    }

    /// Starts a server that takes one message of remote write and answers 415 to the other.
    pub(crate) fn of_message(directory: &Path, message: &str) -> Self {
        Self::with_flags(
            directory,
            &[&format!("--web.remote-write-receiver.accepted-protobuf-messages={message}")],
        )
    }

    /// Starts a server that asks for a password.
    pub(crate) fn with_password(directory: &Path, password: &Password) -> Self {
        let users = users(directory);
        write_users(&users, password);
        let flag = format!("--web.config.file={}", users.display());
        Self { asks_for_password: true, ..Self::with_flags(directory, &[&flag]) }
    }

    fn with_flags(directory: &Path, flags: &[&str]) -> Self {
        let config = directory.join("receiver.yml");
        fs::write(&config, "{}").unwrap();
        let mut process = Process::start(
            Command::new(tool("prometheus"))
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
                .args(["--web.listen-address=127.0.0.1:0", "--web.enable-remote-write-receiver"])
                .args(flags),
        );
        // The two lines come in either order.
        let mut address = None;
        let mut ready = false;
        let address = loop {
            let line = process.next_line();
            ready |= line.contains("Server is ready to receive web requests");
            address = address.or_else(|| listening_on(&line));
            if let (true, Some(address)) = (ready, address) {
                break address;
            }
        };
        Self { process, address, users: users(directory), asks_for_password: false }
    }

    /// Takes this password alone from the next request on.
    pub(crate) fn rotate(&self, password: &Password) {
        write_users(&self.users, password);
    }

    /// Where the agent writes to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Every series with its newest value.
    pub(crate) async fn series(&self) -> Series {
        // {__name__=~".+"}
        self.query("%7B__name__%3D~%22.%2B%22%7D").await
    }

    /// Waits until every series of `expected` is there and gives their values; a series that was not expected fails the test.
    pub(crate) async fn receives(&self, expected: &BTreeSet<Labels>) -> Series {
        let series = until("series", async || {
            let series = self.series().await;
            let missing: Vec<_> =
                expected.iter().filter(|labels| !series.contains_key(*labels)).cloned().collect();
            let more: Vec<_> = series.keys().filter(|labels| !expected.contains(*labels)).cloned().collect();
            if missing.is_empty() { Ok(series) } else { Err(Differences { missing, more }) }
        })
        .await;
        // Equal as a whole: no placeholder and no internal label is left anywhere.
        assert_eq!(series.keys().cloned().collect::<BTreeSet<_>>(), *expected);
        series
    }

    /// Waits until the newest value of every one of these series is `value`.
    pub(crate) async fn receives_value(&self, series: &[Labels], value: &str) {
        until(&format!("value {value}"), async || {
            let all = self.series().await;
            let others: Vec<_> = series.iter().map(|labels| (labels, all.get(labels).cloned())).collect();
            let others: Vec<_> =
                others.into_iter().filter(|(_, found)| found.as_deref() != Some(value)).collect();
            if others.is_empty() { Ok(()) } else { Err(format!("{others:?}")) }
        })
        .await;
    }

    /// The vector that a query in percent-encoding gives now.
    pub(crate) async fn query(&self, query: &str) -> Series {
        let user = self.asks_for_password.then_some(READER);
        let response = get(self.address, &format!("/api/v1/query?query={query}"), user).await;
        assert_eq!(response["status"], "success", "{response}");
        let series = response["data"]["result"].as_array().expect("a vector");
        series
            .iter()
            .map(|sample| {
                let labels = serde_json::from_value(sample["metric"].clone()).expect("labels");
                (labels, sample["value"][1].as_str().expect("a value").to_owned())
            })
            .collect()
    }
}

/// The address in the line by which Prometheus says where it listens.
pub(crate) fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, listening) = line.split_once("msg=\"Listening on\"")?;
    let (_, after) = listening.split_once("address=").expect("an address");
    Some(after.trim().parse().expect("an address"))
}

/// JSON of a Prometheus' API.
pub(crate) async fn get(address: SocketAddr, path: &str, user: Option<&str>) -> Value {
    let mut request = Request::get(path);
    if let Some(user) = user {
        let credentials = base64::engine::general_purpose::STANDARD.encode(user);
        request = request.header(header::AUTHORIZATION, format!("Basic {credentials}"));
    }
    let (status, body) = send(address, request, String::new()).await;
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{status}: {error}: {body}"))
}

/// Sends one request; the answer may be of any status.
pub(crate) async fn send(address: SocketAddr, request: Builder, body: String) -> (StatusCode, String) {
    let stream = TcpStream::connect(address).await.expect("Prometheus listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    // The connection is driven beside the request and ends with its sender.
    tokio::spawn(connection);
    let request = request.header(header::HOST, address.to_string()).body(Full::new(Bytes::from(body)));
    let response = sender.send_request(request.expect("a request")).await.expect("a response");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn users(directory: &Path) -> PathBuf {
    directory.join("users.yml")
}

/// Replaces the file at once: the server never reads half of it.
fn write_users(file: &Path, password: &Password) {
    let new = file.with_extension("new");
    let hash = password.hash;
    fs::write(&new, format!("basic_auth_users: {{agent: {hash}, reader: {READER_HASH}}}\n")).unwrap();
    fs::rename(new, file).unwrap();
}
