//! The oracle: code of Kubernetes, prometheus-operator and Prometheus behind a pipe, built by `make tools`.
//!
//! Input: pods, patches, objects, configurations. Output: what upstream's own code makes of them. There is one process per
//! test binary; its requests are answered one after another. `tests/tools/oracle` has the other end.

#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Upstream's refusal to go on, and the step that it happened in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Failure {
    pub(crate) stage: String,
    pub(crate) message: String,
}

pub(crate) type Answer<T> = Result<T, Failure>;

/// A pod as the API server sends it to webhooks.
#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    pub(crate) pod: Value,
    /// What has no place in a Pod.
    pub(crate) dropped: Vec<String>,
}

/// As the API server would send this pod to webhooks: with defaults, without what it does not know.
pub(crate) fn sent(pod: &Value) -> Answer<Sent> {
    ask("sent", &json!({"pod": pod}))
}

/// What the API server says of a pod between admission and storage.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) unknown: Vec<String>,
    pub(crate) errors: Vec<String>,
    /// As kubectl prints them.
    pub(crate) warnings: Vec<String>,
    pub(crate) qos: String,
}

/// The creation of a pod.
pub(crate) fn validate(pod: &Value, namespace: &str) -> Answer<Verdict> {
    ask("validate", &json!({"pod": pod, "namespace": namespace}))
}

/// An update of a pod.
pub(crate) fn validate_update(pod: &Value, old: &Value, namespace: &str) -> Answer<Verdict> {
    ask("validate", &json!({"pod": pod, "old": old, "namespace": namespace}))
}

/// Violations of the Pod Security Standards, by level and version, such as `restricted:v1.25`.
pub(crate) type Violations = BTreeMap<String, Vec<String>>;

/// Asks the Pod Security Standards; a level that is satisfied is absent from the answer.
pub(crate) fn pod_security(pod: &Value, levels: &[String]) -> Answer<Violations> {
    #[derive(Deserialize)]
    struct Reply {
        violations: Violations,
    }
    ask("psa", &json!({"pod": pod, "levels": levels})).map(|Reply { violations }| violations)
}

/// A pod after the API server's steps with a patch.
#[derive(Debug, Deserialize)]
pub(crate) struct Patched {
    pub(crate) pod: Value,
    /// What the API server leaves out of the patched pod without a word.
    pub(crate) dropped: Vec<String>,
    /// Whether anything is left of the patch.
    pub(crate) changed: bool,
}

/// Takes the API server's steps with a patch: encode, apply, decode, default.
pub(crate) fn patch(pod: &Value, patch: &Value) -> Answer<Patched> {
    ask("patch", &json!({"pod": pod, "patch": patch}))
}

/// Applies a patch to the JSON as it is, with the API server's engine alone.
pub(crate) fn apply(pod: &Value, patch: &Value) -> Answer<Value> {
    ask("patch", &json!({"pod": pod, "patch": patch, "engineOnly": true})).map(|patched: Patched| patched.pod)
}

/// An object after the API server's steps with a custom resource.
#[derive(Debug, Deserialize)]
pub(crate) struct Custom {
    pub(crate) object: Value,
    pub(crate) pruned: Vec<String>,
    pub(crate) errors: Vec<String>,
}

/// Judges an object by the custom resource definitions that prometheus-operator ships.
pub(crate) fn custom_resource(object: &Value) -> Answer<Custom> {
    ask("crd", &json!({"object": object}))
}

/// What prometheus-operator generates.
#[derive(Debug, Deserialize)]
pub(crate) struct Generated {
    /// A `prometheus.yml`.
    pub(crate) config: String,
    /// Monitors that were taken, as kind/namespace/name.
    pub(crate) selected: Vec<String>,
    /// Monitors that were not, with the reason.
    pub(crate) rejected: BTreeMap<String, String>,
    pub(crate) warnings: Vec<String>,
    /// Flags of the agent.
    pub(crate) arguments: Vec<String>,
    /// Objects that are mounted as a whole, as kind/name by path.
    pub(crate) objects: BTreeMap<String, String>,
}

/// Generates the configuration of a `PrometheusAgent` that is among the objects.
pub(crate) fn config(objects: &[Value], daemon_set: bool) -> Answer<Generated> {
    ask("config", &json!({"objects": objects, "daemonSet": daemon_set}))
}

pub(crate) type Labels = BTreeMap<String, String>;

/// One target of a configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) job: String,
    /// Before relabeling.
    pub(crate) discovered: Labels,
    /// After relabeling; `None` if the target was dropped.
    pub(crate) labels: Option<Labels>,
    pub(crate) url: Option<String>,
    /// Those of the request, then the reports.
    #[serde(default)]
    pub(crate) series: Vec<Series>,
}

/// One series of a target.
#[derive(Debug, Deserialize)]
pub(crate) struct Series {
    /// `None` if metric relabeling dropped it.
    pub(crate) stored: Option<Labels>,
    /// Per remote write; `None` where write relabeling dropped it.
    #[serde(default)]
    pub(crate) sent: Vec<Option<Labels>>,
}

/// Targets and failures of targets.
#[derive(Debug, Deserialize)]
pub(crate) struct Labelled {
    pub(crate) targets: Vec<Target>,
    pub(crate) failures: Vec<String>,
}

/// What the agent has around its configuration.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Surroundings {
    /// Pods that the API would list.
    pub(crate) pods: Vec<Value>,
    /// Services, of whose endpoints it makes what Kubernetes would.
    pub(crate) services: Vec<Value>,
    /// Content of target files by path.
    pub(crate) files: BTreeMap<String, String>,
    /// Environment of the agent.
    pub(crate) env: BTreeMap<String, String>,
    /// Series that every target exposes.
    pub(crate) series: Vec<Labels>,
    /// Names of the series that a scrape says of itself; `up` where there are none.
    pub(crate) reports: Vec<String>,
}

/// Follows series from discovery to remote write through a `prometheus.yml`.
pub(crate) fn labels(config: &str, around: &Surroundings) -> Answer<Labelled> {
    let mut arguments = serde_json::to_value(around).expect("surroundings are JSON");
    arguments["config"] = json!(config);
    ask("labels", &arguments)
}

/// What Prometheus finds in one pod.
#[derive(Debug, Deserialize)]
pub(crate) struct Group {
    pub(crate) source: String,
    /// Absent where the pod has no address.
    pub(crate) labels: Option<Labels>,
    pub(crate) targets: Option<Vec<Labels>>,
}

/// Discovers pods as `kubernetes_sd_configs` with `role: pod` does: one group a pod.
pub(crate) fn discover(pods: &[Value]) -> Answer<Vec<Group>> {
    #[derive(Deserialize)]
    struct Reply {
        groups: Vec<Group>,
    }
    ask("podsd", &json!({"pods": pods})).map(|Reply { groups }| groups)
}

/// Asks anything; for requests that the functions above cannot make.
pub(crate) fn ask<T: DeserializeOwned>(operation: &str, arguments: &Value) -> Answer<T> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Reply<T> {
        Result(T),
        Failure(Failure),
    }
    let mut request =
        serde_json::to_vec(&json!({"op": operation, "args": arguments})).expect("a request is JSON");
    request.push(b'\n');
    let reply = PROCESS.lock().expect("an oracle that answers").exchange(&request);
    match serde_json::from_str(&reply) {
        Ok(Reply::Result(result)) => Ok(result),
        Ok(Reply::Failure(failure)) => Err(failure),
        Err(error) => panic!("the oracle's reply to {operation} is not what it should be: {error}: {reply}"),
    }
}

static PROCESS: LazyLock<Mutex<Process>> = LazyLock::new(|| Mutex::new(Process::start()));

/// A running oracle. It ends with its input, thus with the test.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/oracle/oracle");
        assert!(program.is_file(), "the oracle is missing: run `make tools` (needs Go)");
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let input = child.stdin.take().expect("a piped input");
        let output = BufReader::new(child.stdout.take().expect("a piped output"));
        Self { child, input, output }
    }

    /// Sends a line and waits for the one that answers it.
    fn exchange(&mut self, request: &[u8]) -> String {
        let mut reply = String::new();
        let exchanged = self.input.write_all(request).and_then(|()| self.output.read_line(&mut reply));
        if !matches!(exchanged, Ok(1..)) {
            let status = self.child.wait();
            panic!("the oracle ended with {status:?}: {exchanged:?}; it says why on standard error");
        }
        reply
    }
}

/// Directory of a Go module in the version that the oracle is built from, downloaded if need be.
pub(crate) fn module(path: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/oracle");
    let output = Command::new("go")
        .args(["mod", "download", "-json", path])
        .current_dir(own)
        .env("GOWORK", "off")
        .output()
        .expect(
            "the corpora need Go: install it from go.dev/doc/install and put its bin directory into PATH",
        );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let directory = told["Dir"].as_str().unwrap_or_else(|| {
        panic!("{path} cannot be downloaded: {told} {}", String::from_utf8_lossy(&output.stderr))
    });
    PathBuf::from(directory)
}
