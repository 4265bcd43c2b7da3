//! `promsidecar diff`: what `inject` would change.
//!
//! Input: manifests, templates and namespaces. Output: a unified diff of each document that would change; or, for programs,
//! an object a pod that asked, with its patch. Exit code 1 where something would change or a pod that asked is refused.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::cluster::ClusterArgs;
use super::inject::{Injector, is_silent, tell};
use super::output::Results;
use super::rewrite::{Change, Manifests, Place};
use super::style::{Style, Tone};
use crate::admission::offline::{Injected, Refused};

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests; - reads standard input. Templates and namespaces in it count as well.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    /// How to print: for people, or a list with the JSON patch of each pod that asked.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How differences are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A unified diff of each object, as YAML without comments.
    Text,
    /// A list, in YAML.
    Yaml,
    /// A list, in JSON.
    Json,
}

/// Runs the command; the diff goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut manifests = Manifests::read(&args.filename)?;
    let injector = Injector::new(&args.cluster, &manifests)?;
    let mut log = Results::stderr();
    let mut asked = Vec::new();
    let mut finding = false;
    manifests.change(args.cluster.namespace.as_deref(), |place, pod| {
        let before = pod.clone();
        let outcome = injector.inject(place, pod);
        if args.output == Format::Text {
            tell(place, &outcome, &mut log)?;
        }
        if outcome.as_ref().is_err_and(is_silent) {
            return Ok(false);
        }
        finding = true;
        asked.push(described(place, &outcome, &before, pod)?);
        Ok(outcome.is_ok())
    })?;
    match args.output {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&asked)?)?,
        Format::Yaml => write!(out, "{}", serde_saphyr::to_string(&asked)?)?,
        Format::Text => {
            for change in manifests.changes()? {
                write_diff(&change, Style::stdout(), out)?;
            }
        }
    }
    Ok(ExitCode::from(u8::from(finding)))
}

/// A pod that asked, for programs.
fn described(
    place: &Place<'_>,
    outcome: &Result<Injected, Refused>,
    before: &Value,
    after: &Value,
) -> anyhow::Result<Value> {
    let mut described = json!({
        "file": place.file,
        "document": place.document,
        "kind": place.kind(),
        "name": place.name(),
        "namespace": place.namespace,
    });
    let members = match outcome {
        Ok(injected) => {
            // Against the document, not against the pod: what a reader could apply to the file.
            let mut patch = serde_json::to_value(json_patch::diff(before, after))?;
            for operation in patch.as_array_mut().into_iter().flatten() {
                let below = operation["path"].as_str().unwrap_or_default();
                operation["path"] = Value::String(format!("{}{below}", place.pointer));
            }
            json!({
                "outcome": "injected",
                "template": injected.template.to_string(),
                "mode": injected.mode.word(),
                "warnings": injected.warnings,
                "patch": patch,
            })
        }
        Err(Refused { refusal, denied }) => json!({
            "outcome": if *denied { "denied" } else { "skipped" },
            "reason": refusal.reason.word(),
            "detail": refusal.detail,
            "fix": refusal.reason.row().fix,
            "warnings": refusal.warning.iter().collect::<Vec<_>>(),
        }),
    };
    if let (Some(described), Value::Object(members)) = (described.as_object_mut(), members) {
        described.extend(members);
    }
    Ok(described)
}

fn write_diff(change: &Change<'_>, style: Style, out: &mut impl Write) -> std::io::Result<()> {
    let Change { file, document, before, after } = change;
    writeln!(out, "{}", style.paint(Tone::Heading, &format!("--- {file}: document {document}")))?;
    writeln!(out, "{}", style.paint(Tone::Heading, &format!("+++ {file}: document {document}, injected")))?;
    let diff = TextDiff::from_lines(before, after);
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        writeln!(out, "{}", style.paint(Tone::Place, hunk.header().to_string().trim_end()))?;
        for change in hunk.iter_changes() {
            let text = change.value().trim_end_matches('\n');
            match change.tag() {
                ChangeTag::Equal => writeln!(out, " {text}")?,
                ChangeTag::Insert => writeln!(out, "{}", style.paint(Tone::Good, &format!("+{text}")))?,
                ChangeTag::Delete => writeln!(out, "{}", style.paint(Tone::Bad, &format!("-{text}")))?,
            }
        }
    }
    Ok(())
}
