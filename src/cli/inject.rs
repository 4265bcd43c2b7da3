//! `promsidecar inject`: manifests with the agent in their pods, as the webhook would have added it.
//!
//! Input: manifests, templates and namespaces. Output: the same manifests, injected; on standard error what became of each
//! pod that asked. Exit code 1 where one of them is refused.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::cluster::ClusterArgs;
use super::output::Results;
use super::rewrite::{Format, Manifests, Place};
use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::admission::offline::{self, Injected, Refused};
use crate::admission::review::one_line;
use crate::workload;

/// Arguments of `inject`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests; - reads standard input. Templates and namespaces in it count as well.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    /// Write every document in this syntax. [default: each as it is]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs the command; manifests go to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut manifests = Manifests::read(&args.filename)?;
    let injector = Injector::new(&args.cluster, &manifests)?;
    let mut log = Results::stderr();
    let (mut pods, mut added, mut refused) = (0, 0, 0);
    manifests.change(args.cluster.namespace.as_deref(), |place, pod| {
        pods += 1;
        let outcome = injector.inject(place, pod);
        match &outcome {
            Ok(_) => added += 1,
            Err(refusal) if is_silent(refusal) => {}
            Err(_) => refused += 1,
        }
        tell(place, &outcome, &mut log)?;
        Ok(outcome.is_ok())
    })?;
    manifests.write(args.output, out)?;
    let noun = if pods == 1 { "pod" } else { "pods" };
    writeln!(
        log,
        "{pods} {noun}: {added} injected, {refused} refused, {} left alone",
        pods - added - refused
    )?;
    if let Some(note) = manifests.note(args.output) {
        writeln!(log, "{note}")?;
    }
    Ok(ExitCode::from(u8::from(refused > 0)))
}

/// What decides about the pods of manifests.
pub(super) struct Injector {
    catalog: Catalog,
    policy: Policy,
}

impl Injector {
    /// From the flags, and from the templates and namespaces among the manifests themselves.
    pub(super) fn new(cluster: &ClusterArgs, manifests: &Manifests) -> anyhow::Result<Self> {
        let (catalog, policy) = cluster.load_beside(manifests.documents()?)?;
        Ok(Self { catalog, policy })
    }

    /// Injects one pod, if it asks and may.
    pub(super) fn inject(&self, place: &Place<'_>, pod: &mut Value) -> Result<Injected, Refused> {
        let owner = workload::owner(place.object);
        let inject =
            |pod: &mut Value| offline::inject(pod, place.namespace, owner, &self.catalog, &self.policy);
        // Volumes that its controller adds are not written into the manifest, and may have our names.
        let mut whole = pod.clone();
        if let Some(spec) = whole.get_mut("spec") {
            workload::add_claims(place.object, spec);
        }
        if whole != *pod {
            inject(&mut whole)?;
        }
        inject(pod)
    }
}

/// Whether the pod did not ask, or has its agent.
pub(super) const fn is_silent(refused: &Refused) -> bool {
    refused.refusal.reason.is_silent()
}

/// Says what became of a pod that asked.
pub(super) fn tell(
    place: &Place<'_>,
    outcome: &Result<Injected, Refused>,
    log: &mut impl Write,
) -> std::io::Result<()> {
    // What a manifest says must not forge lines of a log.
    let clean = |text: &dyn std::fmt::Display| one_line(&text, usize::MAX);
    match outcome {
        Ok(injected) => {
            let template = clean(&injected.template);
            writeln!(log, "{place}: injected from {template} ({})", injected.mode.word())?;
            for warning in &injected.warnings {
                writeln!(log, "  warning: {}", clean(warning))?;
            }
        }
        Err(Refused { refusal, .. }) if refusal.reason.is_silent() => {
            if let Some(warning) = &refusal.warning {
                writeln!(log, "{place}: {}: {}", refusal.reason.word(), clean(warning))?;
            }
        }
        Err(Refused { refusal, denied }) => {
            let (verdict, row) = (if *denied { "denied" } else { "not injected" }, refusal.reason.row());
            writeln!(log, "{place}: {verdict}: {}: {}", row.word, clean(&refusal.detail))?;
            writeln!(log, "  fix: {}", row.fix)?;
        }
    }
    Ok(())
}
