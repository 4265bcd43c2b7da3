//! The program with what it cannot use: it says what, where and what to do, and it neither hangs nor spins.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
#[path = "support/reviews.rs"]
mod reviews;
#[path = "support/https.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use base64::Engine;
use clap::CommandFactory;
use program::{Program, program, run, webhook};
use promsidecar::cli::Cli;
use promsidecar::webhook::certificate::{Authority, Leaf};
use serde_json::{Value, json};
use support::{Client, get, tls, until};
use tempfile::TempDir;

/// A directory with the namespace and the template of the examples.
fn examples() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["namespace.yaml", "template.yaml"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        fs::copy(example, directory.path().join(name)).unwrap();
    }
    directory
}

/// Whether a pod of the examples' namespace gets an agent.
async fn injects(program: &Program, ca: &Path) -> bool {
    let pod = json!({
        "metadata": {"name": "p", "annotations": {"sidecar.prometheus.io/port": "8080"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    });
    let review = serde_json::to_vec(&reviews::creation(&pod, "team-a")).unwrap();
    let ca = fs::read_to_string(ca).unwrap();
    let mut client = Client::new(tls(program.webhook, "localhost", &ca).await.unwrap()).await;
    let response = client.post(&review).await;
    assert_eq!(response.status(), 200);
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    answer["response"]["auditAnnotations"]["decision"] == "injected"
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test]
async fn an_empty_directory_is_served_with_a_warning_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(&mut webhook(directory.path(), &[]));
    let warning =
        program.logged("no PrometheusAgent in the directory: no pod gets an agent; put a template there");
    assert_eq!(
        (&warning["level"], &warning["directory"]),
        (&json!("WARN"), &json!(directory.path().to_str().unwrap()))
    );
    // Pods start without an agent, so the answers are of use.
    assert_eq!(get(program.admin, "/readyz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn each_strange_file_is_one_line_in_the_log_and_costs_the_good_ones_nothing() {
    let (directory, ca) = (examples(), tempfile::tempdir().unwrap());
    let path = |name: &str| directory.path().join(name);
    let bomb = (1..30).fold("a0: &a0 x\n".to_owned(), |text, level| {
        let below = format!("*a{}, ", level - 1).repeat(9);
        format!("{text}a{level}: &a{level} [{below}]\n")
    });
    fs::write(path("binary.yaml"), [0x7f, b'E', b'L', b'F', 0, 0xff]).unwrap();
    fs::write(path("bomb.yaml"), bomb).unwrap();
    fs::write(path("deep.json"), "[".repeat(1_000_000)).unwrap();
    fs::write(path("half.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: te").unwrap();
    File::create(path("huge.yaml")).unwrap().set_len(100 * 1024 * 1024).unwrap();
    mkfifo(&path("fifo.yaml"));
    let _socket = UnixListener::bind(path("socket.yaml")).unwrap();
    symlink("nowhere", path("dangling.yaml")).unwrap();
    symlink("loop.yaml", path("loop.yaml")).unwrap();
    symlink("/dev/zero", path("device.yaml")).unwrap();
    // Nothing to do with these.
    fs::create_dir(path("folder.yaml")).unwrap();
    fs::write(path(".hidden.yaml"), "kind: [").unwrap();
    fs::write(path("notes.txt"), "kind: [").unwrap();

    let ca_out = ca.path().join("ca.crt");
    let mut program = Program::start(&mut webhook(directory.path(), &["--ca-out", ca_out.to_str().unwrap()]));
    assert!(injects(&program, &ca_out).await);
    let no_file = "cannot be read: it is a FIFO, a socket or a device; replace it by a file";
    let expected = [
        ("binary.yaml", "is not UTF-8: "),
        ("bomb.yaml", ""),
        ("dangling.yaml", "cannot be read: No such file or directory"),
        ("deep.json", ""),
        ("device.yaml", no_file),
        ("fifo.yaml", no_file),
        ("half.yaml", "line 3 column "),
        ("huge.yaml", "cannot be read: it has more than 16777216 bytes; make it smaller"),
        ("loop.yaml", "cannot be read: Too many levels of symbolic links"),
        ("socket.yaml", no_file),
    ];
    for (file, problem) in expected {
        let line = program.logged("manifest left out");
        assert_eq!(line["file"], file);
        assert!(line["problem"].as_str().unwrap().contains(problem), "{line}");
    }

    // A later look at the directory tells what is new, and nothing twice.
    fs::write(path("late.yaml"), "kind: [").unwrap();
    fs::remove_file(path("fifo.yaml")).unwrap();
    fs::write(path("half.yaml"), "").unwrap();
    assert_eq!(program.logged("manifest left out")["file"], "late.yaml");
    let mended: BTreeSet<_> = [(); 2].map(|()| program.logged("manifest mended")["file"].to_string()).into();
    assert_eq!(mended, ["\"fifo.yaml\"", "\"half.yaml\""].map(str::to_owned).into());
    assert!(injects(&program, &ca_out).await);
}

#[tokio::test]
async fn a_directory_that_vanishes_leaves_its_templates_in_force_until_it_is_back() {
    let (directory, ca) = (examples(), tempfile::tempdir().unwrap());
    let templates = directory.path().join("templates");
    fs::create_dir(&templates).unwrap();
    for name in ["namespace.yaml", "template.yaml"] {
        fs::rename(directory.path().join(name), templates.join(name)).unwrap();
    }
    let ca_out = ca.path().join("ca.crt");
    let mut program = Program::start(&mut webhook(&templates, &["--ca-out", ca_out.to_str().unwrap()]));
    let away = directory.path().join("away");
    fs::rename(&templates, &away).unwrap();
    let error = program.logged("templates stay as they were")["error"].as_str().unwrap().to_owned();
    let expected = format!("cannot list {}: No such file or directory (os error 2)", templates.display());
    assert_eq!(error, expected);
    assert!(injects(&program, &ca_out).await);
    assert_eq!(get(program.admin, "/readyz").await.0, 200);

    fs::remove_file(away.join("template.yaml")).unwrap();
    fs::rename(&away, &templates).unwrap();
    program.logged("the directory can be listed again");
    assert_eq!(program.logged("templates read")["templates"], 0);
    assert!(!injects(&program, &ca_out).await);
}

#[test]
fn what_cannot_start_exits_3_and_says_which_flag_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "").unwrap();
    mkfifo(Path::new(&path("fifo")));
    symlink("nowhere", path("dangling")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (listen, admin) = (format!("--listen={taken}"), format!("--admin-listen={taken}"));
    let in_use =
        "Address already in use (os error 98); another process listens there: stop it or choose another port";
    let no_directory = "; name a directory of manifests";
    for (flags, expected) in [
        (vec![listen], vec![format!("--listen {taken}: {in_use}")]),
        (vec![admin], vec![format!("--admin-listen {taken}: {in_use}")]),
        (
            vec!["--listen=192.0.2.1:0".to_owned()],
            vec!["--listen 192.0.2.1:0".to_owned(), "use 0.0.0.0".to_owned()],
        ),
        (
            vec![format!("--templates={}", path("missing"))],
            vec![path("missing"), "No such file".to_owned(), no_directory.to_owned()],
        ),
        (
            vec![format!("--templates={}", path("file"))],
            vec![path("file"), "Not a directory".to_owned(), no_directory.to_owned()],
        ),
        (
            vec![format!("--templates={}", path("fifo"))],
            vec![path("fifo"), "Not a directory".to_owned(), no_directory.to_owned()],
        ),
        (
            vec![format!("--templates={}", path("dangling"))],
            vec![path("dangling"), "No such file".to_owned(), no_directory.to_owned()],
        ),
        (
            vec![format!("--ca-out={}", path("missing/ca.crt"))],
            vec![
                format!("--ca-out {}: cannot be written", path("missing/ca.crt")),
                "No such file".to_owned(),
            ],
        ),
        (
            vec![format!("--ca-out={}", path("file/ca.crt"))],
            vec![path("file/ca.crt"), "Not a directory".to_owned()],
        ),
        (vec![format!("--ca-out={}", path(""))], vec![path(""), "cannot be written".to_owned()]),
    ] {
        // A flag that is given twice is refused, so each replaces its default.
        let given = |flag: &str| flags.iter().any(|other| other.starts_with(flag));
        let templates = format!("--templates={}", directory.path().display());
        let defaults = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", &templates];
        let rest = defaults.into_iter().filter(|flag| !given(flag.split('=').next().unwrap()));
        let (code, text) = run(program(&["webhook"]).args(rest).args(&flags));
        assert_eq!(code, Some(3), "{flags:?}: {text}");
        for part in expected {
            assert!(text.contains(&part), "{flags:?}: {part} is missing in {text}");
        }
        let left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "nothing is left behind: {left:?}");
    }
}

/// Values of each flag that cannot be used, with what the message tells to do instead.
const UNUSABLE: [(&str, &[&str], &str); 28] = [
    ("listen", &["", "8443", ":8443", "host:1", "0.0.0.0:65536", "[::]"], "such as 0.0.0.0:8443"),
    ("admin-listen", &["", "8081", "0.0.0.0:-1"], "such as 0.0.0.0:8443"),
    ("templates", &[""], "expected a path"),
    ("kubeconfig", &[""], "expected a path"),
    ("kubernetes-version", &["", "new", "1", "-1.33"], "such as 1.33"),
    ("default-template", &["", "agent", "a/b/c", "A/b"], "want NAMESPACE/NAME"),
    ("exclude-namespace", &["", "a,,b", "Team", "a b"], "expected the name of a namespace"),
    ("own-namespace", &["", "-", "x.y"], "expected the name of a namespace"),
    ("tls-cert-file", &[""], "expected a path"),
    ("tls-key-file", &[""], "expected a path"),
    ("dns-name", &["", "a b", "a,,b", "*"], "expected a DNS name"),
    ("ca-out", &[""], "expected a path"),
    ("max-in-flight", &["", "0", "65537", "-1", "many", "1.5"], "from 1 to 65536"),
    ("max-connections", &["", "0", "65537", "18446744073709551616"], "from 1 to 65536"),
    ("drain-time", &["", "15", "-1s", "61m", "1.5s", "s"], "such as 15s"),
    ("log-level", &["", "loud", "inof", "promsidecar=loud"], "use error, warn"),
    ("log-format", &["", "xml", "JSON"], "possible values: auto, json, text"),
    ("print-config", &["maybe"], "print-config"),
    ("output", &["", "yaml", "JSON"], "possible values: text, json"),
    ("controller-id", &["", " "], "expected the value of an annotation"),
    ("agent-image", &["", "a b", "prometheus:v3.5.0", "Quay.io/X"], "without a tag, such as"),
    ("agent-version", &["", "3", "latest", "2.55.1"], "such as v3.13.5"),
    ("supervisable-images", &["", "a,,b", "x:y"], "without a tag, such as"),
    ("allowed-receivers", &["", "metrics.example.com", "https://*"], "expected a URL such as"),
    ("allowed-images", &["", "x:y", "/"], "expected an image repository without a tag"),
    ("min-scrape-interval", &["", "0", "15", "-1s"], "expected a Prometheus duration above zero"),
    ("max-agent-resources", &["", "memory", "gpu=1"], "expected cpu, memory or ephemeral-storage"),
    ("max-targets", &["", "0", "-1"], "from 1 to 65536"),
];

#[test]
fn a_value_that_cannot_be_used_exits_2_and_the_message_names_flag_value_and_fix() {
    let command = Cli::command();
    let command = command.find_subcommand("webhook").unwrap();
    let known: BTreeSet<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let tested: BTreeSet<&str> = UNUSABLE.iter().map(|(flag, ..)| *flag).collect();
    assert_eq!(tested, known.into_iter().filter(|flag| !["help", "version"].contains(flag)).collect());

    let check = |command: &mut Command, flag: &str, value: &str, fix: &str| {
        if flag != "templates" {
            command.arg("--templates=t");
        }
        let (code, text) = run(command);
        assert_eq!(code, Some(2), "--{flag} {value:?}: {text}");
        let bad = value.split(',').find(|part| part.is_empty()).unwrap_or(value);
        for part in [&format!("--{flag}"), bad, fix] {
            assert!(text.contains(part), "--{flag} {value:?}: {part:?} is missing in {text}");
        }
    };
    for (flag, values, fix) in UNUSABLE {
        for value in values {
            check(program(&["webhook"]).arg(format!("--{flag}={value}")), flag, value, fix);
            // The one flag without a variable: see below.
            if *flag == *"output" {
                continue;
            }
            let variable = format!("PROMSIDECAR_{}", flag.to_uppercase().replace('-', "_"));
            check(program(&["webhook"]).env(variable, value), flag, value, fix);
        }
    }
}

#[test]
fn a_cluster_that_is_not_known_ends_the_start_and_the_message_names_every_way_to_name_one() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["webhook", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    let outside = |flags: &[&str]| {
        let mut command = program(flags);
        command.env("HOME", home.path()).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
        run(&mut command)
    };
    let (code, text) = outside(&flags);
    assert_eq!(code, Some(3), "{text}");
    for part in ["run in a pod", "--kubeconfig", "KUBECONFIG", "--templates", "No such file"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let file = home.path().join("config");
    let kubeconfig = format!("--kubeconfig={}", file.display());
    for (content, why) in
        [(None, "No such file"), (Some("a: ["), "unclosed bracket"), (Some("{}"), "current context")]
    {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let (code, text) = outside(&[&flags[..], &[&kubeconfig]].concat());
        assert_eq!(code, Some(3), "{text}");
        for part in [&format!("--kubeconfig {}: cannot be used", file.display()), why] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}

#[test]
fn a_variable_for_the_output_does_not_keep_the_webhook_from_its_settings() {
    let (code, text) = run(program(&["webhook", "--templates=t"])
        .args(["--listen=127.0.0.1:1", "--admin-listen=127.0.0.1:1"])
        .env("PROMSIDECAR_OUTPUT", "json"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--admin-listen") && !text.contains("--print-config"), "{text}");
}

#[tokio::test]
async fn a_variable_that_no_flag_reads_is_told_with_the_one_that_was_meant() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = webhook(directory.path(), &[]);
    command.env("PROMSIDECAR_DRAIN_TIM", "1s").env("PROMSIDECAR_SERVICE_HOST", "10.0.0.1");
    let mut program = Program::start(&mut command);
    let warning = program.logged("this variable names no flag and has no effect; rename or remove it");
    assert_eq!(
        (&warning["level"], &warning["variable"], &warning["nearest"]),
        (&json!("WARN"), &json!("PROMSIDECAR_DRAIN_TIM"), &json!("PROMSIDECAR_DRAIN_TIME"))
    );
    program.signal("TERM");
    program.signal("TERM");
    let (_, log) = program.ended();
    assert!(log.iter().all(|line| line.get("variable").is_none()), "{log:?}");
}

/// Certificate and key in PEM format.
fn pair(authority: &Authority) -> (String, String) {
    let Leaf { chain, key } = authority.leaf(&["localhost".to_owned()], SystemTime::now()).unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    (pem("CERTIFICATE", &chain[0]), pem("PRIVATE KEY", key.secret_der()))
}

#[tokio::test]
async fn without_a_usable_certificate_the_program_runs_unready_and_says_why_until_there_is_one() {
    let authority = Authority::new(SystemTime::now()).unwrap();
    let ((certificate, key), (_, other)) = (pair(&authority), pair(&authority));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("good.crt"), &certificate).unwrap();
    fs::write(path("good.key"), &key).unwrap();
    fs::write(path("other.key"), other).unwrap();
    fs::write(path("binary"), [0xff; 100]).unwrap();
    fs::create_dir(path("folder")).unwrap();
    File::create(path("huge")).unwrap().set_len(100 * 1024 * 1024).unwrap();
    mkfifo(&path("fifo"));
    symlink("nowhere", path("dangling")).unwrap();
    let no_file = "it is a FIFO, a socket or a device; replace it by a file";
    let mut first = None;
    for (certificate, key, expected) in [
        ("good.crt", "other.key", "certificate and key are not a usable pair: "),
        ("good.crt", "missing", "missing: No such file or directory"),
        ("good.crt", "folder", "folder: it is a directory; name a file"),
        ("good.crt", "fifo", no_file),
        ("good.crt", "dangling", "dangling: No such file or directory"),
        ("good.crt", "binary", "binary: no private key in PEM format: "),
        ("good.crt", "good.crt", "good.crt: no private key in PEM format: "),
        ("folder", "good.key", "folder: it is a directory; name a file"),
        ("fifo", "good.key", no_file),
        ("huge", "good.key", "huge: it has more than 1048576 bytes; make it smaller"),
        ("binary", "good.key", "binary: no certificate in PEM format: "),
    ] {
        let flags = [("--tls-cert-file", certificate), ("--tls-key-file", key)]
            .map(|(flag, name)| format!("{flag}={}", path(name).display()));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut program = Program::start(&mut webhook(directory.path(), &flags));
        let error = program.logged("certificate refused")["error"].as_str().unwrap().to_owned();
        assert!(error.contains(expected), "{flags:?}: {error}");
        let unready = (503, "not ready: no certificate is loaded; the log says why\n".to_owned());
        assert_eq!(get(program.admin, "/readyz").await, unready);
        assert_eq!(get(program.admin, "/livez").await.0, 200);
        assert!(tls(program.webhook, "localhost", authority.pem()).await.is_err());
        first = first.or(Some(program));
    }
    // Mended where the key was another's: taken without a restart.
    let mut program = first.unwrap();
    fs::write(path("other.key"), &key).unwrap();
    program.logged("certificate loaded");
    until("the certificate is served", || async {
        tls(program.webhook, "localhost", authority.pem()).await.is_ok()
    })
    .await;
    assert_eq!(get(program.admin, "/readyz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_does_not_end_the_service() {
    let (directory, ca) = (examples(), tempfile::tempdir().unwrap());
    let ca_out = ca.path().join("ca.crt");
    // Ports are told by the log alone, which `head` closes after the line that tells them.
    let mut command = webhook(directory.path(), &["--log-level=debug", "--ca-out", ca_out.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut head = Command::new("sh")
        .args(["-c", "grep -m1 'promsidecar webhook started'"])
        .stdin(child.stderr.take().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::Read::read_to_string(&mut head.stdout.take().unwrap(), &mut line).unwrap();
    head.wait().unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    let address = started["listen"].as_str().unwrap().parse().unwrap();
    let ca = fs::read_to_string(&ca_out).unwrap();
    for _ in 0..3 {
        // What is no review is logged.
        let mut client = Client::new(tls(address, "localhost", &ca).await.unwrap()).await;
        assert_eq!(client.post(b"no review").await.status(), 400);
    }
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}
