//! `promsidecar validate`: every violation of templates, and of the monitors that they select, each with its fix.
//!
//! Input: manifests. Output: a line a finding, or JSON; exit code 1 where a template is invalid or a monitor
//! rejected.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{self, Format, OutputArgs};
use super::settings::SettingsArgs;
use super::style::{Style, Tone};
use super::templates::{self, Judged, Manifests};
use crate::monitors::object::Kind;
use crate::monitors::selection::{Monitors, Refused, Rejected, Selection, Taken};
use crate::template::agent::Agent;
use crate::template::violation::Violation;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests with templates, monitors, Services and Namespaces; - reads standard input.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let settings = args.settings.to_settings();
    let Manifests { judged, monitors, unusable } = templates::judge(&args.filename, &settings)?;
    let judged: Vec<_> = judged.into_iter().map(|judged| (selected(&judged, &monitors), judged)).collect();
    match args.output.output {
        Format::Json => {
            for line in &unusable {
                writeln!(std::io::stderr(), "{line}")?;
            }
            output::json(out, &judged.iter().map(to_json).collect::<Vec<_>>())?;
        }
        Format::Text => {
            for line in &unusable {
                writeln!(out, "{line}")?;
            }
            for judged in &judged {
                write_text(judged, &settings.controller_id, out)?;
            }
        }
    }
    let bad =
        judged.iter().any(|(selection, judged)| judged.outcome.is_err() || !selection.rejected.is_empty());
    Ok(ExitCode::from(u8::from(bad || !unusable.is_empty())))
}

/// The monitors of a template that is valid.
fn selected(judged: &Judged, monitors: &Monitors) -> Selection {
    judged.outcome.as_ref().map_or_else(|_| Selection::default(), |agent| monitors.select_everywhere(agent))
}

fn write_text(
    (selection, judged): &(Selection, Judged),
    controller_id: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let Judged { file, document, template, outcome } = judged;
    let style = Style::stdout();
    let verdict = match outcome {
        Ok(_) => style.paint(Tone::Good, "valid"),
        Err(violations) if violations.len() == 1 => style.paint(Tone::Bad, "1 violation"),
        Err(violations) => style.paint(Tone::Bad, &format!("{} violations", violations.len())),
    };
    writeln!(out, "{file}: document {document}: {}: {verdict}", template.id)?;
    if !template.claimed {
        let annotation = crate::names::CONTROLLER_ID;
        writeln!(
            out,
            "  not claimed: it is no template without the annotation {annotation}: {controller_id}"
        )?;
    }
    match outcome {
        Err(violations) => {
            for violation in violations {
                writeln!(out, "  violation: {violation}")?;
            }
        }
        Ok(agent) => {
            for field in &agent.ignored {
                writeln!(out, "  ignored: {}: {}", field.path, field.why)?;
            }
            for warning in &agent.config.warnings {
                writeln!(out, "  warning: {}: {}", warning.path, warning.text)?;
            }
            for note in selection.notes() {
                writeln!(out, "  {note}")?;
            }
        }
    }
    Ok(())
}

fn to_json((selection, judged): &(Selection, Judged)) -> Value {
    let Judged { file, document, template, outcome } = judged;
    let violation = |violation: &Violation| {
        json!({
            "path": violation.path,
            "value": violation.value,
            "rule": violation.rule.text(),
            "fix": violation.rule.fix(),
        })
    };
    let ignored = |agent: &Agent| -> Vec<Value> {
        agent.ignored.iter().map(|field| json!({"path": field.path, "why": field.why})).collect()
    };
    let warnings = |agent: &Agent| -> Vec<Value> {
        let warnings = agent.config.warnings.iter();
        warnings.map(|warning| json!({"path": warning.path, "text": warning.text})).collect()
    };
    let (violations, ignored, warnings) = match outcome {
        Ok(agent) => (Vec::new(), ignored(agent), warnings(agent)),
        Err(violations) => (violations.iter().map(violation).collect(), Vec::new(), Vec::new()),
    };
    let rejected = |kind: Kind| -> Vec<Value> {
        let of_kind = selection.rejected.iter().filter(|rejected| rejected.monitor.kind == kind);
        let written = of_kind.map(|Rejected { monitor, violations }| {
            let violations: Vec<_> = violations.iter().map(violation).collect();
            json!({"monitor": monitor.id.to_string(), "violations": violations})
        });
        written.collect()
    };
    let taken = |kind: Kind| -> Vec<String> {
        let of_kind = selection.taken.iter().filter(|taken| taken.monitor.kind == kind);
        of_kind.map(|Taken { monitor, .. }| monitor.id.to_string()).collect()
    };
    let refused = |Refused { monitor, service, why }: &Refused| json!({"monitor": monitor.id.to_string(), "service": service.to_string(), "why": why.to_string()});
    json!({
        "file": file,
        "document": document,
        "podMonitors": {
            "taken": taken(Kind::Pod),
            "rejected": rejected(Kind::Pod),
            "notes": selection.notes(),
        },
        "serviceMonitors": {
            "taken": taken(Kind::Service),
            "rejected": rejected(Kind::Service),
            "refused": selection.refused.iter().map(refused).collect::<Vec<_>>(),
        },
        "template": template.id.to_string(),
        "claimed": template.claimed,
        "valid": outcome.is_ok(),
        "violations": violations,
        "ignored": ignored,
        "warnings": warnings,
    })
}
