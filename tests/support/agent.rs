//! Real agents in patched pods: the sidecar's own command, arguments and environment, on volumes laid out and swapped as a
//! kubelet does, beside an application and a receiver.
//!
//! Input: a pod and a template. Output: the running [`sidecar::Sidecar`], its [`app::App`] and its [`receiver::Receiver`].

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

#[path = "agent/app.rs"]
pub(crate) mod app;
#[path = "agent/container.rs"]
pub(crate) mod container;
#[path = "agent/guarded.rs"]
pub(crate) mod guarded;
#[path = "agent/kubelet.rs"]
pub(crate) mod kubelet;
#[path = "agent/pods.rs"]
pub(crate) mod pods;
#[path = "agent/process.rs"]
pub(crate) mod process;
#[path = "agent/receiver.rs"]
pub(crate) mod receiver;
#[path = "agent/sidecar.rs"]
pub(crate) mod sidecar;
#[path = "agent/tools.rs"]
pub(crate) mod tools;
#[path = "agent/traces.rs"]
pub(crate) mod traces;
#[path = "agent/upstream.rs"]
pub(crate) mod upstream;
#[path = "volume.rs"]
pub(crate) mod volume;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use process::DEADLINE;

/// Looks again and again until the answer is there. What was seen instead is told when time is up.
pub(crate) async fn until<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() > end => panic!("no {what} in time; instead: {instead:#?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
