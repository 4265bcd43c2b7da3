//! `promsidecar uninject`: manifests without what promsidecar added to their pods.
//!
//! Input: manifests, injected offline or taken from a cluster. Output: the same manifests as they were before; on standard
//! error what was taken out of each pod.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::output::Results;
use super::rewrite::{Format, Manifests};
use crate::admission::offline::{self, Taken};

/// Arguments of `uninject`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests; - reads standard input.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    /// Write every document in this syntax. [default: each as it is]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// Runs the command; manifests go to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut manifests = Manifests::read(&args.filename)?;
    let mut log = Results::stderr();
    let (mut pods, mut restored) = (0, 0);
    manifests.change(None, |place, pod| {
        pods += 1;
        let what = match offline::uninject(pod).with_context(|| place.to_string())? {
            Taken::Nothing => return Ok(false),
            Taken::Mark => "the mark of a refusal was taken out".to_owned(),
            Taken::Agent { template } => format!("the agent of {template} was taken out"),
        };
        restored += 1;
        writeln!(log, "{place}: {what}")?;
        Ok(true)
    })?;
    manifests.write(args.output, out)?;
    let noun = if pods == 1 { "pod" } else { "pods" };
    writeln!(log, "{pods} {noun}: {restored} restored, {} left alone", pods - restored)?;
    if let Some(note) = manifests.note(args.output) {
        writeln!(log, "{note}")?;
    }
    Ok(ExitCode::SUCCESS)
}
