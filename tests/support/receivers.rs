//! Receivers that are no Prometheus, on loopback: built by `make receivers` into `.cache/tools`, asked through the API of
//! queries that they share with Prometheus.
//!
//! Input: a directory for the data. Output: where agents write to, what a receiver adds, and the series that it has.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::{Request, StatusCode};
use tokio::net::TcpStream;

use crate::agent::process::Process;
use crate::agent::receiver::{Labels, get, send};
use crate::agent::until;

/// What starts a receiver in a directory.
pub(crate) type Start = fn(&Path) -> Receiver;

/// A running receiver; it ends with the test.
pub(crate) struct Receiver {
    /// Where agents write to.
    pub(crate) write: String,
    /// Labels that it adds to every series.
    pub(crate) adds: &'static [(&'static str, &'static str)],
    /// Where it answers queries, and the path before `/api/v1/query`.
    query: (SocketAddr, &'static str),
    /// Where it says by 200 that it is ready.
    ready: Vec<(SocketAddr, &'static str)>,
    processes: Vec<Process>,
}

impl Receiver {
    /// Thanos Receive, which keeps series for itself, and Thanos Query, which asks it.
    pub(crate) fn thanos(directory: &Path) -> Self {
        let [write, http, grpc, query, query_grpc, capn_proto] = free();
        let receive = [
            "receive".to_owned(),
            // It wants a label of its own, and has one for its tenant.
            "--label=replica=\"a\"".to_owned(),
            format!("--tsdb.path={}", directory.join("data").display()),
            format!("--remote-write.address={write}"),
            format!("--http-address={http}"),
            format!("--grpc-address={grpc}"),
            format!("--receive.capnproto-address={capn_proto}"),
            format!("--receive.local-endpoint={grpc}"),
        ];
        let asks = [
            "query".to_owned(),
            format!("--endpoint={grpc}"),
            format!("--http-address={query}"),
            format!("--grpc-address={query_grpc}"),
        ];
        Self {
            write: format!("http://{write}/api/v1/receive"),
            adds: &[("replica", "a"), ("tenant_id", "default-tenant")],
            query: (query, ""),
            ready: vec![(http, "/-/ready"), (query, "/-/ready")],
            processes: vec![start("thanos", &receive, directory), start("thanos", &asks, directory)],
        }
    }

    /// `VictoriaMetrics` in one process.
    pub(crate) fn victoria_metrics(directory: &Path) -> Self {
        let [http] = free();
        let arguments = [
            format!("-httpListenAddr={http}"),
            format!("-storageDataPath={}", directory.join("data").display()),
            // What is newer than this is not told, by default half a minute.
            "-search.latencyOffset=1ms".to_owned(),
        ];
        Self {
            write: format!("http://{http}/api/v1/write"),
            adds: &[],
            query: (http, ""),
            ready: vec![(http, "/health")],
            processes: vec![start("victoria-metrics", &arguments, directory)],
        }
    }

    /// Cortex in one process, which takes remote write 2.0 if it is told to.
    pub(crate) fn cortex(directory: &Path) -> Self {
        let [http, grpc] = free();
        let file = directory.join("cortex.yml");
        let below = |name: &str| directory.join(name).display().to_string();
        let config = serde_json::json!({
            "auth_enabled": false,
            "server": {"http_listen_address": "127.0.0.1", "http_listen_port": http.port(),
                "grpc_listen_address": "127.0.0.1", "grpc_listen_port": grpc.port()},
            "distributor": {"remote_writev2_enabled": true},
            "ingester": {"lifecycler": {"address": "127.0.0.1", "min_ready_duration": "0s", "final_sleep": "0s",
                "ring": {"kvstore": {"store": "inmemory"}, "replication_factor": 1}}},
            "blocks_storage": {"backend": "filesystem", "filesystem": {"dir": below("blocks")},
                "tsdb": {"dir": below("tsdb")}, "bucket_store": {"sync_dir": below("sync")}},
            // Rules and alerts come with it: in this process, of empty folders, and without neighbours.
            "compactor": {"data_dir": below("compactor"), "sharding_ring": {"kvstore": {"store": "inmemory"}}},
            "ruler": {"rule_path": below("rules"), "ring": {"kvstore": {"store": "inmemory"}}},
            "ruler_storage": {"backend": "local", "local": {"directory": below("rules")}},
            "alertmanager": {"external_url": "http://127.0.0.1/alertmanager", "data_dir": below("alertmanager"),
                "cluster": {"listen_address": ""}},
            "alertmanager_storage": {"backend": "local", "local": {"path": below("alerts")}},
        });
        for folder in ["rules", "alerts"] {
            fs::create_dir(directory.join(folder)).unwrap();
        }
        fs::write(&file, config.to_string()).unwrap();
        Self {
            write: format!("http://{http}/api/v1/push"),
            adds: &[],
            query: (http, "/prometheus"),
            ready: vec![(http, "/ready")],
            processes: vec![start("cortex", &[format!("-config.file={}", file.display())], directory)],
        }
    }

    /// Waits until it takes samples and answers.
    pub(crate) async fn is_ready(&mut self) {
        for (address, path) in self.ready.clone() {
            until(path, async || {
                if TcpStream::connect(address).await.is_err() {
                    return Err(self.log());
                }
                let (status, body) = send(address, Request::get(path), String::new()).await;
                if status == StatusCode::OK { Ok(()) } else { Err(vec![body]) }
            })
            .await;
        }
    }

    /// Label sets of every series, without what it adds to each.
    pub(crate) async fn series(&self) -> BTreeSet<Labels> {
        // {__name__=~".+"}
        let path = format!("{}/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D", self.query.1);
        let response = get(self.query.0, &path, None).await;
        assert_eq!(response["status"], "success", "{response}");
        let series = response["data"]["result"].as_array().expect("a vector").iter();
        let labels = series.map(|sample| {
            let mut labels: Labels = serde_json::from_value(sample["metric"].clone()).expect("labels");
            for (name, value) in self.adds {
                assert_eq!(labels.remove(*name).as_deref(), Some(*value), "{labels:?}");
            }
            labels
        });
        labels.collect()
    }

    /// The last lines of its processes.
    pub(crate) fn log(&mut self) -> Vec<String> {
        let lines = self.processes.iter_mut().flat_map(|process| {
            let log = process.log();
            log[log.len().saturating_sub(10)..].to_vec()
        });
        lines.collect()
    }
}

/// Some write beside their data into where they are started.
fn start(name: &str, arguments: &[String], directory: &Path) -> Process {
    Process::start(Command::new(program(name)).args(arguments).current_dir(directory))
}

fn program(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools");
    let path = tools.join(format!("receiver-{name}")).join(name);
    assert!(path.is_file(), "{name} is missing: run `make receivers` (needs Go)");
    path
}

/// Addresses at which nobody listens. Nothing here can be told to choose a port and say which.
fn free<const N: usize>() -> [SocketAddr; N] {
    let listeners: [_; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("some port is free"));
    listeners.map(|listener| listener.local_addr().expect("its address"))
}
