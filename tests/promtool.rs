//! Prometheus' own judgement of every rendered configuration: `promtool check config --agent`.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "support/agent/tools.rs"]
mod tools;

use std::fs;
use std::path::{Component, Path};
use std::process::Command;

use promsidecar::{manifest, names};
use serde_json::Value;

/// Fewer goldens than this means that they were not found, not that there are none.
const FEWEST_GOLDENS: usize = 5;

#[test]
fn promtool_accepts_every_rendered_configuration() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/render");
    let mut rendered: Vec<_> = fs::read_dir(&goldens)
        .unwrap_or_else(|error| panic!("{}: {error}", goldens.display()))
        .map(|entry| entry.unwrap().path().join(names::CONFIG_KEY))
        .filter(|file| file.is_file())
        .collect();
    rendered.sort();
    assert!(
        rendered.len() >= FEWEST_GOLDENS,
        "{} files {} below {}, expected {FEWEST_GOLDENS} or more",
        rendered.len(),
        names::CONFIG_KEY,
        goldens.display()
    );
    let refused: Vec<String> = rendered
        .iter()
        .filter_map(|file| {
            let verdict = check(&fs::read_to_string(file).unwrap());
            verdict.err().map(|output| format!("{}:\n{output}", file.display()))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn promtool_accepts_a_configuration_whose_files_exist() {
    assert_eq!(check(WITH_FILES), Ok(()));
}

#[test]
fn promtool_refuses_an_unknown_key() {
    let output = check(&format!("{WITH_FILES}no_such_key: true\n")).unwrap_err();
    assert!(output.contains("no_such_key"), "{output}");
}

#[test]
fn promtool_refuses_what_only_a_server_can_do() {
    let output = check(&format!("{WITH_FILES}rule_files: [rules.yml]\n")).unwrap_err();
    assert!(output.contains("agent mode"), "{output}");
}

/// Names files of every kind that a configuration can name.
const WITH_FILES: &str = "
scrape_configs:
- job_name: all
  scheme: https
  authorization: {credentials_file: secrets/scrape/token}
  tls_config: {ca_file: configmaps/ca/ca.crt, cert_file: secrets/tls/tls.crt, key_file: secrets/tls/tls.key}
  file_sd_configs: [{files: ['targets/*.json']}]
remote_write:
- url: https://receiver.example/api/v1/write
  basic_auth: {username: agent, password_file: secrets/remote/password}
  tls_config: {ca_file: configmaps/ca/ca.crt}
";

/// Judges a configuration laid out with the files that it names; the error is what promtool says.
fn check(config: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let file = directory.join(names::CONFIG_KEY);
    fs::write(&file, config).unwrap();
    write(&directory.join(names::TARGETS_PATH), "[]");
    for document in manifest::read(config).unwrap() {
        lay_out_files(directory, &document.object);
    }
    let output = Command::new(tools::tool("promtool"))
        .args(["check", "config", "--agent"])
        .arg(&file)
        .output()
        .expect("promtool starts");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// Writes every file that is named by a key ending in `_file`. Prometheus reads the paths relative to the configuration.
fn lay_out_files(directory: &Path, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(path) if key.ends_with("_file") => {
                        let below =
                            Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                        assert!(below, "{key}: {path:?} leaves the directory of the configuration");
                        write(&directory.join(path), &content(key));
                    }
                    _ => lay_out_files(directory, value),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| lay_out_files(directory, item)),
        _ => {}
    }
}

/// What a file of that kind may hold. One certificate serves all: nobody connects.
fn content(key: &str) -> String {
    use std::sync::LazyLock;
    static CERTIFICATE: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> = LazyLock::new(|| {
        rcgen::generate_simple_self_signed(["receiver.example".to_owned()])
            .expect("a self-signed certificate")
    });
    match key {
        "ca_file" | "cert_file" => CERTIFICATE.cert.pem(),
        "key_file" => CERTIFICATE.signing_key.serialize_pem(),
        _ => "secret".to_owned(),
    }
}

fn write(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().expect("below the directory")).unwrap();
    fs::write(file, content).unwrap();
}
