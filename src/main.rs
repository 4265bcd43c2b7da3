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
            let error = cli::output::printable(&format!("promsidecar: {error:#}"));
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(cli::UNREADABLE)
        }
    }
}
