//! A child process in a process group of its own, whose output is read line by line.
//!
//! Input: a command. Output: its lines in order, its exit code, and what is left of its group.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up; far above what a loaded machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// How long a process that was ended, or ends, may still be listed. What is left running runs for minutes.
const ENDING: Duration = Duration::from_secs(10);

/// The process and the lines of its stdout and stderr, which share one pipe, so that their order is kept.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts `command` without input.
    pub(crate) fn start(command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a second handle of the pipe"))
            .stderr(writer)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display()));
        // The command keeps the writing end open; without it the reader sees the end once every process has gone.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Process id, which is also the id of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line; fails the test when the process ends or is silent instead.
    pub(crate) fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(error) => panic!("no further line ({error}) after:\n{}", self.seen.join("\n")),
        }
    }

    /// Every line until now, without waiting for more.
    pub(crate) fn log(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Sends a signal to the process alone, not to its group.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the state of the child").is_none()
    }

    /// Waits for the end of the process and of its output. The output ends when no process holds it any more.
    pub(crate) fn finish(mut self) -> Finished {
        let mut lines = Vec::new();
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("a process still writes; before: {:?}, since: {lines:?}", self.seen)
                }
            }
        }
        let status = self.child.wait().expect("the end of the child");
        Finished { status, left: left(self.id()), lines }
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its processes said last")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log();
            eprintln!(
                "process {}:\n{}",
                self.id(),
                self.seen[self.seen.len().saturating_sub(20)..].join("\n")
            );
        }
        // After a failed assertion nothing of the group may outlive the test; a finished one has no group left.
        if !group(self.id()).is_empty() {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL -{}", self.id())]).status();
            let _ = self.child.wait();
        }
    }
}

/// What a process left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    status: ExitStatus,
    /// Members of its process group that still exist.
    pub(crate) left: Vec<u32>,
    /// Lines that were not read before.
    pub(crate) lines: Vec<String>,
}

impl Finished {
    /// Exit code; fails the test when a signal ended the process.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", self.status.signal()))
    }
}

/// Sends a signal by its name, such as `TERM`.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().expect("sh");
    assert!(status.success(), "signal {name} to {id}");
}

/// Members of a group that go on running. A program that has written its last line and was not awaited by the one that started
/// it, which was ended by a signal, exits on its own.
fn left(id: u32) -> Vec<u32> {
    let end = Instant::now() + ENDING;
    loop {
        let members = group(id);
        if members.is_empty() || Instant::now() > end {
            return members;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of a group that have not ended, by `/proc/*/stat` (proc(5): after the name in parentheses come state, parent and group).
pub(crate) fn group(id: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes
        .filter_map(|entry| {
            let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let group: u32 = fields.nth(1)?.parse().ok()?;
            // One that has ended stays listed until its parent, which may be anyone, asks how.
            (group == id && state != "Z").then_some(process)
        })
        .collect()
}
