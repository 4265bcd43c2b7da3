use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use serde_json::Value;

use super::{Args, UsageError, quoted};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn run(out: &Path, flags: &[&str]) -> anyhow::Result<Value> {
    let line = ["certs", "-ojson", "--out", out.to_str().unwrap()];
    let args = Line::try_parse_from(line.iter().chain(flags))?.args;
    let mut text = Vec::new();
    super::run(&args, &mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Whether a client that trusts `ca.crt` accepts the pair for a name at a time.
fn accepted(folder: &Path, name: &'static str, at: SystemTime) -> bool {
    let read = |file: &str| fs::read(folder.join(file)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.crt")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read("tls.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read("tls.key")).unwrap();
    let pair = CertifiedKey::from_der(chain, key, &provider).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&pair.cert[0], &[], &name, &[], now).is_ok()
}

const SERVICE: &str = "promsidecar-webhook.promsidecar-system.svc";

#[test]
fn clients_accept_the_pair_for_the_service_until_its_days_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/b");
    let report = run(&out, &["--days=30"]).unwrap();
    let now = SystemTime::now();
    let days = |days: u64| now + Duration::from_hours(24 * days);
    assert!(accepted(&out, SERVICE, now) && accepted(&out, SERVICE, days(29)));
    assert!(accepted(&out, "promsidecar-webhook.promsidecar-system.svc.cluster.local", now));
    assert!(!accepted(&out, SERVICE, days(31)) && !accepted(&out, "localhost", now));
    assert_eq!(report["certificate"]["names"][0], SERVICE);
    let key = fs::metadata(out.join("tls.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    let mut files: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["ca.crt", "tls.crt", "tls.key"]);
    let keys =
        files.iter().filter(|file| fs::read_to_string(out.join(file)).unwrap().contains("PRIVATE KEY"));
    assert_eq!(keys.count(), 1, "the authority's key is nowhere");
}

#[test]
fn names_are_those_of_another_service_or_those_that_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path(), &["--service=hook", "--namespace=mon"]).unwrap();
    assert_eq!(report["certificate"]["names"][0], "hook.mon.svc");
    let secret = report["next"]["secret"].as_str().unwrap();
    assert!(secret.starts_with("kubectl create secret tls hook-tls -n mon --cert="), "{secret}");
    let report =
        run(folder.path(), &["--force", "--dns-name=localhost,127.0.0.1", "--dns-name=::1"]).unwrap();
    assert_eq!(report["certificate"]["names"], serde_json::json!(["localhost", "127.0.0.1", "::1"]));
    assert!(accepted(folder.path(), "127.0.0.1", SystemTime::now()));
}

#[test]
fn existing_files_are_replaced_by_force_alone() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &[]).unwrap();
    fs::remove_file(folder.path().join("tls.crt")).unwrap();
    let before = fs::read(folder.path().join("ca.crt")).unwrap();
    let error = run(folder.path(), &[]).unwrap_err();
    assert!(error.is::<UsageError>());
    let error = error.to_string();
    for part in ["ca.crt, ", "tls.key would be replaced", "--force"] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
    assert_eq!(fs::read(folder.path().join("ca.crt")).unwrap(), before);
    assert!(!folder.path().join("tls.crt").exists());
    run(folder.path(), &["--force"]).unwrap();
    assert_ne!(fs::read(folder.path().join("ca.crt")).unwrap(), before);
    assert!(accepted(folder.path(), SERVICE, SystemTime::now()));
}

#[test]
fn bad_flags_are_refused_with_what_is_expected() {
    for (flags, part) in [
        (&["--days=0"][..], "1..=3650"),
        (&["--days=3651"], "1..=3650"),
        (&["--service=9"], "the name of a Service"),
        (&["--namespace=A"], "the name of a namespace"),
        (&["--dns-name=a b"], "a DNS name"),
        (&["--dns-name=a", "--service=b"], "cannot be used with"),
    ] {
        let error = run(Path::new("unused"), flags).unwrap_err().to_string();
        assert!(error.contains(part), "{flags:?}: {error}");
    }
    assert!(!Path::new("unused").exists());
}

#[test]
fn the_longest_certificate_ends_with_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path(), &["--days=3650"]).unwrap();
    assert_eq!(report["certificate"]["notAfter"], report["authority"]["notAfter"]);
}

#[test]
fn paths_are_written_as_a_shell_reads_them() {
    assert_eq!(quoted(Path::new("a/b-c_d.crt")), "a/b-c_d.crt");
    assert_eq!(quoted(Path::new("my certs/it's")), r"'my certs/it'\''s'");
}
