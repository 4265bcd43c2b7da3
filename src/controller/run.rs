//! The controller as a process: everything is put together here. IO.
//!
//! Input: a validated [`Config`]. Output: returns after a signal, when everything is finished and the lease is handed over.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use super::admin::Status;
use super::apply::Writer;
use super::bind;
use super::certificate::{self, Objects, keep};
use super::events;
use super::lease::{Candidate, Terms};
use super::observe::Observer;
use super::reconcile::Reconciler;
use super::world::World;
use crate::admission::Policy;
use crate::cluster::client;
use crate::metrics::controller::Metrics;
use crate::monitors::object::Kind;
use crate::release;
use crate::shutdown::{Phase, Shutdown, Signals, Supervisor};
use crate::template::Settings;
use crate::webhook::run::bind;
use crate::webhook::server;

/// Everything that [`run`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of a kubeconfig, where it is not found by itself.
    pub kubeconfig: Option<PathBuf>,
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// The namespace of the Lease and of what is kept.
    pub own_namespace: String,
    /// What this replica is called in the Lease, but for a random end.
    pub name: String,
    /// What decides about pods: which namespaces ask, for which template.
    pub policy: Policy,
    /// What decides about templates.
    pub settings: Settings,
    /// The webhook's certificate; nothing where others make it.
    pub certificate: Option<Objects>,
}

/// A controller that works, as far as others need it.
pub struct Started {
    /// For the admin port.
    pub status: Status,
    /// Has to be followed for anything to be written.
    pub candidate: Candidate,
    /// What this replica is called in the Lease.
    pub identity: String,
}

/// Works until the shutdown is over; whether it was orderly.
pub async fn run(config: Config) -> anyhow::Result<bool> {
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(Signals::install()?.follow(shutdown.clone()));
    let listener = bind("--admin-listen", config.admin_listen)?;
    let admin = listener.local_addr()?;
    let client = client::connect(config.kubeconfig.as_deref()).await?;

    let mut supervisor = Supervisor::new(shutdown.clone());
    let observer = Observer::new(world(&config));
    let Started { status, candidate, identity } =
        start(&client, &config, observer, &shutdown, &mut supervisor)?;
    supervisor.spawn("holding the lease", {
        let shutdown = shutdown.clone();
        async move {
            // Returns once the writes under way have ended; nobody is served, so nothing else has to be drained.
            candidate.follow(shutdown.clone()).await?;
            shutdown.stop();
            Ok(())
        }
    });
    let serve = server::serve_admin(listener, Arc::new(status), shutdown.clone());
    supervisor.spawn("serving the admin port", serve);
    tracing::info!(
        version = release::PROGRAM,
        %admin,
        identity,
        namespace = config.own_namespace,
        "promsidecar controller started"
    );
    let ended = supervisor.join().await;
    signals.abort();
    ended?;
    tracing::info!("stopped");
    Ok(shutdown.phase() < Phase::Aborting)
}

/// What is known at the start: nothing.
pub fn world(config: &Config) -> World {
    World::new(config.settings.clone(), config.policy.clone(), config.own_namespace.clone())
}

/// Starts everything but the hold on the lease and the admin port.
pub fn start(
    client: &Client,
    config: &Config,
    observer: Observer,
    shutdown: &Shutdown,
    supervisor: &mut Supervisor,
) -> anyhow::Result<Started> {
    let Config { own_namespace, name, .. } = config;
    let terms = Terms::default();
    let identity = format!("{name}_{:016x}", RandomState::new().hash_one(name));
    let candidate = Candidate::new(client.clone(), own_namespace, identity.clone(), terms)?;
    let leadership = candidate.leadership();
    let observer = Arc::new(observer);
    let metrics = Arc::new(Metrics::default());

    watch(client, &observer, own_namespace, supervisor);
    let writer = Writer::new(client.clone(), leadership.clone(), terms.margin());
    let certificate = config.certificate.as_ref().map(|objects| {
        let events = Arc::clone(&observer);
        let observer = Arc::new(certificate::Observer::new(own_namespace.clone(), objects.clone()));
        let certificates = metrics.certificates.clone();
        let keeper = keep::Keeper::new(
            Arc::clone(&observer),
            writer.clone(),
            leadership.clone(),
            certificates,
            events,
        );
        let (of, by) = (Arc::clone(&observer), client.clone());
        supervisor.spawn_until_stop("watching the Secret of the certificate", of.watch_secret(by));
        let (of, by) = (Arc::clone(&observer), client.clone());
        supervisor.spawn_until_stop("watching the registration", of.watch_registration(by));
        supervisor.spawn_until_stop("keeping the certificate", keeper.run());
        observer
    });
    let status = Status {
        observer: Arc::clone(&observer),
        certificate,
        leadership: leadership.clone(),
        lease: candidate.health(),
        metrics: Arc::clone(&metrics),
        shutdown: shutdown.clone(),
    };
    let telling = events::write(
        Arc::clone(&observer),
        writer.clone(),
        leadership.clone(),
        identity.clone(),
        Arc::clone(&metrics),
    );
    supervisor.spawn_until_stop("writing Events", telling);
    let binding = bind::run(Arc::clone(&observer), writer.clone(), leadership.clone());
    supervisor.spawn_until_stop("telling monitors", binding);
    let reconciler = Reconciler::new(observer, writer, leadership, own_namespace.clone(), metrics);
    supervisor.spawn_until_stop("reconciling", reconciler.run());
    Ok(Started { status, candidate, identity })
}

fn watch(client: &Client, observer: &Arc<Observer>, own_namespace: &str, supervisor: &mut Supervisor) {
    let watches = || (Arc::clone(observer), client.clone());
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching templates", of.watch_templates(by));
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching PodMonitors", of.watch_monitors(by, Kind::Pod));
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching ServiceMonitors", of.watch_monitors(by, Kind::Service));
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching Services", of.watch_services(by));
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching namespaces", of.watch_namespaces(by));
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching ConfigMaps", of.watch_config_maps(by));
    let (of, by) = watches();
    supervisor
        .spawn_until_stop("watching last good versions", of.watch_last_good(by, own_namespace.to_owned()));
    let (of, by) = watches();
    supervisor.spawn_until_stop("watching pods that asked", of.watch_pods(by));
}
