//! Whether the cluster runs native sidecars (KEP-753). IO: asks the API server for its version and its nodes.
//!
//! Input: a client. Output: yes or no, at start and every ten minutes; never per request. Nodes are asked for only where the
//! version of the API server leaves it open, and where that is not allowed the answer is no.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};

use super::explain::explain;
use super::version::{self, KubernetesVersion, NATIVE_SIDECARS, NATIVE_SIDECARS_EVERYWHERE};
use super::watch::Health;

/// How often it is looked up.
pub const EVERY: Duration = Duration::from_mins(10);
/// After it could not be.
const AGAIN: Duration = Duration::from_secs(10);
/// Nodes per request.
const PAGE: u32 = 500;

/// Looks it up for ever; `set` gets the answer.
pub async fn follow(client: Client, health: Health, set: impl Fn(bool)) -> anyhow::Result<()> {
    let mut before = None;
    loop {
        let wait = match look_up(&client).await {
            Ok((native, because)) => {
                if before.replace(native) != Some(native) {
                    tracing::info!(
                        native_sidecars = native,
                        because,
                        "mode of agents where templates leave it open"
                    );
                    set(native);
                }
                health.succeeded();
                EVERY
            }
            Err(error) => {
                health.failed(explain(&error));
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Whether agents are native sidecars, and by what it was decided.
pub async fn look_up(client: &Client) -> kube::Result<(bool, String)> {
    let text = client.apiserver_version().await?.git_version;
    let Ok(api_server) = text.parse::<KubernetesVersion>() else {
        return Ok((false, format!("the API server calls itself {text:?}")));
    };
    if !(NATIVE_SIDECARS..NATIVE_SIDECARS_EVERYWHERE).contains(&api_server) {
        let native = version::native_sidecars(api_server, None);
        return Ok((native, format!("the API server has version {api_server}")));
    }
    let kubelets = match kubelets(client).await {
        Ok(kubelets) => kubelets,
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            return Ok((
                false,
                format!("the API server has version {api_server}, and nodes may not be listed"),
            ));
        }
        Err(error) => return Err(error),
    };
    let native = version::native_sidecars(api_server, Some(&kubelets));
    let oldest = kubelets.iter().min().map_or_else(|| "none".to_owned(), ToString::to_string);
    Ok((native, format!("the API server has version {api_server}, the oldest kubelet {oldest}")))
}

/// Versions of all kubelets; one that cannot be read counts as old.
async fn kubelets(client: &Client) -> kube::Result<Vec<KubernetesVersion>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut versions = Vec::new();
    loop {
        let page = nodes.list(&params).await?;
        versions.extend(page.items.iter().map(|node| {
            let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
            info.and_then(|info| info.kubelet_version.parse().ok()).unwrap_or_else(KubernetesVersion::default)
        }));
        match page.metadata.continue_ {
            Some(next) if !next.is_empty() => params = params.continue_token(&next),
            _ => return Ok(versions),
        }
    }
}
