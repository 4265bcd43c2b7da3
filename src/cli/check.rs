//! `promsidecar check`: whether an installation works, or what a removal left.
//!
//! Input: a cluster. Output: what [`crate::check`] finds, a line each, and an exit code: 1 where something failed, or is left.

use std::io::Write;
use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::kubernetes::{ContextArgs, NamespaceArgs, block_on};
use super::output::{self, Format, OutputArgs};
use super::policy::OwnNamespaceArgs;
use super::settings::SettingsArgs;
use super::style::{Style, Tone};
use super::values;
use crate::admission::review::one_line;
use crate::check::facts::Names;
use crate::check::finding::{Finding, Outcome};
use crate::check::{self, leftovers};
use crate::cluster::kubeconfig::Target;
use crate::cluster::reader::Reader;
use crate::names;

mod gather;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look whether the cluster is fit for an installation instead.
    #[arg(long)]
    pre: bool,
    /// Look for what a removal left instead.
    #[arg(long, conflicts_with = "pre")]
    uninstall: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    own: OwnNamespaceArgs,
    /// `MutatingWebhookConfiguration` of the webhook.
    #[arg(long, env = "PROMSIDECAR_REGISTRATION", default_value = names::REGISTRATION, value_name = "NAME", value_parser = values::object)]
    registration: String,
    /// Secret with the webhook's certificate, in promsidecar's own namespace.
    #[arg(long, env = "PROMSIDECAR_TLS_SECRET", default_value = names::TLS_SECRET, value_name = "NAME", value_parser = values::object)]
    tls_secret: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let settings = args.settings.to_settings();
    let (findings, target) = block_on(async {
        let (client, target) = args.context.connect_to().await?;
        let namespace =
            args.namespace.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let names = Names {
            own_namespace: args.own.own_namespace.clone(),
            registration: args.registration.clone(),
            secret: args.tls_secret.clone(),
            namespace,
        };
        let reader = Reader::new(client);
        let findings = if args.uninstall {
            let left = gather::left(&reader, names.own_namespace, settings.controller_id).await?;
            leftovers::check(&left)
        } else {
            let facts = gather::facts(&reader, names, settings, Timestamp::now(), !args.pre).await?;
            if args.pre { check::before(&facts) } else { check::run(&facts) }
        };
        Ok((findings, target))
    })?;
    print(&findings, &target, args.output.output, out)?;
    // Warnings of what is left are of what does no harm.
    let failed = findings.iter().any(|finding| finding.outcome == Outcome::Failed);
    Ok(ExitCode::from(u8::from(failed)))
}

/// Every outcome, in the order of the last line.
const OUTCOMES: [Outcome; 4] = [Outcome::Ok, Outcome::Warning, Outcome::Failed, Outcome::NotChecked];

fn print(findings: &[Finding], target: &Target, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    if format == Format::Json {
        let counts: serde_json::Map<_, _> = OUTCOMES
            .into_iter()
            .map(|outcome| (outcome.word().replace(' ', "-"), json!(count(outcome))))
            .collect();
        return output::json(
            out,
            &json!({"cluster": target.to_string(), "findings": findings, "counts": counts}),
        );
    }
    let style = Style::stdout();
    // Names come from the cluster, and none may forge another line.
    let clean = |text: &str| one_line(&text, usize::MAX);
    writeln!(out, "cluster: {}", clean(&target.to_string()))?;
    for Finding { check, outcome, found, fix } in findings {
        let tone = match outcome {
            Outcome::Ok => Tone::Good,
            Outcome::Failed => Tone::Bad,
            Outcome::Warning | Outcome::NotChecked => Tone::Place,
        };
        let word = style.paint(tone, &format!("{:<11}", outcome.word()));
        writeln!(out, "{word} {check}: {}", clean(found))?;
        if let Some(fix) = fix {
            writeln!(out, "            fix: {}", clean(fix))?;
        }
    }
    let counts = OUTCOMES.map(|outcome| {
        let plural = if outcome == Outcome::Warning && count(outcome) != 1 { "s" } else { "" };
        format!("{} {}{plural}", count(outcome), outcome.word())
    });
    writeln!(out, "{}", counts.join(", "))?;
    Ok(())
}
