//! Two releases: this one, and the next one as `--features next-version` builds it of the same sources.
//!
//! Input: nothing. Output: the programs, and what the next release does otherwise.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What the next release does otherwise.
#[path = "../../src/release/next.rs"]
#[expect(unreachable_pub, reason = "in its own crate it is not")]
pub(crate) mod next;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Release {
    This,
    Next,
}

pub(crate) const BOTH: [Release; 2] = [Release::This, Release::Next];

impl Release {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::This => Self::Next,
            Self::Next => Self::This,
        }
    }

    /// Its program, as it was built last.
    pub(crate) fn program(self) -> PathBuf {
        let this = Path::new(env!("CARGO_BIN_EXE_promsidecar"));
        match self {
            Self::This => this.to_owned(),
            Self::Next => built(&this.with_file_name("promsidecar-next")),
        }
    }

    /// Version of the statuses that it writes.
    pub(crate) const fn status(self) -> u32 {
        match self {
            Self::This => promsidecar::admission::status::VERSION,
            Self::Next => next::STATUS,
        }
    }

    /// Version of the program.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::This => env!("CARGO_PKG_VERSION"),
            Self::Next => next::PROGRAM,
        }
    }

    /// Its configuration, by that of this release.
    pub(crate) fn configuration(self, rendered: &str) -> String {
        let head = if self == Self::Next { next::CONFIGURATION_HEAD } else { "" };
        format!("{head}{rendered}")
    }

    /// A command of it, without the test's own variables.
    pub(crate) fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.env_clear().args(arguments);
        command
    }
}

/// The program, unless it is missing or older than what it is made of.
fn built(program: &Path) -> PathBuf {
    let made = fs::metadata(program).and_then(|found| found.modified());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(
        made.is_ok_and(|made| made >= newest(&sources)),
        "{} is missing, or older than its sources: cargo build --locked --features next-version --bin promsidecar-next",
        program.display()
    );
    program.to_owned()
}

/// When a file of a folder was written last.
fn newest(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| if path.is_dir() { newest(&path) } else { written(&path) };
    entries.map(of).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn written(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}
