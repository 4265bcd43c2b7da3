//! Values of flags: from text to types, each with an error that says what is expected. PURE.
//!
//! Input: the text of one flag or variable. Output: the value, or a message; clap adds the flag and the text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::template::agent::TemplateId;
use crate::template::version::Version;

/// `major.minor` of a Kubernetes API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    major: u16,
    minor: u16,
}

impl KubernetesVersion {
    /// Whether nodes of such a cluster run native sidecars: on by default from 1.29 on (KEP-753).
    pub fn has_native_sidecars(self) -> bool {
        self >= Self { major: 1, minor: 29 }
    }
}

/// `1.33`, `v1.33.4` or a vendor's `1.33+`.
pub fn kubernetes_version(text: &str) -> Result<KubernetesVersion, String> {
    let expected = || "expected a Kubernetes version such as 1.33".to_owned();
    let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
    let number = |part: Option<&str>| part.and_then(|part| part.trim_end_matches('+').parse().ok());
    let (major, minor) = number(parts.next()).zip(number(parts.next())).ok_or_else(expected)?;
    Ok(KubernetesVersion { major, minor })
}

/// `3.13.5` or `v3.13.5`.
pub fn prometheus_version(text: &str) -> Result<Version, String> {
    let numbers: Option<Vec<u16>> =
        text.strip_prefix('v').unwrap_or(text).split('.').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([major, minor, patch]) if *major >= 3 => Ok(Version::new(*major, *minor, *patch)),
        Some([_, _, _]) => Err("agents need Prometheus 3.0 or later, such as v3.13.5".to_owned()),
        _ => Err("expected a Prometheus version such as v3.13.5".to_owned()),
    }
}

/// An address and port to listen on.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an address and a port, such as 0.0.0.0:8443, [::]:8443 or 127.0.0.1:0".to_owned()
    })
}

/// `namespace/name`.
pub fn template(text: &str) -> Result<TemplateId, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_dns_label(namespace) && is_dns_subdomain(name) => {
            Ok(TemplateId { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("expected NAMESPACE/NAME of a PrometheusAgent".to_owned()),
    }
}

/// Name of a namespace.
pub fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err("expected the name of a namespace: at most 63 lower-case letters, digits and '-'".to_owned())
}

/// A name in a certificate: a DNS name or an address, as clients put it into their handshake.
pub fn dns_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a DNS name such as promsidecar.monitoring.svc, or an IP address".to_owned()),
    }
}

/// A whole number with its unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: fn(u64) -> Duration = match &text[number.len()..] {
        "ms" => Duration::from_millis,
        "s" => Duration::from_secs,
        "m" => |minutes| Duration::from_secs(minutes.saturating_mul(60)),
        _ => return Err("expected a number with ms, s or m, such as 15s".to_owned()),
    };
    let longest = Duration::from_hours(1);
    match number.parse().map(unit) {
        Ok(duration) if duration <= longest => Ok(duration),
        Ok(_) => Err("expected at most an hour, such as 15s".to_owned()),
        Err(_) => Err("expected a number with ms, s or m, such as 15s".to_owned()),
    }
}

/// A path that is not empty, so that an empty variable is not taken for the working directory.
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err(
            "expected a path; leave the flag or variable out instead of setting it to nothing".to_owned()
        );
    }
    Ok(PathBuf::from(text))
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= 63
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, kubernetes_version, prometheus_version};
    use crate::template::version::Version;

    #[test]
    fn native_sidecars_begin_with_kubernetes_1_29() {
        for (text, native) in [
            ("1.28", false),
            ("1.29", true),
            ("1.33", true),
            ("v1.33.4", true),
            ("1.30+", true),
            ("1.28.9-gke.1", false),
        ] {
            assert_eq!(
                kubernetes_version(text).map(super::KubernetesVersion::has_native_sidecars),
                Ok(native),
                "{text}"
            );
        }
        for text in ["", "1", "latest", "1.x", "-1.33"] {
            assert!(kubernetes_version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_and_durations_are_read_and_what_they_cannot_be_is_said() {
        assert_eq!(prometheus_version("v3.13.5"), Ok(Version::new(3, 13, 5)));
        assert_eq!(prometheus_version("3.0.0"), Ok(Version::new(3, 0, 0)));
        assert_eq!(
            prometheus_version("2.55.1"),
            Err("agents need Prometheus 3.0 or later, such as v3.13.5".to_owned())
        );
        for text in ["3", "3.13", "v3.x.1", "3.1.2.3"] {
            assert!(prometheus_version(text).is_err(), "{text}");
        }
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "15", "s", "-1s", "1h", "61m", "18446744073709551615m", "1.5s", "15 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
