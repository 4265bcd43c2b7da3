//! Pods that are created all the time, and what the API server counts of the webhook.
//!
//! Input: a control plane, a namespace and a rate. Output: how many were created, at which rate, and which were not injected.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promsidecar::names;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::control_plane::ControlPlane;
use crate::control_plane::api::Reply;
use crate::control_plane::https::until;
use crate::control_plane::injector::{asking_pod, pods};

/// Connections to the API server.
const WORKERS: u32 = 40;

/// A pod that asks and requires its agent.
pub(crate) fn requiring_pod(name: &str) -> Value {
    let mut pod = asking_pod(name);
    pod["metadata"]["annotations"][names::REQUIRED] = json!("true");
    pod
}

/// Whether a pod was admitted with its agent.
pub(crate) fn injected(reply: &Reply) -> bool {
    reply.status == 201 && reply.body["metadata"]["labels"][names::INJECTED] == "true"
}

/// What the API server counts of the webhook, for all entries.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) rejected: u64,
    pub(crate) failed_open: u64,
    pub(crate) calls: u64,
}

impl Counts {
    pub(crate) async fn of(plane: &ControlPlane) -> Self {
        let text = plane.api.text("/metrics").await;
        let sum = |family: &str| {
            let lines = text.lines().filter(|line| {
                let rest = line.strip_prefix(family);
                rest.is_some_and(|rest| rest.starts_with('{')) && line.contains(".sidecar.prometheus.io\"")
            });
            lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
        };
        Self {
            rejected: sum("apiserver_admission_webhook_rejection_count"),
            failed_open: sum("apiserver_admission_webhook_fail_open_count"),
            calls: sum("apiserver_admission_webhook_admission_duration_seconds_count"),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    answered: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Pods that are being created.
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    began: Instant,
}

/// What became of them.
pub(crate) struct Done {
    pub(crate) answered: u64,
    pub(crate) wrong: Vec<String>,
    took: Duration,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = f64::from(u32::try_from(self.answered).unwrap()) / self.took.as_secs_f64();
        write!(f, "{} pods in {:.0} s, {rate:.0} a second", self.answered, self.took.as_secs_f64())
    }
}

impl Load {
    /// So many pods a second, whether or not those before were answered, as far as the connections suffice. Every other one
    /// requires its agent. Nothing is stored of them.
    pub(crate) async fn start(plane: &ControlPlane, namespace: &str, rate: u32) -> Self {
        let shared = Arc::<Shared>::default();
        let mut workers = JoinSet::new();
        let began = Instant::now();
        for worker in 0..WORKERS {
            let mut connection = plane.api.connect().await;
            let shared = Arc::clone(&shared);
            let path = format!("{}?dryRun=All", pods(namespace));
            workers.spawn(async move {
                let mut number = worker;
                while !shared.over.load(Ordering::Relaxed) {
                    tokio::time::sleep_until(began + Duration::from_secs(1) * number / rate).await;
                    let name = format!("pod-{number}");
                    let required = (number / WORKERS).is_multiple_of(2);
                    let pod = if required { requiring_pod(&name) } else { asking_pod(&name) };
                    let reply = connection.send("POST", &path, &pod).await;
                    if !injected(&reply) {
                        let why = format!(
                            "{name}: {} {:?} {}",
                            reply.status, reply.warnings, reply.body["message"]
                        );
                        shared.wrong.lock().unwrap().push(why);
                    }
                    shared.answered.fetch_add(1, Ordering::Relaxed);
                    number += WORKERS;
                }
            });
        }
        Self { shared, workers, began }
    }

    fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more are answered.
    pub(crate) async fn goes_on(&self, more: u32) {
        let enough = self.answered() + u64::from(more);
        until("pods go on being created", || async { self.answered() >= enough }).await;
    }

    pub(crate) async fn end(mut self) -> Done {
        let took = self.began.elapsed();
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.unwrap();
        }
        let wrong = self.shared.wrong.lock().unwrap().clone();
        Done { answered: self.answered(), wrong, took }
    }
}
