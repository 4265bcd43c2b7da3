//! The program as a next release could be, for tests of upgrades; `promsidecar::release` has what differs. It is never shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    promsidecar::cli::main()
}
