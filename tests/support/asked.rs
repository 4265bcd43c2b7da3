//! Commands that ask a cluster: what they print, compared with goldens that the documents quote.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use regex::Regex;

use crate::control_plane::https::soon;
use crate::control_plane::{ControlPlane, Printed};
use crate::support::golden::compare;

/// Runs the program as a user of the control plane.
pub(crate) fn ask(plane: &ControlPlane, user: &str, arguments: &[&str]) -> Printed {
    ask_by(&plane.kubeconfig(user), arguments)
}

/// Runs the program by a kubeconfig.
pub(crate) fn ask_by(kubeconfig: &Path, arguments: &[&str]) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promsidecar"));
    command.env_clear().env("KUBECONFIG", kubeconfig).args(arguments);
    run(command)
}

pub(crate) fn run(mut command: Command) -> Printed {
    let output = command.output().unwrap();
    Printed {
        code: output.status.code().expect("it is not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command that goes on, and what it printed so far.
pub(crate) struct Watched {
    child: Child,
    out: Option<ChildStdout>,
    read: String,
}

impl Watched {
    pub(crate) fn start(plane: &ControlPlane, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promsidecar"));
        command.env_clear().env("KUBECONFIG", plane.kubeconfig("admin")).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take();
        Self { child, out, read: String::new() }
    }

    /// Reads on until it printed a text.
    pub(crate) async fn until(&mut self, text: &str) {
        while !self.read.contains(text) {
            let mut out = self.out.take().expect("nobody hung up");
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = [0; 4096];
                let count = out.read(&mut bytes).unwrap();
                (out, String::from_utf8(bytes[..count].to_vec()).unwrap())
            });
            let (out, more) = soon(read).await.unwrap();
            assert_ne!(more, "", "it ended; it printed\n{}", self.read);
            self.out = Some(out);
            self.read.push_str(&more);
        }
    }

    /// Reads no more.
    pub(crate) fn hang_up(&mut self) {
        self.out = None;
    }

    /// As ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The exit code.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        soon(tokio::task::spawn_blocking(move || self.child.wait().unwrap().code())).await.unwrap()
    }
}

impl Drop for Watched {
    /// Whoever reads would wait for ever where a test fails.
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
    }
}

/// Compares what was printed with a golden, but for what differs each time: days, ports, names of pods.
pub(crate) fn is_golden(name: &str, printed: &Printed, code: i32) {
    assert_eq!((printed.code, &*printed.stderr), (code, ""), "{}", printed.stdout);
    let mut text = printed.stdout.clone();
    for (pattern, shown) in [
        (r"\d{4}-\d\d-\d\d(T[0-9:.]+Z)?", "2026-10-01"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:10250"),
        (r"-[a-z0-9]{8,10}-[a-z0-9]{5}\b", "-6d4cf56db6-x7k2p"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, shown).into_owned();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster").join(name);
    let mut wrong = Vec::new();
    compare(&path, Some(&text), &mut wrong);
    assert!(wrong.is_empty(), "write it with UPDATE_GOLDEN=1\n{}", wrong.join("\n"));
}
