//! `promsidecar demo`: one pod through the whole path, without a cluster. IO: a loopback port, with `--serve` a few files.
//!
//! Input: the manifests of `examples/`, compiled in. Output: what the webhook answered over real HTTPS, what became of the
//! pod, and the agent's configuration.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use serde_json::Value;

use super::settings::SettingsArgs;
use super::style::Style;
use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::manifest;
use crate::metrics::Metrics;
use crate::monitors::selection::Selection;
use crate::shutdown::{Shutdown, Signals, Supervisor};
use crate::store::Store;
use crate::store::documents;
use crate::store::files::{self, FileStore};
use crate::template::{Settings, Template, render, validate};
use crate::webhook::admin::Status;
use crate::webhook::certificate::Authority;
use crate::webhook::config::Limits;
use crate::webhook::server::{self, Listeners};
use crate::webhook::tls::{self, Keeper, Slot, Source};
use crate::webhook::{Core, run};
use crate::{telemetry, workload};

mod client;
mod report;
mod review;
mod workspace;

use workspace::Workspace;

const NAMESPACE: &str = include_str!("../../examples/namespace.yaml");
const TEMPLATE: &str = include_str!("../../examples/template.yaml");
const DEPLOYMENT: &str = include_str!("../../examples/deployment.yaml");
/// What the webhook knows, by file name.
const CLUSTER: [(&str, &str); 2] = [("namespace.yaml", NAMESPACE), ("template.yaml", TEMPLATE)];
/// The registration's entry for pods whose namespace asks, with nobody requiring the agent.
const PATH: &str = "/mutate/namespace/no";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the webhook running afterwards and print a curl command for it.
    #[arg(long, env = "PROMSIDECAR_SERVE")]
    serve: bool,
    /// Show long values whole.
    #[arg(long, env = "PROMSIDECAR_FULL")]
    full: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let settings = args.settings.to_settings();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(demo(args, settings, out));
    runtime.shutdown_background();
    code
}

async fn demo(args: &Args, settings: Settings, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let style = Style::stdout();
    let configuration = configuration(&settings)?;
    let pod = pod()?;
    let body = serde_json::to_vec_pretty(&review::of(&pod))?;
    let workspace = args.serve.then(|| Workspace::create(&CLUSTER, &body)).transpose()?;

    let mut webhook = Webhook::start(settings, workspace.as_ref())?;
    let answer = client::post(webhook.address, "localhost", &webhook.ca, PATH, body).await?;
    let mut report = report::Report { out, style, full: args.full };
    report.introduction(&CLUSTER.map(|(name, _)| name))?;
    let injected = report.answer(webhook.address, PATH, &pod, &answer)?;
    report.configuration(&configuration)?;

    match workspace {
        None => report.next_steps()?,
        Some(workspace) => {
            workspace.write_ca(&webhook.ca)?;
            report.serving(&workspace, webhook.address, PATH)?;
            telemetry::install(telemetry::filter("info")?, telemetry::LogFormat::Text, style.is_coloured())?;
            webhook.until_signal().await?;
        }
    }
    webhook.shutdown.stop();
    webhook.supervisor.join().await?;
    Ok(if injected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The example Deployment's pod, as the API server would send it.
fn pod() -> anyhow::Result<Value> {
    let documents = manifest::read(DEPLOYMENT).context("examples/deployment.yaml")?;
    let pod = documents.first().and_then(|document| workload::pod(&document.object));
    Ok(review::admitted(pod.context("examples/deployment.yaml has no pod template")?))
}

/// What the example template renders to in its own namespace.
fn configuration(settings: &Settings) -> anyhow::Result<String> {
    let documents = manifest::read(TEMPLATE).context("examples/template.yaml")?;
    let document = documents.first().context("examples/template.yaml is empty")?;
    let template = Template::read(&document.object, settings).context("examples/template.yaml")?;
    match validate::validate(&template, settings) {
        Ok(agent) => Ok(render::render(&agent, &agent.id.namespace, &Selection::default())),
        Err(violations) => {
            let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
            bail!("the example template is not valid with these settings: {}", violations.join("; "))
        }
    }
}

/// The real server on a loopback port that the system chose.
struct Webhook {
    address: SocketAddr,
    ca: String,
    shutdown: Shutdown,
    supervisor: Supervisor,
}

impl Webhook {
    fn start(settings: Settings, workspace: Option<&Workspace>) -> anyhow::Result<Self> {
        let loopback =
            || -> anyhow::Result<TcpListener> { run::bind("loopback", (Ipv4Addr::LOCALHOST, 0).into()) };
        let listeners = Listeners { webhook: loopback()?, admin: loopback()? };
        let address = listeners.webhook.local_addr()?;
        let (shutdown, metrics, slot) = (Shutdown::default(), Arc::default(), Arc::new(Slot::default()));
        let mut supervisor = Supervisor::new(shutdown.clone());

        let now = SystemTime::now();
        let authority = Authority::new(now)?;
        let ca = authority.pem().to_owned();
        let source = Source::Own {
            authority: Box::new(authority),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut keeper = Keeper::new(source, Arc::clone(&slot), Arc::<Metrics>::clone(&metrics));
        keeper.refresh(now);

        let store: Arc<dyn Store> = if let Some(workspace) = workspace {
            let store = Arc::new(FileStore::new(workspace.templates(), settings));
            store.poll();
            supervisor.spawn_until_stop("watching templates", Arc::clone(&store).watch(files::POLL_INTERVAL));
            supervisor.spawn_until_stop("watching the certificate", keeper.keep(tls::POLL_INTERVAL));
            store
        } else {
            Arc::new(Embedded::build(&settings)?)
        };
        let policy = Policy { native_sidecars: true, ..Policy::default() };
        let admit =
            Arc::new(Core { store: Arc::clone(&store), policy: Arc::new(ArcSwap::from_pointee(policy)) });
        let status = Status { store, certificate: slot, metrics, shutdown: shutdown.clone() };
        supervisor
            .spawn("serving", server::serve(listeners, admit, status, Limits::default(), Duration::ZERO));
        Ok(Self { address, ca, shutdown, supervisor })
    }

    async fn until_signal(&mut self) -> anyhow::Result<()> {
        let signals = tokio::spawn(Signals::install()?.follow(self.shutdown.clone()));
        self.shutdown.reached(crate::shutdown::Phase::Draining).await;
        signals.abort();
        Ok(())
    }
}

/// The examples, as they were compiled in.
struct Embedded(Arc<Catalog>);

impl Embedded {
    fn build(settings: &Settings) -> anyhow::Result<Self> {
        let files: documents::Files = CLUSTER
            .iter()
            .map(|(name, text)| Ok(((*name).to_owned(), manifest::read(text)?)))
            .collect::<Result<BTreeMap<_, _>, manifest::ManifestError>>()?;
        let built = documents::build(&files, settings, &Catalog::default());
        Ok(Self(Arc::new(built.catalog)))
    }
}

impl Store for Embedded {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.0)
    }

    fn readiness(&self) -> Result<(), String> {
        Ok(())
    }
}
