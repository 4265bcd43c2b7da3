//! `promsidecar convert`: from what prometheus-operator runs to a template, and the way there.
//!
//! Input: manifests with `PrometheusAgent`s or `Prometheus`es. Output: their templates, for `kubectl apply`; on standard
//! error what became of each field, and the steps that move a namespace over; exit code 1 where a part of one cannot be
//! in a template.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::ordered::Ordered;
use super::rewrite::{self, Format};
use super::settings::SettingsArgs;
use super::{UsageError, input, output, values};
use crate::admission::review::one_line;
use crate::names;

pub mod fields;
pub mod object;
pub mod steps;

use object::{Conversion, Refused, Target};

/// Longest line of the report, in characters: values of users stand in it.
const LONGEST_LINE: usize = 1000;

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests with `PrometheusAgents` or Prometheuses; - reads standard input.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    /// Name of the template. [default: the object's, with -sidecar where it would be the object itself]
    #[arg(long, value_name = "NAME", value_parser = values::object)]
    name: Option<String>,
    /// Namespace of the template. [default: the object's]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = values::namespace)]
    namespace: Option<String>,
    /// Namespace whose pods move over; it is permitted to use the template. [default: the template's]
    #[arg(long, value_name = "NAMESPACE", value_parser = values::namespace)]
    pods: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// An object that was converted, and where it stood.
struct Converted {
    place: String,
    conversion: Conversion,
}

/// Runs the command; templates go to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (converted, monitors) = convert(args)?;
    match args.output {
        Format::Yaml => write_yaml(&converted, out)?,
        Format::Json => write_json(&converted, out)?,
    }
    // Both may be one terminal.
    out.flush()?;
    let mut report = output::Results::stderr();
    for (index, one) in converted.iter().enumerate() {
        if index > 0 {
            writeln!(report)?;
        }
        write_report(one, &monitors, &mut report)?;
    }
    Ok(ExitCode::from(u8::from(converted.iter().any(|one| !one.conversion.impossible.is_empty()))))
}

/// Converts every object below the path; beside them, the monitors that name a scrape class.
fn convert(args: &Args) -> anyhow::Result<(Vec<Converted>, Vec<String>)> {
    let settings = args.settings.to_settings();
    let target =
        Target { name: args.name.clone(), namespace: args.namespace.clone(), pods: args.pods.clone() };
    let (mut converted, mut monitors, mut others) = (Vec::<Converted>::new(), Vec::new(), 0);
    for file in input::manifests(&args.filename)? {
        for document in input::documents(&file)? {
            let place = format!("{}: document {}", input::shown(&file), document.number);
            if !object::is_source(document.kind()) {
                others += 1;
                monitors.extend(with_class(&document.object));
                continue;
            }
            match object::convert(&document.object, &target, &settings) {
                Ok(conversion) => converted.push(Converted { place, conversion }),
                Err(refused @ Refused::Itself(_)) => return Err(UsageError(refused.to_string()).into()),
                Err(Refused::Read(error)) => return Err(error).context(place),
            }
        }
    }
    if converted.is_empty() {
        return nothing(&args.filename, others);
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = converted.iter().find(|one| !seen.insert(one.conversion.id.clone())) {
        let id = &twice.conversion.id;
        return Err(UsageError(format!(
            "two objects would become template {id}: convert one at a time, with --name or without --namespace"
        ))
        .into());
    }
    Ok((converted, monitors))
}

fn nothing<T>(path: &Path, others: usize) -> anyhow::Result<T> {
    let others = match others {
        1 => "1 object of another kind".to_owned(),
        others => format!("{others} objects of other kinds"),
    };
    bail!("{}: no PrometheusAgent and no Prometheus in it ({others})", input::shown(path));
}

/// A monitor that names a scrape class, which the default class has no say in.
fn with_class(object: &Value) -> Option<String> {
    let kind = object["kind"].as_str()?;
    object["spec"]["scrapeClass"].as_str()?;
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str()?;
    let namespace = metadata["namespace"].as_str().unwrap_or(crate::template::DEFAULT_NAMESPACE);
    matches!(kind, "PodMonitor" | "ServiceMonitor" | "ScrapeConfig")
        .then(|| one_line(&format!("{kind} {namespace}/{name}"), LONGEST_LINE))
}

fn write_yaml(converted: &[Converted], out: &mut impl Write) -> anyhow::Result<()> {
    for (index, Converted { conversion, .. }) in converted.iter().enumerate() {
        if index > 0 {
            writeln!(out, "---")?;
        }
        let made = format!("# Template {}, made from {}.", conversion.id, steps::source(conversion));
        writeln!(out, "{}", one_line(&made, LONGEST_LINE))?;
        if !conversion.impossible.is_empty() {
            writeln!(out, "# NOT READY TO BE APPLIED: no agent can do this as it is.")?;
        }
        for line in &conversion.impossible {
            writeln!(out, "#   {}", one_line(line, LONGEST_LINE))?;
        }
        let template = Ordered::arranged(conversion.template.clone(), None);
        write!(out, "{}", rewrite::yaml(&template, true)?)?;
    }
    Ok(())
}

/// One object, or a List: both are what kubectl applies.
fn write_json(converted: &[Converted], out: &mut impl Write) -> anyhow::Result<()> {
    let templates: Vec<_> = converted.iter().map(|one| &one.conversion.template).collect();
    match &templates[..] {
        [one] => output::json(out, one),
        several => output::json(out, &json!({"apiVersion": "v1", "kind": "List", "items": several})),
    }
}

fn write_report(
    Converted { place, conversion }: &Converted,
    monitors: &[String],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    writeln!(out, "{place}: {}: template {}", steps::source(conversion), conversion.id)?;
    for (word, text) in told(conversion) {
        writeln!(out, "  {word}: {}", one_line(&text, LONGEST_LINE))?;
    }
    if conversion.claimed {
        return Ok(());
    }
    if !conversion.impossible.is_empty() {
        writeln!(out, "\nMend what is impossible first, then convert again: the steps follow.")?;
        return Ok(());
    }
    writeln!(out, "\nTo move the pods of namespace {} over:\n", conversion.pods)?;
    for (index, step) in steps::steps(conversion, monitors).iter().enumerate() {
        writeln!(out, "{}. {}", index + 1, step.what)?;
        for line in &step.paste {
            writeln!(out, "     {line}")?;
        }
    }
    Ok(())
}

/// What there is to say of a conversion, what matters most first.
fn told(conversion: &Conversion) -> Vec<(&'static str, String)> {
    let source = steps::source(conversion);
    let mut told = vec![if conversion.claimed {
        ("claimed", "it is a template already; only what a cluster adds to it was taken off".to_owned())
    } else {
        let warning = format!(
            "leave {source} as it is. With the annotation {} on itself prometheus-operator would no longer look after it: its \
             pods would go on with the configuration of that moment, without a word. The template is a new object",
            names::CONTROLLER_ID
        );
        ("DANGER", warning)
    }];
    if !conversion.kept.is_empty() {
        told.push(("kept", conversion.kept.join(", ")));
    }
    for (word, notes) in [("modified", &conversion.modified), ("left out", &conversion.left_out)] {
        told.extend(notes.iter().map(|(path, text)| (word, format!("{path}: {text}"))));
    }
    if !conversion.removed.is_empty() {
        told.push(("removed", conversion.removed.join(", ")));
    }
    for (word, lines) in [("impossible", &conversion.impossible), ("hint", &conversion.hints)] {
        told.extend(lines.iter().map(|line| (word, line.clone())));
    }
    told
}
