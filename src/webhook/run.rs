//! The webhook as a process: everything is put together here. IO.
//!
//! Input: a validated [`Config`]. Output: returns after a signal, when everything is finished.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use arc_swap::ArcSwap;
use kube::Client;
use tokio::net::TcpSocket;

use super::admin::Status;
use super::certificate::Authority;
use super::config::{Certificate, Config, Limits, Templates};
use super::server::{self, Listeners};
use super::tls::{self, Keeper, Slot, Source};
use super::{Admit, Core, descriptors};
use crate::admission::Policy;
use crate::cluster::watch::Health;
use crate::cluster::{client, native};
use crate::metrics::Metrics;
use crate::monitors::object::Kind;
use crate::release;
use crate::shutdown::{Phase, Shutdown, Signals, Supervisor};
use crate::store::Store;
use crate::store::cluster::ClusterStore;
use crate::store::files::{self, FileStore};
use crate::template::Settings;

/// Connections that may wait to be accepted, where the kernel allows as many. Those of a burst beyond it try again after a
/// second, a third of the API server's timeout; the standard library's 128 is less than a rollout.
const BACKLOG: u32 = 1024;

/// What is asked of the cluster beside templates and namespaces.
pub const VERSION: &str = "version of the cluster";

/// Serves until the shutdown is over; whether it was orderly.
pub async fn run(config: Config) -> anyhow::Result<bool> {
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(Signals::install()?.follow(shutdown.clone()));
    let listeners = Listeners {
        webhook: bind("--listen", config.listen)?,
        admin: bind("--admin-listen", config.admin_listen)?,
    };
    let (webhook, admin) = (listeners.webhook.local_addr()?, listeners.admin.local_addr()?);

    let metrics = Arc::new(Metrics::default());
    let mut supervisor = Supervisor::new(shutdown.clone());
    let policy = Arc::new(ArcSwap::from_pointee(config.policy));
    let store =
        follow(&config.templates, config.settings, config.own_namespace, &policy, &mut supervisor).await?;

    let slot = Arc::new(Slot::default());
    let now = SystemTime::now();
    let mut keeper = Keeper::new(source(&config.certificate, now)?, Arc::clone(&slot), Arc::clone(&metrics));
    keeper.refresh(now);

    let core: Arc<dyn Admit> = Arc::new(Core { store: Arc::clone(&store), policy });
    let status = Status { store, certificate: slot, metrics, shutdown: shutdown.clone() };
    supervisor.spawn_until_stop("watching the certificate", keeper.keep(tls::POLL_INTERVAL));
    let max_connections = descriptors::fit(config.limits.max_connections);
    let limits = Limits { max_connections, ..config.limits };
    let serve = server::serve(listeners, core, status, limits, config.drain_time);
    supervisor.spawn("serving", serve);
    tracing::info!(
        version = release::PROGRAM,
        listen = %webhook,
        admin = %admin,
        templates = %config.templates,
        "promsidecar webhook started"
    );
    let ended = supervisor.join().await;
    signals.abort();
    ended?;
    tracing::info!("stopped");
    Ok(shutdown.phase() < Phase::Aborting)
}

/// Starts to follow templates and namespaces, and what decides the mode of agents. A directory is read once before this
/// returns; a cluster need not be there.
async fn follow(
    templates: &Templates,
    settings: Settings,
    own_namespace: String,
    policy: &Arc<ArcSwap<Policy>>,
    supervisor: &mut Supervisor,
) -> anyhow::Result<Arc<dyn Store>> {
    let (kubeconfig, looked_up) = match templates {
        Templates::Directory(directory) => {
            let store = Arc::new(FileStore::new(directory.clone(), settings));
            store.poll();
            store
                .readiness()
                .map_err(|why| anyhow::anyhow!("--templates: {why}; name a directory of manifests"))?;
            let watch = Arc::clone(&store).watch(files::POLL_INTERVAL);
            supervisor.spawn_until_stop("watching templates", watch);
            return Ok(store);
        }
        Templates::Cluster { kubeconfig, look_up } => (kubeconfig, *look_up),
    };
    let client = client::connect(kubeconfig.as_deref()).await.map_err(|error| match kubeconfig {
        Some(_) => error,
        None => anyhow::anyhow!("{error}; without a cluster, name a directory of manifests with --templates"),
    })?;
    let version = looked_up.then(|| Health::new(VERSION));
    let store = Arc::new(ClusterStore::new(settings, version.clone()));
    supervisor.spawn_until_stop("watching templates", Arc::clone(&store).watch_templates(client.clone()));
    let pod_monitors = Arc::clone(&store).watch_monitors(client.clone(), Kind::Pod);
    supervisor.spawn_until_stop("watching PodMonitors", pod_monitors);
    let service_monitors = Arc::clone(&store).watch_monitors(client.clone(), Kind::Service);
    supervisor.spawn_until_stop("watching ServiceMonitors", service_monitors);
    supervisor.spawn_until_stop("watching namespaces", Arc::clone(&store).watch_namespaces(client.clone()));
    let last_good = Arc::clone(&store).watch_last_good(client.clone(), own_namespace);
    supervisor.spawn_until_stop("watching last good versions", last_good);
    if let Some(health) = version {
        look_up(client, health, policy, supervisor);
    }
    Ok(store)
}

/// Starts to look up whether the cluster runs native sidecars.
pub fn look_up(client: Client, health: Health, policy: &Arc<ArcSwap<Policy>>, supervisor: &mut Supervisor) {
    let policy = Arc::clone(policy);
    let set = move |native_sidecars| {
        let policy_before = policy.load();
        policy.store(Arc::new(Policy { native_sidecars, ..Policy::clone(&policy_before) }));
    };
    supervisor.spawn_until_stop("looking up the version of the cluster", native::follow(client, health, set));
}

/// Binds an address given by `flag`. Panics outside a runtime, as tokio's sockets do.
pub fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listener = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    });
    listener.map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there: stop it or choose another port",
            io::ErrorKind::AddrNotAvailable => {
                "this host has no such address: use 0.0.0.0, [::] or one of its own"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one",
            _ => "choose another address",
        };
        anyhow::anyhow!("{flag} {address}: {error}; {fix}")
    })
}

/// Where the certificate comes from; an authority of our own is made here.
pub fn source(certificate: &Certificate, now: SystemTime) -> anyhow::Result<Source> {
    Ok(match certificate {
        Certificate::Files { certificate, key } => {
            Source::Files { certificate: certificate.clone(), key: key.clone() }
        }
        Certificate::Own { names, ca_out } => {
            let authority = Authority::new(now).context("making a certificate authority")?;
            if let Some(path) = ca_out {
                write_atomically(path, authority.pem().as_bytes(), PUBLIC)
                    .with_context(|| format!("--ca-out {}: cannot be written", path.display()))?;
            }
            Source::Own { authority: Box::new(authority), names: names.clone() }
        }
    })
}

/// Permissions of a file that everybody may read, before the umask.
pub const PUBLIC: u32 = 0o666;
/// Permissions of a private key.
pub const PRIVATE: u32 = 0o600;

/// Writes a file such that readers see the old content or the new, never a part, and never with other permissions.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    // Of a process that crashed with our id; its permissions must not become ours.
    let _ = fs::remove_file(&temporary);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::{PRIVATE, PUBLIC, bind, write_atomically};

    #[tokio::test]
    async fn a_burst_of_connections_waits_for_its_turn() {
        let listener = bind("--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_mins(1)).unwrap();
        // Nobody accepts.
        let waiting: Vec<TcpStream> = (0..500).map(connect).collect();
        assert_eq!(waiting.len(), 500);
        assert!(bind("--listen", "[::1]:0".parse().unwrap()).unwrap().local_addr().unwrap().is_ipv6());
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag_and_the_fix() {
        let taken = bind("--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind("--listen", address).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "--listen {address}: Address already in use (os error 98); another process listens there: stop it or choose another port"
            )
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        write_atomically(&path, b"old", PUBLIC).unwrap();
        write_atomically(&path, b"new", PRIVATE).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert!(write_atomically(&directory.path().join("missing/ca.crt"), b"new", PUBLIC).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
