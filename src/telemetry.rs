//! Logs: where they go, how they look, and the panic hook. IO: standard error.
//!
//! Input: `--log-level` and `--log-format`. Output: the process-wide subscriber. Nothing here ever receives a body.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Reads `--log-level`: `info`, or directives such as `info,promsidecar=debug`.
pub fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    // A word alone is a target's name to the parser: a mistyped level would turn every other log line off.
    let level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = directives.split(',').find(|word| !word.contains(['=', '[']) && !level(word.trim())) {
        anyhow::bail!("{:?} is no level", word.trim());
    }
    // Without field values as regular expressions: a flag must not be able to cost much per event.
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_regex(false)
        .parse(directives)
        .map_err(Into::into)
}

/// Installs the subscriber; `colour` is used for text on a terminal alone.
pub fn install(filter: EnvFilter, format: LogFormat, colour: bool) -> Result<(), TryInitError> {
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Reported to standard error too, by a macro that panics where it is closed: a lost log must not end the service.
        .log_internal_errors(false);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().try_init()
    } else {
        builder.with_ansi(colour && terminal).finish().try_init()
    }
}

/// Sends panics through the log: place and text of the panic, no backtrace, no data of requests.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = crate::shutdown::panic_message(panic.payload());
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, location, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn directives_are_read_and_nonsense_is_refused() {
        assert_eq!(filter("warn").unwrap().to_string(), "warn");
        assert_eq!(filter("info,promsidecar=debug").unwrap().to_string(), "promsidecar=debug,info");
        assert_eq!(filter("off").unwrap().to_string(), "off");
        assert!(filter("promsidecar=loud").is_err());
        for (text, word) in [("loud", "loud"), ("", ""), ("info,", ""), ("inof,promsidecar=debug", "inof")] {
            assert_eq!(filter(text).unwrap_err().to_string(), format!("{word:?} is no level"));
        }
    }
}
