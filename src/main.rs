//! The `promsidecar` program.

use std::process::ExitCode;

#[cfg(feature = "next-version")]
compile_error!("next-version is for tests of upgrades alone: build it as `--bin promsidecar-next`");

fn main() -> ExitCode {
    promsidecar::cli::main()
}
