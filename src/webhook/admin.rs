//! The admin port: health and metrics, plain HTTP, for the kubelet and Prometheus.
//!
//! Input: the present state of store, certificate and shutdown. Output: `/livez`, `/readyz` (which says why not) and
//! `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::tls::Slot;
use crate::metrics::{self, Metrics};
use crate::shutdown::{Phase, Shutdown};
use crate::store::Store;

/// What the admin port reports on.
#[derive(Clone)]
pub struct Status {
    /// Templates and namespaces.
    pub store: Arc<dyn Store>,
    /// The serving certificate.
    pub certificate: Arc<Slot>,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The phase of the process.
    pub shutdown: Shutdown,
}

impl Status {
    /// Why the process should not get requests; empty when it is ready.
    pub fn not_ready(&self) -> Vec<String> {
        let draining = self.shutdown.phase() > Phase::Serving;
        let certificate = !self.certificate.is_loaded();
        self.store
            .readiness()
            .err()
            .into_iter()
            .chain(certificate.then(|| "no certificate is loaded; the log says why".to_owned()))
            .chain(draining.then(|| "draining".to_owned()))
            .collect()
    }
}

/// The routes.
pub fn router(status: Status) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(status)
}

async fn readyz(State(status): State<Status>) -> Response {
    let why = status.not_ready();
    if why.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", why.join("; "))).into_response()
}

async fn metrics(State(status): State<Status>) -> Response {
    match status.metrics.encode(&status.store.catalog(), &status.store.staleness()) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
