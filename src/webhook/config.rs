//! The webhook's configuration after validation: nothing below it checks a flag again.
//!
//! Input: made from flags by `cli::webhook`. Output: plain data.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::admission::Policy;
use crate::template::Settings;

/// Everything that [`super::run::run`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address of the webhook.
    pub listen: SocketAddr,
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// Where templates and namespaces come from.
    pub templates: Templates,
    /// Where the certificate comes from.
    pub certificate: Certificate,
    /// The namespace that promsidecar runs in.
    pub own_namespace: String,
    /// What decides about pods.
    pub policy: Policy,
    /// What decides about templates.
    pub settings: Settings,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// How long to keep serving after the signal.
    pub drain_time: Duration,
}

/// Where templates and namespaces come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Templates {
    /// A directory of manifests.
    Directory(PathBuf),
    /// The API server.
    Cluster {
        /// Path of a kubeconfig, where it is not found by itself.
        kubeconfig: Option<PathBuf>,
        /// Whether to look up what the cluster runs, in place of [`Policy::native_sidecars`].
        look_up: bool,
    },
}

impl fmt::Display for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Cluster { .. } => f.write_str("the cluster"),
        }
    }
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// PEM files, reloaded when they change.
    Files {
        /// Certificate chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// An authority of our own, for the life of the process.
    Own {
        /// DNS names and addresses, at least one.
        names: Vec<String>,
        /// Where to write the authority's certificate.
        ca_out: Option<PathBuf>,
    },
}

/// Bounds and deadlines of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Reviews being read or decided at once; one more is answered 503.
    pub max_in_flight: usize,
    /// Open connections; one more is closed at once.
    pub max_connections: usize,
    /// Bytes of a body. The API server takes objects of 3 MiB and may send two of them.
    pub max_body: usize,
    /// Bytes of all bodies that are held at once; a body that would exceed it is answered 503. Reviews are some 10 KiB: this
    /// is for those who send the cap on every call that is allowed, which no container's memory limit would survive.
    pub max_buffered: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the handshake to the end of the first request's head.
    pub header: Duration,
    /// From the head to the end of the body.
    pub body: Duration,
    /// For the client to take a part of the response.
    pub write: Duration,
    /// For the head of every later request of a connection, idle time included: the server below cannot tell the two apart.
    /// More than the 90 s after which the API server closes idle connections, so that it never writes to one we just closed.
    pub idle: Duration,
    /// For what is in flight when the listener closes.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_in_flight: 128,
            max_connections: 1024,
            max_body: 7 * 1024 * 1024,
            max_buffered: 64 * 1024 * 1024,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(5),
            body: Duration::from_secs(5),
            write: Duration::from_secs(5),
            idle: Duration::from_mins(2),
            stop: Duration::from_secs(10),
        }
    }
}
