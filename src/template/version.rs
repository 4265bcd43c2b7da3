//! Prometheus versions and what each can do. PURE.
//!
//! Input: `spec.version` or an image tag. Output: a comparable version and the one table of capabilities.

use std::fmt;

/// `major.minor.patch` of a Prometheus release; a pre-release counts as its release, like upstream's gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 3 for every supported release.
    pub major: u16,
    /// Minor version, which gates flags and configuration keys.
    pub minor: u16,
    /// Patch level.
    pub patch: u16,
}

impl Version {
    /// A version from its numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// Stand-in until the template part lands.
    pub fn reload_args(self) -> Vec<String> {
        vec!["--config.auto-reload".to_owned(), "--config.auto-reload-interval=5s".to_owned()]
    }
}
