//! `promsidecar verify`: whether the series of injected pods arrive.
//!
//! Input: a cluster, and the query API of what agents send to. Output: the pods of which nothing arrives, with the last lines of
//! their agents' logs; exit code 1 where there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Client, Config};
use serde_json::{Value, json};

use self::receiver::ReceiverArgs;
use super::kubernetes::{ContextArgs, NamespaceArgs, block_on};
use super::output::{self, Format, OutputArgs};
use super::style::{Style, Tone};
use super::values;
use crate::admission::review::one_line;
use crate::cluster::explain::chain;
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::identity;
use crate::cluster::{kinds, proxy};
use crate::names;
use crate::verify::{self, Arrived, Judged, Question, Verdict};

mod receiver;

/// Pods whose logs are asked for: what one template does wrong, each of its pods says.
const MOST_LOGS: usize = 20;
/// Pods that one query names.
const MOST_NAMES: usize = 50;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    receiver: ReceiverArgs,
    /// How far back a sample counts. [default: 5m, or twice the longest interval that a template and its pods state]
    #[arg(long, value_name = "DURATION", value_parser = values::pause)]
    lookback: Option<Duration>,
    /// How long an agent has for its first series, beside its scrape interval.
    #[arg(long, default_value = "2m", value_name = "DURATION", value_parser = values::duration)]
    grace: Duration,
    /// Lines of each agent's log.
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    log_lines: u16,
    /// Every namespace.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    context: ContextArgs,
}

/// A pod that should deliver and does not, with what its agent said.
struct Found {
    judged: Judged,
    log: Vec<String>,
}

/// Everything that was found out.
#[derive(Default)]
struct Outcome {
    pods: Vec<Found>,
    /// What was asked about the pods of each template.
    asked: BTreeMap<String, Vec<String>>,
    /// Series of each template that no pod can be told from.
    anonymous: BTreeMap<String, usize>,
    /// What could not be seen.
    notes: Vec<String>,
    /// How many logs were not asked for.
    logs_left: usize,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let receiver = args.receiver.to_config(&proxy::Environment::read())?;
    let outcome = block_on(async {
        let client = args.context.connect().await?;
        let namespace = if args.all_namespaces {
            None
        } else {
            let named = args.namespace.namespace.clone();
            Some(named.unwrap_or_else(|| client.default_namespace().to_owned()))
        };
        verify(args, &Reader::new(client), &receiver, namespace.as_deref()).await
    })?;
    print(&outcome, args.output.output, out)?;
    let bad = outcome.pods.iter().any(|pod| pod.judged.verdict.is_bad());
    Ok(ExitCode::from(u8::from(bad)))
}

async fn verify(
    args: &Args,
    cluster: &Reader,
    receiver: &Config,
    namespace: Option<&str>,
) -> anyhow::Result<Outcome> {
    let injected = format!("{}=true", names::INJECTED);
    let which = Which { namespace, label: Some(&injected), only: &["/status"], ..Which::default() };
    let pods = cluster.list(&kinds::PODS, which).await?.map_err(|forbidden| anyhow!("{forbidden}"))?;
    let mut outcome = Outcome::default();
    let templates = cluster
        .list(&kinds::AGENTS, Which { only: &["/spec"], ..Which::default() })
        .await?
        .unwrap_or_else(|forbidden| {
            outcome.notes.push(format!("{forbidden}: agents are told apart by the usual label, prometheus"));
            Vec::new()
        });
    let templates: BTreeMap<String, &Value> =
        templates.iter().map(|template| (identity(template), template)).collect();

    let newer = pods.iter().filter(|pod| verify::is_newer(pod)).count();
    if newer > 0 {
        outcome.notes.push(format!(
            "a newer promsidecar injected {newer} of these pods; they are judged as the others"
        ));
    }

    let client = Client::try_from(receiver.clone())
        .map_err(|error| anyhow!("--query-url {}: cannot be used: {}", args.receiver.url, chain(&error)))?;
    let mut of_templates: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for pod in &pods {
        of_templates.entry(verify::template(pod).unwrap_or_default()).or_default().push(pod);
    }
    let mut judged: Vec<Judged> = Vec::new();
    for (template, pods) in of_templates {
        let asking =
            Asking { args, client: &client, namespace, object: templates.get(&template).copied(), pods };
        judged.extend(asking.judge(template, &mut outcome).await?);
    }
    judged.sort_by(|one, other| (one.verdict, &one.pod).cmp(&(other.verdict, &other.pod)));
    let bad = judged.iter().filter(|judged| judged.verdict.is_bad()).count();
    for judged in judged {
        let asked = judged.verdict.is_bad() && outcome.pods.len() < MOST_LOGS && args.log_lines > 0;
        let log = if asked { log(cluster, &judged, args.log_lines).await? } else { Vec::new() };
        outcome.pods.push(Found { judged, log });
    }
    outcome.logs_left = if args.log_lines > 0 { bad.saturating_sub(MOST_LOGS) } else { 0 };
    Ok(outcome)
}

/// The pods of one template.
struct Asking<'a> {
    args: &'a Args,
    client: &'a Client,
    namespace: Option<&'a str>,
    /// The template, if it is there and may be seen.
    object: Option<&'a Value>,
    pods: Vec<&'a Value>,
}

impl Asking<'_> {
    /// Asks about them. Those without `up` are asked for by any series: a template may drop it.
    async fn judge(&self, template: String, outcome: &mut Outcome) -> anyhow::Result<Vec<Judged>> {
        if template.is_empty() {
            return Ok(self.judged(None));
        }
        let mut labels = verify::external_labels(self.object);
        if let Some(label) = verify::label(self.object) {
            labels.insert(label, template.clone());
        }
        let interval = verify::interval(self.object, &self.pods);
        let window = self.args.lookback.or_else(|| verify::window(interval));
        let question = Question { labels, namespace: self.namespace, window };
        let mut asked = vec![question.up()];
        let arrived = receiver::ask(self.client, &asked[0]).await.and_then(|answer| verify::arrived(&answer));
        let mut arrived =
            arrived.map_err(|error| anyhow!("--query-url {}: {error}", self.args.receiver.url))?;
        if arrived.anonymous > 0 {
            outcome.anonymous.insert(template.clone(), arrived.anonymous);
        }
        let missing =
            self.judged(Some(&arrived)).into_iter().filter(|judged| judged.verdict == Verdict::Missing);
        for some in missing.map(|judged| judged.pod).collect::<Vec<_>>().chunks(MOST_NAMES) {
            let any = question.any(some);
            match receiver::ask(self.client, &any).await.and_then(|answer| verify::arrived(&answer)) {
                Ok(found) => arrived.without_up.extend(found.pods.into_keys()),
                Err(error) => outcome.notes.push(format!(
                    "whether other series than up arrive of {} pods of template {template} cannot be told: {error}",
                    some.len()
                )),
            }
            asked.push(any);
        }
        if !arrived.without_up.is_empty() {
            outcome.notes.push(format!(
                "of {} pods of template {template} series arrive and no up, so whether their scrapes succeed cannot be told",
                arrived.without_up.len()
            ));
        }
        outcome.asked.insert(template, asked);
        Ok(self.judged(Some(&arrived)))
    }

    fn judged(&self, arrived: Option<&Arrived>) -> Vec<Judged> {
        let interval = verify::interval(self.object, &self.pods);
        let grace =
            SignedDuration::try_from(self.args.grace.saturating_add(interval)).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now();
        self.pods.iter().map(|pod| verify::judge(pod, arrived, now, grace)).collect()
    }
}

/// The last lines that a pod's agent wrote, or why they cannot be had.
async fn log(cluster: &Reader, judged: &Judged, lines: u16) -> anyhow::Result<Vec<String>> {
    let (namespace, pod) = &judged.pod;
    let log = cluster.log(namespace, pod, names::CONTAINER, lines).await?;
    let lines = match log {
        Ok(text) if text.is_empty() => "no log: it has written nothing".to_owned(),
        Ok(text) => text,
        Err(why) => format!("no log: {why}"),
    };
    Ok(lines.lines().map(str::to_owned).collect())
}

fn print(outcome: &Outcome, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    let count = |verdict| outcome.pods.iter().filter(|pod| pod.judged.verdict == verdict).count();
    if format == Format::Json {
        let pods: Vec<Value> = outcome
            .pods
            .iter()
            .map(|Found { judged: Judged { pod: (namespace, name), template, verdict, why }, log }| {
                json!({"namespace": namespace, "name": name, "template": template, "verdict": verdict.word(), "why": why, "log": log})
            })
            .collect();
        let counts: serde_json::Map<_, _> = Verdict::ALL
            .into_iter()
            .map(|verdict| (verdict.word().to_owned(), json!(count(verdict))))
            .collect();
        return output::json(
            out,
            &json!({"pods": pods, "counts": counts, "anonymous": outcome.anonymous, "asked": outcome.asked, "notes": outcome.notes}),
        );
    }
    let style = Style::stdout();
    // Names and logs come from the cluster, and none may forge another line.
    let clean = |text: &str| one_line(&text, usize::MAX);
    for Found { judged, log } in outcome.pods.iter().filter(|pod| pod.judged.verdict != Verdict::Delivering) {
        let tone = if judged.verdict.is_bad() { Tone::Bad } else { Tone::Place };
        let word = style.paint(tone, &format!("{:<9}", judged.verdict.word()));
        let (namespace, name) = &judged.pod;
        let template = if judged.template.is_empty() { "not known" } else { &judged.template };
        // A kubelet writes the reason, and whoever else may write the status of a pod.
        writeln!(out, "{word} {namespace}/{name}: {}; template {}", clean(&judged.why), clean(template))?;
        for line in log {
            writeln!(out, "          | {}", clean(line))?;
        }
    }
    for (template, count) in &outcome.anonymous {
        writeln!(
            out,
            "note: {count} series of template {} have no labels namespace and pod: what drops them, drops the means to tell pods apart",
            clean(template)
        )?;
    }
    for note in &outcome.notes {
        writeln!(out, "note: {}", clean(note))?;
    }
    // For whoever wants to see it with his own eyes.
    let templates =
        outcome.pods.iter().filter(|pod| pod.judged.verdict.is_bad()).map(|pod| &pod.judged.template);
    for query in templates
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter_map(|template| outcome.asked.get(template))
        .flatten()
    {
        writeln!(out, "asked: {}", clean(query))?;
    }
    if outcome.logs_left > 0 {
        writeln!(out, "note: the logs of {} more pods were not asked for", outcome.logs_left)?;
    }
    if outcome.pods.is_empty() {
        writeln!(out, "note: there are no injected pods here; -n names another namespace, -A all")?;
    }
    let counts = Verdict::ALL.map(|verdict| format!("{} {}", count(verdict), verdict.word()));
    writeln!(out, "{}", counts.join(", "))?;
    Ok(())
}
