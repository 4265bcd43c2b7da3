//! `promsidecar verify`: whether the series of injected pods arrive.
//!
//! Input: a cluster, and the query API of what agents send to. Output: the pods of which nothing arrives, with the last lines of
//! their agents' logs; exit code 1 where there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::{Value, json};

use super::kubernetes::{ContextArgs, NamespaceArgs, block_on};
use super::output::{self, Format, OutputArgs};
use super::style::{Style, Tone};
use super::values;
use crate::admission::review::one_line;
use crate::cluster::explain::chain;
use crate::cluster::kinds;
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::identity;
use crate::names;
use crate::verify::{self, Arrived, Judged, Verdict};
use crate::x509;

/// Pods whose logs are asked for: what one template does wrong, each of its pods says.
const MOST_LOGS: usize = 20;
/// How long the receiver may think.
const PATIENCE: Duration = Duration::from_mins(1);

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to ask for series: the address before /api/v1/query, of Prometheus, Thanos, Mimir, `VictoriaMetrics` and their like.
    #[arg(long, env = "PROMSIDECAR_QUERY_URL", value_name = "URL", value_parser = query_url)]
    query_url: Uri,
    /// A header of each query, such as `X-Scope-OrgID: team-a`; repeatable.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    query_header: Vec<(HeaderName, HeaderValue)>,
    /// File with a bearer token for the queries.
    #[arg(long, env = "PROMSIDECAR_QUERY_TOKEN_FILE", value_name = "FILE", value_parser = values::path)]
    query_token_file: Option<PathBuf>,
    /// File with the authorities that the receiver's certificate may be of, in PEM format. [default: those of the system]
    #[arg(long, env = "PROMSIDECAR_QUERY_CA_FILE", value_name = "FILE", value_parser = values::path)]
    query_ca_file: Option<PathBuf>,
    /// How long an agent has for its first series.
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

/// A base address; what follows is appended to it.
fn query_url(text: &str) -> Result<Uri, String> {
    let expected = "expected the address of a query API, such as http://localhost:9090 or https://mimir.example.com/prometheus";
    let uri: Uri = text.parse().map_err(|_| expected)?;
    // A password would be shown with every error.
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let usable = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none() && !has_user;
    // Of the query itself, or where agents write to.
    if usable && !uri.path().contains("/api/v1/") { Ok(uri) } else { Err(expected.to_owned()) }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let expected = "expected NAME: VALUE, such as X-Scope-OrgID: team-a";
    let (name, value) = text.split_once(':').ok_or(expected)?;
    let (name, value) = (name.trim().parse(), value.trim().parse());
    name.ok().zip(value.ok()).ok_or_else(|| expected.to_owned())
}

/// A pod that should deliver and does not, with what its agent said.
struct Found {
    judged: Judged,
    log: Vec<String>,
}

/// Everything that was found out.
struct Outcome {
    pods: Vec<Found>,
    /// Series of each template that no pod can be told from.
    anonymous: BTreeMap<String, usize>,
    /// What could not be seen.
    notes: Vec<String>,
    /// How many logs were not asked for.
    logs_left: usize,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let receiver = receiver(args)?;
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

/// A client of the query API, with what authenticates us there.
fn receiver(args: &Args) -> anyhow::Result<Config> {
    let mut config = Config::new(args.query_url.clone());
    config.read_timeout = Some(PATIENCE);
    config.default_retry = false;
    config.headers.clone_from(&args.query_header);
    if let Some(path) = &args.query_token_file {
        let flag = |error: &dyn std::fmt::Display| {
            anyhow!("--query-token-file {}: cannot be used: {error}", path.display())
        };
        let token = fs::read_to_string(path).map_err(|error| flag(&error))?;
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|error| flag(&error))?;
        value.set_sensitive(true);
        config.headers.push((AUTHORIZATION, value));
    }
    if let Some(path) = &args.query_ca_file {
        let flag = |error: &dyn std::fmt::Display| {
            anyhow!("--query-ca-file {}: cannot be used: {error}", path.display())
        };
        let pem = fs::read(path).map_err(|error| flag(&error))?;
        let authorities = x509::certificates(&pem).map_err(|error| flag(&error))?;
        config.root_cert = Some(authorities.into_iter().map(|der| der.to_vec()).collect());
    }
    Ok(config)
}

async fn verify(
    args: &Args,
    cluster: &Reader,
    receiver: &Config,
    namespace: Option<&str>,
) -> anyhow::Result<Outcome> {
    let injected = format!("{}=true", names::INJECTED);
    let which = Which { namespace, label: Some(&injected), metadata: false };
    let pods = cluster.list(&kinds::PODS, which).await?.map_err(|forbidden| anyhow!("{forbidden}"))?;
    let mut notes = Vec::new();
    let templates = cluster.list(&kinds::AGENTS, Which::default()).await?.unwrap_or_else(|forbidden| {
        notes.push(format!("{forbidden}: agents are told apart by the usual label, prometheus"));
        Vec::new()
    });
    let templates: BTreeMap<String, &Value> =
        templates.iter().map(|template| (identity(template), template)).collect();

    let newer = pods.iter().filter(|pod| verify::is_newer(pod)).count();
    if newer > 0 {
        notes.push(format!(
            "a newer promsidecar injected {newer} of these pods; they are judged as the others"
        ));
    }

    let client = Client::try_from(receiver.clone())
        .map_err(|error| anyhow!("--query-url {}: cannot be used: {}", args.query_url, chain(&error)))?;
    let mut arrived: BTreeMap<String, Arrived> = BTreeMap::new();
    let used: BTreeSet<String> = pods.iter().filter_map(verify::template).collect();
    for template in used {
        let object = templates.get(&template).copied();
        let mut labels = verify::external_labels(object);
        if let Some(label) = verify::label(object) {
            labels.insert(label, template.clone());
        }
        let query = verify::query(&labels, namespace);
        let answer = ask(&client, &query).await.and_then(|answer| verify::arrived(&answer));
        let answer = answer.map_err(|error| anyhow!("--query-url {}: {error}", args.query_url))?;
        arrived.insert(template, answer);
    }

    let grace = SignedDuration::try_from(args.grace)?;
    let now = Timestamp::now();
    let judge = |pod| {
        let of_template = verify::template(pod).and_then(|template| arrived.get(&template));
        verify::judge(pod, of_template, now, grace)
    };
    let mut judged: Vec<Judged> = pods.iter().map(judge).collect();
    judged.sort_by(|one, other| (one.verdict, &one.pod).cmp(&(other.verdict, &other.pod)));
    let bad = judged.iter().filter(|judged| judged.verdict.is_bad()).count();
    let mut found = Vec::new();
    for judged in judged {
        let asked = judged.verdict.is_bad() && found.len() < MOST_LOGS && args.log_lines > 0;
        let log = if asked { log(cluster, &judged, args.log_lines).await? } else { Vec::new() };
        found.push(Found { judged, log });
    }
    let anonymous = arrived.iter().filter(|(_, arrived)| arrived.anonymous > 0);
    Ok(Outcome {
        notes,
        pods: found,
        anonymous: anonymous.map(|(template, arrived)| (template.clone(), arrived.anonymous)).collect(),
        logs_left: if args.log_lines > 0 { bad.saturating_sub(MOST_LOGS) } else { 0 },
    })
}

/// An instant query.
async fn ask(client: &Client, query: &str) -> Result<Value, String> {
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let request = Request::post("/api/v1/query")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.into_bytes()))
        .map_err(|error| error.to_string())?;
    let response =
        client.send(request).await.map_err(|error| format!("cannot be asked: {}", chain(&error)))?;
    let status = response.status();
    let bytes = response.into_body().collect().await;
    let bytes = bytes.map_err(|error| format!("cannot be asked: {}", chain(&error)))?.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // An error of the query comes as JSON; whoever stands before the API answers otherwise.
    if !status.is_success() && answer["error"].is_null() {
        return Err(format!("answers {status}"));
    }
    Ok(answer)
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
            &json!({"pods": pods, "counts": counts, "anonymous": outcome.anonymous, "notes": outcome.notes}),
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
        writeln!(out, "{word} {namespace}/{name}: {}; template {}", judged.why, clean(template))?;
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

#[cfg(test)]
mod tests {
    use super::{header, query_url};

    #[test]
    fn the_address_is_that_before_the_api() {
        for good in ["http://localhost:9090", "https://mimir.example.com/prometheus", "http://[::1]:9090/"] {
            assert!(query_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:9090",
            "ftp://a",
            "http://a/api/v1/query",
            "http://a/api/v1/write",
            "http://a/?b=c",
            "/x",
            "http://u:p@a",
        ] {
            assert!(query_url(bad).unwrap_err().starts_with("expected the address of a query API"), "{bad}");
        }
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("X-Scope-OrgID: team a").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-scope-orgid", "team a"));
        for bad in ["", "X", "a b: c", "A: a\nb"] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
    }
}
