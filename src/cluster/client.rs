//! A client for the API server. IO: reads a kubeconfig or what the kubelet mounts.
//!
//! Input: the path of a kubeconfig, or nothing. Output: a client, or an error with the fix. Nothing is sent yet: an API server that
//! cannot be reached is for the watches to tell, which try again.

use std::path::Path;

use anyhow::anyhow;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::explain::chain;

/// As the audit log of the API server shows us.
const AGENT: &str = concat!("promsidecar/", env!("CARGO_PKG_VERSION"));

/// Connects by `kubeconfig`; without it by `KUBECONFIG` or `~/.kube/config`, or as a pod by its service account.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path).await.map_err(|error| {
            anyhow!("--kubeconfig {}: cannot be used: {}", path.display(), chain(&error))
        })?,
        None => Config::infer().await.map_err(|error| {
            anyhow!(
                "no cluster is known: run in a pod with a service account, set --kubeconfig or KUBECONFIG, or name a \
                 directory of manifests with --templates; {}",
                chain(&error)
            )
        })?,
    };
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    // The watches have a backoff of their own, and what fails is to be told at once.
    config.default_retry = false;
    Client::try_from(config)
        .map_err(|error| anyhow!("no client of the API server can be made: {}", chain(&error)))
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}
