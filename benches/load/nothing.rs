//! The floor of any webhook on this stack: it reads the whole review and answers a constant one. IO.
//!
//! TLS, deadlines and buffers are the real server's own. What only the real one does, from the bound on connections to the
//! decision, is what the comparison shows.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use promsidecar::metrics::Metrics;
use promsidecar::webhook::certificate::Authority;
use promsidecar::webhook::config::Limits;
use promsidecar::webhook::tls::{self, Keeper, Slot, Source};
use promsidecar::webhook::{router, server};

/// First argument of this binary as that server.
pub(crate) const SERVE: &str = "serve-nothing";

/// What it answers.
pub(crate) const ANSWER: &str = concat!(
    "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",",
    "\"response\":{\"uid\":\"d09756cb-dd22-4810-b75f-85e7bca86197\",\"allowed\":true}}"
);

/// Serves until it is killed. The argument is where to write the authority's certificate.
pub(crate) fn serve(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let ca = arguments.next().context("the server needs a file for its authority's certificate")?;
    tls::install_provider();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (limits, slot) = (Limits::default(), Arc::new(Slot::default()));
        let authority = Authority::new(SystemTime::now())?;
        fs::write(ca, authority.pem())?;
        let source = Source::Own { authority: Box::new(authority), names: vec!["127.0.0.1".to_owned()] };
        Keeper::new(source, Arc::clone(&slot), Arc::new(Metrics::default())).refresh(SystemTime::now());

        let config = RustlsConfig::from_config(Arc::new(tls::server_config(slot)?));
        let acceptor =
            RustlsAcceptor::new(config).handshake_timeout(limits.handshake).acceptor(NoDelayAcceptor::new());
        let routes =
            router::PATHS.iter().fold(Router::new(), |router, path| router.route(path, post(answer)));
        writeln!(std::io::stderr(), "{{\"listen\":\"{address}\"}}")?;
        server::server(listener, &limits)?.acceptor(acceptor).serve(routes.into_make_service()).await?;
        anyhow::Ok(())
    })
}

async fn answer(_body: Bytes) -> ([(axum::http::HeaderName, HeaderValue); 1], &'static str) {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], ANSWER)
}
