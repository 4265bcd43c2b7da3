//! An application whose metrics are for those alone who show a client certificate and a token.
//!
//! Input: a pair of certificate and key, which is authority, server and client in one, and the token. Output: its port, and how
//! often it was scraped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use axum::serve::Listener;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The running server; it ends with the test.
pub(crate) struct Guarded {
    pub(crate) port: u16,
    /// Requests with the token.
    scrapes: Arc<AtomicUsize>,
    /// Handshakes that failed, and requests without the token.
    refused: Arc<AtomicUsize>,
}

impl Guarded {
    pub(crate) async fn start(text: &'static str, certificate: &str, key: &str, token: &str) -> Self {
        let scrapes = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let expected = format!("Bearer {token}");
        let counts = (Arc::clone(&scrapes), Arc::clone(&refused));
        let metrics = get(async move |headers: HeaderMap| {
            let is_told = headers.get(header::AUTHORIZATION).is_some_and(|told| told == expected.as_str());
            let (count, answer) =
                if is_told { (counts.0, Ok(text)) } else { (counts.1, Err(StatusCode::UNAUTHORIZED)) };
            count.fetch_add(1, Ordering::Relaxed);
            answer
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let listener = Tls { listener, acceptor: acceptor(certificate, key), refused: Arc::clone(&refused) };
        tokio::spawn(async { axum::serve(listener, Router::new().route("/metrics", metrics)).await });
        Self { port, scrapes, refused }
    }

    /// How often it was scraped, and how often it refused to be.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.scrapes.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// Takes clients with this certificate alone.
fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .expect("a verifier");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"))
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    refused: Arc<AtomicUsize>,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            match self.acceptor.accept(stream).await {
                Ok(stream) => return (stream, address),
                Err(_) => self.refused.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
