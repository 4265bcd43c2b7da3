//! The command line: one subcommand a file, each with its arguments and its `run`.
//!
//! Input: arguments and `PROMSIDECAR_…` variables, read by clap and nowhere else. Output: an exit code; 0 done, 1 findings,
//! 2 usage, 3 unreadable input.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod cluster;
pub mod demo;
pub mod explain;
pub mod input;
pub mod policy;
pub mod render;
pub mod settings;
pub mod validate;
pub mod webhook;

/// Gives every pod that asks its own Prometheus agent.
#[derive(Debug, Parser)]
#[command(name = "promsidecar", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the mutating admission webhook.
    Webhook(webhook::Args),
    /// Print the Prometheus configuration that a template renders to.
    Render(render::Args),
    /// List every violation of templates, each with its fix.
    Validate(validate::Args),
    /// Explain a reason, or the decision about a pod.
    Explain(explain::Args),
    /// Inject an example pod over real HTTPS, without a cluster.
    Demo(demo::Args),
}

/// Exit code for input that cannot be read.
pub const UNREADABLE: u8 = 3;

/// Runs the command that was asked for.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Webhook(args) => webhook::run(args),
        Command::Render(args) => render::run(&args, &mut out),
        Command::Validate(args) => validate::run(&args, &mut out),
        Command::Explain(args) => explain::run(&args, &mut out),
        Command::Demo(args) => demo::run(&args, &mut out),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
