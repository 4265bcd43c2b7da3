//! `inject`, `uninject` and `diff` as a pipeline runs them: the program, its output and its exit codes.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use promsidecar::{manifest, workload};
use serde_json::{Value, json};

const TEMPLATES: &str = "tests/inject/templates.yaml";
const WORKLOADS: &str = include_str!("inject/workloads.yaml");

/// Exit code, standard output and standard error.
type Ran = (i32, String, String);

fn run(args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_promsidecar"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it has read everything closes the pipe, which its exit code explains.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    (
        out.status.code().unwrap(),
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
    )
}

fn inject(input: &str, flags: &[&str]) -> Ran {
    run(&[&["inject", "-f", "-", "-t", TEMPLATES, "-n", "team-a"], flags].concat(), input)
}

fn objects(text: &str) -> Vec<Value> {
    manifest::read(text).unwrap().into_iter().map(|document| document.object).collect()
}

fn pods(text: &str) -> Vec<Value> {
    let pod = |object: &Value| Some(object.pointer(workload::pod_pointer(object)?).unwrap().clone());
    objects(text).iter().filter_map(pod).collect()
}

fn agents(pod: &Value) -> usize {
    let containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    containers.filter(|container| container["name"] == "prometheus-agent").count()
}

/// Kinds and names of an injected manifest's owners, from the targets.
fn controllers(pod: &Value) -> Value {
    let targets = pod["metadata"]["annotations"]["sidecar.prometheus.io/targets"].as_str().unwrap();
    let targets: Value = serde_json::from_str(targets).unwrap();
    let labels = &targets[0]["labels"];
    json!([labels["__meta_kubernetes_pod_controller_kind"], labels["__meta_kubernetes_pod_controller_name"]])
}

#[test]
fn every_kind_of_workload_is_injected_and_restored() {
    for flags in [&[][..], &["-o", "yaml"], &["-o", "json"]] {
        let (code, injected, log) = inject(WORKLOADS, flags);
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("\n10 pods: 10 injected, 0 refused, 0 left alone\n"), "{log}");
        let pods = pods(&injected);
        assert_eq!(pods.iter().map(agents).collect::<Vec<_>>(), [1; 10]);
        assert_eq!(
            pods.iter().map(controllers).collect::<Value>(),
            json!([
                [null, null],
                [null, null],
                ["ReplicaSet", "web"],
                ["StatefulSet", "db"],
                ["DaemonSet", "logs"],
                ["ReplicationController", "old"],
                [null, null],
                ["Job", "once"],
                [null, null],
                [null, null],
            ])
        );

        let (code, again, log) = inject(&injected, &[]);
        assert_eq!((code, &again), (0, &injected), "{log}");
        assert!(log.ends_with("10 pods: 0 injected, 0 refused, 10 left alone\n"), "{log}");

        let (code, restored, log) = run(&["uninject", "-f", "-"], &injected);
        assert_eq!(code, 0, "{log}");
        assert_eq!(objects(&restored), objects(WORKLOADS));
        let (code, twice, log) = run(&["uninject", "-f", "-"], &restored);
        assert_eq!((code, &twice), (0, &restored), "{log}");
    }
}

#[test]
fn a_refused_pod_is_a_finding_and_its_document_stands() {
    let text = WORKLOADS.replace("platform/shared", "platform/shraed");
    let (code, out, log) = inject(&text, &[]);
    assert_eq!(code, 1);
    assert!(log.contains("standard input: document 4: CronJob/nightly in team-a: not injected: template-not-found: no template platform/shraed that team-a may use; near: platform/shared\n  fix: "), "{log}");
    let document = |text: &str| text.split("\n---\n").last().unwrap().to_owned();
    assert_eq!(document(&out), document(&text));
    assert_eq!(pods(&out).iter().map(agents).sum::<usize>(), 9);
}

#[test]
fn a_diff_is_empty_where_nothing_would_change() {
    let flags = ["diff", "-f", "-", "-t", TEMPLATES, "-n", "team-a"];
    let (code, out, log) = run(&flags, "kind: Pod\nspec: {containers: []}\n");
    assert_eq!((code, &*out, &*log), (0, "", ""));
    let (_, injected, _) = inject(WORKLOADS, &[]);
    assert_eq!(run(&flags, &injected), (0, String::new(), String::new()));
    let (code, out, _) = run(&flags, WORKLOADS);
    assert_eq!(code, 1);
    let removed: Vec<_> =
        out.lines().filter(|line| line.starts_with('-') && !line.starts_with("--- ")).collect();
    // A null list became a list.
    assert_eq!(removed, ["-    volumes: null"]);
}

#[test]
fn the_patch_of_a_diff_makes_what_inject_makes() {
    let pod = "kind: List\nitems:\n- kind: CronJob\n  metadata: {name: c}\n  spec: {jobTemplate: {spec: {template: {metadata: {annotations: {sidecar.prometheus.io/inject: shop, sidecar.prometheus.io/port: '1'}}, spec: {containers: [{name: a}]}}}}}\n- kind: Pod\n  metadata: {name: p, annotations: {sidecar.prometheus.io/inject: other, sidecar.prometheus.io/required: 'true'}}\n  spec: {containers: [{name: a}]}\n";
    let (code, out, log) = run(&["diff", "-f", "-", "-t", TEMPLATES, "-n", "team-a", "-o", "json"], pod);
    assert_eq!((code, &*log), (1, ""));
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!(found[0]["outcome"], "injected");
    let patch: json_patch::Patch = serde_json::from_value(found[0]["patch"].clone()).unwrap();
    let mut document: Value = serde_saphyr::from_str(pod).unwrap();
    json_patch::patch(&mut document, &patch).unwrap();
    let (_, injected, _) = inject(pod, &[]);
    assert_eq!(document, serde_saphyr::from_str::<Value>(&injected).unwrap());
    assert_eq!(
        found[1],
        json!({
            "file": "standard input", "document": 1, "kind": "Pod", "name": "p", "namespace": "team-a",
            "outcome": "denied", "reason": "template-not-found", "detail": "no template other in team-a",
            "fix": "correct the reference (near misses are named), create the PrometheusAgent, or ask its owner to allow the namespace",
            "warnings": [],
        })
    );
    let (_, yaml, _) = run(&["diff", "-f", "-", "-t", TEMPLATES, "-n", "team-a", "-o", "yaml"], pod);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), found);
}

#[test]
fn templates_and_namespaces_may_stand_among_the_manifests() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, labels: {sidecar.prometheus.io/inject: shop}}\n";
    let pod = "kind: Pod\nmetadata: {name: p, namespace: team-a, annotations: {prometheus.io/port: '80'}}\nspec: {containers: [{name: a}]}\n";
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", namespace);
    write("b.yaml", &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TEMPLATES)).unwrap());
    write("c.yaml", pod);
    let path = folder.path().to_str().unwrap();
    for flags in [&["inject", "-f", path][..], &["inject", "-f", path, "-t", path]] {
        let (code, out, log) = run(flags, "");
        assert_eq!((code, pods(&out).iter().map(agents).collect::<Vec<_>>()), (0, vec![1]), "{log}");
    }
}

#[test]
fn what_cannot_be_used_is_named_with_its_place_and_nothing_is_written() {
    let status = "kind: Pod\nmetadata: {name: p, annotations: {sidecar.prometheus.io/status: '{\"version\":9}'}}\nspec: {containers: []}\n";
    for (args, input, code, expected) in [
        (&["inject", "-f", "-"][..], "kind: A\n", 2, "--templates is not set: name a folder"),
        (
            &["inject", "-f", "missing.yaml", "-t", TEMPLATES],
            "",
            3,
            "missing.yaml: no such file; name a manifest",
        ),
        (&["inject", "-f", "-", "-t", "missing"], "kind: A\n", 3, "missing: no such file; name a manifest"),
        (
            &["inject", "-f", "-", "-t", TEMPLATES],
            "kind: A\n---\nkind: [\n",
            3,
            "standard input: document 2: line 3 column 7: unclosed bracket",
        ),
        (
            &["uninject", "-f", "-"],
            "kind: A\nkind: B\n",
            3,
            "standard input: document 1: line 2 column 1: the same key stands twice in one object; remove one",
        ),
        (
            &["uninject", "-f", "-"],
            status,
            3,
            concat!(
                "standard input: document 1: Pod/p in default: annotation sidecar.prometheus.io/status is of a newer promsidecar \
                 (status version 9), and ",
                env!("CARGO_PKG_VERSION"),
                " knows versions up to 1: use that one"
            ),
        ),
        (&["diff", "-f", "-", "-o", "toml"], "", 2, "invalid value 'toml' for '--output <FORMAT>'"),
        (&["inject"], "", 2, "--filename <FILE|DIR>"),
    ] {
        let (ran, out, log) = run(args, input);
        assert_eq!((ran, &*out), (code, ""), "{args:?} {log}");
        assert!(log.contains(expected), "{args:?}: {log}");
    }
}

/// A pod that asks for this template, in this namespace if one is given.
fn pod(template: &str, namespace: Option<&str>) -> String {
    let namespace = namespace.map_or_else(String::new, |namespace| format!("namespace: {namespace}, "));
    format!(
        "kind: Pod\nmetadata: {{name: p, {namespace}annotations: {{sidecar.prometheus.io/inject: {template}, sidecar.prometheus.io/port: '80'}}}}\nspec: {{containers: [{{name: a}}]}}\n"
    )
}

#[test]
fn a_large_list_is_compared_object_by_object() {
    let item = format!("- {}\n", pod("shop", None).trim_end().replace('\n', "\n  "));
    let text = format!("kind: List\nitems:\n{}", item.repeat(1000));
    let (code, out, _) = run(&["diff", "-f", "-", "-t", TEMPLATES, "-n", "team-a"], &text);
    assert_eq!((code, out.matches("--- standard input: document 1\n").count()), (1, 1000));
}

#[test]
fn the_namespace_of_a_manifest_counts_before_the_flag() {
    let (code, _, log) = inject(&pod("shop", Some("team-b")), &[]);
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("Pod/p in team-b: not injected: template-not-found: "), "{log}");
    // The same flags mean the same to those who ask why.
    let explain = ["explain", "-f", "-", "-t", TEMPLATES, "-n", "team-a"];
    let (code, out, log) = run(&explain, &pod("shop", Some("team-b")));
    assert_eq!(code, 1, "{log}");
    assert!(
        out.starts_with("Pod/p in team-b\n") && out.contains("not injected: template-not-found"),
        "{out}"
    );
    let (code, out, log) = inject("kind: A\n", &["-n", "Team A!"]);
    assert_eq!((code, &*out), (2, ""), "{log}");
}

#[test]
fn a_namespace_among_the_manifests_counts_before_one_that_is_there() {
    let namespace = |inject: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: team-a, labels: {{sidecar.prometheus.io/inject: '{inject}'}}}}\n---\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let there = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TEMPLATES)).unwrap();
    fs::write(folder.path().join("there.yaml"), format!("{}{there}", namespace("false"))).unwrap();
    let asks = "kind: Pod\nmetadata: {name: p, namespace: team-a, annotations: {prometheus.io/port: '80'}}\nspec: {containers: [{name: a}]}\n";
    let text = format!("{}{asks}", namespace("shop"));
    let (code, out, log) = run(&["inject", "-f", "-", "-t", folder.path().to_str().unwrap()], &text);
    assert_eq!((code, pods(&out).iter().map(agents).collect::<Vec<_>>()), (0, vec![1]), "{log}");
}

#[test]
fn a_value_without_quotes_is_a_finding() {
    let (code, _, log) = inject(&pod("true", None), &[]);
    assert_eq!(code, 1);
    assert!(
        log.contains(
            "invalid-annotation: sidecar.prometheus.io/inject is true, which is no text; put it in quotes"
        ),
        "{log}"
    );
}

#[test]
fn claims_of_a_stateful_set_are_volumes_of_its_pods_and_none_of_its_manifest() {
    let set = |claim: &str| {
        let mut set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"volumeClaimTemplates": [{"metadata": {"name": claim}, "spec": {}}]},
        });
        set["spec"]["template"] = objects(&pod("shop", None)).remove(0);
        set.to_string()
    };
    let (code, out, log) = inject(&set("data"), &[]);
    assert_eq!(code, 0, "{log}");
    let volumes = pods(&out)[0]["spec"]["volumes"].as_array().unwrap().clone();
    assert!(volumes.iter().all(|volume| volume["name"] != "data"), "{out}");
    // As the webhook says it of the pod.
    let taken = "name-taken: the pod has a volume named promsidecar of its own\n";
    let (code, _, log) = inject(&set("promsidecar"), &[]);
    assert!(code == 1 && log.contains(taken), "{log}");
}

#[test]
fn a_closed_log_does_not_cost_the_result() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_promsidecar"))
        .args(["inject", "-f", "tests/inject/workloads.yaml", "-t", TEMPLATES, "-n", "team-a"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(String::from_utf8(out.stdout).unwrap(), inject(WORKLOADS, &[]).1);
}

#[test]
fn the_version_of_the_cluster_decides_where_the_agent_stands() {
    let (code, out, log) = inject(WORKLOADS, &["--kubernetes-version", "1.28"]);
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("CronJob/nightly in team-a: not injected: needs-native-sidecar: "), "{log}");
    let last = |pod: &Value| pod["spec"]["containers"].as_array().unwrap().last().unwrap()["name"].clone();
    let agents = pods(&out).iter().filter(|pod| last(pod) == "prometheus-agent").count();
    assert_eq!(agents, 8, "all but the Job's and the CronJob's");
}
