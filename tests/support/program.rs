//! The program as a child process: its log, its sockets, what it uses, and its end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far above anything a test waits for; only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// `promsidecar webhook` on ports of its own, without the test's own variables.
pub(crate) fn webhook(templates: &Path, flags: &[&str]) -> Command {
    let mut command = program(&["webhook", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
    command.arg("--templates").arg(templates).args(flags);
    command
}

/// `promsidecar` with these arguments.
pub(crate) fn program(arguments: &[&str]) -> Command {
    program_by(Path::new(env!("CARGO_BIN_EXE_promsidecar")), arguments)
}

/// Another program with these arguments.
pub(crate) fn program_by(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROMSIDECAR_"))
    {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Runs a command that should end by itself: its exit code and standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(PATIENCE);
    let _ = child.kill();
    let status = child.wait().unwrap();
    (status.code(), text.unwrap_or_else(|_| panic!("{command:?} does not end")))
}

/// What the servers log once they serve.
const STARTED: [&str; 3] =
    ["promsidecar webhook started", "promsidecar controller started", "promsidecar run started"];

/// A running webhook or controller; killed when the test ends, however it ends.
pub(crate) struct Program {
    child: Child,
    log: Receiver<String>,
    unread: VecDeque<Value>,
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// Starts `command` and waits until it serves.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            // To the end, whether or not the test still listens: the pipe must not fill up.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut program = Self { child, log, unread: VecDeque::new(), webhook: nowhere, admin: nowhere };
        let mut before = VecDeque::new();
        loop {
            let line = program.next_line("that it has started");
            if STARTED.iter().any(|started| line["message"] == *started) {
                let address = |key: &str| line[key].as_str().map(|address| address.parse().unwrap());
                // A controller has no other port.
                program.webhook = address("listen").unwrap_or(nowhere);
                program.admin = address("admin").unwrap();
                program.unread = before;
                return program;
            }
            before.push_back(line);
        }
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of the log with this message, from the process's start on.
    pub(crate) fn logged(&mut self, message: &str) -> Value {
        self.logged_where(message, |_| true)
    }

    /// The next such line that satisfies `is`.
    pub(crate) fn logged_where(&mut self, message: &str, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next_line(message);
            if line["message"] == message && is(&line) {
                return line;
            }
        }
    }

    fn next_line(&mut self, wanted: &str) -> Value {
        if let Some(line) = self.unread.pop_front() {
            return line;
        }
        let line = self
            .log
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("never logged: {wanted} ({error})"));
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end: the exit code and the lines of the log that were not read.
    pub(crate) fn ended(mut self) -> (Option<i32>, Vec<Value>) {
        let mut lines = Vec::from(std::mem::take(&mut self.unread));
        let end = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(serde_json::from_str(&line).unwrap_or(Value::String(line))),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the process does not end; it logged {lines:?}"),
            }
        }
        (self.child.wait().unwrap().code(), lines)
    }

    /// Open file descriptors.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Most memory that was ever resident, in bytes (`VmHWM` of proc(5)).
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
