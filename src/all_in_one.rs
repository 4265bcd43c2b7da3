//! Webhook and controller as one process: everything is put together here. IO.
//!
//! Input: a validated [`Config`]. Output: returns after a signal, when everything is finished and the lease is handed over. Each
//! replica serves; one of them writes. Both sides read the same watches, and have one admin port and one shutdown. The
//! certificate is read from the Secret itself: a pod that mounts a Secret that only it makes would never start.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use crate::admin::Report;
use crate::admission::Policy;
use crate::cluster::client;
use crate::cluster::watch::Health;
use crate::controller::observe::Observer;
use crate::controller::run::Started;
use crate::controller::shared::SharedStore;
use crate::controller::{self, run::world};
use crate::metrics::{self, Metrics};
use crate::release;
use crate::shutdown::{Phase, Shutdown, Signals, Supervisor};
use crate::store::Store;
use crate::webhook::config::{Certificate, Limits};
use crate::webhook::run::{VERSION, bind, look_up, source};
use crate::webhook::server::{self, Listeners};
use crate::webhook::tls::{self, Keeper, Slot, Source};
use crate::webhook::{self, Admit, Core, descriptors};

/// Everything that [`run`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address of the webhook.
    pub listen: SocketAddr,
    /// Where the certificate comes from; nothing where it is the one that the leader makes.
    pub certificate: Option<Certificate>,
    /// Whether to look up what the cluster runs, in place of [`Policy::native_sidecars`].
    pub look_up: bool,
    /// What decides about pods, their agent's mode included.
    pub policy: Policy,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// How long to keep serving after the signal.
    pub drain_time: Duration,
    /// The rest, which the webhook shares.
    pub controller: controller::run::Config,
}

/// Works and serves until the shutdown is over; whether it was orderly.
pub async fn run(config: Config) -> anyhow::Result<bool> {
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(Signals::install()?.follow(shutdown.clone()));
    let listeners = Listeners {
        webhook: bind("--listen", config.listen)?,
        admin: bind("--admin-listen", config.controller.admin_listen)?,
    };
    let (listen, admin) = (listeners.webhook.local_addr()?, listeners.admin.local_addr()?);
    let client = client::connect(config.controller.kubeconfig.as_deref()).await?;

    let mut supervisor = Supervisor::new(shutdown.clone());
    let observer = Observer::shared(world(&config.controller));
    let Started { status: controller, candidate, identity } =
        controller::run::start(&client, &config.controller, observer, &shutdown, &mut supervisor)?;
    // The webhook serves on for the drain time, whoever leads then.
    supervisor.spawn("holding the lease", candidate.follow(shutdown.clone()));

    let policy = Arc::new(ArcSwap::from_pointee(config.policy));
    let version = config.look_up.then(|| Health::new(VERSION));
    if let Some(health) = version.clone() {
        look_up(client, health, &policy, &mut supervisor);
    }
    let store: Arc<dyn Store> = Arc::new(SharedStore { observer: Arc::clone(&controller.observer), version });

    let (slot, metrics) = (Arc::new(Slot::default()), Arc::new(Metrics::default()));
    let now = SystemTime::now();
    let source = match (&config.certificate, &controller.certificate) {
        (Some(certificate), _) => source(certificate, now)?,
        (None, Some(observer)) => Source::Secret { name: observer.secret_name(), pair: observer.pair() },
        (None, None) => anyhow::bail!("--certificate external needs a certificate: set --tls-cert-file"),
    };
    let mut keeper = Keeper::new(source, Arc::clone(&slot), Arc::clone(&metrics));
    keeper.refresh(now);
    supervisor.spawn_until_stop("watching the certificate", keeper.keep(tls::POLL_INTERVAL));

    let core: Arc<dyn Admit> = Arc::new(Core { store: Arc::clone(&store), policy });
    let webhook = webhook::admin::Status { store, certificate: slot, metrics, shutdown: shutdown.clone() };
    let report = Arc::new(Both { webhook: webhook.clone(), controller });
    let max_connections = descriptors::fit(config.limits.max_connections);
    let limits = Limits { max_connections, ..config.limits };
    let serve = server::serve_reporting(listeners, core, webhook, report, limits, config.drain_time);
    supervisor.spawn("serving", serve);
    tracing::info!(
        version = release::PROGRAM,
        %listen,
        %admin,
        identity,
        namespace = config.controller.own_namespace,
        "promsidecar run started"
    );
    let ended = supervisor.join().await;
    signals.abort();
    ended?;
    tracing::info!("stopped");
    Ok(shutdown.phase() < Phase::Aborting)
}

/// What both sides have to tell on one port.
struct Both {
    webhook: webhook::admin::Status,
    controller: controller::admin::Status,
}

impl Report for Both {
    /// Calls are what readiness is for: they come to this replica as soon as it can answer, whatever its other half lacks.
    /// The staleness of each source tells of that.
    fn not_ready(&self) -> Vec<String> {
        self.webhook.not_ready()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut staleness = self.controller.staleness();
        for (name, stale_for) in self.webhook.store.staleness() {
            if staleness.iter().all(|(other, _)| *other != name) {
                staleness.push((name, stale_for));
            }
        }
        let webhook = self.webhook.exposition(&staleness)?;
        Ok(metrics::merged(&webhook, &self.controller.metrics()?))
    }
}
