//! The two servers and their way out. IO: sockets.
//!
//! Input: bound listeners, what to serve, limits and a [`crate::shutdown::Shutdown`]. Output: returns when both servers have ended. The order
//! at the end: `/readyz` red and `Connection: close` on each response for the drain time, since the API server keeps using
//! open connections to a pod that is going away; then the listener closes and what is in flight is finished; the admin
//! port goes last.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};

use super::Admit;
use super::admin::Status;
use super::config::Limits;
use super::connection::BoundedAcceptor;
use super::{router, tls};
use crate::admin::Report;
use crate::shutdown::{Phase, Shutdown};

/// Connections of the admin port; it serves a kubelet and a Prometheus or two.
const ADMIN_CONNECTIONS: usize = 64;
/// Most that one connection buffers while reading, and so, but for a factor of two, the bound on a request's head.
const READ_BUFFER: usize = 64 * 1024;

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// HTTPS.
    pub webhook: TcpListener,
    /// Plain HTTP.
    pub admin: TcpListener,
}

/// Serves until the shutdown is over. `status.shutdown` is the one that is followed.
pub async fn serve(
    listeners: Listeners,
    admit: Arc<dyn Admit>,
    status: Status,
    limits: Limits,
    drain_time: Duration,
) -> anyhow::Result<()> {
    let report = Arc::new(status.clone());
    serve_reporting(listeners, admit, status, report, limits, drain_time).await
}

/// The same where the process is more than a webhook, and its admin port has more to tell.
pub async fn serve_reporting(
    listeners: Listeners,
    admit: Arc<dyn Admit>,
    status: Status,
    report: Arc<dyn Report>,
    limits: Limits,
    drain_time: Duration,
) -> anyhow::Result<()> {
    let shutdown = status.shutdown.clone();
    let (webhook_handle, admin_handle) = (Handle::new(), Handle::new());

    let tls = RustlsConfig::from_config(Arc::new(tls::server_config(Arc::clone(&status.certificate))?));
    let bound = BoundedAcceptor::new(limits.max_connections, limits.write, Arc::clone(&status.metrics));
    let acceptor = RustlsAcceptor::new(tls).handshake_timeout(limits.handshake).acceptor(bound);
    let routes = router::router(admit, Arc::clone(&status.metrics), limits, shutdown.clone());
    let webhook = server(listeners.webhook, &limits)?
        .acceptor(acceptor)
        .handle(webhook_handle.clone())
        .serve(routes.into_make_service());

    let bound = BoundedAcceptor::new(ADMIN_CONNECTIONS, limits.write, Arc::clone(&status.metrics));
    let health = server(listeners.admin, &limits)?
        .acceptor(bound)
        .handle(admin_handle.clone())
        .serve(crate::admin::router(report).into_make_service());

    let orderly = async {
        shutdown.reached(Phase::Draining).await;
        tokio::select! {
            () = tokio::time::sleep(drain_time) => shutdown.stop(),
            () = shutdown.reached(Phase::Stopping) => {}
        }
        webhook_handle.graceful_shutdown(Some(limits.stop));
        io::Result::Ok(())
    };
    let webhook = async {
        let ended = webhook.await;
        admin_handle.graceful_shutdown(Some(Duration::from_secs(1)));
        ended
    };
    let all = async { tokio::try_join!(webhook, health, orderly) };
    tokio::select! {
        ended = all => ended.map(|_| ()).map_err(Into::into),
        () = shutdown.reached(Phase::Aborting) => {
            webhook_handle.shutdown();
            admin_handle.shutdown();
            Ok(())
        }
    }
}

/// Serves an admin port until the process stops.
pub async fn serve_admin(
    listener: TcpListener,
    report: Arc<dyn Report>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let (limits, handle) = (Limits::default(), Handle::new());
    // What this port turns away is counted by nobody: it serves a kubelet and a Prometheus or two.
    let bound = BoundedAcceptor::new(ADMIN_CONNECTIONS, limits.write, Arc::default());
    let serve = server(listener, &limits)?
        .acceptor(bound)
        .handle(handle.clone())
        .serve(crate::admin::router(report).into_make_service());
    tokio::select! {
        ended = serve => ended.map_err(Into::into),
        () = shutdown.reached(Phase::Stopping) => {
            handle.shutdown();
            Ok(())
        }
    }
}

/// A server with these deadlines that accepts plain connections.
pub fn server(listener: TcpListener, limits: &Limits) -> io::Result<axum_server::Server<SocketAddr>> {
    let mut server = axum_server::from_tcp(listener)?
        .http1_only()
        .first_request_timeout(limits.header)
        .accept_error_handler(log_accept_errors());
    server.http_builder().http1().header_read_timeout(limits.idle).max_buf_size(READ_BUFFER);
    Ok(server)
}

/// Failed handshakes are the peer's affair; a listener that cannot accept is ours, and is logged once in a while.
fn log_accept_errors() -> impl Fn(Option<&SocketAddr>, &io::Error) + Send + Sync + 'static {
    let last: Mutex<Option<Instant>> = Mutex::default();
    move |peer, error| {
        if let Some(peer) = peer {
            tracing::debug!(%peer, %error, "connection not accepted");
            return;
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() > Duration::from_secs(10)) {
            *last = Some(Instant::now());
            tracing::error!(%error, "cannot accept connections");
        }
    }
}
