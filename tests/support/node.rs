//! A whole cluster with a real node: the control plane, and a kubelet with containerd that runs its pods, in namespaces of
//! its own. It needs root, and Debian's containerd, runc and network plugins ([`preflight`]).
//!
//! Input: namespaces and templates as one manifest. Output: the cluster, with the webhook under test running in it as a
//! pod, and a receiver.
//!
//! All of it is in one network namespace, so that every address is private to the test binary; containerd, kubelet and
//! pods also have mounts and processes of their own. A test's thread joins the network namespace ([`Node::shared`]), and
//! with it whatever the thread starts. The end of the test process ends everything, however it comes.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

#[path = "node/image.rs"]
pub(crate) mod image;
#[path = "node/images.rs"]
pub(crate) mod images;
#[path = "node/installation.rs"]
pub(crate) mod installation;
#[path = "node/preflight.rs"]
pub(crate) mod preflight;
#[path = "node/receiver.rs"]
pub(crate) mod receiver;
#[path = "node/settings.rs"]
pub(crate) mod settings;
#[path = "node/watch.rs"]
pub(crate) mod watch;
#[path = "node/webhook.rs"]
pub(crate) mod webhook;
#[path = "node/workloads.rs"]
pub(crate) mod workloads;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::control_plane::https::{PATIENCE, until};
use crate::control_plane::leash::Leash;
use crate::control_plane::{ControlPlane, tool};
use receiver::Receiver;
use settings::{Family, NODE_IP};
use watch::Watch;

/// First process of the namespaces.
const NAMESPACES: &str = include_str!("node/namespaces.sh");
/// What a node tells last.
pub(crate) const INSTALLED: &str = "and the webhook running in it";
/// Name of the node.
pub(crate) const NODE: &str = "node";

/// Removes the node's control groups once its processes have gone, which is when they can be removed.
const REMOVE_CGROUPS: &str = r#"
read -r _
left() { find /sys/fs/cgroup -maxdepth 2 -type d -name "$1"; }
tries=0
while [ -n "$(left "$1")" ] && [ $tries -lt 300 ]; do
  left "$1" | while read -r group; do find "$group" -depth -type d -exec rmdir {} \; ; done 2>/dev/null
  tries=$((tries + 1))
  sleep 0.1
done
"#;

/// The running cluster.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) plane: ControlPlane,
    pub(crate) receiver: Receiver,
    family: Family,
    /// Its first process, as this process sees it.
    init: u32,
    processes: Vec<Leash>,
    directory: PathBuf,
    _cleaners: [Leash; 2],
}

impl Node {
    /// The one of this test binary, started for the first test that asks, with namespaces and templates for all of its
    /// tests. The calling thread is then inside the node's network, for good.
    pub(crate) async fn shared(objects: &str) -> &'static Self {
        static SHARED: OnceCell<Node> = OnceCell::const_new();
        let start = async || {
            let began = Instant::now();
            let node = Self::start(Family::V4).await;
            webhook::install(&node, objects).await;
            told(INSTALLED, began);
            node
        };
        let node = SHARED.get_or_init(start).await;
        enter(node.init);
        node
    }

    /// One without promsidecar, for the only test of its binary.
    pub(crate) async fn start(family: Family) -> Self {
        static TRIED: AtomicBool = AtomicBool::new(false);
        let began = Instant::now();
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        if let Some(refusal) = preflight::refusal(&preflight::Facts::gather(root)) {
            panic!("{refusal}");
        }
        // Otherwise every test would wait for the same failure.
        assert!(
            !TRIED.swap(true, Ordering::SeqCst),
            "the node did not start for another test, which says why"
        );
        let cgroup = cgroup(std::process::id());
        let prefix = format!("node-{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(root).unwrap().keep();
        let cleaners = [Leash::directory(&directory), Leash::cleaner(REMOVE_CGROUPS, [&cgroup])];
        let (namespaces, init) = start_namespaces(&directory, &cgroup, family).await;
        enter(init);
        let inside = Inside { init, family, directory: directory.clone() };
        let mut processes = vec![namespaces, inside.start_containerd()];
        // The control plane needs some seconds, and so do the images. The thread begins where this one is.
        let import = std::thread::spawn(move || {
            inside.import_images();
            inside
        });
        let plane = ControlPlane::start(Some(NODE_IP.parse().expect("an address"))).await;
        let inside = import.join().expect("the images are imported");
        processes.push(inside.start_kubelet(&plane, &cgroup));
        let receiver = Receiver::start(&directory);
        let node = Self { plane, receiver, family, init, processes, directory, _cleaners: cleaners };
        node.ready().await;
        told("a cluster with a node, from nothing", began);
        node
    }

    /// Waits until pods can run.
    async fn ready(&self) {
        until("the node is ready", || async {
            let node = self.plane.api.send("GET", &format!("/api/v1/nodes/{NODE}"), &Value::Null).await.body;
            let conditions = node["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
        })
        .await;
    }

    /// A file or directory of the node's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `kubectl apply`.
    pub(crate) async fn apply(&self, objects: &Value) {
        let printed = self.plane.kubectl(&["apply", "--server-side", "-f", "-"], &objects.to_string()).await;
        assert_eq!(printed.code, 0, "{}\n{objects:#}", printed.stderr);
    }

    /// Follows the pods of a namespace that have this label `app`.
    pub(crate) fn watch(&self, namespace: &str, app: &str) -> Watch {
        Watch::start(&self.plane.api, namespace, &format!("app={app}"))
    }

    /// What a container wrote so far, its earlier runs included.
    pub(crate) fn log(&self, pod: &Value, container: &str) -> String {
        let word = |key: &str| pod["metadata"][key].as_str().expect("a stored pod has it");
        let folder = format!("{}_{}_{}", word("namespace"), word("name"), word("uid"));
        let folder = self.path("pod-logs").join(folder).join(container);
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = files.map(|entry| entry.path()).collect();
        files.sort();
        files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
    }

    /// Waits until a container has written something.
    pub(crate) async fn logged(&self, pod: &Value, container: &str, text: &str) {
        until(&format!("{container} writes {text:?}"), || async { self.log(pod, container).contains(text) })
            .await;
    }
}

/// Prints how long something took; `make e2e` shows it.
#[expect(clippy::print_stdout, reason = "these are the figures of docs/testing.md")]
pub(crate) fn told(what: &str, began: Instant) {
    println!("e2e: {:5.1} s  {what}", began.elapsed().as_secs_f64());
}

/// Process ids of the running programs of this name in a pod, as this process sees them.
pub(crate) fn processes(pod: &Value, name: &str) -> Vec<u32> {
    let uid = pod["metadata"]["uid"].as_str().expect("a stored pod has a uid");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let in_pod = |id: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        read("comm").trim_end() == name && read("cgroup").contains(uid)
    };
    ids.filter(in_pod).collect()
}

/// Control group of the node of a test process.
pub(crate) fn cgroup(process: u32) -> String {
    format!("promsidecar-e2e-{process}")
}

/// Makes the namespaces; gives their first process, as it is seen from here.
async fn start_namespaces(directory: &Path, cgroup: &str, family: Family) -> (Leash, u32) {
    let (id, up) = (directory.join("unshare.pid"), directory.join("up"));
    let script = format!(
        "echo $$ >{}; exec unshare --net --mount --pid --fork --kill-child --mount-proc \"$@\"",
        id.display()
    );
    let text = |path: &Path| path.to_str().expect("paths of the test are UTF-8").to_owned();
    let arguments = [
        "-c",
        &script,
        "unshare",
        "sh",
        "-c",
        NAMESPACES,
        "namespaces",
        cgroup,
        &text(&images::standin()),
        &text(&up),
    ];
    let arguments = [&arguments.map(str::to_owned), &*family.links()].concat();
    let log = directory.join("namespaces.log");
    let mut leash = leashed(Path::new("/bin/sh"), &arguments, &log);
    let end = Instant::now() + PATIENCE;
    while !up.exists() {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        assert!(leash.ended().is_none(), "the node's namespaces cannot be laid out:\n{}", said());
        assert!(Instant::now() < end, "the node's namespaces never get ready:\n{}", said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let parent = fs::read_to_string(id).unwrap();
    let parent = parent.trim();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    (leash, children.trim().parse().expect("unshare has one child"))
}

/// Moves the calling thread into the network of a process.
fn enter(process: u32) {
    let network = File::open(format!("/proc/{process}/ns/net")).expect("the namespaces are there");
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a network namespace");
}

/// A program that ends with the test, and its log.
pub(crate) fn leashed(program: &Path, arguments: &[String], log: &Path) -> Leash {
    let log = File::create(log).unwrap();
    Leash::program(program, arguments, (Stdio::from(log.try_clone().unwrap()), Stdio::from(log)))
}

/// What starts programs among the node's mounts and processes.
#[derive(Debug)]
struct Inside {
    init: u32,
    family: Family,
    directory: PathBuf,
}

impl Inside {
    /// Words that run a program inside.
    fn words(&self, program: &str, arguments: &[String]) -> Vec<String> {
        let init = self.init;
        let words = [
            &*format!("--target={init}"),
            "--mount",
            "--pid",
            "--",
            "env",
            &format!("PATH={}", preflight::PATH),
            program,
        ];
        words.into_iter().map(str::to_owned).chain(arguments.iter().cloned()).collect()
    }

    /// It ends with the namespaces.
    fn start(&self, program: &str, arguments: &[String]) -> Leash {
        let name =
            Path::new(program).file_name().and_then(|name| name.to_str()).expect("a program has a name");
        let log = self.directory.join(format!("{name}.log"));
        leashed(Path::new("/usr/bin/nsenter"), &self.words(program, arguments), &log)
    }

    fn start_containerd(&self) -> Leash {
        let config = self.directory.join("containerd.toml");
        fs::write(&config, settings::containerd(&self.directory)).unwrap();
        fs::create_dir(self.directory.join("cni")).unwrap();
        fs::write(self.directory.join("cni/10-node.conflist"), settings::network(self.family)).unwrap();
        self.start("containerd", &["--config".to_owned(), config.display().to_string()])
    }

    /// Assembles the images and gives them to containerd.
    fn import_images(&self) {
        for (index, image) in images::all().iter().enumerate() {
            let file = self.directory.join(format!("image-{index}.tar"));
            fs::write(&file, image.archive()).unwrap();
            let import = ["--address", settings::CONTAINERD, "--namespace", "k8s.io", "images", "import"];
            let mut import: Vec<String> = import.map(str::to_owned).into();
            import.push(file.display().to_string());
            let end = Instant::now() + PATIENCE;
            loop {
                let output = Command::new("nsenter").args(self.words("ctr", &import)).output().unwrap();
                if output.status.success() {
                    break;
                }
                // At first nobody listens yet.
                let log = fs::read_to_string(self.directory.join("containerd.log")).unwrap_or_default();
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(Instant::now() < end, "{} cannot be imported: {complaint}\n{log}", image.name);
                std::thread::sleep(Duration::from_millis(50));
            }
            fs::remove_file(file).unwrap();
        }
    }

    fn start_kubelet(&self, plane: &ControlPlane, cgroup: &str) -> Leash {
        let path = |name: &str| self.directory.join(name).display().to_string();
        fs::write(path("kubelet.json"), settings::kubelet(&self.directory, cgroup)).unwrap();
        let arguments = [
            format!("--config={}", path("kubelet.json")),
            format!("--kubeconfig={}", plane.kubeconfig("node").display()),
            format!("--root-dir={}", path("kubelet")),
            format!("--cert-dir={}", path("kubelet-certificates")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", self.family.node_ip()),
        ];
        self.start(&tool("kubelet").display().to_string(), &arguments)
    }
}

/// Several objects as one.
pub(crate) fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
