//! A next release that nobody ships: everything that a release may write otherwise, it does. PURE: constants only.

/// Version of the program.
pub const PROGRAM: &str = concat!(env!("CARGO_PKG_VERSION"), "+next");
/// Version of the `status` annotation.
pub const STATUS: u32 = 2;
/// What statuses call the hash of the pod-level part: first as this release does, then as those before it.
pub const STATUS_HASH: &[&str] = &["podHash", "hash"];
/// A label of every target beside those that all releases write.
pub const TARGET_LABEL: Option<(&str, &str)> = Some(("__meta_promsidecar_targets", "2"));
/// What every configuration begins with.
pub const CONFIGURATION_HEAD: &str = "# Of the next release.\n";
/// An argument of agents: part of what is fixed when a pod is created.
pub const WAL_TRUNCATION: &str = "--storage.agent.wal-truncate-frequency=6m";
/// Key and value in the Secret of the certificate and in what is kept of templates, beside those that all releases write.
pub const FURTHER_KEY: Option<(&str, &str)> = Some(("next", "of the next release"));
