//! The real Prometheus that the tests run, built by `make tools` into `.cache/tools`.
//!
//! Input: the name of a program. Output: its path, in the version that injected pods get by default.

use std::path::{Path, PathBuf};

use promsidecar::template::Settings;

/// Path of `prometheus` or `promtool`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let version = Settings::default().agent_version;
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools");
    let path = tools.join(format!("prometheus-{version}")).join(name);
    assert!(path.is_file(), "{name} {version} is missing: run `make tools` (needs Go)");
    path
}
