//! `--print-config`: every setting with its source.
//!
//! Input: what clap matched, and the configuration for values that no flag gave. Output: one line a setting.

use std::io::{self, Write};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use crate::webhook::config::{Certificate, Config};

/// Writes a table: flag, value, source.
pub fn print(matches: &ArgMatches, config: &Config, out: &mut impl Write) -> io::Result<()> {
    let rows = rows(matches, config);
    let width = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).len()).max().unwrap_or(0);
    let (flags, values) = (width(|row| &row.flag), width(|row| &row.value));
    for Row { flag, value, source } in &rows {
        writeln!(out, "{flag:flags$}  {value:values$}  {source}")?;
    }
    Ok(())
}

struct Row {
    flag: String,
    value: String,
    source: String,
}

fn rows(matches: &ArgMatches, config: &Config) -> Vec<Row> {
    let command = super::super::Cli::command();
    let Some(command) = command.find_subcommand("webhook") else { return Vec::new() };
    let described = command.get_arguments().filter(|arg| {
        let id = arg.get_id().as_str();
        matches.try_contains_id(id).is_ok() && id != "print_config"
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
                value: given.or_else(|| derived(id, config)).unwrap_or_else(|| "-".to_owned()),
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
        _ => None,
    }
}
