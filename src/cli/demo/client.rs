//! An HTTPS client for one request, as the API server would make it. IO.
//!
//! Input: an address, the name and the authority to verify, a body. Output: status and body of the answer.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Posts `body` and trusts nothing but `ca` (PEM) for `name`.
pub(super) async fn post(
    address: SocketAddr,
    name: &'static str,
    ca: &str,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<Answered> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];

    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(name)?, stream)
        .await
        .context("TLS handshake with the webhook")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("{path}?timeout=3s"))
        .header("host", format!("{name}:{}", address.port()))
        .header("content-type", "application/json")
        .header("user-agent", concat!("promsidecar-demo/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    Ok(Answered { status, body: response.into_body().collect().await?.to_bytes() })
}
