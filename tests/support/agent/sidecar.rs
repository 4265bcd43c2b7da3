//! The agent's container, running: the command, arguments, environment and volumes of a patched pod, with the shell of the
//! image replaced by busybox and the agent by the real Prometheus of the image's tag.
//!
//! Input: a pod on its node, and changes to it. Output: the log, the agent's process and API, and how it ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::container::{self, text};
use super::kubelet::Kubelet;
use super::process::{Finished, Process, group};
use super::receiver::{get, listening_on};
use super::{tools, until};

/// A running container.
pub(crate) struct Sidecar {
    pub(crate) kubelet: Kubelet,
    pub(crate) process: Process,
    directory: PathBuf,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) finished: Finished,
    /// From the signal to the end of the last process.
    pub(crate) after: Duration,
}

impl Sidecar {
    /// Starts the agent's container in a directory of its own, which is made.
    pub(crate) fn start(mut kubelet: Kubelet, directory: &Path) -> Self {
        let (volumes, cwd) = (directory.join("volumes"), directory.join("cwd"));
        for new in [directory, &volumes, &cwd] {
            fs::create_dir(new).unwrap();
        }
        let sidecar = container::agent(&kubelet.pod).clone();
        let mounts = kubelet.mount(&sidecar, &volumes);
        let program = tools::program_of(text(&sidecar["image"]));
        let paths: Vec<(&str, &Path)> = mounts
            .iter()
            .map(|(path, directory)| (path.as_str(), directory.as_path()))
            .chain([("/bin/prometheus", program.as_path())])
            .collect();
        let words = container::command_line(&sidecar, &["busybox", "sh"], &paths);
        let process = Process::start(
            Command::new(&words[0])
                .args(&words[1..])
                .current_dir(cwd)
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap())
                .envs(kubelet.environment(&sidecar)),
        );
        Self { kubelet, process, directory: directory.to_path_buf() }
    }

    /// Changes what the pod or the objects of its namespace say, and brings it into the volumes as the kubelet does.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Kubelet)) {
        change(&mut self.kubelet);
        self.kubelet.sync();
    }

    /// Every line until now: of the loop and of its agents.
    pub(crate) fn log(&mut self) -> &[String] {
        self.process.log()
    }

    /// Lines until now that contain `part`.
    pub(crate) fn lines_with(&mut self, part: &str) -> Vec<String> {
        self.log().iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// Waits for a line that contains `part`.
    pub(crate) async fn says(&mut self, part: &str) -> String {
        let what = format!("{part:?} in the log");
        until(&what, async || self.lines_with(part).pop().ok_or_else(|| self.log().to_vec())).await
    }

    /// Process id of the agent, if one runs.
    pub(crate) fn agent(&self) -> Option<u32> {
        let is_agent = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == "prometheus\n")
        };
        group(self.process.id()).into_iter().find(is_agent)
    }

    /// A file of the container, by its path there.
    pub(crate) fn file(&self, path: &str) -> Option<String> {
        let mounts = container::agent(&self.kubelet.pod)["volumeMounts"].as_array().expect("volumeMounts");
        let (volume, below) = mounts.iter().find_map(|mount| {
            let below = path.strip_prefix(text(&mount["mountPath"]))?.strip_prefix('/')?;
            Some((text(&mount["name"]), below))
        })?;
        fs::read_to_string(self.directory.join("volumes").join(volume).join(below)).ok()
    }

    /// The active targets, by the agent's own API.
    pub(crate) async fn targets(&mut self) -> Vec<Value> {
        let address = until("address in the log", async || {
            self.log().iter().rev().find_map(|line| listening_on(line)).ok_or_else(|| self.log().to_vec())
        })
        .await;
        let response = get(address, "/api/v1/targets?state=active", None).await;
        response["data"]["activeTargets"].as_array().expect("targets").clone()
    }

    /// Tells the container to end, as the kubelet does, and waits for it. Nothing may be left of it, and nothing may have been
    /// written outside its log volume.
    pub(crate) fn stop(self) -> Ended {
        let told = Instant::now();
        self.process.signal("TERM");
        // Other tasks of the test's runtime go on: application and receiver answer.
        let finished = tokio::task::block_in_place(|| self.process.finish());
        let after = told.elapsed();
        assert_eq!(finished.left, Vec::<u32>::new(), "processes left");
        let elsewhere: Vec<_> = fs::read_dir(self.directory.join("cwd")).unwrap().collect();
        assert!(elsewhere.is_empty(), "the agent writes to its volume alone: {elsewhere:?}");
        Ended { finished, after }
    }
}
