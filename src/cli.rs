//! The command line: one subcommand a file, each with its arguments and its `run`.
//!
//! Input: arguments and `PROMSIDECAR_…` variables, read by clap and nowhere else. Output: an exit code; 0 done, 1 findings,
//! 2 usage, 3 unreadable input.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand};

pub mod certs;
pub mod check;
pub mod cluster;
pub mod controller;
pub mod convert;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod in_force;
pub mod inject;
pub mod input;
pub mod installed;
pub mod kubernetes;
pub mod lint;
pub mod logging;
pub mod ordered;
pub mod output;
pub mod policy;
pub mod render;
pub mod rewrite;
pub mod rollout;
pub mod run;
pub mod server;
pub mod settings;
pub mod shell;
pub mod status;
pub mod style;
pub mod templates;
pub mod uninject;
pub mod validate;
pub mod values;
pub mod verify;
pub mod webhook;

use crate::release;
use crate::webhook::tls;

/// Gives every pod that asks its own Prometheus agent.
#[derive(Debug, Parser)]
#[command(name = "promsidecar", version = release::PROGRAM, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the mutating admission webhook.
    Webhook(Box<webhook::Args>),
    /// Deliver the configuration of templates, and tell how they are.
    Controller(Box<controller::Args>),
    /// Run webhook and controller in one process, for small clusters.
    Run(Box<run::Args>),
    /// Add the agent to the pods of manifests, as the webhook would.
    Inject(inject::Args),
    /// Take out of manifests what promsidecar added.
    Uninject(uninject::Args),
    /// Show what inject would change.
    Diff(diff::Args),
    /// Print the Prometheus configuration that a template renders to.
    Render(render::Args),
    /// List every violation of templates, each with its fix.
    Validate(validate::Args),
    /// Find what in manifests will not do what their author expects.
    Lint(lint::Args),
    /// Make a template of what prometheus-operator runs, and tell how to move over.
    Convert(convert::Args),
    /// Explain a reason, or the decision about a pod.
    Explain(explain::Args),
    /// Look whether an installation works, or what a removal left.
    Check(check::Args),
    /// Show templates, their conditions and their pods in a cluster.
    Status(status::Args),
    /// Ask the receiver whether the series of injected pods arrive.
    Verify(verify::Args),
    /// Bring running pods up to date by restarts of their owners.
    Rollout(rollout::Args),
    /// Make a certificate authority and a serving certificate for the webhook.
    Certs(certs::Args),
    /// Print a completion script for a shell.
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write one a subcommand.
    Man(shell::ManArgs),
    /// Inject an example pod over real HTTPS, without a cluster.
    Demo(demo::Args),
}

/// Exit code for a command line that cannot be used; clap's own.
pub const USAGE: u8 = 2;
/// Exit code for input that cannot be read.
pub const UNREADABLE: u8 = 3;

/// What is wrong is the command line, not what it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The name of the program as a plugin of kubectl: the file that kubectl looks for.
const PLUGIN: &str = "kubectl-promsidecar";

/// The program: parses the command line and maps errors to exit codes.
pub fn main() -> ExitCode {
    tls::install_provider();
    let command = called(Cli::command(), std::env::args_os().next().as_deref());
    match run(&command.get_matches()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to tell where standard error is closed too.
            let error = output::printable(&format!("promsidecar: {error:#}"));
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

/// The command as it was called: as a plugin of kubectl its usage texts say so.
fn called(command: ClapCommand, program: Option<&OsStr>) -> ClapCommand {
    let file = program.and_then(|program| Path::new(program).file_stem());
    if file.is_some_and(|file| file == PLUGIN) { command.bin_name("kubectl promsidecar") } else { command }
}

/// Runs the command that was asked for; `matches` come from [`Cli`]'s command.
fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let cli = Cli::from_arg_matches(matches)?;
    let mut out = output::Results::stdout();
    let ended = dispatch(cli.command, matches, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match ended {
        Err(error) if error.is::<UsageError>() => usage_error(&error),
        ended => ended,
    }
}

fn dispatch(command: Command, matches: &ArgMatches, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match command {
        Command::Webhook(args) => {
            let matches = matches.subcommand_matches("webhook").unwrap_or(matches);
            webhook::run(&args, matches, out)
        }
        Command::Controller(args) => controller::run(&args),
        Command::Run(args) => run::run(&args, matches.subcommand_matches("run").unwrap_or(matches), out),
        Command::Inject(args) => inject::run(&args, out),
        Command::Uninject(args) => uninject::run(&args, out),
        Command::Diff(args) => diff::run(&args, out),
        Command::Render(args) => render::run(&args, out),
        Command::Validate(args) => validate::run(&args, out),
        Command::Lint(args) => lint::run(&args, out),
        Command::Convert(args) => convert::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::Check(args) => check::run(&args, out),
        Command::Status(args) => status::run(&args, out),
        Command::Verify(args) => verify::run(&args, out),
        Command::Rollout(args) => rollout::run(&args, out),
        Command::Certs(args) => certs::run(&args, out),
        Command::Completions(args) => shell::completions(&args, out),
        Command::Man(args) => shell::man(&args, out),
        Command::Demo(args) => demo::run(&args, out),
    }
}

/// Tells a usage error the way clap does.
fn usage_error(error: &anyhow::Error) -> anyhow::Result<ExitCode> {
    let error = output::printable(&format!("error: {error:#}"));
    writeln!(output::Results::stderr(), "{error}\n\nFor more information, try '--help'.")?;
    Ok(ExitCode::from(USAGE))
}

/// Variables with our prefix that no flag reads, each with the known one that it resembles most. Those that Kubernetes
/// sets for a Service of our name
/// (`PROMSIDECAR_SERVICE_HOST`, `PROMSIDECAR_PORT_8443_TCP` …) are not meant for us.
fn unknown_variables(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, Option<String>> {
    let mut known = BTreeSet::new();
    collect_variables(&Cli::command(), &mut known);
    environment
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("PROMSIDECAR_") && !known.contains(name) && !is_service_link(name))
        .map(|name| {
            let nearest = known.iter().min_by_key(|other| strsim::damerau_levenshtein(other, &name)).cloned();
            (name, nearest)
        })
        .collect()
}

fn collect_variables(command: &ClapCommand, known: &mut BTreeSet<String>) {
    known.extend(
        command
            .get_arguments()
            .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned())),
    );
    for subcommand in command.get_subcommands() {
        collect_variables(subcommand, known);
    }
}

fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn as_a_plugin_of_kubectl_the_usage_says_so() {
        let usage = |program: &str| {
            let mut command = super::called(super::Cli::command(), Some(program.as_ref()));
            let error = command.try_get_matches_from_mut([program, "check", "--what"]).unwrap_err();
            error.to_string().lines().find(|line| line.starts_with("Usage: ")).unwrap().to_owned()
        };
        assert!(usage("/usr/bin/kubectl-promsidecar").starts_with("Usage: kubectl promsidecar check "));
        assert!(usage("promsidecar").starts_with("Usage: promsidecar check "));
    }

    #[test]
    fn variables_that_no_flag_reads_are_found_and_service_links_are_not() {
        let environment = [
            "PROMSIDECAR_LISTEN",
            "PROMSIDECAR_LISTN",
            "PROMSIDECAR_TEMPLATE",
            "PROMSIDECAR_SERVICE_HOST",
            "PROMSIDECAR_WEBHOOK_SERVICE_PORT_HTTPS",
            "PROMSIDECAR_WEBHOOK_PORT",
            "PROMSIDECAR_PORT_443_TCP_ADDR",
            "HOME",
        ];
        let environment = environment.into_iter().map(|name| (name.into(), "x".into()));
        let unknown: Vec<_> = super::unknown_variables(environment).into_iter().collect();
        let expected = [("LISTN", "LISTEN"), ("TEMPLATE", "TEMPLATES")]
            .map(|(name, nearest)| (format!("PROMSIDECAR_{name}"), Some(format!("PROMSIDECAR_{nearest}"))));
        assert_eq!(unknown, expected);
    }
}
