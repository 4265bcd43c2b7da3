//! Which cluster is asked, as whoever starts the program meets it: kubeconfigs that cannot be used, and proxies.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

/// The program, with nothing of this process' environment.
fn promsidecar(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promsidecar"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A kubeconfig with one cluster, and what else is said of it.
fn kubeconfig(server: &str, more: &str) -> String {
    let cluster = format!(r#"{{"name": "a", "cluster": {{"server": "{server}"{more}}}}}"#);
    let context = r#"{"name": "a", "context": {"cluster": "a"}}"#;
    format!(r#"{{"clusters": [{cluster}], "contexts": [{context}], "current-context": "a"}}"#)
}

#[test]
fn a_broken_kubeconfig_is_named_and_is_not_the_cluster_of_the_pod() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("prod.yaml"), folder.path().join("away"));
    let in_a_pod = |command: &[&str], kubeconfig: &Path| {
        let mut command = promsidecar(command);
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "1");
        let output = command.env("KUBECONFIG", kubeconfig).env("HOME", folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        text(&output.stderr).to_owned()
    };
    for (content, why) in [
        (None, "no such file; name one that is there, or unset KUBECONFIG"),
        (Some("current-context: prod\n"), "it has no context \"prod\" (current-context)"),
        (Some("clusters: [\n"), "unclosed bracket '['"),
    ] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        for command in [&["rollout", "run", "-A"][..], &["rollout", "plan"], &["check"], &["controller"]] {
            let error = in_a_pod(command, &path);
            let start = format!("KUBECONFIG {}: cannot be used: ", path.display());
            assert!(error.contains(&start) && error.contains(why), "{command:?}: {error}");
        }
    }
    // kubectl passes over a file of the list that is not there.
    fs::write(&path, kubeconfig("http://127.0.0.1:1", "")).unwrap();
    for both in [[&away, &path], [&path, &away]] {
        let error = in_a_pod(&["check"], Path::new(&std::env::join_paths(both).unwrap()));
        assert!(error.contains("the API server cannot be asked: "), "{error}");
    }
}

#[test]
fn a_proxy_is_asked_for_the_cluster_and_its_password_is_never_printed() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            sender.send(text(&bytes[..count]).lines().next().unwrap().to_owned()).unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let kubeconfig = |more: &str| kubeconfig("https://api.example:6443", more);
    let proxy = format!("http://u:secret@{address}");
    let own = format!(r#", "proxy-url": "{proxy}""#);
    // What a kubeconfig says of its cluster counts, whatever the environment says.
    for (cluster, https, no) in
        [("", &*proxy, "10.0.0.0/8,"), (&own, "http://u:secret@127.0.0.1:1", "*"), (&own, "", "")]
    {
        fs::write(&path, kubeconfig(cluster)).unwrap();
        let mut command = promsidecar(&["rollout", "run", "-A", "--kubeconfig", path.to_str().unwrap()]);
        command.env("HTTPS_PROXY", https).env("NO_PROXY", no).env("RUST_LOG", "trace");
        let output = command.output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("the API server cannot be asked: ") && !said.contains("secret"), "{said}");
        let asked: Vec<String> = asked.try_iter().collect();
        assert!(
            !asked.is_empty() && asked.iter().all(|line| line.starts_with("CONNECT api.example:6443 ")),
            "{asked:?}"
        );
    }
    // One that cannot be used is told without its password as well.
    for proxy in ["ftp://u:secret@proxy", "http://u:secret word@proxy"] {
        fs::write(&path, kubeconfig("")).unwrap();
        let mut command = promsidecar(&["check", "--kubeconfig", path.to_str().unwrap()]);
        let output = command.env("HTTPS_PROXY", proxy).env("NO_PROXY", "").output().unwrap();
        let said = text(&output.stderr);
        assert!(
            said.contains("HTTPS_PROXY: it is no address of a proxy") && !said.contains("secret"),
            "{said}"
        );
    }
}
