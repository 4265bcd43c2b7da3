//! Whether this machine can run a node. [`missing`] and [`refusal`] are PURE; [`Facts::gather`] looks and tries.
//!
//! Input: the machine. Output: a sentence for each feature that is missing, with what to do about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs are looked for, whatever `PATH` says: root's own directories may not be in it.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where Debian puts the programs that give pods their network.
pub(crate) const CNI: &str = "/usr/lib/cni";

/// Programs, and the Debian package of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("/usr/lib/cni/host-local", "containernetworking-plugins"),
];
/// Without these the kubelet does not start.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// Makes a control group as a node does. In version 2 the root has to pass its controllers on, which it cannot where
/// processes are in it, as in a container.
const MAKE_GROUP: &str = r#"
set -e
cd /sys/fs/cgroup
if [ -e cgroup.controllers ]; then
  for controller in cpu cpuset memory pids; do
    grep -qw $controller cgroup.subtree_control || echo "+$controller" >cgroup.subtree_control
  done
else
  cd memory
fi
mkdir promsidecar-probe-$$
rmdir promsidecar-probe-$$
"#;

/// What was found out about a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) root: bool,
    /// Programs that are not there.
    pub(crate) absent: Vec<String>,
    /// What stood in the way of network, mount and PID namespaces; empty if nothing did.
    pub(crate) namespaces: String,
    /// The same for bridge and veth.
    pub(crate) links: String,
    /// The same for an overlay mount.
    pub(crate) overlay: String,
    pub(crate) cgroups: Cgroups,
    /// What stood in the way of making a control group.
    pub(crate) group: String,
}

/// Control groups of the machine, and the controllers that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cgroups {
    V1(Vec<String>),
    V2(Vec<String>),
    Absent,
}

/// What is missing, in the order in which to get it.
pub(crate) fn missing(facts: &Facts) -> Vec<String> {
    // Nothing else could be tried.
    if !facts.root {
        return vec!["root: namespaces, mounts and control groups need it".to_owned()];
    }
    let mut missing = Vec::new();
    for program in &facts.absent {
        let package = PROGRAMS.iter().find(|(name, _)| name == program).map_or("?", |(_, package)| package);
        missing.push(format!("{program}: install the Debian package {package}, or run `make tools`"));
    }
    for (feature, obstacle) in [
        ("namespaces (net, mnt, pid)", &facts.namespaces),
        ("network links (bridge, veth)", &facts.links),
        ("overlayfs", &facts.overlay),
        ("control groups of one's own", &facts.group),
    ] {
        if !obstacle.is_empty() {
            missing.push(format!("{feature}: {obstacle}"));
        }
    }
    let (version, controllers) = match &facts.cgroups {
        Cgroups::V1(controllers) => (" (v1)", controllers.as_slice()),
        Cgroups::V2(controllers) => (" (v2)", controllers.as_slice()),
        Cgroups::Absent => ("", &[] as &[String]),
    };
    for controller in CONTROLLERS {
        if !controllers.iter().any(|found| found == controller) {
            missing.push(format!("cgroup controller {controller}: /sys/fs/cgroup{version} has none"));
        }
    }
    missing
}

/// What a test says that cannot run; nothing if it can.
pub(crate) fn refusal(facts: &Facts) -> Option<String> {
    let missing = missing(facts);
    (!missing.is_empty()).then(|| {
        format!(
            "this machine cannot run a node, for lack of\n  {}\nget them, or leave these tests out: make test E2E=0",
            missing.join("\n  ")
        )
    })
}

impl Facts {
    /// Looks at this machine; `directory` is where images will be kept.
    pub(crate) fn gather(directory: &Path) -> Self {
        let root = rustix::process::geteuid().is_root();
        let tried = |script: &str| if root { attempt(script, directory) } else { String::new() };
        Self {
            root,
            absent: PROGRAMS
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| !is_there(name))
                .map(str::to_owned)
                .collect(),
            namespaces: tried("unshare --net --mount --pid --fork --mount-proc true"),
            links: tried(
                "unshare --net sh -ec 'ip link add one type bridge; ip link add two type veth peer name three'",
            ),
            overlay: tried(
                "mkdir lower upper work merged && unshare --mount mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged",
            ),
            cgroups: cgroups(Path::new("/sys/fs/cgroup")),
            group: tried(MAKE_GROUP),
        }
    }
}

fn is_there(program: &str) -> bool {
    // An absolute path stays what it is when it is joined.
    PATH.split(':').any(|directory| PathBuf::from(directory).join(program).is_file())
}

/// Runs a script in a directory that goes afterwards; gives what it complained about if it failed.
fn attempt(script: &str, directory: &Path) -> String {
    let directory = tempfile::tempdir_in(directory).expect("a directory can be made");
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(directory.path()).env("PATH", PATH);
    match command.output() {
        Ok(output) if output.status.success() => String::new(),
        Ok(output) => {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            if complaint.is_empty() { format!("`{}` failed", script.trim()) } else { complaint }
        }
        Err(error) => format!("`{script}` does not start: {error}"),
    }
}

fn cgroups(root: &Path) -> Cgroups {
    if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
        return Cgroups::V2(controllers.split_whitespace().map(str::to_owned).collect());
    }
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let mounted = hierarchies.filter(|entry| entry.path().join("cgroup.procs").is_file());
    let names: Vec<String> = mounted.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    if names.is_empty() { Cgroups::Absent } else { Cgroups::V1(names) }
}
