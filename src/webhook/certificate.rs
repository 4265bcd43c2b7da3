//! Our own certificate authority and serving certificates, in memory. IO: randomness.
//!
//! Input: the names that clients use. Output: ECDSA P-256 certificates. An authority's key is asked for only by the controller,
//! which keeps it in a Secret; nobody else writes it anywhere. The serving certificate is short-lived and renewed from the same
//! authority, so clients that trust it notice nothing.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Clients whose clock is behind ours still accept a new certificate.
pub const CLOCK_SKEW: Duration = Duration::from_hours(1);
/// Lifetime of an authority's certificate.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Lifetime of a serving certificate.
pub const LEAF_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    /// The chain as it is sent.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

/// A serving certificate and its key, as the files of a Secret hold them.
#[derive(Clone, PartialEq, Eq)]
pub struct PemPair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new authority.
    pub fn new(now: SystemTime) -> Result<Self, rcgen::Error> {
        Self::lasting([now - CLOCK_SKEW, now + AUTHORITY_LIFETIME])
    }

    /// A new authority that begins and ends then.
    pub fn lasting(life: [SystemTime; 2]) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new(), "promsidecar CA", life)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// One that was made before, by what [`Self::pem`] and [`Self::key_pem`] gave.
    pub fn restored(certificate: &str, key: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(key)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, key)?, pem: certificate.to_owned() })
    }

    /// The authority's key, for whoever keeps it.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The authority's certificate, for clients.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new serving certificate for these DNS names and addresses, at least one.
    pub fn leaf(&self, names: &[String], now: SystemTime) -> Result<Leaf, rcgen::Error> {
        let (certificate, key) = self.sign(names, [now - CLOCK_SKEW, now + LEAF_LIFETIME])?;
        Ok(Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// A new serving certificate with a lifetime of its own, at most [`AUTHORITY_LIFETIME`].
    pub fn pem_pair(
        &self,
        names: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<PemPair, rcgen::Error> {
        self.pem_pair_lasting(names, [now - CLOCK_SKEW, now + lifetime])
    }

    /// A new serving certificate that begins and ends then.
    pub fn pem_pair_lasting(&self, names: &[String], life: [SystemTime; 2]) -> Result<PemPair, rcgen::Error> {
        let (certificate, key) = self.sign(names, life)?;
        Ok(PemPair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn sign(&self, names: &[String], life: [SystemTime; 2]) -> Result<(Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(names.to_vec(), "promsidecar", life)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate, key))
    }
}

fn params(
    names: Vec<String>,
    common_name: &str,
    [begin, end]: [SystemTime; 2],
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = begin.into();
    params.not_after = end.into();
    Ok(params)
}
