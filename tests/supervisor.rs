//! The supervision loop as a real process, under both shells that agent images carry: dash and busybox.
//!
//! The agent is a stand-in script, and `sleep`, `date` and `rm` are replaced through `PATH` where a test decides about
//! time. Everything writes to one pipe, so a test reads what happened, in order, instead of waiting for it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent/container.rs"]
mod container;
#[path = "support/agent/process.rs"]
mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use process::{Process, signal};
use promsidecar::names;
use serde_json::{Value, json};
use tempfile::TempDir;

const LOOP: &str = include_str!("../src/admission/supervisor.sh");

/// Runs every test under each shell.
macro_rules! under_both_shells {
    ($($test:ident)*) => {
        mod dash { $(#[test] fn $test() { super::$test(&super::Stage::new(&["dash"])); })* }
        mod busybox { $(#[test] fn $test() { super::$test(&super::Stage::new(&["busybox", "sh"])); })* }
    };
}

under_both_shells! {
    it_waits_for_the_configuration_and_says_so_once
    it_wipes_the_log_before_every_start
    it_never_wipes_the_root_directory
    it_limits_the_agent_alone
    it_sets_no_limit_of_zero
    it_passes_every_argument_unchanged
    it_doubles_the_pause_up_to_a_minute
    it_starts_over_with_short_pauses_after_a_minute_of_life
    it_waits_for_a_configuration_that_went_missing_rather_than_backing_off
    it_passes_a_signal_on_and_awaits_the_agent
    it_ends_at_once_when_told_during_a_pause
    it_ends_at_once_when_told_while_it_waits_for_the_configuration
    it_restarts_an_agent_that_was_killed
    it_retries_an_agent_that_cannot_start
}

/// The kubelet rewrites `$$` and `$(NAME)` in `command`.
#[test]
fn the_loop_holds_nothing_that_the_kubelet_would_expand() {
    assert!(!LOOP.contains("$$"));
    assert!(!LOOP.contains("$("));
}

/// Stands in every pod's spec.
#[test]
fn the_loop_is_short() {
    assert!(LOOP.lines().count() < 40);
    assert!(LOOP.len() < 1100, "{} bytes", LOOP.len());
}

fn it_waits_for_the_configuration_and_says_so_once(stage: &Stage) {
    stage.remove_config();
    // The third look finds the file.
    stage.replace("sleep", r#"echo "sleep $1"; echo >>"$STAGE/looks"; [ "$(wc -l <"$STAGE/looks")" -lt 3 ] || : >"$STAGE/config/prometheus.yml""#);
    stage.agent(r#"echo agent; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&[], 0);
    let waiting = format!("promsidecar: waiting for {}", stage.config().display());
    assert_eq!(supervisor.next_lines(5), [waiting.as_str(), "sleep 1", "sleep 1", "sleep 1", "agent"]);
    stop(supervisor, 143);
}

fn it_wipes_the_log_before_every_start(stage: &Stage) {
    stage.replace("sleep", "");
    stage.agent(
        r#"echo "found: $(ls -A "$STAGE/wal" | tr '\n' ' ')"
        mkdir "$STAGE/wal/wal"; : >"$STAGE/wal/wal/00000000"; : >"$STAGE/wal/lock"; : >"$STAGE/wal/.hidden"
        : >"$STAGE/wal/..odd"; : >"$STAGE/wal/with space"
        exit 2"#,
    );
    fs::create_dir_all(stage.path("wal/wal/checkpoint.00000001")).unwrap();
    let mut supervisor = stage.start(&[], 0);
    let exits = |pause| format!("promsidecar: agent exited with code 2, next start in {pause}s");
    assert_eq!(supervisor.next_lines(4), ["found: ", &exits(1), "found: ", &exits(2)]);
    supervisor.signal("TERM");
    let finished = supervisor.finish();
    assert_eq!((finished.code(), finished.left), (2, vec![]));
}

fn it_never_wipes_the_root_directory(stage: &Stage) {
    stage.replace("rm", r#"echo "rm $*""#);
    // Before anything is tried: the shell really takes `rm` from PATH and has none of its own.
    let mut probe = stage.process(&["-c", "rm probe"]);
    assert_eq!(probe.next_line(), "rm probe");
    stage.agent(r#"echo agent; exec "$SLEEP" 600"#);
    for root in ["/", "//", "/.", "/usr/..", ""] {
        let mut command = stage.command_line(&[], 0);
        // The parameters after the name of the loop are: configuration, log, limit.
        let wal = command.iter().position(|word| word == "promsidecar").unwrap() + 2;
        root.clone_into(&mut command[wal]);
        let mut supervisor = stage.process_of(&command);
        assert_eq!(supervisor.next_line(), "agent", "log directory {root:?}");
        stop(supervisor, 143);
    }
    // The control: another directory is wiped.
    let mut supervisor = stage.start(&[], 0);
    assert_eq!(supervisor.next_line(), "rm -rf ./* ./.[!.]* ./..?*");
    assert_eq!(supervisor.next_line(), "agent");
    stop(supervisor, 143);
}

fn it_limits_the_agent_alone(stage: &Stage) {
    // Threads of a program that is linked to a C library have stacks of that size in the data segment.
    stage.agent(r#"echo "agent $(ulimit -d) $(ulimit -s)"; exit 1"#);
    stage.replace("sleep", r#"echo "sleep $(ulimit -d)"; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&[], 212_992);
    assert_eq!(supervisor.next_line(), "agent 212992 1024");
    supervisor.next_line();
    let own = data_limit("self");
    assert_ne!(own, "218103808", "the test itself must not have the limit");
    assert_eq!(data_limit(&supervisor.id().to_string()), own);
    assert_ne!(supervisor.next_line(), "sleep 212992");
    stop(supervisor, 1);
}

fn it_sets_no_limit_of_zero(stage: &Stage) {
    stage.agent(r#"grep '^Max data size' /proc/self/limits; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&[], 0);
    let line = supervisor.next_line();
    assert_eq!(line.split_whitespace().nth(3), Some(data_limit("self").as_str()), "{line}");
    stop(supervisor, 143);
}

fn it_passes_every_argument_unchanged(stage: &Stage) {
    let arguments = [
        "--log.level=debug",
        "two words",
        "  leading and trailing  ",
        r#"'single' "double" `echo tick` \back\\slash"#,
        "$HOME ${POD_NAME} $1 $@ $# $?",
        "line one\nline two\n",
        "*",
        "; exit 9 #",
        "",
        "-n",
        "ünï™",
    ];
    stage.agent(r#"printf '%s\0' "$@" >"$STAGE/arguments"; echo agent; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&arguments, 0);
    assert_eq!(supervisor.next_line(), "agent");
    let received = fs::read_to_string(stage.path("arguments")).unwrap();
    let received: Vec<&str> = received.strip_suffix('\0').unwrap().split('\0').collect();
    let words = stage.command_line(&arguments, 0);
    let agent = stage.path("agent").display().to_string();
    let (_, expected) = words.split_at(words.iter().position(|word| *word == agent).unwrap() + 1);
    assert!(expected.len() > arguments.len() && expected.ends_with(&arguments.map(str::to_owned)));
    assert_eq!(received, expected);
    stop(supervisor, 143);
}

fn it_doubles_the_pause_up_to_a_minute(stage: &Stage) {
    stage.replace("date", "echo 1000");
    stage.replace("sleep", r#"echo "sleep $1""#);
    stage.agent("exit 3");
    let mut supervisor = stage.start(&[], 0);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        assert_eq!(supervisor.next_lines(2), exit_and_sleep(3, pause));
    }
    supervisor.signal("TERM");
    let finished = supervisor.finish();
    assert_eq!((finished.code(), finished.left), (3, vec![]));
}

fn it_starts_over_with_short_pauses_after_a_minute_of_life(stage: &Stage) {
    // A clock that only the agent's life moves: the n-th agent lives for the n-th of these seconds.
    stage.replace("date", r#"cat "$STAGE/now""#);
    stage.replace("sleep", r#"echo "sleep $1""#);
    fs::write(stage.path("now"), "1000").unwrap();
    fs::write(stage.path("lives"), "0\n0\n59\n60\n0\n3600\n0\n0\n").unwrap();
    stage.agent(
        r#"life=$(head -n 1 "$STAGE/lives"); tail -n +2 "$STAGE/lives" >"$STAGE/rest"; mv "$STAGE/rest" "$STAGE/lives"
        echo $(($(cat "$STAGE/now") + life)) >"$STAGE/now"; exit 3"#,
    );
    let mut supervisor = stage.start(&[], 0);
    for pause in [1, 2, 4, 1, 2, 1, 2, 4] {
        assert_eq!(supervisor.next_lines(2), exit_and_sleep(3, pause));
    }
    supervisor.signal("TERM");
    assert!(supervisor.finish().left.is_empty());
}

fn it_waits_for_a_configuration_that_went_missing_rather_than_backing_off(stage: &Stage) {
    stage.replace("date", "echo 1000");
    // The second look of the waiting loop finds the file again.
    stage.replace(
        "sleep",
        r#"echo "sleep $1"
        [ -e "$STAGE/config/prometheus.yml" ] || { echo >>"$STAGE/looks"; [ "$(wc -l <"$STAGE/looks")" -lt 3 ] || : >"$STAGE/config/prometheus.yml"; }"#,
    );
    stage.agent(
        r#"echo >>"$STAGE/starts"; [ "$(wc -l <"$STAGE/starts")" != 4 ] || rm "$STAGE/config/prometheus.yml"; exit 2"#,
    );
    let mut supervisor = stage.start(&[], 0);
    for pause in [1, 2, 4] {
        assert_eq!(supervisor.next_lines(2), exit_and_sleep(2, pause));
    }
    assert_eq!(supervisor.next_lines(2), exit_and_sleep(2, 1));
    let waiting = format!("promsidecar: waiting for {}", stage.config().display());
    assert_eq!(supervisor.next_lines(3), [waiting.as_str(), "sleep 1", "sleep 1"]);
    assert_eq!(supervisor.next_lines(2), exit_and_sleep(2, 2));
    supervisor.signal("TERM");
    assert!(supervisor.finish().left.is_empty());
}

fn it_passes_a_signal_on_and_awaits_the_agent(stage: &Stage) {
    stage.agent(
        r#"trap 'echo agent told' TERM; echo agent
        until [ -e "$STAGE/flushed" ]; do "$SLEEP" 0.05; done
        exit 7"#,
    );
    for first in ["TERM", "INT"] {
        let mut supervisor = stage.start(&[], 0);
        assert_eq!(supervisor.next_line(), "agent");
        supervisor.signal(first);
        assert_eq!(supervisor.next_line(), "agent told");
        supervisor.signal("TERM");
        assert_eq!(supervisor.next_line(), "agent told");
        assert!(supervisor.is_running());
        fs::write(stage.path("flushed"), "").unwrap();
        let finished = supervisor.finish();
        assert_eq!((finished.code(), &finished.lines[..], &finished.left[..]), (7, &[][..], &[][..]));
        fs::remove_file(stage.path("flushed")).unwrap();
    }
}

fn it_ends_at_once_when_told_during_a_pause(stage: &Stage) {
    stage.agent("exit 3");
    stage.replace("sleep", r#"echo "sleep $1"; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&[], 0);
    assert_eq!(supervisor.next_lines(2), exit_and_sleep(3, 1));
    stop(supervisor, 3);
}

fn it_ends_at_once_when_told_while_it_waits_for_the_configuration(stage: &Stage) {
    stage.remove_config();
    stage.agent("echo agent");
    stage.replace("sleep", r#"echo "sleep $1"; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&[], 0);
    let waiting = format!("promsidecar: waiting for {}", stage.config().display());
    assert_eq!(supervisor.next_lines(2), [waiting.as_str(), "sleep 1"]);
    stop(supervisor, 0);
}

fn it_restarts_an_agent_that_was_killed(stage: &Stage) {
    stage.replace("sleep", r#"echo "sleep $1""#);
    stage.agent(r#"echo $$; exec "$SLEEP" 600"#);
    let mut supervisor = stage.start(&[], 0);
    let first: u32 = supervisor.next_line().parse().unwrap();
    signal(first, "KILL");
    assert_eq!(supervisor.next_lines(2), exit_and_sleep(137, 1));
    let second: u32 = supervisor.next_line().parse().unwrap();
    assert_ne!(first, second);
    stop(supervisor, 143);
}

fn it_retries_an_agent_that_cannot_start(stage: &Stage) {
    stage.replace("sleep", r#"echo "sleep $1""#);
    let mut supervisor = stage.start(&[], 0);
    // What the shell says about a missing program is its own wording.
    supervisor.next_line();
    assert_eq!(supervisor.next_lines(2), exit_and_sleep(127, 1));
    supervisor.next_line();
    assert_eq!(supervisor.next_lines(2), exit_and_sleep(127, 2));
    supervisor.signal("TERM");
    assert!(supervisor.finish().left.is_empty());
}

impl Process {
    /// The next `count` lines.
    fn next_lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next_line()).collect()
    }
}

/// What the loop says about an exit, and the replaced `sleep` after it.
fn exit_and_sleep(code: i32, pause: u32) -> [String; 2] {
    [format!("promsidecar: agent exited with code {code}, next start in {pause}s"), format!("sleep {pause}")]
}

/// Sends TERM: the loop ends with that code, silently, and leaves no process.
fn stop(supervisor: Process, code: i32) {
    supervisor.signal("TERM");
    let finished = supervisor.finish();
    assert_eq!(
        (finished.code(), &finished.lines[..], &finished.left[..]),
        (code, &[][..], &[][..]),
        "exit code, further output, processes left"
    );
}

/// Soft limit of a process's data segment: bytes or `unlimited`.
fn data_limit(process: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    line.split_whitespace().nth(3).unwrap().to_owned()
}

/// An injected pod of the goldens, with more arguments and its own limit: command and arguments are what a pod carries.
fn pod(arguments: &[&str], limit_kib: u64) -> Value {
    let golden = include_str!("golden/admission/review-replicaset/patched.yaml");
    let mut pod: Value = serde_saphyr::from_str(golden).unwrap();
    let agent = &mut pod["spec"]["initContainers"][0];
    assert_eq!(agent["name"], names::CONTAINER);
    agent["args"].as_array_mut().unwrap().extend(arguments.iter().map(|&argument| json!(argument)));
    let limit = &mut agent["command"][6];
    assert!(limit.as_str().unwrap().parse::<u64>().is_ok(), "the data limit is the third parameter: {limit}");
    *limit = json!(limit_kib.to_string());
    pod
}

/// A directory with everything that one run needs: configuration, log, agent, and programs that replace real ones.
struct Stage {
    directory: TempDir,
    shell: &'static [&'static str],
}

impl Stage {
    fn new(shell: &'static [&'static str]) -> Self {
        assert!(find_program(shell[0]).is_some(), "{} is missing: run `make tools` (needs Go)", shell[0]);
        let stage = Self { directory: tempfile::tempdir().unwrap(), shell };
        for directory in ["bin", "config", "wal"] {
            fs::create_dir(stage.path(directory)).unwrap();
        }
        fs::write(stage.config(), "").unwrap();
        stage
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn config(&self) -> PathBuf {
        self.path("config").join(names::CONFIG_KEY)
    }

    fn remove_config(&self) {
        fs::remove_file(self.config()).unwrap();
    }

    /// Writes the stand-in for the agent. `$STAGE` is this directory, `$SLEEP` the real sleep.
    fn agent(&self, script: &str) {
        write_script(&self.path("agent"), script);
    }

    /// Puts a script before the program of that name.
    fn replace(&self, program: &str, script: &str) {
        write_script(&self.path("bin").join(program), script);
    }

    fn command_line(&self, arguments: &[&str], limit_kib: u64) -> Vec<String> {
        let pod = pod(arguments, limit_kib);
        let paths = [
            (names::CONFIG_DIR, &*self.path("config")),
            (names::WAL_DIR, &*self.path("wal")),
            ("/bin/prometheus", &*self.path("agent")),
        ];
        container::command_line(container::agent(&pod), self.shell, &paths)
    }

    fn start(&self, arguments: &[&str], limit_kib: u64) -> Process {
        self.process_of(&self.command_line(arguments, limit_kib))
    }

    fn process(&self, parameters: &[&str]) -> Process {
        let words: Vec<String> = self.shell.iter().chain(parameters).map(|&word| word.to_owned()).collect();
        self.process_of(&words)
    }

    fn process_of(&self, words: &[String]) -> Process {
        let path = std::env::var_os("PATH").unwrap();
        let replaced = [self.path("bin")].into_iter().chain(std::env::split_paths(&path));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("PATH", std::env::join_paths(replaced).unwrap())
            .env("STAGE", self.directory.path())
            .env("SLEEP", find_program("sleep").unwrap());
        Process::start(&mut command)
    }
}

fn write_script(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
