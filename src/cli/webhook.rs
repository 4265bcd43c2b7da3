//! `promsidecar webhook`.

use std::process::ExitCode;

use super::settings::SettingsArgs;

/// Arguments of `webhook`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Serves until a signal comes.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let _ = args.settings.to_settings();
    Ok(ExitCode::SUCCESS)
}
