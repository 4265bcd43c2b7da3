//! `promsidecar webhook`.
//!
//! Input: flags and their variables. Output: a [`Config`], made and checked once before anything is read or bound; then
//! the server's exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::ArgMatches;

use super::installed::Flags;
use super::logging::LogArgs;
use super::policy::{self, PolicyArgs};
use super::server::{self, AdminArgs, KubeconfigArgs, LimitArgs, ListenArgs, PrintArgs};
use super::settings::SettingsArgs;
use super::values;
use crate::webhook::config::{Certificate, Config, Templates};
use crate::webhook::run;

pub mod print;

/// Names of the certificate that is made when none is given.
const DEFAULT_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Arguments of `webhook`. Every flag but --output has a variable: `PROMSIDECAR_` and its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// Directory of *.yaml, *.yml and *.json files with `PrometheusAgents`, monitors, Services and Namespaces, in place of a
    /// cluster's; changes are followed. An object without a namespace is in `default`.
    #[arg(long, env = "PROMSIDECAR_TEMPLATES", value_name = "DIR", value_parser = values::path)]
    templates: Option<PathBuf>,
    #[command(flatten)]
    kubeconfig: KubeconfigArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    print: PrintArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Where the certificate comes from: both files, or neither for one of our own.
#[derive(Debug, clap::Args)]
pub struct TlsArgs {
    /// Certificate chain in PEM format, leaf first; reloaded when it changes.
    #[arg(long, env = "PROMSIDECAR_TLS_CERT_FILE", value_name = "FILE", value_parser = values::path)]
    tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate in PEM format.
    #[arg(long, env = "PROMSIDECAR_TLS_KEY_FILE", value_name = "FILE", value_parser = values::path)]
    tls_key_file: Option<PathBuf>,
    /// DNS name or IP address of the certificate that is made when no files are given; repeatable. [default: localhost,
    /// 127.0.0.1]
    #[arg(long, env = "PROMSIDECAR_DNS_NAME", value_delimiter = ',', value_name = "NAME", value_parser = values::dns_name)]
    dns_name: Vec<String>,
    /// Where to write the certificate of the authority that signed it, for clients; its key is never written.
    #[arg(long, env = "PROMSIDECAR_CA_OUT", value_name = "FILE", value_parser = values::path)]
    ca_out: Option<PathBuf>,
}

impl TlsArgs {
    /// A flag of these that is given.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        [
            (self.tls_cert_file.is_some(), "--tls-cert-file"),
            (self.tls_key_file.is_some(), "--tls-key-file"),
            (!self.dns_name.is_empty(), "--dns-name"),
            (self.ca_out.is_some(), "--ca-out"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }

    /// Where the certificate comes from; the error names flag, value and fix.
    pub(super) fn to_certificate(&self) -> anyhow::Result<Certificate> {
        let shown = |path: &Option<PathBuf>| path.clone().unwrap_or_default().display().to_string();
        let (certificate, key) = match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (None, None) => {
                let names = match &self.dns_name[..] {
                    [] => DEFAULT_NAMES.map(str::to_owned).to_vec(),
                    names => names.to_vec(),
                };
                return Ok(Certificate::Own { names, ca_out: self.ca_out.clone() });
            }
            (Some(_), None) => {
                bail!("--tls-cert-file {} needs its key: set --tls-key-file too", shown(&self.tls_cert_file))
            }
            (None, Some(_)) => bail!(
                "--tls-key-file {} needs its certificate: set --tls-cert-file too",
                shown(&self.tls_key_file)
            ),
        };
        if !self.dns_name.is_empty() {
            bail!(
                "--dns-name {} has no effect with --tls-cert-file: remove one of the two",
                self.dns_name.join(",")
            );
        }
        if self.ca_out.is_some() {
            bail!(
                "--ca-out {} has no effect with --tls-cert-file: remove one of the two",
                shown(&self.ca_out)
            );
        }
        Ok(Certificate::Files { certificate, key })
    }
}

impl Args {
    /// The flags that decide about pods.
    pub(super) fn flags(&self) -> Flags {
        Flags { policy: self.policy.clone(), settings: self.settings.clone() }
    }

    /// The configuration that these flags mean; the error names flag, value and fix.
    pub fn to_config(&self) -> anyhow::Result<Config> {
        let templates = match (&self.templates, &self.kubeconfig.kubeconfig) {
            (Some(directory), None) => Templates::Directory(directory.clone()),
            (None, kubeconfig) => Templates::Cluster {
                kubeconfig: kubeconfig.clone(),
                look_up: self.policy.kubernetes_version.is_none(),
            },
            (Some(_), Some(kubeconfig)) => bail!(
                "--kubeconfig {} has no effect with --templates: remove one of the two",
                kubeconfig.display()
            ),
        };
        server::check_addresses(&self.listen, &self.admin)?;
        self.log.check()?;
        Ok(Config {
            listen: self.listen.listen,
            admin_listen: self.admin.admin_listen,
            templates,
            certificate: self.tls.to_certificate()?,
            own_namespace: self.policy.namespaces.own.own_namespace.clone(),
            policy: self.policy.to_policy(),
            settings: self.settings.to_settings(),
            limits: self.limits.to_limits(),
            drain_time: self.limits.drain_time,
        })
    }
}

/// Serves until a signal comes. `matches` are those of this subcommand.
pub fn run(args: &Args, matches: &ArgMatches, out: &mut impl std::io::Write) -> anyhow::Result<ExitCode> {
    let config = match args.to_config() {
        Ok(config) => config,
        Err(error) => return super::usage_error(&error),
    };
    if args.print.print_config {
        let derived = |id: &str| derived(id, &config);
        print::print("webhook", matches, derived, args.print.output.unwrap_or_default(), out)?;
        return Ok(ExitCode::SUCCESS);
    }
    args.log.install()?;
    server::until_ended(run::run(config))
}

/// Defaults that follow from other settings.
fn derived(id: &str, config: &Config) -> Option<String> {
    match (id, &config.templates) {
        ("kubernetes_version", Templates::Cluster { look_up: true, .. }) => {
            Some(policy::LOOKED_UP.to_owned())
        }
        ("kubernetes_version", _) => Some(policy::DEFAULT_VERSION.to_string()),
        ("templates", templates) => Some(templates.to_string()),
        _ => print::derived(id, Some(&config.certificate), &config.settings),
    }
}

#[cfg(test)]
#[path = "webhook/tests.rs"]
mod tests;
