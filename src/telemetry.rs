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

/// Silent unless asked for by name: what fails there is returned to us, and logged once for each cause.
const SILENT: &str = "kube_client=off,kube_runtime=off";

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
        .parse(format!("{SILENT},{directives}"))
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
        for (text, read) in [
            ("warn", "kube_runtime=off,kube_client=off,warn"),
            ("info,promsidecar=debug", "promsidecar=debug,kube_runtime=off,kube_client=off,info"),
            ("off", "kube_runtime=off,kube_client=off,off"),
            ("info,kube_client=debug", "kube_client=debug,kube_runtime=off,info"),
        ] {
            let mut read: Vec<_> = read.split(',').collect();
            let filter = filter(text).unwrap().to_string();
            let mut found: Vec<_> = filter.split(',').collect();
            read.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, read, "{text}");
        }
        assert!(filter("promsidecar=loud").is_err());
        for (text, word) in [("loud", "loud"), ("", ""), ("info,", ""), ("inof,promsidecar=debug", "inof")] {
            assert_eq!(filter(text).unwrap_err().to_string(), format!("{word:?} is no level"));
        }
    }
}
