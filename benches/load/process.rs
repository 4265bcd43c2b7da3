//! The servers under measurement: started, pinned, accounted for, and gone when the benchmark is. IO.
//!
//! Input: programs. Output: addresses, CPU time and memory by the kernel's own accounting. A server is started through this
//! benchmark's own binary, which pins itself, ties its life to its parent's and becomes the server: no signal to the
//! benchmark, not even KILL, leaves one behind.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

/// Longest that a server takes to start.
const START: Duration = Duration::from_secs(20);

/// First argument of this binary as a launcher.
pub(crate) const LAUNCH: &str = "launch";

/// The cores that servers and client run on; absent where they share what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

/// Most cores that are looked at.
const CORES: usize = 1024;

/// Two different cores, with this process on the second; where there is but one, or no way to choose: why.
#[cfg(target_os = "linux")]
pub(crate) fn pin() -> Result<Cores, String> {
    let allowed = rustix::thread::sched_getaffinity(None).map_err(|error| error.to_string())?;
    let mut usable = (0..CORES).filter(|core| allowed.is_set(*core));
    let (Some(server), Some(client)) = (usable.next(), usable.next_back()) else {
        return Err("one core is all there is".to_owned());
    };
    pin_to(client).map_err(|error| error.to_string())?;
    Ok(Cores { server, client })
}

#[cfg(target_os = "linux")]
fn pin_to(core: usize) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> std::io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin() -> Result<Cores, String> {
    Err("pinning needs Linux".to_owned())
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_core: usize) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> std::io::Result<()> {
    Ok(())
}

/// Becomes the program that `arguments` name, behind a core or a dash; returns only if that fails.
pub(crate) fn launch(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Error {
    let mut become_program = || {
        let core = arguments.next().unwrap_or_default();
        let program = arguments.next().context("the launcher needs a core and a program")?;
        die_with_parent()?;
        if let Some(core) = core.to_str().and_then(|core| core.parse().ok()) {
            pin_to(core)?;
        }
        anyhow::Ok(Command::new(program).args(arguments.by_ref()).exec())
    };
    match become_program() {
        Ok(error) => anyhow!("a server cannot be started: {error}"),
        Err(error) => error,
    }
}

/// What both servers say on standard error once they listen; other members are passed over.
#[derive(Deserialize)]
struct Started {
    listen: SocketAddr,
}

/// A server in a process of its own; killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Certificate of the authority that signed its own.
    pub(crate) ca: String,
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Server {
    /// Starts a program that writes its authority's certificate to `ca` and then names its address.
    pub(crate) fn start(
        cores: Option<Cores>,
        program: &Path,
        arguments: &[OsString],
        ca: &Path,
    ) -> anyhow::Result<Self> {
        let core = cores.map_or_else(|| "-".to_owned(), |cores| cores.server.to_string());
        let mut process = Command::new(std::env::current_exe()?)
            .args([LAUNCH, &core])
            .arg(program)
            .args(arguments)
            // A flag's variable, or one that tunes the allocator, would measure something else.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = process.stderr.take().context("invariant: standard error is piped")?;
        // From here on the guard ends the process, whatever fails.
        let mut server = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)), ca: String::new() };
        server.address = address(BufReader::new(log))?;
        server.ca = fs::read_to_string(ca).with_context(|| format!("{}", ca.display()))?;
        Ok(server)
    }

    /// CPU time of all its threads since the start, in the scheduler's own nanoseconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let path = thread?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| {
                format!("{}: CPU time needs Linux with CONFIG_SCHED_INFO", path.display())
            })?;
            let first = text.split(' ').next().unwrap_or_default();
            nanos += first.parse::<u64>().with_context(|| format!("{}: {text:?}", path.display()))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory at present and at most.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{name} {line:?}"))
        };
        Ok(Memory { resident: kibibytes("VmRSS:")?, peak: kibibytes("VmHWM:")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the run has reported then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the log for ever, so that the server never waits for us; returns the address once it is told.
fn address(log: impl BufRead + Send + 'static) -> anyhow::Result<SocketAddr> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut seen = String::new();
    loop {
        match lines.recv_timeout(START) {
            Ok(line) => {
                if let Ok(Started { listen }) = serde_json::from_str(&line) {
                    return Ok(listen);
                }
                seen.push_str(&line);
                seen.push('\n');
            }
            Err(error) => bail!("a server did not start ({error}); it said:\n{seen}"),
        }
    }
}
