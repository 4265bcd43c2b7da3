//! `promsidecar controller`.
//!
//! Input: flags and their variables. Output: a [`Config`], checked before anything is read or bound; then the controller's exit
//! code.

use std::process::ExitCode;

use super::logging::LogArgs;
use super::policy::NamespaceArgs;
use super::server::{AdminArgs, CertificateArgs, KubeconfigArgs, LeaderArgs};
use super::settings::SettingsArgs;
use crate::controller::run::{self, Config};

/// Arguments of `controller`. Every flag has a variable: `PROMSIDECAR_` and its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    kubeconfig: KubeconfigArgs,
    #[command(flatten)]
    leader: LeaderArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Args {
    fn to_config(&self) -> anyhow::Result<Config> {
        self.log.check()?;
        Ok(config(
            &self.admin,
            &self.kubeconfig,
            &self.leader,
            &self.namespaces,
            &self.certificate,
            &self.settings,
        ))
    }
}

/// The configuration that the controller's flags mean, wherever they stand.
pub(super) fn config(
    admin: &AdminArgs,
    kubeconfig: &KubeconfigArgs,
    leader: &LeaderArgs,
    namespaces: &NamespaceArgs,
    certificate: &CertificateArgs,
    settings: &SettingsArgs,
) -> Config {
    Config {
        kubeconfig: kubeconfig.kubeconfig.clone(),
        admin_listen: admin.admin_listen,
        own_namespace: namespaces.own.own_namespace.clone(),
        name: leader.pod_name.clone(),
        policy: namespaces.to_policy(),
        settings: settings.to_settings(),
        certificate: certificate.to_objects(),
    }
}

/// Works until a signal comes.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match args.to_config() {
        Ok(config) => config,
        Err(error) => return super::usage_error(&error),
    };
    args.log.install()?;
    super::server::until_ended(run::run(config))
}
