//! A client for the API server. IO: what is read is read by [`kubeconfig`].
//!
//! Input: which cluster is meant. Output: a client, or an error with the fix. Nothing is sent yet: an API server that cannot be reached
//! is for the watches to tell, which try again.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::{Client, Config};

use super::explain::chain;
use super::kubeconfig::{self, Environment, Found, Named, Target};

/// As the audit log of the API server shows us.
const AGENT: &str = concat!("promsidecar/", env!("CARGO_PKG_VERSION"));

/// How long a connection may be silent while something is awaited. Longer than the API server thinks about a request (60 s) and
/// than a watch lasts ([`super::objects::paged`]), so that what is still silent is dead.
const SILENCE: Duration = Duration::from_secs(75);

/// Connects by `kubeconfig`; without it by `KUBECONFIG` or `~/.kube/config`, or as a pod by its service account.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    connect_to(Named { kubeconfig, context: None }, &Environment::read()).await.map(|(client, _)| client)
}

/// The same to the cluster of a context, where one is named; and which one it is. The client's default namespace is the context's.
#[cfg_attr(
    not(test),
    expect(
        clippy::unused_async,
        reason = "so that nobody calls it outside a runtime, which the client needs"
    )
)]
pub async fn connect_to(named: Named<'_>, environment: &Environment) -> anyhow::Result<(Client, Target)> {
    let Found { config, target } = kubeconfig::find(named, environment)?;
    tracing::info!(
        server = target.server,
        context = target.context,
        proxy = target.proxy,
        namespace = config.default_namespace,
        "API server"
    );
    Ok((client(config, SILENCE)?, target))
}

fn client(mut config: Config, silence: Duration) -> anyhow::Result<Client> {
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    // Without it, a request on a connection that died without a word is waited for as long as the process lives.
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    // The watches have a backoff of their own, and what fails is to be told at once.
    config.default_retry = false;
    Client::try_from(config)
        .map_err(|error| anyhow!("no client of the API server can be made: {}", chain(&error)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::Config;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::{client, connect_to};
    use crate::cluster::explain::explain;
    use crate::cluster::kubeconfig::{Environment, Named};
    use crate::cluster::proxy;

    #[tokio::test]
    async fn a_server_that_says_nothing_or_stops_in_the_middle_fails_the_request() {
        for said in ["", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async {
                let mut connections = Vec::new();
                while let Ok((mut connection, _)) = listener.accept().await {
                    assert_ne!(connection.read(&mut [0; 1024]).await.unwrap(), 0);
                    connection.write_all(said.as_bytes()).await.unwrap();
                    connections.push(connection);
                }
            };
            let config = Config::new(format!("http://{address}").parse().unwrap());
            let client = client(config, Duration::from_millis(100)).unwrap();
            let error = tokio::select! {
                answer = tokio::time::timeout(Duration::from_mins(1), client.apiserver_version()) => {
                    answer.expect("it waits for ever").unwrap_err()
                }
                () = serve => return,
            };
            assert!(explain(&error).contains("timed out"), "{}", explain(&error));
        }
    }

    /// Answers as an API server, and as a proxy that leads to itself; tells what it is asked.
    async fn serve(mut stream: TcpStream, heads: UnboundedSender<String>) {
        let (mut head, mut bytes) = (String::new(), [0; 1024]);
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            head.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            if head.ends_with("\r\n\r\n") {
                let version = r#"{"major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;
                let length = version.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{version}"
                );
                let answer = if head.starts_with("CONNECT ") { "HTTP/1.1 200 OK\r\n\r\n" } else { &answer };
                stream.write_all(answer.as_bytes()).await.unwrap();
                heads.send(std::mem::take(&mut head)).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn the_api_server_is_asked_through_the_proxy_unless_no_proxy_names_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, mut heads) = unbounded_channel();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone()));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        // This machine, and no address that is never led through a proxy.
        let kubeconfig = format!(
            r#"{{"clusters": [{{"name": "a", "cluster": {{"server": "http://0.0.0.0:{port}"}}}}],
                "contexts": [{{"name": "a", "context": {{"cluster": "a"}}}}], "current-context": "a"}}"#
        );
        std::fs::write(&path, kubeconfig).unwrap();
        let named = Named { kubeconfig: Some(&path), context: None };
        for (no, expected) in [
            ("example.com", &["CONNECT 0.0.0.0:", "GET /version "][..]),
            ("example.com,0.0.0.0/8,", &["GET /version "]),
        ] {
            let http = Some(format!("http://u:p%40ss@127.0.0.1:{port}"));
            let proxies = proxy::Environment { http, no: Some(no.to_owned()), https: None };
            let environment = Environment { proxies, ..Environment::default() };
            let (client, _) = connect_to(named, &environment).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_mins(1), client.apiserver_version()).await;
            assert_eq!(answer.unwrap().unwrap().git_version, "v1.37.2");
            for start in expected {
                let head = heads.recv().await.unwrap();
                assert!(head.starts_with(start), "NO_PROXY={no}: {head}");
                // u:p@ss
                let authenticates =
                    head.to_lowercase().contains("\r\nproxy-authorization: basic dtpwqhnz\r\n");
                assert_eq!(authenticates, head.starts_with("CONNECT "), "{head}");
            }
            assert!(heads.try_recv().is_err(), "NO_PROXY={no}");
        }
        server.abort();
    }
}
