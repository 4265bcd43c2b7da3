//! `promsidecar status`: templates, their conditions, and their pods. IO: asks the API server, and follows it.
//!
//! Input: a cluster. Output: a table, what is wrong, and who asked in vain; anew with every change, if that is asked for.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use kube::Client;

use self::changes::Changes;
use self::table::{HEADING, Seen, Status};
use super::kubernetes::{ContextArgs, NamespaceArgs, block_on};
use super::output;
use super::style::Style;
use super::values;
use crate::admission::review::one_line;
use crate::cluster::kinds;
use crate::cluster::reader::{Reader, Which};
use crate::names;

mod changes;
mod table;

/// How the status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For people, with every message.
    Wide,
    /// For programs.
    Json,
}

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Print it again whenever it changes, until the end.
    #[arg(short, long)]
    watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// Value of operator.prometheus.io/controller-id that makes a `PrometheusAgent` a template.
    #[arg(long, env = "PROMSIDECAR_CONTROLLER_ID", default_value = names::DEFAULT_CONTROLLER_ID, value_name = "ID", value_parser = values::controller_id)]
    controller_id: String,
}

/// Runs the command; output goes to `out`. Exit code 1 where a template is not in force as it is, or nobody has looked at it as it is.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    block_on(async {
        let client = args.context.connect().await?;
        let place = args.namespace.namespace.clone();
        let place = place.unwrap_or_else(|| client.default_namespace().to_owned());
        let place = (!args.all_namespaces).then_some(place);
        if args.watch {
            return follow(args, client, place.as_deref()).await;
        }
        let status = look(args, &Reader::new(client), place.as_deref()).await?;
        print(&status, args.output, out)?;
        Ok(ExitCode::from(u8::from(!status.is_good())))
    })
}

/// Looks once.
async fn look(args: &Args, reader: &Reader, place: Option<&str>) -> anyhow::Result<Status> {
    let mut seen = Seen::default();
    let pods = Which { namespace: place, label: Some(names::INJECTED), metadata: true, ..Which::default() };
    match reader.list(&kinds::PODS, pods).await? {
        Ok(pods) => seen.pods = pods,
        Err(forbidden) => seen.notes.push(forbidden.to_string()),
    }
    match reader
        .list(&kinds::AGENTS, Which { namespace: place, only: &["/status"], ..Which::default() })
        .await?
    {
        Ok(templates) => seen.templates = templates,
        Err(forbidden) => {
            seen.notes.push(forbidden.to_string());
            seen.hidden.insert(place.unwrap_or_default().to_owned(), forbidden);
        }
    }
    // Pods may use templates of other namespaces.
    for (namespace, name) in table::elsewhere(&seen, place) {
        match reader.get(&kinds::AGENTS, Some(&namespace), &name).await? {
            Ok(template) => seen.templates.extend(template),
            Err(forbidden) => {
                seen.notes.push(forbidden.to_string());
                seen.hidden.insert(namespace, forbidden);
            }
        }
    }
    Ok(Status::of(&seen, &args.controller_id))
}

/// Looks again whenever something changes, until the reader has gone.
async fn follow(args: &Args, client: Client, place: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut changes = Changes::follow(&client, place);
    let reader = Reader::new(client);
    let mut told: Option<Status> = None;
    loop {
        let mut status = look(args, &reader, place).await?;
        status.notes.extend(changes.notes.iter().cloned());
        if told.as_ref() != Some(&status) {
            // Not by way of `Results`, which goes on where nobody reads.
            let mut text = Vec::new();
            print(&status, args.output, &mut text)?;
            match io::stdout().write_all(&text).and_then(|()| io::stdout().flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                written => written?,
            }
            told = Some(status);
        }
        changes.next().await?;
    }
}

fn print(status: &Status, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(out, &status.json());
    }
    // Names come from the cluster, and none may forge another line.
    let clean = |text: &str| one_line(&text, usize::MAX);
    let wide = format == Format::Wide;
    if status.templates.is_empty() {
        writeln!(out, "no templates")?;
    } else {
        let rows = status.templates.iter().map(|row| row.cells().map(|cell| clean(&cell)));
        let rows: Vec<[String; 8]> = std::iter::once(HEADING.map(str::to_owned)).chain(rows).collect();
        Style::stdout().table(&rows, out)?;
    }
    for remark in status.templates.iter().flat_map(|row| row.remarks(wide)) {
        writeln!(out, "{}", clean(&remark))?;
    }
    for ((namespace, reason), count) in &status.skipped {
        let pods = if *count == 1 {
            "1 pod that asks has".to_owned()
        } else {
            format!("{count} pods that ask have")
        };
        writeln!(out, "{}", clean(&format!("{namespace}: {pods} no agent: {reason}")))?;
    }
    for note in &status.notes {
        writeln!(out, "note: {}", clean(note))?;
    }
    Ok(())
}
