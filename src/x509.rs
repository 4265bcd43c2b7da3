//! What PEM texts hold: certificates, whose they are, and whether a client would accept them. PURE.
//!
//! Input: the bytes of PEM files, and the time. Output: certificates in DER, their names and their end, or why not.

use std::net::IpAddr;
use std::time::Duration;

use base64_simd::STANDARD;
use k8s_openapi::jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate.
pub type Der = CertificateDer<'static>;

/// The certificates of a PEM text, at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<Der>, String> {
    let all: Vec<Der> =
        Der::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if all.is_empty() {
        return Err("it holds no certificate in PEM format".to_owned());
    }
    all.iter().try_for_each(|der| parse(der).map(drop))?;
    Ok(all)
}

/// Certificates as a PEM text.
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a Der>) -> String {
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        // RFC 7468: lines of 64 characters.
        let encoded = STANDARD.encode_to_string(der);
        for (at, c) in encoded.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                text.push('\n');
            }
            text.push(c);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}

/// Whether a key, in PEM format, is that of a certificate; otherwise why it cannot be used.
pub fn fits(certificate: &Der, key: &[u8]) -> Result<bool, String> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    let certificate = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(key.public_key().is_some_and(|public| public == certificate.subject_public_key_info()))
}

/// Whether a client accepts a chain that begins with a server's certificate, if it trusts this authority alone.
pub fn accepted(chain: &[Der], authority: &Der, now: Timestamp) -> Result<(), String> {
    let (first, intermediates) = chain.split_first().ok_or("the chain is empty")?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| error.to_string())?;
    let certificate = ParsedCertificate::try_from(first).map_err(|error| error.to_string())?;
    let algorithms = default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, unix(now), algorithms)
        .map_err(|error| error.to_string())
}

/// Whether a certificate is an authority's, whenever it is in force.
pub fn is_authority(certificate: &Der) -> bool {
    parse(certificate).is_ok_and(|parsed| parsed.is_ca())
}

/// When a certificate begins and ends.
pub fn life(certificate: &Der) -> Result<(Timestamp, Timestamp), String> {
    parse(certificate).map(|parsed| validity(&parsed))
}

/// When a certificate ends.
pub fn end(certificate: &Der) -> Result<Timestamp, String> {
    life(certificate).map(|(_, end)| end)
}

/// The DNS names and addresses that a certificate is for, in its order.
pub fn names(certificate: &Der) -> Result<Vec<String>, String> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    names.iter().flat_map(|names| &names.value.general_names).map(shown).collect()
}

fn parse(der: &Der) -> Result<X509Certificate<'_>, String> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(parsed)
}

fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    // What no calendar of ours holds is before all time: such a certificate is never in force.
    let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MIN);
    (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()))
}

fn shown(name: &GeneralName<'_>) -> Result<String, String> {
    match name {
        GeneralName::DNSName(name) => Ok((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or(v6).map_err(|_| "the certificate has an address of a strange length")?;
            Ok(address.to_string())
        }
        other => Err(format!("the certificate has a name of another kind: {other}")),
    }
}

fn unix(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default()))
}
