//! The `promsidecar` program: parses the command line and maps errors to exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use promsidecar::{cli, webhook};

fn main() -> ExitCode {
    webhook::tls::install_provider();
    let command = cli::called(cli::Cli::command(), std::env::args_os().next().as_deref());
    match cli::run(&command.get_matches()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to tell where standard error is closed too.
            let _ = writeln!(std::io::stderr(), "promsidecar: {error:#}");
            ExitCode::from(cli::UNREADABLE)
        }
    }
}
