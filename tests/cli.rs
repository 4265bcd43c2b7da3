//! The command line as its users meet it: the transcripts of the documents, exit codes, and outputs that close early.
//!
//! `TRYCMD=overwrite` (`make golden`) writes the transcripts anew.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program, started at the root of the project, without settings from the environment.
fn promsidecar(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promsidecar"));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROMSIDECAR_"))
    {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    promsidecar(arguments).output().unwrap()
}

fn code(arguments: &[&str]) -> Option<i32> {
    run(arguments).status.code()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_transcript_of_the_documents_is_what_the_program_prints() {
    // A folder of its own, so that what commands write is not left in the project.
    let folder = tempfile::tempdir().unwrap();
    symlink(root().join("examples"), folder.path().join("examples")).unwrap();
    fs::create_dir(folder.path().join("tests")).unwrap();
    symlink(root().join("tests/cli"), folder.path().join("tests/cli")).unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    let cases = trycmd::TestCases::new();
    cases
        .register_bin("promsidecar", Path::new(env!("CARGO_BIN_EXE_promsidecar")))
        // The width that help is wrapped at where there is no terminal.
        .env("COLUMNS", "100")
        .case(root().join("docs/cli.md"))
        .case(root().join("README.md"));
    cases.run();
}

#[test]
fn zero_is_done_and_one_is_findings() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let explain_bad = ["explain", "-f", "tests/cli/workloads.yaml", "-t", "examples"];
    for (arguments, expected) in [
        (&["lint", "-f", "examples"][..], 0),
        (&["lint", "-f", "tests/cli/workloads.yaml"], 1),
        (&["lint", "-f", "tests/cli/workloads.yaml", "-o", "json"], 1),
        (&["validate", "-f", "examples/template.yaml"], 0),
        (&["validate", "-f", "tests/cli/template.yaml"], 1),
        (&["validate", "-f", "tests/cli/template.yaml", "-o", "json"], 1),
        (&["render", "-f", "examples/template.yaml"], 0),
        (&["render", "-f", "tests/cli/template.yaml"], 1),
        (&["render", "-f", "tests/cli/template.yaml", "-o", "json"], 1),
        (&["render", "-f", "tests/cli/template.yaml", "--configmap", "team-b", "-o", "json"], 1),
        (&["inject", "-f", "examples"], 0),
        (&["inject", "-f", "examples/deployment.yaml", "-t", "examples", "-o", "json"], 0),
        (&["inject", "-f", "tests/inject/workloads.yaml", "-t", "tests/inject/templates.yaml"], 1),
        (&["uninject", "-f", "examples"], 0),
        (&["uninject", "-f", "tests/cli/injected.yaml"], 0),
        (&["diff", "-f", "examples/template.yaml"], 0),
        (&["diff", "-f", "examples"], 1),
        (&["diff", "-f", "examples", "-o", "json"], 1),
        (&["explain"], 0),
        (&["explain", "windows", "-o", "json"], 0),
        (&["explain", "-f", "examples", "-t", "examples"], 0),
        (&["explain", "-f", "examples"], 0),
        (&explain_bad, 1),
        (&["convert", "-f", "tests/cli/central.yaml"], 0),
        (&["convert", "-f", "tests/cli/central.yaml", "-o", "json"], 0),
        (&["convert", "-f", "tests/golden/convert/impossible/input.yaml"], 1),
        (&["certs", "--out", out], 0),
        (&["completions", "fish"], 0),
        (&["man"], 0),
        (&["webhook", "--templates", "examples", "--print-config"], 0),
        (&["run", "--print-config"], 0),
        (&["--help"], 0),
        (&["demo"], 0),
    ] {
        assert_eq!(code(arguments), Some(expected), "{arguments:?}");
    }
}

#[test]
fn two_is_a_command_line_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.crt"), "mine").unwrap();
    let out = folder.path().to_str().unwrap();
    for arguments in [
        &[][..],
        &["lnit"],
        &["lint"],
        &["lint", "-f", "examples", "-o", "xml"],
        &["lint", "-f", "examples", "-n", "Team"],
        &["validate", "-f", "examples", "-o", "yaml"],
        &["render", "-f", "examples/template.yaml", "-o", "text"],
        &["render", "-f", "examples/template.yaml", "--template", "team-a/none"],
        &["render", "-f", "examples/template.yaml", "--configmap", "Team"],
        &["inject"],
        &["inject", "-f", "examples/deployment.yaml"],
        &["inject", "-f", "examples", "-o", "text"],
        &["uninject"],
        &["uninject", "-f", "examples", "-t", "examples"],
        &["diff", "-f", "examples/deployment.yaml"],
        &["diff", "-f", "examples", "-o", "toml"],
        &["explain", "no-such-reason"],
        &["explain", "windows", "-o", "yaml"],
        &["explain", "-f", "examples/deployment.yaml"],
        &["convert"],
        &["convert", "-f", "tests/cli/central.yaml", "-o", "text"],
        &["convert", "-f", "tests/cli/central.yaml", "--name", "Metrics"],
        &["convert", "-f", "tests/golden/convert/agent/input.yaml", "--name", "agent"],
        &["convert", "-f", "tests/golden/convert/list/input.yaml", "--name", "one", "-n", "shop"],
        &["explain", "pod/"],
        &["explain", "pod/Web"],
        &["check", "--pre", "--uninstall"],
        &["check", "-o", "wide"],
        &["status", "-A", "-n", "team-a"],
        &["status", "-o", "yaml"],
        &["certs"],
        &["certs", "--out", out],
        &["certs", "--out", out, "--days", "0"],
        &["certs", "--out", out, "-o", "yaml"],
        &["completions", "csh"],
        &["man", "--out", ""],
        &["webhook", "--templates", "examples", "--kubeconfig", "config"],
        &["webhook", "--templates", "examples", "-o", "json"],
        &["webhook", "--templates", "examples", "--print-config", "-o", "yaml"],
        &["controller", "--certificate", "own"],
        &["controller", "--registration", "A"],
        &["run", "--templates", "examples"],
        &["run", "--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key"],
        &["run", "--certificate", "external", "--tls-cert-file", "tls.crt"],
        &["run", "--listen", "127.0.0.1:1", "--admin-listen", "127.0.0.1:1"],
        &["demo", "--fast"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("ca.crt")).unwrap(), "mine");
}

#[test]
fn three_is_input_that_cannot_be_read_and_the_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (blocked, latin) = (folder.path().join("file"), folder.path().join("latin.yaml"));
    fs::write(&blocked, "").unwrap();
    fs::write(&latin, b"kind: \xe4").unwrap();
    let unnamed = folder.path().join("unnamed.yaml");
    fs::write(&unnamed, "{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, spec: {}}").unwrap();
    let (blocked, latin) = (blocked.to_str().unwrap(), latin.to_str().unwrap());
    let unnamed = unnamed.to_str().unwrap();
    // Nobody listens there.
    let away = folder.path().join("away");
    let cluster = r#"{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}"#;
    let context = r#"{"name": "a", "context": {"cluster": "a", "user": "a"}}"#;
    let kubeconfig =
        format!(r#"{{"clusters": [{cluster}], "contexts": [{context}], "current-context": "a"}}"#);
    fs::write(&away, kubeconfig).unwrap();
    let away = away.to_str().unwrap();
    let unreachable = "the API server cannot be asked: ";
    let broken = "tests/cli/broken.yaml: document 2: line 9 column 18: unclosed bracket '['";
    let missing = "missing.yaml: no such file; name a manifest, or - for standard input";
    let empty = "tests/cli/empty: no *.yaml, *.yml or *.json file in it; name a folder of manifests";
    for (arguments, part) in [
        (&["lint", "-f", "missing.yaml"][..], missing),
        (&["check", "--kubeconfig", "missing.yaml"], "--kubeconfig missing.yaml: cannot be used: "),
        (&["check", "--kubeconfig", away], unreachable),
        (&["check", "--uninstall", "--kubeconfig", away], unreachable),
        (&["status", "--kubeconfig", away], unreachable),
        (&["explain", "pod/web", "--kubeconfig", away], unreachable),
        (&["lint", "-f", "tests/cli/broken.yaml"], broken),
        (&["lint", "-f", "tests/cli/empty"], empty),
        (&["lint", "-f", "examples", "-t", "tests/cli/broken.yaml"], broken),
        (&["lint", "-f", latin], "is not text in UTF-8; name a manifest in YAML or JSON"),
        (&["lint", "-f", "-"], "standard input: no object in it"),
        (&["validate", "-f", "missing.yaml"], missing),
        (&["validate", "-f", "tests/cli/broken.yaml"], broken),
        (&["validate", "-f", "tests/cli/empty"], empty),
        (
            &["validate", "-f", "examples/deployment.yaml"],
            "no PrometheusAgent in it (1 object of another kind)",
        ),
        (&["render", "-f", "missing.yaml"], missing),
        (&["render", "-f", "tests/cli/broken.yaml", "--configmap", "x"], broken),
        (&["render", "-f", "tests/cli/empty"], empty),
        (&["inject", "-f", "missing.yaml"], missing),
        (&["inject", "-f", "examples", "-t", "tests/cli/broken.yaml"], broken),
        (&["inject", "-f", "tests/cli/empty"], empty),
        (&["uninject", "-f", "missing.yaml"], missing),
        (&["uninject", "-f", "tests/cli/broken.yaml"], broken),
        (&["uninject", "-f", latin], "is not text in UTF-8; name a manifest in YAML or JSON"),
        (&["diff", "-f", "tests/cli/broken.yaml", "-t", "examples"], broken),
        (&["diff", "-f", "tests/cli/empty"], empty),
        (&["explain", "-f", "missing.yaml", "-t", "examples"], missing),
        (&["explain", "-f", "examples", "-t", "missing.yaml"], missing),
        (&["explain", "-f", "tests/cli/broken.yaml", "-t", "examples"], broken),
        (&["explain", "-f", "examples/template.yaml", "-t", "examples"], "no pod and no workload"),
        (&["convert", "-f", "missing.yaml"], missing),
        (&["convert", "-f", "tests/cli/broken.yaml"], broken),
        (&["convert", "-f", "examples/deployment.yaml"], "no PrometheusAgent and no Prometheus in it"),
        (
            &["convert", "-f", unnamed],
            "document 1: metadata.name is missing or not a name that the API server accepts",
        ),
        (&["certs", "--out", blocked], "cannot be made: "),
        (&["man", "--out", blocked], "cannot be made: "),
    ] {
        let output = run(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {error}");
        assert!(error.starts_with("promsidecar: ") && error.contains(part), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    }
}

#[test]
fn results_are_json_for_every_command_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    for arguments in [
        &["lint", "-f", "tests/cli/workloads.yaml"][..],
        &["lint", "-f", "examples"],
        &["validate", "-f", "tests/cli/template.yaml"],
        &["render", "-f", "tests/cli/template.yaml"],
        &["render", "-f", "examples/template.yaml", "--configmap", "team-b"],
        &["inject", "-f", "examples/deployment.yaml", "-t", "examples"],
        &["uninject", "-f", "tests/cli/injected.yaml"],
        &["diff", "-f", "examples"],
        &["explain"],
        &["explain", "windows"],
        &["explain", "-f", "tests/cli/workloads.yaml", "-t", "examples"],
        &["convert", "-f", "tests/cli/central.yaml"],
        &["convert", "-f", "tests/golden/convert/list/input.yaml"],
        &["certs", "--out", out],
        &["webhook", "--templates", "examples", "--print-config"],
    ] {
        let output = run(&[arguments, &["-o", "json"]].concat());
        let parsed = serde_json::from_slice::<Value>(&output.stdout);
        assert!(parsed.is_ok(), "{arguments:?}: {parsed:?}");
        assert!(output.stdout.ends_with(b"}\n") || output.stdout.ends_with(b"]\n"), "{arguments:?}");
    }
}

#[test]
fn a_config_map_carries_the_bytes_that_render_prints() {
    let template = ["render", "-f", "examples/template.yaml"];
    let output = run(&[&template[..], &["-n", "team-b"]].concat());
    let rendered: String = text(&output.stdout).lines().filter(|line| !line.starts_with('#')).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    let yaml = run(&[&template[..], &["--configmap", "team-b"]].concat());
    let yaml: Value = serde_saphyr::from_str(text(&yaml.stdout)).unwrap();
    let json = run(&[&template[..], &["--configmap", "team-b", "-o", "json"]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(yaml, json);
    assert_eq!(
        yaml,
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "promsidecar-shop-6b3e3555",
                "namespace": "team-b",
                "labels": {"app.kubernetes.io/managed-by": "promsidecar"},
                "annotations": {"sidecar.prometheus.io/template": "team-a/shop"},
            },
            "data": {"prometheus.yml": rendered},
        })
    );
}

#[test]
fn a_config_map_in_json_leaves_its_notes_on_standard_error() {
    let config_map = ["render", "-f", "examples/template.yaml", "--configmap", "team-b"];
    let yaml = run(&config_map);
    let notes: Vec<_> = text(&yaml.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .skip(2)
        .map(|note| format!("team-a/shop: {note}"))
        .collect();
    assert!(notes.iter().any(|note| note.contains(": not permitted: ")), "{notes:?}");
    let json = run(&[&config_map[..], &["-o", "json"]].concat());
    assert_eq!(text(&json.stderr).lines().collect::<Vec<_>>(), notes);
}

#[test]
fn names_in_a_manifest_forge_no_line_and_no_escape() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forged.json");
    let name = "web\u{1b}[2K\nno findings\u{202e}";
    let metadata = serde_json::json!({
        "name": name, "namespace": name,
        "annotations": {"sidecar.prometheus.io/inject": "true", format!("sidecar.prometheus.io/{name}"): "x"},
    });
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c"}]},
    });
    fs::write(&file, pod.to_string()).unwrap();
    let file = file.to_str().unwrap();
    for arguments in [&["lint", "-f", file][..], &["explain", "-f", file, "-t", "examples"]] {
        let output = run(arguments);
        let printed = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("web"), "{printed}");
        assert!(!printed.contains(['\u{1b}', '\u{202e}']), "{printed:?}");
        assert!(printed.lines().all(|line| !line.starts_with("no findings")), "{printed:?}");
    }
}

#[test]
fn manifests_are_read_from_standard_input() {
    let manifest = fs::read(root().join("tests/cli/workloads.yaml")).unwrap();
    let mut child =
        promsidecar(&["lint", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&manifest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).starts_with("standard input: document 1: Deployment team-a/web: 3 findings\n")
    );
}

#[test]
fn a_reader_that_leaves_early_changes_neither_the_exit_code_nor_standard_error() {
    for (arguments, expected) in [
        (&["explain"][..], 0),
        (&["explain", "-o", "json"], 0),
        (&["lint", "-f", "tests/cli/workloads.yaml"], 1),
        (&["validate", "-f", "tests/cli/template.yaml"], 1),
        (&["render", "-f", "examples/template.yaml"], 0),
        (&["inject", "-f", "examples"], 0),
        (&["uninject", "-f", "tests/cli/injected.yaml"], 0),
        (&["diff", "-f", "examples"], 1),
        (&["diff", "-f", "examples", "-o", "json"], 1),
        (&["convert", "-f", "tests/cli/central.yaml"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["webhook", "--templates", "examples", "--print-config"], 0),
        (&["--help"], 0),
        (&["demo"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = promsidecar(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let told = run(arguments).stderr;
        assert_eq!((child.wait().unwrap().code(), &*error), (Some(expected), text(&told)), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_an_error_that_names_standard_output() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = promsidecar(&["explain"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    assert!(error.starts_with("promsidecar: standard output cannot be written: "), "{error}");
}

#[test]
fn colour_and_alignment_are_for_terminals() {
    for arguments in [&["explain"][..], &["lint", "-f", "tests/cli/workloads.yaml"], &["demo"]] {
        assert!(!text(&run(arguments).stdout).contains('\x1b'), "{arguments:?}");
    }
    // `script` gives the program a terminal.
    let on_terminal = |variable: &str| {
        let line = format!("{variable} {} explain", env!("CARGO_BIN_EXE_promsidecar"));
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        text(&output.stdout).replace('\r', "")
    };
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let spaces = " ".repeat(11);
    assert_eq!(
        first(on_terminal("NO_COLOR=")),
        format!("\x1b[1mnot-requested\x1b[0m{spaces}nobody asked for an agent")
    );
    assert_eq!(first(on_terminal("NO_COLOR=1")), format!("not-requested{spaces}nobody asked for an agent"));
    assert_eq!(first(text(&run(&["explain"]).stdout).to_owned()), "not-requested\tnobody asked for an agent");
}

#[test]
fn monitors_that_cannot_be_used_are_told_on_standard_error_and_cost_nothing_else() {
    for command in ["inject", "diff", "explain"] {
        let output =
            run(&[command, "-f", "examples/deployment.yaml", "--templates", "tests/cli/monitors.yaml"]);
        let lines: Vec<_> = text(&output.stderr).lines().filter(|line| line.contains("PodMonitor")).collect();
        let [line] = lines[..] else { unreachable!("{command}: {lines:?}") };
        let start = "template team-a/shop: rejected: PodMonitor team-a/slow: \
                     spec.podMetricsEndpoints[0].scrapeTimeout: ";
        assert!(line.starts_with(start), "{command}: {line}");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {:?}", output.status);
    }
}

#[test]
fn a_monitor_without_a_name_of_its_own_is_a_finding_of_validate_and_of_lint_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().display().to_string();
    let good = fs::read_to_string(root().join("tests/cli/monitors.yaml")).unwrap();
    let monitor = |metadata: &str| {
        format!(
            "---\napiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {metadata}\nspec: {{}}\n"
        )
    };
    let bad =
        monitor("{namespace: team-a}") + &monitor("{name: 7}") + &monitor("{name: web, namespace: team-a}");
    fs::write(format!("{folder}/a.yaml"), good).unwrap();
    fs::write(format!("{folder}/b.yaml"), bad).unwrap();
    let unnamed = "is missing or not a name that the API server accepts";
    let twice =
        "is that of PodMonitor team-a/web, which was already defined above or in an earlier file and counts";
    // What is rendered is not what is wrong.
    for (command, expected) in [("validate", 1), ("lint", 1), ("render", 0)] {
        let output = run(&[command, "-f", folder]);
        assert_eq!(output.status.code(), Some(expected), "{command}: {output:?}");
        let told = text(&output.stdout).to_owned() + text(&output.stderr);
        assert_eq!(told.matches(unnamed).count(), 2, "{command}: {told}");
        assert_eq!(told.matches(twice).count(), 1, "{command}: {told}");
        // The others are judged.
        assert!(told.contains("spec.podMetricsEndpoints[0].scrapeTimeout"), "{command}: {told}");
    }
    let output = run(&["validate", "-o", "json", "-f", folder]);
    assert_eq!((output.status.code(), text(&output.stderr).matches("PodMonitor").count()), (Some(1), 4));
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok());
    let output = run(&["explain", "-f", "examples/deployment.yaml", "--templates", folder]);
    // Whoever decides about a pod needs all of it.
    assert_eq!(
        (output.status.code(), text(&output.stderr).matches(unnamed).count()),
        (Some(3), 1),
        "{output:?}"
    );
}

#[test]
fn service_monitors_are_rendered_for_the_services_beside_them_and_others_are_refused_by_name() {
    let file = "tests/cli/services.yaml";
    let refused = "refused: ServiceMonitor team-a/web: Service team-a/foreign has no selector";
    let output = run(&["render", "-f", file, "--namespace", "team-a"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let rendered = text(&output.stdout);
    assert!(rendered.contains("job_name: serviceMonitor/team-a/web/0/shop\n"), "{rendered}");
    assert!(rendered.contains(&format!("# {refused}")), "{rendered}");
    assert!(!rendered.contains("serviceMonitorSelector"), "{rendered}");
    let output = run(&["validate", "-o", "json", "-f", file]);
    let judged: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let services = &judged[0]["serviceMonitors"];
    assert_eq!(services["taken"], serde_json::json!(["team-a/web"]));
    assert_eq!(services["rejected"], serde_json::json!([]));
    assert_eq!(services["refused"][0]["service"], "team-a/foreign");
    let output = run(&["lint", "-f", file]);
    let found = text(&output.stdout).matches("monitor-rejected").count();
    assert_eq!((output.status.code(), found), (Some(1), 1), "{output:?}");
    for command in ["inject", "diff", "explain"] {
        let output = run(&[command, "-f", "examples/deployment.yaml", "--templates", file]);
        assert!(text(&output.stderr).contains(refused), "{command}: {output:?}");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {:?}", output.status);
    }
}
