//! `promsidecar explain`: a reason, or the decision about a pod.
//!
//! Input: a reason's word; or a manifest, a namespace and templates; or an object of a cluster. Output: the table's row; or the
//! trace of `decide`, which alone decides.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use super::cluster::ClusterArgs;
use super::kubernetes::ContextArgs;
use super::output::{self, Format, OutputArgs};
use super::style::{Style, Tone};
use super::{UsageError, input};
use crate::admission::decision::{self, Decision, Finding, Step, Verdict};
use crate::admission::json::Field;
use crate::admission::owner::Workload;
use crate::admission::pod::PodView;
use crate::admission::reason::{Reason, Row, TABLE};
use crate::admission::request::Source;
use crate::admission::review::one_line;
use crate::workload;

mod json;
mod live;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reason to explain, such as template-not-found, or an object of the cluster, such as pod/web-0 or deploy/web; without
    /// it and without --filename, all reasons are listed.
    #[arg(value_name = "REASON|KIND/NAME", conflicts_with = "filename")]
    reason: Option<String>,
    /// Manifest or folder of manifests with pods or workloads to decide about; - reads standard input.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let format = args.output.output;
    let object = args.reason.as_deref().and_then(|word| word.split_once('/'));
    if let Some((kind, name)) = object.filter(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
        return live::run(args, kind, name, out);
    }
    match (&args.reason, &args.filename) {
        (Some(word), _) => explain_reason(word, format, out),
        (None, Some(file)) => explain_manifests(file, &args.cluster, format, out),
        (None, None) => list(format, out),
    }
}

fn list(format: Format, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match format {
        Format::Json => output::json(out, &TABLE.iter().map(json::reason).collect::<Vec<_>>())?,
        Format::Text => {
            let rows: Vec<_> =
                TABLE.iter().map(|row| [row.word.to_owned(), row.meaning.to_owned()]).collect();
            Style::stdout().table(&rows, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain_reason(word: &str, format: Format, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Some(reason) = Reason::from_word(word) else {
        let distance = |row: &&Row| strsim::damerau_levenshtein(row.word, word);
        let nearest = TABLE.iter().min_by_key(distance).map_or("", |row| row.word);
        let message =
            format!("unknown reason {word:?}: did you mean {nearest}? `promsidecar explain` lists all");
        return Err(UsageError(message).into());
    };
    let row = reason.row();
    if format == Format::Json {
        output::json(out, &json::reason(row))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}: {}", Style::stdout().paint(Tone::Heading, row.word), row.meaning)?;
    writeln!(out, "  cause  {}", row.cause)?;
    writeln!(out, "  fix    {}", row.fix)?;
    let told = if reason.is_silent() {
        "nothing is said: this is not a refusal"
    } else if reason.denies_if_required() {
        "the pod is admitted without an agent; with sidecar.prometheus.io/required it is denied"
    } else {
        "the pod is admitted without an agent"
    };
    writeln!(out, "  then   {told}")?;
    Ok(ExitCode::SUCCESS)
}

/// Explains every pod of the manifests. Exit code 1 if one asked and is refused.
fn explain_manifests(
    path: &Path,
    cluster: &ClusterArgs,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut read = Vec::new();
    for file in input::manifests(path)? {
        read.push((input::shown(&file), input::documents(&file)?));
    }
    let (catalog, policy) = cluster.load_beside(read.clone())?;
    let mut explained = Vec::new();
    let mut pods = 0;
    let mut refused = false;
    for (file, documents) in &read {
        for document in documents {
            let Some(pod) = workload::pod(&document.object) else { continue };
            pods += 1;
            let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str);
            let namespace = namespace.or(cluster.namespace.as_deref()).unwrap_or("default");
            let bytes = serde_json::to_vec(&pod)?;
            let view: Field<PodView<'_>> = serde_json::from_slice(&bytes)?;
            let place = || format!("{file}: document {}", document.number);
            let view = view.value().with_context(|| format!("{} is not a pod", place()))?;
            let decision = decision::decide(namespace, view, &catalog, &policy);
            refused |= matches!(&decision.verdict, Verdict::Refuse(refusal) if !refusal.reason.is_silent());
            match format {
                Format::Json => {
                    let mut decided = json::decision(namespace, view, &decision);
                    decided["file"] = Value::from(file.as_str());
                    decided["document"] = Value::from(document.number);
                    explained.push(decided);
                }
                Format::Text => explain_decision(namespace, view, &decision, out)?,
            }
        }
    }
    if pods == 0 {
        bail!("{}: no pod and no workload with a pod template in it", input::shown(path));
    }
    if format == Format::Json {
        output::json(out, &explained)?;
    }
    Ok(ExitCode::from(u8::from(refused)))
}

fn explain_decision(
    namespace: &str,
    pod: &PodView<'_>,
    decision: &Decision<'_>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let style = Style::stdout();
    // Names come from the manifest, and none may forge another line.
    let clean = |text: &dyn std::fmt::Display| one_line(&text, usize::MAX);
    let heading = clean(&format_args!("{} in {namespace}", Workload::of(pod)));
    writeln!(out, "{}", style.paint(Tone::Heading, &heading))?;
    for step in &decision.trace {
        let line = clean(&format_args!("{:<24}{}", step.row.word(), finding(step)));
        let mark = if step.applies { style.paint(Tone::Bad, "✗") } else { "·".to_owned() };
        writeln!(out, "  {mark} {}", line.trim_end())?;
    }
    match &decision.verdict {
        Verdict::Inject(injected) => {
            let (injection, injected) = &**injected;
            let verdict = style.paint(Tone::Good, "injected");
            writeln!(out, "{verdict} from {} ({})", clean(&injection.entry.id), injection.mode.word())?;
            for warning in &injected.warnings {
                writeln!(out, "  warning: {}", clean(warning))?;
            }
        }
        Verdict::Refuse(refusal) => {
            let row = refusal.reason.row();
            let separator = if refusal.detail.is_empty() { "" } else { ": " };
            let verdict = style.paint(Tone::Bad, "not injected");
            writeln!(out, "{verdict}: {}{separator}{}", row.word, clean(&refusal.detail))?;
            if let Some((told, detail)) = &refusal.told {
                writeln!(out, "  the pod's owner reads: {}: {}", told.word(), clean(detail))?;
            }
            if decision.required && refusal.reason.denies_if_required() {
                writeln!(out, "  the pod is denied: its agent is required")?;
            }
            writeln!(out, "  fix: {}", row.fix)?;
        }
    }
    Ok(())
}

fn finding(step: &Step<'_>) -> String {
    match step.finding {
        Finding::Nothing => String::new(),
        Finding::Asked(source, reference) => {
            let source = match source {
                Source::PodAnnotation => "the pod's annotation",
                Source::NamespaceLabel => "the namespace's label",
                Source::NamespaceAnnotation => "the namespace's annotation",
            };
            match reference {
                None => format!("{source} asks for whichever template applies"),
                Some(reference) => match reference.namespace {
                    Some(namespace) => format!("{source} asks for {namespace}/{}", reference.name),
                    None => format!("{source} asks for {}", reference.name),
                },
            }
        }
        Finding::Template(id) => format!("{id}"),
        Finding::Ports(0) => "monitors of the template".to_owned(),
        Finding::Ports(count) => format!("{count} hinted port{}", if count == 1 { "" } else { "s" }),
        Finding::Mode(mode) => format!("{} mode", mode.word()),
    }
}
