//! A client for the API server. IO: reads a kubeconfig or what the kubelet mounts.
//!
//! Input: the path of a kubeconfig, or nothing. Output: a client, or an error with the fix. Nothing is sent yet: an API server that
//! cannot be reached is for the watches to tell, which try again.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::explain::chain;

/// As the audit log of the API server shows us.
const AGENT: &str = concat!("promsidecar/", env!("CARGO_PKG_VERSION"));

/// How long a connection may be silent while something is awaited. Longer than the API server thinks about a request (60 s) and
/// than a watch lasts ([`super::objects::paged`]), so that what is still silent is dead.
const SILENCE: Duration = Duration::from_secs(75);

/// Connects by `kubeconfig`; without it by `KUBECONFIG` or `~/.kube/config`, or as a pod by its service account.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    connect_to(kubeconfig, None).await
}

/// The same to the cluster of a `context`, where there is one. The client's default namespace is the context's.
pub async fn connect_to(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<Client> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match (kubeconfig, context) {
        (Some(path), _) => from_file(path, &options).await.map_err(|error| {
            anyhow!("--kubeconfig {}: cannot be used: {}", path.display(), chain(&error))
        })?,
        (None, Some(context)) => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| anyhow!("--context {context}: cannot be used: {}", chain(&error)))?,
        (None, None) => Config::infer().await.map_err(|error| {
            anyhow!(
                "no cluster is known: run in a pod with a service account, or set --kubeconfig or KUBECONFIG; {}",
                chain(&error)
            )
        })?,
    };
    tracing::info!(server = %config.cluster_url, namespace = config.default_namespace, "API server");
    client(config, SILENCE)
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

async fn from_file(path: &Path, options: &KubeConfigOptions) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, options).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::Config;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::client;
    use crate::cluster::explain::explain;

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
}
