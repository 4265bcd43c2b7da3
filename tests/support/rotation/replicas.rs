//! Replicas of the webhook, as a Service and the kubelet have them: new connections go to those that are ready, established
//! ones stay where they are, and the Secret comes to the volume of each a little later.
//!
//! Input: an installation and its Secret. Output: running programs, and the one address that leads to all of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::control_plane::https::{get, until};
use crate::installation::{Installation, data};
use crate::program::{Program, program};
use crate::volume::Volume;

/// How often readiness is asked for, and so how late the balancer is.
const PROBE: Duration = Duration::from_millis(500);

/// A running webhook with its volume.
pub(crate) struct Replica {
    pub(crate) program: Program,
    open: Arc<AtomicUsize>,
    _kubelet: Task,
    _directory: TempDir,
}

/// Ends when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Replica {
    /// Connections of the balancer that are open.
    pub(crate) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Starts one whose volume is so late.
    pub(crate) fn start(installation: &Installation, secret: &Value, late: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut volume = Volume::new(directory.path());
        mount(&mut volume, secret);
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut command = program(&["webhook", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
        command
            .arg(format!("--kubeconfig={}", installation.plane.kubeconfig("admin").display()))
            .arg(format!("--own-namespace={}", installation.own))
            .arg(format!("--tls-cert-file={}", path("tls.crt")))
            .arg(format!("--tls-key-file={}", path("tls.key")))
            .arg("--drain-time=5s");
        let program = Program::start(&mut command);
        let (api, secret) = (&installation.plane.api, installation.secret_path());
        let kubelet = tokio::spawn(async move {
            loop {
                let secret = api.get(&secret).await;
                tokio::time::sleep(late.max(PROBE)).await;
                mount(&mut volume, &secret);
            }
        });
        Self { program, open: Arc::default(), _kubelet: Task(kubelet), _directory: directory }
    }
}

fn mount(volume: &mut Volume, secret: &Value) {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|key| data(secret, key));
    volume.update(&[("tls.crt", &certificate), ("tls.key", &key)]);
}

/// Where connections to a replica lead, and how many are open.
type Backends = Arc<Mutex<Vec<(SocketAddr, Arc<AtomicUsize>)>>>;

/// The address of a Service.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    backends: Backends,
    _task: Task,
}

impl Balancer {
    /// One that leads nowhere yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backends = Backends::default();
        let task = tokio::spawn(balance(listener, Arc::clone(&backends)));
        Self { address, backends, _task: Task(task) }
    }

    /// Leads new connections to a replica as well, once it is ready.
    pub(crate) async fn add(&self, replica: &Replica) {
        until("the replica is ready", || async { get(replica.program.admin, "/readyz").await.0 == 200 })
            .await;
        self.backends.lock().unwrap().push((replica.program.webhook, Arc::clone(&replica.open)));
    }

    /// Leads no new connection to a replica once it is not ready. Those that are open stay.
    pub(crate) async fn remove(&self, replica: &Replica) {
        until("the replica is not ready", || async {
            tokio::time::sleep(PROBE).await;
            get(replica.program.admin, "/readyz").await.0 == 503
        })
        .await;
        self.backends.lock().unwrap().retain(|(address, _)| *address != replica.program.webhook);
    }
}

/// Each new connection to the next replica.
async fn balance(listener: TcpListener, backends: Backends) {
    for turn in 0_usize.. {
        let (mut from, _) = listener.accept().await.unwrap();
        let chosen = {
            let backends = backends.lock().unwrap();
            backends.get(turn % backends.len().max(1)).cloned()
        };
        let Some((address, open)) = chosen else { continue };
        tokio::spawn(async move {
            let Ok(mut to) = TcpStream::connect(address).await else { return };
            open.fetch_add(1, Ordering::Relaxed);
            // However either side ends, the other one is told.
            let _ = copy_bidirectional(&mut from, &mut to).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
