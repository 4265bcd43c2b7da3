//! `promsidecar run`: webhook and controller in one process.
//!
//! Input: the flags of both, and their variables. Output: a [`Config`], checked before anything is read or bound; then the exit
//! code of the process.

use std::process::ExitCode;

use anyhow::bail;
use clap::ArgMatches;

use super::controller;
use super::installed::Flags;
use super::logging::LogArgs;
use super::policy::{self, PolicyArgs};
use super::server::{
    self, AdminArgs, CertificateArgs, KubeconfigArgs, LeaderArgs, LimitArgs, ListenArgs, PrintArgs,
};
use super::settings::SettingsArgs;
use super::webhook::{TlsArgs, print};
use crate::all_in_one::{self, Config};

/// Arguments of `run`. Every flag but --output has a variable: `PROMSIDECAR_` and its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    kubeconfig: KubeconfigArgs,
    #[command(flatten)]
    leader: LeaderArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
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

impl Args {
    /// The flags that decide about pods.
    pub(super) fn flags(&self) -> Flags {
        Flags { policy: self.policy.clone(), settings: self.settings.clone() }
    }

    /// The configuration that these flags mean; the error names flag, value and fix.
    fn to_config(&self) -> anyhow::Result<Config> {
        server::check_addresses(&self.listen, &self.admin)?;
        self.log.check()?;
        let controller = controller::config(
            &self.admin,
            &self.kubeconfig,
            &self.leader,
            &self.policy.namespaces,
            &self.certificate,
            &self.settings,
        );
        let certificate = match (&controller.certificate, self.tls.first_given()) {
            (None, None) => bail!(
                "--certificate external needs a certificate: set --tls-cert-file and --tls-key-file, or --dns-name for one \
                 that is made in memory"
            ),
            (None, Some(_)) => Some(self.tls.to_certificate()?),
            (Some(_), None) => None,
            (Some(_), Some(flag)) => bail!(
                "{flag} has no effect with --certificate self-managed: remove it, or set --certificate external"
            ),
        };
        Ok(Config {
            listen: self.listen.listen,
            certificate,
            look_up: self.policy.kubernetes_version.is_none(),
            policy: self.policy.to_policy(),
            limits: self.limits.to_limits(),
            drain_time: self.limits.drain_time,
            controller,
        })
    }
}

/// Works and serves until a signal comes. `matches` are those of this subcommand.
pub fn run(args: &Args, matches: &ArgMatches, out: &mut impl std::io::Write) -> anyhow::Result<ExitCode> {
    let config = match args.to_config() {
        Ok(config) => config,
        Err(error) => return super::usage_error(&error),
    };
    if args.print.print_config {
        let derived = |id: &str| match id {
            "kubernetes_version" => Some(policy::LOOKED_UP.to_owned()),
            _ => print::derived(id, config.certificate.as_ref(), &config.controller.settings),
        };
        print::print("run", matches, derived, args.print.output.unwrap_or_default(), out)?;
        return Ok(ExitCode::SUCCESS);
    }
    args.log.install()?;
    server::until_ended(all_in_one::run(config))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{CommandFactory, FromArgMatches};

    use super::Args;
    use crate::all_in_one::Config;
    use crate::cli::Cli;
    use crate::controller::certificate::Objects;
    use crate::controller::certificate::rotation::Times;
    use crate::webhook::config::Certificate;

    fn config(flags: &[&str]) -> anyhow::Result<Config> {
        let line = ["promsidecar", "run"].iter().chain(flags);
        let mut matches = Cli::command().try_get_matches_from(line)?;
        let (_, matches) = matches.remove_subcommand().expect("the subcommand was given");
        Args::from_arg_matches(&matches)?.to_config()
    }

    #[test]
    fn by_default_the_certificate_comes_from_the_secret_that_the_leader_keeps() {
        let config = config(&["--own-namespace=me"]).unwrap();
        let objects = Objects {
            secret: "promsidecar-webhook-tls".to_owned(),
            registration: "promsidecar".to_owned(),
            times: Times { wait: Duration::from_mins(1), overlap: Duration::from_hours(1) },
        };
        assert_eq!((config.certificate, config.controller.certificate), (None, Some(objects)));
        assert_eq!(config.controller.own_namespace, "me");
        assert!(config.look_up);
    }

    #[test]
    fn an_external_certificate_is_that_of_files_or_of_memory() {
        let config = |flags: &[&str]| config(&[&["--certificate=external"], flags].concat()).unwrap();
        let files = config(&["--tls-cert-file=c", "--tls-key-file=k"]);
        assert_eq!(files.certificate, Some(Certificate::Files { certificate: "c".into(), key: "k".into() }));
        assert_eq!(files.controller.certificate, None);
        let memory = config(&["--dns-name=a.example.com"]).certificate;
        assert_eq!(memory, Some(Certificate::Own { names: vec!["a.example.com".to_owned()], ca_out: None }));
    }

    #[test]
    fn every_error_names_the_flag_and_the_fix() {
        for (flags, parts) in [
            (&["--tls-cert-file=c"][..], &["--tls-cert-file", "--certificate external"][..]),
            (&["--dns-name=a"], &["--dns-name", "--certificate external"]),
            (&["--certificate=external"], &["--certificate external", "set --tls-cert-file", "--dns-name"]),
            (&["--certificate=external", "--tls-key-file=k"], &["set --tls-cert-file too"]),
            (&["--certificate=own"], &["--certificate", "'own'", "self-managed", "external"]),
            (&["--tls-secret=A"], &["--tls-secret", "'A'", "lower-case"]),
            (&["--registration="], &["--registration", "lower-case"]),
            (&["--rotation-wait=0s"], &["--rotation-wait", "'0s'", "at least 1s"]),
            (&["--rotation-overlap=2m5"], &["--rotation-overlap", "'2m5'", "such as 15s"]),
            (&["--admin-listen=0.0.0.0:8443"], &["--admin-listen 0.0.0.0:8443", "choose another port"]),
            (&["--templates=t"], &["--templates"]),
        ] {
            let error = config(flags).expect_err(&flags.join(" ")).to_string();
            for part in parts {
                assert!(error.contains(part), "{flags:?}: {part:?} is missing in {error}");
            }
        }
    }
}
