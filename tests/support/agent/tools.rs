//! The real Prometheus that the tests run, built by `make tools` into `.cache/tools`.
//!
//! Input: a program and a version or an image. Output: its path.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use promsidecar::template::Settings;

/// Versions that `make tools` builds, a line each.
const VERSIONS: &str = include_str!("../../tools/prometheus.versions");

/// Every version there is, such as `v3.13.5`, in order.
pub(crate) fn versions() -> Vec<String> {
    VERSIONS.lines().map(|version| format!("v{version}")).collect()
}

/// The version that injected pods get by default.
pub(crate) fn default_version() -> String {
    Settings::default().agent_version.to_string()
}

/// Path of `prometheus` or `promtool` in the default version.
pub(crate) fn tool(name: &str) -> PathBuf {
    tool_of(&default_version(), name)
}

/// Path of `prometheus` or `promtool` in a version such as `v3.13.5`.
pub(crate) fn tool_of(version: &str, name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools");
    let path = tools.join(format!("prometheus-{version}")).join(name);
    assert!(path.is_file(), "{name} {version} is missing: run `make tools` (needs Go)");
    path
}

/// Path of the `prometheus` that an image holds, by its tag.
pub(crate) fn program_of(image: &str) -> PathBuf {
    let tag = image.strip_prefix("quay.io/prometheus/prometheus:").expect("the image of Prometheus");
    tool_of(tag, "prometheus")
}
