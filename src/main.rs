//! The `promsidecar` program: parses the command line and maps errors to exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use promsidecar::cli;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to tell where standard error is closed too.
            let _ = writeln!(std::io::stderr(), "promsidecar: {error:#}");
            ExitCode::from(cli::UNREADABLE)
        }
    }
}
