//! Which certificate is served, and TLS as the API server speaks it. IO: reads certificate files, by polling.
//!
//! Input: a pair of PEM files, a pair from a Secret, or an own [`Authority`]. Output: a `rustls::ServerConfig` that offers `http/1.1` alone and
//! takes the present certificate from a slot. A pair that is unreadable, mismatched, expired or not yet valid is refused
//! and the one before stays.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Authority, LEAF_LIFETIME, Leaf, PemPair};
use crate::metrics::Metrics;
use crate::mounted;

/// How often the certificate is looked at. The kubelet renews mounted Secrets about once a minute.
pub const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Most bytes of one file; a Secret has 1 MiB at most.
const MAX_FILE: u64 = 1024 * 1024;

/// Makes ring the process's provider. Two providers in one dependency graph would otherwise panic at the first handshake.
pub fn install_provider() {
    // Fails only where one is installed already, which is this one: no other is compiled in.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificate that new handshakes get.
#[derive(Debug, Default)]
pub struct Slot(ArcSwapOption<CertifiedKey>);

impl Slot {
    /// Whether there is a certificate yet.
    pub fn is_loaded(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// TLS 1.2 and 1.3 with session tickets, `http/1.1` alone: the API server speaks nothing else to a Service.
pub fn server_config(slot: Arc<Slot>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(slot);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(config)
}

/// Why a certificate is not served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file, or a key of a Secret, holds no such PEM section.
    #[error("{place}: no {what} in PEM format: {source}")]
    Pem {
        /// The file or the Secret.
        place: String,
        /// Certificate or private key.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// The certificate cannot be decoded.
    #[error("the certificate cannot be decoded: {0}")]
    Malformed(String),
    /// Its time is over.
    #[error("the certificate expired at {0}; renew it")]
    Expired(String),
    /// Its time has not come.
    #[error("the certificate is not valid before {0}; check both clocks")]
    NotYetValid(String),
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("certificate and key are not a usable pair: {0}")]
    Pair(#[from] rustls::Error),
    /// Our own could not be made.
    #[error("making a certificate: {0}")]
    Own(#[from] rcgen::Error),
}

/// Where certificates come from.
#[derive(Debug)]
pub enum Source {
    /// PEM files that someone else renews.
    Files {
        /// Certificate chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// A Secret that somebody follows.
    Secret {
        /// What it is called.
        name: String,
        /// What it holds.
        pair: watch::Receiver<Option<PemPair>>,
    },
    /// Our own authority.
    Own {
        /// It signs.
        authority: Box<Authority>,
        /// DNS names and addresses of the certificate.
        names: Vec<String>,
    },
}

/// What a source has at a moment.
enum Found {
    /// Certificate and key in PEM format, and where each is.
    Bytes((Vec<u8>, Vec<u8>), [String; 2]),
    /// A pair that was just made.
    Made(Leaf),
}

/// Keeps the slot's certificate current.
#[derive(Debug)]
pub struct Keeper {
    source: Source,
    slot: Arc<Slot>,
    metrics: Arc<Metrics>,
    /// The bytes behind the slot's certificate.
    served: Option<(Vec<u8>, Vec<u8>)>,
    /// When the slot's certificate ends.
    expires: Option<SystemTime>,
    /// What was logged last, until it is mended.
    logged: Option<String>,
}

impl Keeper {
    /// A keeper whose slot is empty until [`Self::refresh`].
    pub fn new(source: Source, slot: Arc<Slot>, metrics: Arc<Metrics>) -> Self {
        Self { source, slot, metrics, served: None, expires: None, logged: None }
    }

    /// Refreshes for ever.
    pub async fn keep(mut self, every: Duration) -> anyhow::Result<()> {
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = self.changed() => {}
            }
            self = tokio::task::spawn_blocking(move || {
                self.refresh(SystemTime::now());
                self
            })
            .await?;
        }
    }

    /// Waits until somebody tells of another pair; for ever where nobody does.
    async fn changed(&mut self) {
        let told = match &mut self.source {
            Source::Secret { pair, .. } => pair.changed().await.is_ok(),
            Source::Files { .. } | Source::Own { .. } => false,
        };
        if !told {
            std::future::pending::<()>().await;
        }
    }

    /// Takes a new certificate into the slot if there is one that may be served; each trouble is logged once.
    pub fn refresh(&mut self, now: SystemTime) {
        let found = match &mut self.source {
            Source::Files { certificate, key } => {
                let places = [certificate.display().to_string(), key.display().to_string()];
                read_pair(certificate, key).map(|bytes| Found::Bytes(bytes, places))
            }
            Source::Secret { name, pair } => {
                // While there is none, whoever makes it tells why.
                let Some(PemPair { certificate, key }) = pair.borrow_and_update().clone() else { return };
                let places = ["certificate", "key"].map(|what| format!("{what} of Secret {name}"));
                Ok(Found::Bytes((certificate.into_bytes(), key.into_bytes()), places))
            }
            Source::Own { authority, names } => {
                let remaining = self.expires.and_then(|expires| expires.duration_since(now).ok());
                if remaining.is_some_and(|remaining| remaining > LEAF_LIFETIME / 3) {
                    return;
                }
                authority.leaf(names, now).map(Found::Made).map_err(Into::into)
            }
        };
        let refreshed = found.and_then(|found| match found {
            Found::Bytes(bytes, places) => self.take(bytes, &places, now),
            Found::Made(leaf) => self.serve(leaf, now),
        });
        match refreshed {
            Ok(()) => self.logged = None,
            Err(error) => {
                let message = error.to_string();
                if self.logged.as_ref() != Some(&message) {
                    let kept = self.slot.is_loaded();
                    tracing::error!(error = message, previous_kept = kept, "certificate refused");
                    self.logged = Some(message);
                }
            }
        }
    }

    /// Serves a pair if it is another than the present one; `places` say where certificate and key are.
    fn take(
        &mut self,
        bytes: (Vec<u8>, Vec<u8>),
        [certificate, key]: &[String; 2],
        now: SystemTime,
    ) -> Result<(), CertificateError> {
        if self.served.as_ref() == Some(&bytes) {
            return Ok(());
        }
        let pem = |place: &String, what| {
            let place = place.clone();
            move |source| CertificateError::Pem { place, what, source }
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes.0)
            .collect::<Result<_, _>>()
            .map_err(pem(certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(pem(certificate, "certificate")(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&bytes.1).map_err(pem(key, "private key"))?;
        self.serve(Leaf { chain, key }, now)?;
        self.served = Some(bytes);
        Ok(())
    }

    /// Puts a pair into the slot once it is known to be good.
    fn serve(&mut self, leaf: Leaf, now: SystemTime) -> Result<(), CertificateError> {
        let (not_before, not_after) = validity(&leaf.chain)?;
        let timestamp =
            i64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        if not_after.timestamp() <= timestamp {
            return Err(CertificateError::Expired(not_after.to_string()));
        }
        if not_before.timestamp() > timestamp {
            return Err(CertificateError::NotYetValid(not_before.to_string()));
        }
        let provider: &CryptoProvider = &rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(leaf.chain, leaf.key, provider)?;
        self.slot.0.store(Some(Arc::new(certified)));
        self.metrics.certificate_expiry(not_after.timestamp());
        self.expires =
            u64::try_from(not_after.timestamp()).ok().map(|at| UNIX_EPOCH + Duration::from_secs(at));
        tracing::info!(not_after = %not_after, "certificate loaded");
        Ok(())
    }
}

type Validity = (x509_parser::time::ASN1Time, x509_parser::time::ASN1Time);

/// That of the first certificate, once all of them can be decoded.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, CertificateError> {
    let mut first = None;
    for der in chain {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let validity = certificate.validity();
        first = first.or(Some((validity.not_before, validity.not_after)));
    }
    first.ok_or_else(|| CertificateError::Malformed("the chain is empty".to_owned()))
}

/// Both files, such that a rotation between the two reads cannot mix them.
fn read_pair(certificate: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
    let directory = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    let read = |path: &Path, current: &Path| {
        mounted::read(&current.join(path.file_name().unwrap_or_default()), MAX_FILE)
            .map_err(|source| CertificateError::Unreadable { path: path.to_path_buf(), source })
    };
    let both = mounted::consistent(&directory(certificate), |certificate_directory| {
        mounted::consistent(&directory(key), |key_directory| {
            Ok((read(certificate, certificate_directory), read(key, key_directory)))
        })
    });
    let (certificate, key) =
        both.map_err(|source| CertificateError::Unreadable { path: certificate.to_path_buf(), source })?;
    Ok((certificate?, key?))
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
