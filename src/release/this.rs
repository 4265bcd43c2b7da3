//! This release. PURE: constants only.

/// Version of the program.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
/// Version of the `status` annotation.
pub const STATUS: u32 = 1;
/// What statuses call the hash of the pod-level part: first as this release does, then as those before it.
pub const STATUS_HASH: &[&str] = &["hash"];
/// A label of every target beside those that all releases write.
pub const TARGET_LABEL: Option<(&str, &str)> = None;
/// What every configuration begins with.
pub const CONFIGURATION_HEAD: &str = "";
/// An argument of agents: part of what is fixed when a pod is created.
pub const WAL_TRUNCATION: &str = "--storage.agent.wal-truncate-frequency=5m";
/// Key and value in the Secret of the certificate and in what is kept of templates, beside those that all releases write.
pub const FURTHER_KEY: Option<(&str, &str)> = None;
