//! What a node leaves behind when its test ends or is killed: nothing.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use control_plane::https::until;
use node::receiver::Receiver;
use node::workloads::{namespace, pod, template, workload};
use node::{INSTALLED, Node, cgroup};

/// Name of the test that the other one runs and kills.
const CHILD: &str = "a_pod_runs";
/// Settings of the whole machine that a kubelet usually changes.
const SETTINGS: [&str; 4] =
    ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];

#[tokio::test]
async fn a_pod_runs() {
    let objects = [namespace("left", ""), template("left/shop", &Receiver::remote(), "", "")].concat();
    let node = Node::shared(&objects).await;
    let watch = node.watch("left", "web");
    node.apply(&workload("Deployment", "left", &pod("web", "shop", &[]))).await;
    watch.ready().await;
    watch.assert_undisturbed();
}

/// Processes with their parents and the time they began at, which tells those apart that get an id again (proc(5)).
fn processes() -> BTreeMap<u32, (u32, String)> {
    let read = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        Some((words.get(1)?.parse().ok()?, (*words.get(19)?).to_owned()))
    };
    let ids = fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id| Some((id, read(id)?))).collect()
}

/// A process and all that come from it.
fn family(ancestor: u32) -> BTreeSet<(u32, String)> {
    let processes = processes();
    let descends = |mut id: u32| loop {
        if id == ancestor {
            return true;
        }
        match processes.get(&id) {
            Some((parent, _)) => id = *parent,
            None => return false,
        }
    };
    let family = processes.iter().filter(|(id, _)| descends(**id));
    family.map(|(id, (_, began))| (*id, began.clone())).collect()
}

/// Everything that has the mark of a test process, from outside of its namespaces.
fn marked(process: u32) -> Vec<String> {
    let (directory, cgroup) = (format!("node-{process}-"), cgroup(process));
    // The name of the directory goes on, that of the control groups does not: 12 is not 123.
    let is_marked = |name: &str| name.starts_with(&directory) || name == cgroup;
    let mut found = Vec::new();
    for folder in [env!("CARGO_TARGET_TMPDIR"), "/sys/fs/cgroup"] {
        walk(Path::new(folder), 2, &mut |path| {
            if path.file_name().is_some_and(|file| is_marked(&file.to_string_lossy())) {
                found.push(path.display().to_string());
            }
        });
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&directory)).map(str::to_owned));
    found
}

/// Shows directories to `see`, this deep.
fn walk(folder: &Path, depth: usize, see: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see(&entry.path());
            if depth > 1 {
                walk(&entry.path(), depth - 1, see);
            }
        }
    }
}

/// Network links of this machine, and the settings that a kubelet changes.
fn machine() -> (Vec<String>, Vec<String>) {
    let links = fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut links: Vec<_> = links.map(|link| link.file_name().to_string_lossy().into_owned()).collect();
    links.sort();
    let settings = SETTINGS.map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap());
    (links, settings.into())
}

#[tokio::test]
async fn nothing_is_left_of_a_node_whose_test_ends_or_is_killed() {
    let before = machine();
    for killed in [true, false] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(output.any(|line| line.ends_with(INSTALLED)), "the node does not start");
        let id = child.id();
        let family = family(id);
        // So that what follows is known to look in the right places.
        assert!(family.len() > 10, "{family:?}");
        let found = marked(id);
        assert!(found.len() > 1, "{found:?}");

        if killed {
            child.kill().unwrap();
        }
        output.for_each(drop);
        assert_eq!(child.wait().unwrap().success(), !killed);
        until("all processes of the node have gone", || async {
            let alive = processes();
            !family.iter().any(|(id, began)| alive.get(id).is_some_and(|(_, since)| since == began))
        })
        .await;
        until("directories, control groups and mounts have gone", || async { marked(id).is_empty() }).await;
    }
    assert_eq!(machine(), before);
}
