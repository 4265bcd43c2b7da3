//! `promsidecar explain`: a reason, or the decision about a pod.
//!
//! Input: a reason's word; or a manifest, a namespace and templates. Output: the table's row; or the trace of `decide`, which
//! alone decides.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::cluster::ClusterArgs;
use super::input;
use crate::admission::decision::{self, Decision, Finding, Step, Verdict};
use crate::admission::json::Field;
use crate::admission::owner::Workload;
use crate::admission::pod::PodView;
use crate::admission::reason::{Reason, TABLE};
use crate::admission::request::Source;
use crate::workload;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reason to explain, such as template-not-found; without it and without --filename, all are listed.
    #[arg(value_name = "REASON", conflicts_with = "filename")]
    reason: Option<String>,
    /// Manifest with pods or workloads to decide about; - reads standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match (&args.reason, &args.filename) {
        (Some(word), _) => explain_reason(word, out),
        (None, Some(file)) => explain_manifest(file, &args.cluster, out),
        (None, None) => {
            for row in &TABLE {
                writeln!(out, "{:<24} {}", row.word, row.meaning)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn explain_reason(word: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Some(reason) = Reason::from_word(word) else {
        let distance = |row: &&crate::admission::reason::Row| strsim::damerau_levenshtein(row.word, word);
        let nearest = TABLE.iter().min_by_key(distance).map_or("", |row| row.word);
        bail!("unknown reason {word:?}: did you mean {nearest}? `promsidecar explain` lists all");
    };
    let row = reason.row();
    writeln!(out, "{}: {}", row.word, row.meaning)?;
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

/// Explains every pod of a manifest. Exit code 1 if one asked and is refused.
fn explain_manifest(
    file: &std::path::Path,
    cluster: &ClusterArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let (catalog, policy) = cluster.load()?;
    let documents = input::documents(file)?;
    let mut pods = 0;
    let mut refused = false;
    for document in &documents {
        let Some(pod) = workload::pod(&document.object) else { continue };
        pods += 1;
        let namespace = pod.pointer("/metadata/namespace").and_then(serde_json::Value::as_str);
        let namespace = cluster.namespace.as_deref().or(namespace).unwrap_or("default");
        let bytes = serde_json::to_vec(&pod)?;
        let view: Field<PodView<'_>> = serde_json::from_slice(&bytes)?;
        let view = view
            .value()
            .with_context(|| format!("{}: document {} is not a pod", input::shown(file), document.number))?;
        let decision = decision::decide(namespace, view, &catalog, &policy);
        refused |= matches!(&decision.verdict, Verdict::Refuse(refusal) if !refusal.reason.is_silent());
        explain_decision(namespace, view, &decision, out)?;
    }
    if pods == 0 {
        bail!("{}: no pod and no workload with a pod template in it", input::shown(file));
    }
    Ok(ExitCode::from(u8::from(refused)))
}

fn explain_decision(
    namespace: &str,
    pod: &PodView<'_>,
    decision: &Decision<'_>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    writeln!(out, "{} in {namespace}", Workload::of(pod))?;
    for step in &decision.trace {
        let line = format!("{:<24}{}", step.row.word(), finding(step));
        writeln!(out, "  {} {}", if step.applies { "✗" } else { "·" }, line.trim_end())?;
    }
    match &decision.verdict {
        Verdict::Inject(injected) => {
            let (injection, injected) = &**injected;
            writeln!(out, "injected from {} ({})", injection.entry.id, injection.mode.word())?;
            for warning in &injected.warnings {
                writeln!(out, "  warning: {warning}")?;
            }
        }
        Verdict::Refuse(refusal) => {
            let row = refusal.reason.row();
            let separator = if refusal.detail.is_empty() { "" } else { ": " };
            writeln!(out, "not injected: {}{separator}{}", row.word, refusal.detail)?;
            if let Some((told, detail)) = &refusal.told {
                writeln!(out, "  the pod's owner reads: {}: {detail}", told.word())?;
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
