//! Flags of the log, shared by every server.
//!
//! Input: flags and their variables. Output: the process-wide subscriber.

use anyhow::bail;

use super::style;
use crate::telemetry::{self, LogFormat};

/// What to log, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or directives such as info,promsidecar=debug.
    #[arg(long, env = "PROMSIDECAR_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// How to log; auto is text on a terminal, else JSON.
    #[arg(long, env = "PROMSIDECAR_LOG_FORMAT", default_value = "auto", value_enum, value_name = "FORMAT")]
    log_format: LogFormat,
}

impl LogArgs {
    /// Whether the flags can be used; the error names flag, value and fix.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Err(why) = telemetry::filter(&self.log_level) {
            bail!(
                "--log-level {:?}: {why}; use error, warn, info, debug, trace or target=level",
                self.log_level
            );
        }
        Ok(())
    }

    /// Sends logs and panics where these flags say, and warns of variables that no flag reads.
    pub fn install(&self) -> anyhow::Result<()> {
        telemetry::install(telemetry::filter(&self.log_level)?, self.log_format, style::colour_wanted())?;
        telemetry::log_panics();
        for (variable, nearest) in super::unknown_variables(std::env::vars_os()) {
            tracing::warn!(
                variable,
                nearest,
                "this variable names no flag and has no effect; rename or remove it"
            );
        }
        Ok(())
    }
}
