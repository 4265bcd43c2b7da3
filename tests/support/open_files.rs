//! The limit on open files: a test that needs more of them than the shell allows runs itself again under a higher limit, and
//! fails with the number where the machine does not grant it.

use std::process::Command;

/// A command where no more than `files` files may be open.
pub(crate) fn with_open_files(command: &Command, files: usize) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// Whether this process may open `files` files. If not, runs the test named `test` in one that may.
pub(crate) fn may_open(files: usize, test: &str) -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft = line.split_whitespace().next().unwrap();
    if soft == "unlimited" || soft.parse::<usize>().unwrap() >= files {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]);
    let status = with_open_files(&again, files).status().unwrap();
    assert!(
        status.success(),
        "{test} under `ulimit -n {files}` ended with {status}; if the limit cannot be raised, run the tests where the hard \
         limit (`ulimit -Hn`) is at least {files}; here:{line}"
    );
    false
}
