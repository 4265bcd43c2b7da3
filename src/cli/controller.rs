//! `promsidecar controller`.
//!
//! Input: flags and their variables. Output: a [`Config`], checked before anything is read or bound; then the controller's exit
//! code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::logging::LogArgs;
use super::policy::NamespaceArgs;
use super::settings::SettingsArgs;
use super::values;
use crate::controller::run::{self, Config};

/// Arguments of `controller`. Every flag has a variable: `PROMSIDECAR_` and its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of /livez, /readyz and /metrics, plain HTTP.
    #[arg(long, env = "PROMSIDECAR_ADMIN_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDRESS:PORT", value_parser = values::listen)]
    admin_listen: SocketAddr,
    /// Kubeconfig of the cluster. [default: that of the pod, or of kubectl]
    #[arg(long, env = "PROMSIDECAR_KUBECONFIG", value_name = "FILE", value_parser = values::path)]
    kubeconfig: Option<PathBuf>,
    /// What this replica is called in the Lease: the name of its pod.
    #[arg(long, env = "PROMSIDECAR_POD_NAME", default_value = "promsidecar", value_name = "NAME", value_parser = values::pod)]
    pod_name: String,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Args {
    fn to_config(&self) -> anyhow::Result<Config> {
        self.log.check()?;
        Ok(Config {
            kubeconfig: self.kubeconfig.clone(),
            admin_listen: self.admin_listen,
            own_namespace: self.namespaces.own_namespace.clone(),
            name: self.pod_name.clone(),
            policy: self.namespaces.to_policy(),
            settings: self.settings.to_settings(),
        })
    }
}

/// Works until a signal comes.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match args.to_config() {
        Ok(config) => config,
        Err(error) => return super::usage_error(&error),
    };
    args.log.install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run::run(config));
    // A look-up of the API server's name that hangs must not hold the exit up.
    runtime.shutdown_background();
    Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
