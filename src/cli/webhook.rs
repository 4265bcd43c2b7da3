//! `promsidecar webhook`.
//!
//! Input: flags and their variables. Output: a [`Config`], made and checked once before anything is read or bound; then
//! the server's exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::ArgMatches;

use super::logging::LogArgs;
use super::output::Format;
use super::policy::PolicyArgs;
use super::settings::SettingsArgs;
use super::values;
use crate::webhook::config::{Certificate, Config, Limits, Templates};
use crate::webhook::run;

pub mod print;

/// Names of the certificate that is made when none is given.
const DEFAULT_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Arguments of `webhook`. Every flag but --output has a variable: `PROMSIDECAR_` and its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the HTTPS webhook.
    #[arg(long, env = "PROMSIDECAR_LISTEN", default_value = "0.0.0.0:8443", value_name = "ADDRESS:PORT", value_parser = values::listen)]
    listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics, plain HTTP.
    #[arg(long, env = "PROMSIDECAR_ADMIN_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDRESS:PORT", value_parser = values::listen)]
    admin_listen: SocketAddr,
    /// Directory of *.yaml, *.yml and *.json files with `PrometheusAgent`, `PodMonitor` and Namespace objects, in place of a
    /// cluster's; changes are followed. An object without a namespace is in `default`.
    #[arg(long, env = "PROMSIDECAR_TEMPLATES", value_name = "DIR", value_parser = values::path)]
    templates: Option<PathBuf>,
    /// Kubeconfig of the cluster whose templates and namespaces are followed. [default: that of the pod, or of kubectl]
    #[arg(long, env = "PROMSIDECAR_KUBECONFIG", value_name = "FILE", value_parser = values::path)]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    tls: TlsArgs,
    /// Reviews being read or decided at once; one more is answered 503 at once.
    #[arg(long, env = "PROMSIDECAR_MAX_IN_FLIGHT", default_value_t = 128, value_name = "N", value_parser = values::bound)]
    max_in_flight: usize,
    /// Open connections; one more is closed at once.
    #[arg(long, env = "PROMSIDECAR_MAX_CONNECTIONS", default_value_t = 1024, value_name = "N", value_parser = values::bound)]
    max_connections: usize,
    /// How long to keep serving after SIGTERM, so that clients learn to go elsewhere.
    #[arg(long, env = "PROMSIDECAR_DRAIN_TIME", default_value = "15s", value_name = "DURATION", value_parser = values::duration)]
    drain_time: Duration,
    #[command(flatten)]
    log: LogArgs,
    /// Print the resulting settings, each with its source, and exit.
    #[arg(long, env = "PROMSIDECAR_PRINT_CONFIG")]
    print_config: bool,
    /// How to print the settings.
    // No variable: without --print-config the format is a mistake, and a server must not end for a variable of a shell.
    #[arg(short, long, value_enum, value_name = "FORMAT", requires = "print_config")]
    output: Option<Format>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Where the certificate comes from: both files, or neither for one of our own.
#[derive(Debug, clap::Args)]
struct TlsArgs {
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
    fn to_certificate(&self) -> anyhow::Result<Certificate> {
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
    /// The configuration that these flags mean; the error names flag, value and fix.
    pub fn to_config(&self) -> anyhow::Result<Config> {
        let templates = match (&self.templates, &self.kubeconfig) {
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
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            bail!("--admin-listen {} is the address of --listen: choose another port", self.admin_listen);
        }
        self.log.check()?;
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            templates,
            certificate: self.tls.to_certificate()?,
            own_namespace: self.policy.namespaces.own_namespace.clone(),
            policy: self.policy.to_policy(),
            settings: self.settings.to_settings(),
            limits: Limits {
                max_in_flight: self.max_in_flight,
                max_connections: self.max_connections,
                ..Limits::default()
            },
            drain_time: self.drain_time,
        })
    }
}

/// Serves until a signal comes. `matches` are those of this subcommand.
pub fn run(args: &Args, matches: &ArgMatches, out: &mut impl std::io::Write) -> anyhow::Result<ExitCode> {
    let config = match args.to_config() {
        Ok(config) => config,
        Err(error) => return super::usage_error(&error),
    };
    if args.print_config {
        print::print(matches, &config, args.output.unwrap_or_default(), out)?;
        return Ok(ExitCode::SUCCESS);
    }
    args.log.install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run::run(config));
    // A blocking read of a hung file system must not hold the exit up.
    runtime.shutdown_background();
    Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
#[path = "webhook/tests.rs"]
mod tests;
