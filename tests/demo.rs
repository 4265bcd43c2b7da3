//! The demo as a newcomer runs it: the program, its output, and the webhook that stays with `--serve`.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/https.rs"]
#[expect(dead_code, reason = "the clients alone are used; the server here is the program's own")]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use promsidecar::admission::{OutcomeKind, Policy, admit};
use promsidecar::store::documents;
use promsidecar::template::Settings;
use promsidecar::{admission::Answer, manifest, workload};
use serde_json::{Value, json};
use support::{Client, soon, tls, until};

fn demo(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promsidecar"));
    command.arg("demo").args(flags).env("TMPDIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

#[test]
fn the_demo_injects_the_example_over_https_and_shows_pod_and_configuration() {
    let out = demo(&[]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    for expected in [
        "  HTTP 200, certificate verified against the webhook's own CA\n",
        "  injected: template team-a/shop, mode native\n",
        "  +   - name: prometheus-agent\n",
        "  - job_name: promsidecar/annotations\n",
        "What to try next",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colour where there is no terminal");
    let removed: Vec<_> =
        text.lines().filter(|line| line.starts_with("  - ") && line.contains(": ")).collect();
    // Lines of the configuration begin like that too, but only with these keys.
    let known = ["job_name", "url", "files", "target_label", "source_labels", "regex"];
    assert!(
        removed
            .iter()
            .all(|line| known.iter().any(|key| line.trim_start_matches(['-', ' ']).starts_with(key))),
        "nothing is removed: {removed:?}"
    );
    let longest = text
        .lines()
        .take_while(|line| !line.contains("prometheus.yml"))
        .map(|line| line.chars().count())
        .max();
    assert!(longest < Some(150), "lines are cut: {longest:?}");
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = readme.split_once("<!-- demo:start -->\n```text\n").unwrap();
    let (shown, tail) = rest.split_once("```\n<!-- demo:end -->").unwrap();
    let text = String::from_utf8(demo(&[]).output().unwrap().stdout).unwrap();
    // The port is another one each time.
    let (before, after) = text.split_once("https://127.0.0.1:").unwrap();
    let (_, after) = after.split_once('/').unwrap();
    let printed = format!("{before}https://127.0.0.1:PORT/{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let readme = format!("{head}<!-- demo:start -->\n```text\n{printed}```\n<!-- demo:end -->{tail}");
        std::fs::write(&path, readme).unwrap();
    } else {
        assert_eq!(shown, printed, "run `make golden` and read the diff");
    }
}

#[test]
fn long_values_are_shown_whole_on_request() {
    let out = demo(&["--full"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("__meta_kubernetes_pod_container_port_number"), "{text}");
}

/// Killed when the test ends, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_served_webhook_answers_the_printed_request_and_reads_edited_manifests() {
    let mut process =
        Process(demo(&["--serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = |marker: &str| {
        lines.find_map(|line| line.split_once(marker).map(|(_, rest)| rest.to_owned())).unwrap()
    };
    let ca = next("--cacert ").trim_end_matches([' ', '\\']).to_owned();
    let review = next("--data-binary @").trim_end_matches([' ', '\\']).to_owned();
    let url = next("https://localhost:");
    let templates = next("Edit the manifests in ").split(':').next().unwrap().to_owned();
    let (port, path) = url.split_once('/').unwrap();
    let (address, path) = (SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())), format!("/{path}"));
    let ca = std::fs::read_to_string(ca).unwrap();
    let review = std::fs::read(review).unwrap();
    let ask = async || -> Value {
        let mut client = Client::new(tls(address, "localhost", &ca).await.unwrap()).await;
        let response = client.send("POST", &path, &["content-type: application/json"], &review).await;
        serde_json::from_slice::<Value>(response.body()).unwrap()["response"].take()
    };
    assert_eq!(ask().await["patchType"], "JSONPatch");

    // The namespace declines from now on.
    let namespace = Path::new(&templates).join("namespace.yaml");
    let text = std::fs::read_to_string(&namespace).unwrap().replace("\"true\"", "\"false\"");
    std::fs::write(&namespace, text).unwrap();
    until("the edited namespace counts", || async { ask().await["patch"].is_null() }).await;

    let kill = format!("kill -INT {}", process.0.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || process.0.wait().unwrap());
    assert!(soon(ended).await.unwrap().success());
    assert!(!Path::new(&templates).exists(), "{templates} is removed");
}

#[test]
fn every_example_is_valid_and_every_example_workload_is_injected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files = documents::Files::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        files.insert(path.display().to_string(), manifest::read(&text).unwrap());
    }
    let built =
        documents::build(&files, &Settings::default(), &promsidecar::admission::catalog::Catalog::default());
    assert_eq!(built.problems, []);
    let violations: Vec<_> = built.catalog.templates().filter_map(|entry| entry.violation.clone()).collect();
    assert!(violations.is_empty(), "{violations:?}");

    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let workloads = files.values().flatten().filter_map(|document| workload::pod(&document.object));
    let outcomes: Vec<_> = workloads
        .map(|pod| {
            let namespace = pod["metadata"]["namespace"].clone();
            let pods = json!({"group": "", "version": "v1", "resource": "pods"});
            let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
            let request = json!({
                "uid": "u", "kind": kind, "resource": pods, "namespace": namespace, "operation": "CREATE",
                "userInfo": {}, "object": pod, "oldObject": null, "dryRun": false,
            });
            let review =
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
            match admit(&serde_json::to_vec(&review).unwrap(), &built.catalog, &policy) {
                Answer::Reviewed { outcome, .. } => outcome,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.kind == OutcomeKind::Injected), "{outcomes:?}");
}
