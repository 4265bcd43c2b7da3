//! Child processes and directories that do not outlive the test, however it ends.
//!
//! Input: a command, or a path. Output: a guard whose drop kills or removes. The guard itself is a shell that waits for the
//! end of its input, so that it also acts when the test process is killed, or exits with the guard in a static.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// Runs its arguments until they end, or until its input does.
const RUN: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ read -r _ <&3; kill -KILL "$program"; } >/dev/null 2>&1 &
watcher=$!
wait "$program"
status=$?
kill -KILL "$watcher"
exit "$status"
"#;

/// Removes a directory when its input ends. Whoever still writes into it is being killed at the same time.
const REMOVE: &str = r#"
read -r _
until rm -rf "$1"; do sleep 0.1; done
"#;

/// What is tied to the test.
#[derive(Debug)]
pub(crate) struct Leash(Child);

impl Leash {
    /// A running program with its output.
    pub(crate) fn program<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        (stdout, stderr): (Stdio, Stdio),
    ) -> Self {
        assert!(program.is_file(), "{} is missing: run `make tools` (needs Go)", program.display());
        let mut command = Command::new("sh");
        command.args(["-c", RUN, "leash"]).arg(program).args(arguments).stdout(stdout).stderr(stderr);
        Self::start(command)
    }

    /// A directory that is there.
    pub(crate) fn directory(path: &Path) -> Self {
        Self::cleaner(REMOVE, [path])
    }

    /// What is to be done in the end by a script of the shell, which reads a line of its input first.
    pub(crate) fn cleaner<A: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script, "leash"]).args(arguments).stdout(Stdio::null());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        // In a group of its own: an interrupt from the terminal is for the test, whose end is what counts here.
        Self(command.stdin(Stdio::piped()).process_group(0).spawn().expect("sh starts"))
    }

    /// The program's standard error, where it was asked for.
    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.0.stderr.take().expect("standard error is piped and not yet taken")
    }

    /// How the program ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the state of a child")
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
