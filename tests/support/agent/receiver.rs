//! A remote-write receiver: Prometheus in server mode on a free loopback port, asked through its API.
//!
//! Input: a directory for its data. Output: the series that arrived.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::process::Process;
use crate::tools::tool;

/// Labels of a series, its name among them.
pub(crate) type Labels = BTreeMap<String, String>;

/// Series and their newest values.
pub(crate) type Series = BTreeMap<Labels, String>;

/// The running server.
pub(crate) struct Receiver {
    pub(crate) process: Process,
    address: SocketAddr,
}

impl Receiver {
    /// Starts the server and waits until it answers.
    pub(crate) fn start(directory: &Path) -> Self {
        let config = directory.join("receiver.yml");
        fs::write(&config, "{}").unwrap();
        let mut process = Process::start(
            Command::new(tool("prometheus"))
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
                .args(["--web.listen-address=127.0.0.1:0", "--web.enable-remote-write-receiver"]),
        );
        // The two lines come in either order.
        let mut address = None;
        let mut ready = false;
        let address = loop {
            let line = process.next_line();
            ready |= line.contains("Server is ready to receive web requests");
            if let Some((_, listening)) = line.split_once("msg=\"Listening on\"") {
                let (_, after) = listening.split_once("address=").expect("an address");
                address = Some(after.trim().parse().expect("an address"));
            }
            if let (true, Some(address)) = (ready, address) {
                break address;
            }
        };
        Self { process, address }
    }

    /// Where the agent writes to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Every series with its newest value.
    pub(crate) async fn series(&self) -> Series {
        // {__name__=~".+"}
        let response = self.get("/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D").await;
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

    async fn get(&self, path: &str) -> Value {
        let stream = TcpStream::connect(self.address).await.expect("the receiver listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, self.address.to_string())
            .body(Empty::<Bytes>::new())
            .expect("a request");
        // The connection is driven beside the request and ends with its sender.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("a response");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }
}
