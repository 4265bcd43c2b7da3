//! `--print-config`: every setting with its source.
//!
//! Input: what clap matched, and what follows for values that no flag gave. Output: a setting a line, or JSON.

use std::io::Write;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use serde::Serialize;

use super::super::output::{self, Format};
use super::super::style::Style;
use crate::template::Settings;
use crate::webhook::config::Certificate;

/// Writes a table of flag, value and source, or a JSON array with an object a setting.
pub fn print(
    command: &str,
    matches: &ArgMatches,
    derived: impl Fn(&str) -> Option<String>,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let rows = rows(command, matches, derived);
    match format {
        Format::Json => output::json(out, &rows),
        Format::Text => {
            let shown = |row: Row| [row.flag, row.value.unwrap_or_else(|| "-".to_owned()), row.source];
            Ok(Style::stdout().table(&rows.into_iter().map(shown).collect::<Vec<_>>(), out)?)
        }
    }
}

#[derive(Serialize)]
struct Row {
    flag: String,
    value: Option<String>,
    source: String,
}

fn rows(command: &str, matches: &ArgMatches, derived: impl Fn(&str) -> Option<String>) -> Vec<Row> {
    let cli = super::super::Cli::command();
    let Some(command) = cli.find_subcommand(command) else { return Vec::new() };
    let described = command.get_arguments().filter(|arg| {
        let id = arg.get_id().as_str();
        matches.try_contains_id(id).is_ok() && !["print_config", "output"].contains(&id)
    });
    described
        .map(|arg| {
            let id = arg.get_id().as_str();
            let given = matches.get_raw(id).map(|values| {
                let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
                values.join(",")
            });
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => "flag".to_owned(),
                Some(ValueSource::EnvVariable) => {
                    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
                    format!("variable {variable}")
                }
                _ => "default".to_owned(),
            };
            Row {
                flag: format!("--{}", arg.get_long().unwrap_or(id)),
                value: given.or_else(|| derived(id)),
                source,
            }
        })
        .collect()
}

/// Defaults that follow from other settings, for every server.
pub fn derived(id: &str, certificate: Option<&Certificate>, settings: &Settings) -> Option<String> {
    match (id, certificate) {
        ("supervisable_images", _) => Some(settings.supervisable_images.join(",")),
        ("dns_name", Some(Certificate::Own { names, .. })) => Some(names.join(",")),
        _ => None,
    }
}
