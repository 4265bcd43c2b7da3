//! `--print-config`: every setting with its source.
//!
//! Input: what clap matched, and the configuration for values that no flag gave. Output: a setting a line, or JSON.

use std::io::Write;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use serde::Serialize;

use super::super::output::{self, Format};
use super::super::policy;
use super::super::style::Style;
use crate::webhook::config::{Certificate, Config, Templates};

/// Writes a table of flag, value and source, or a JSON array with an object a setting.
pub fn print(
    matches: &ArgMatches,
    config: &Config,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let rows = rows(matches, config);
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

fn rows(matches: &ArgMatches, config: &Config) -> Vec<Row> {
    let command = super::super::Cli::command();
    let Some(command) = command.find_subcommand("webhook") else { return Vec::new() };
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
                value: given.or_else(|| derived(id, config)),
                source,
            }
        })
        .collect()
}

/// Defaults that follow from other settings.
fn derived(id: &str, config: &Config) -> Option<String> {
    match (id, &config.certificate) {
        ("supervisable_images", _) => Some(config.settings.supervisable_images.join(",")),
        ("dns_name", Certificate::Own { names, .. }) => Some(names.join(",")),
        ("kubernetes_version", _) => match &config.templates {
            Templates::Cluster { look_up: true, .. } => Some("looked up".to_owned()),
            _ => Some(policy::DEFAULT_VERSION.to_string()),
        },
        ("templates", _) => Some(config.templates.to_string()),
        _ => None,
    }
}
