//! `promsidecar lint`: what in manifests will not do what their author expects.
//!
//! Input: manifests to judge, and manifests that only count. Output: findings by object, or JSON; exit code 1 if there are
//! any.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::output::{self, Format, OutputArgs};
use super::settings::SettingsArgs;
use super::style::{Style, Tone};
use super::{input, values};
use crate::admission::review::one_line;

pub mod finding;
mod keys;
mod missing;
mod monitors;
mod pods;
pub mod rules;

use finding::{Finding, Item, Report};

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests to judge; - reads standard input.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    /// Folder or file with `PrometheusAgents`, monitors, Services and Namespaces that count as well.
    #[arg(short, long, env = "PROMSIDECAR_TEMPLATES", value_name = "DIR", value_parser = values::path)]
    templates: Option<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE", value_parser = values::namespace)]
    namespace: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let files = input::manifests(&args.filename)?;
    let items = read(&files)?;
    if items.is_empty() {
        bail!("{}: no object in it", input::shown(&args.filename));
    }
    let mut context = Vec::new();
    if let Some(templates) = &args.templates {
        // A file that is judged anyway must not be judged twice.
        let judged: Vec<_> = files.iter().filter_map(|file| fs::canonicalize(file).ok()).collect();
        let mut others = input::manifests(templates)?;
        others.retain(|file| fs::canonicalize(file).map_or(true, |file| !judged.contains(&file)));
        context = read(&others)?;
    }
    let settings = args.settings.to_settings();
    let reports = rules::lint(&items, &context, &settings, &args.namespace);
    match args.output.output {
        Format::Json => {
            let findings = reports
                .iter()
                .flat_map(|Report { item, findings }| findings.iter().map(|finding| to_json(item, finding)));
            output::json(out, &findings.collect::<Vec<_>>())?;
        }
        Format::Text => write_text(&reports, items.len(), out)?,
    }
    Ok(ExitCode::from(u8::from(!reports.is_empty())))
}

fn read(files: &[impl AsRef<Path>]) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for file in files {
        for document in input::documents(file.as_ref())? {
            items.push(Item {
                file: input::shown(file.as_ref()),
                document: document.number,
                object: document.object,
            });
        }
    }
    Ok(items)
}

fn write_text(reports: &[Report<'_>], objects: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let style = Style::stdout();
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    for Report { item, findings } in reports {
        let place = format!("{}: document {}", item.file, item.document);
        let found = count(findings.len(), "finding");
        writeln!(
            out,
            "{}: {}: {}",
            style.paint(Tone::Place, &place),
            finding::shown(&item.object),
            style.paint(Tone::Bad, &found)
        )?;
        for Finding { rule, field, what, fix } in findings {
            // Keys and values come from the manifest, and no name may forge another line.
            let text = one_line(&format_args!("{field}: {what}; {fix}"), usize::MAX);
            writeln!(out, "  {}: {text}", style.paint(Tone::Heading, rule.word()))?;
        }
    }
    if reports.is_empty() {
        writeln!(out, "{} in {}", style.paint(Tone::Good, "no findings"), count(objects, "object"))?;
    }
    Ok(())
}

fn to_json(item: &Item, finding: &Finding) -> Value {
    let text = |pointer: &str| item.object.pointer(pointer).cloned().unwrap_or_default();
    json!({
        "file": item.file,
        "document": item.document,
        "kind": text("/kind"),
        "namespace": text("/metadata/namespace"),
        "name": text("/metadata/name"),
        "rule": finding.rule.word(),
        "field": finding.field,
        "what": finding.what,
        "fix": finding.fix,
    })
}
