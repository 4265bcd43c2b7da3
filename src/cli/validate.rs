//! `promsidecar validate`.

use std::io::Write;
use std::process::ExitCode;

use super::settings::SettingsArgs;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let settings = args.settings.to_settings();
    writeln!(out, "{settings:?}")?;
    Ok(ExitCode::SUCCESS)
}
