//! The admin port of every server: health and metrics, plain HTTP, for the kubelet and Prometheus.
//!
//! Input: a [`Report`] of the process. Output: `/livez`, `/readyz` (which says why not) and `/metrics`.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics;

/// What the admin port tells of a process.
pub trait Report: Send + Sync {
    /// Why the process should not get requests; empty when it is ready.
    fn not_ready(&self) -> Vec<String>;

    /// The text of every metric.
    fn metrics(&self) -> Result<String, fmt::Error>;
}

/// The routes.
pub fn router(report: Arc<dyn Report>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(report)
}

async fn readyz(State(report): State<Arc<dyn Report>>) -> Response {
    let why = report.not_ready();
    if why.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", why.join("; "))).into_response()
}

async fn metrics(State(report): State<Arc<dyn Report>>) -> Response {
    match report.metrics() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
