//! The cluster that a command asks, by kubectl's conventions. IO.
//!
//! Input: `--kubeconfig`, `--context`, `-n`, and what kubectl is configured with. Output: a client, a namespace, and a place to run.

use kube::Client;

use super::server::KubeconfigArgs;
use super::values;
use crate::cluster::client;
use crate::cluster::kubeconfig::{Environment, Named, Target};

/// Which cluster, and as whom.
#[derive(Debug, clap::Args)]
pub struct ContextArgs {
    #[command(flatten)]
    kubeconfig: KubeconfigArgs,
    /// Context of the kubeconfig. [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Which namespace.
#[derive(Debug, clap::Args)]
pub struct NamespaceArgs {
    /// Namespace. [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = values::namespace)]
    pub namespace: Option<String>,
}

impl ContextArgs {
    /// A client; nothing is sent yet.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        self.connect_to().await.map(|(client, _)| client)
    }

    /// The same, and of which cluster.
    pub async fn connect_to(&self) -> anyhow::Result<(Client, Target)> {
        let kubeconfig = self.kubeconfig.kubeconfig.as_deref();
        client::connect_to(Named { kubeconfig, context: self.context.as_deref() }, &Environment::read()).await
    }
}

/// Runs what asks a cluster.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(future);
    // A look-up of the API server's name that hangs must not hold the exit up.
    runtime.shutdown_background();
    ended
}
