//! Values of flags: from text to types, each with an error that says what is expected. PURE.
//!
//! Input: the text of one flag or variable. Output: the value, or a message; clap adds the flag and the text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::names;
use crate::template::duration::PromDuration;
use crate::template::image::ImageReference;
use crate::template::validate::text;
use crate::template::version::Version;

/// `3.13.5` or `v3.13.5`.
pub fn prometheus_version(text: &str) -> Result<Version, String> {
    match Version::parse(text) {
        Some(version) if version.major >= 3 => Ok(version),
        Some(_) => Err("agents need Prometheus 3.0 or later, such as v3.13.5".to_owned()),
        None => Err("expected a Prometheus version such as v3.13.5".to_owned()),
    }
}

/// An address and port to listen on.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an address and a port, such as 0.0.0.0:8443, [::]:8443 or 127.0.0.1:0".to_owned()
    })
}

/// A bound: a whole number that a process can honour.
pub fn bound(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bound| (1..=65_536).contains(bound))
        .ok_or_else(|| "expected a whole number from 1 to 65536".to_owned())
}

/// Image repository, without tag and digest.
pub fn repository(text: &str) -> Result<String, String> {
    match ImageReference::parse(text) {
        Some(ImageReference { tag: None, digest: None, .. }) => Ok(text.to_owned()),
        _ => {
            Err("expected an image repository without a tag, such as quay.io/prometheus/prometheus"
                .to_owned())
        }
    }
}

/// Value of an annotation that is compared for equality.
pub fn controller_id(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        return Err(format!("expected the value of an annotation, such as {}", names::DEFAULT_CONTROLLER_ID));
    }
    Ok(text.to_owned())
}

/// Name of a namespace.
pub fn namespace(name: &str) -> Result<String, String> {
    if text::is_label(name) {
        return Ok(name.to_owned());
    }
    Err("expected the name of a namespace: at most 63 lower-case letters, digits and '-'".to_owned())
}

/// Name of a pod.
pub fn pod(name: &str) -> Result<String, String> {
    if text::is_subdomain(name) {
        return Ok(name.to_owned());
    }
    Err("expected the name of a pod: lower-case letters, digits, '-' and '.'".to_owned())
}

/// Name of an object.
pub fn object(name: &str) -> Result<String, String> {
    if text::is_subdomain(name) {
        return Ok(name.to_owned());
    }
    Err("expected the name of an object: lower-case letters, digits, '-' and '.'".to_owned())
}

/// Name of a Service.
pub fn service(name: &str) -> Result<String, String> {
    if text::is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(name.to_owned());
    }
    Err("expected the name of a Service: at most 63 lower-case letters, digits and '-', a letter first"
        .to_owned())
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

/// A duration of Prometheus, above zero.
pub fn interval(text: &str) -> Result<PromDuration, String> {
    match text.parse::<PromDuration>() {
        Ok(interval) if !interval.is_zero() => Ok(interval),
        _ => Err("expected a Prometheus duration above zero, such as 15s or 1m".to_owned()),
    }
}

/// A duration that cannot be left out.
pub fn pause(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        pause if pause < Duration::from_secs(1) => Err("expected at least 1s, such as 60s".to_owned()),
        pause => Ok(pause),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bound, controller_id, duration, prometheus_version, repository};
    use crate::template::version::Version;

    #[test]
    fn bounds_repositories_and_ids_are_checked() {
        assert_eq!((bound("1"), bound("65536")), (Ok(1), Ok(65_536)));
        for text in ["", "0", "65537", "-1", "1.5", "many", "99999999999999999999"] {
            assert_eq!(bound(text), Err("expected a whole number from 1 to 65536".to_owned()), "{text}");
        }
        assert_eq!(repository("registry.test:5000/a/b"), Ok("registry.test:5000/a/b".to_owned()));
        for text in ["", "a b", "prometheus:v3.13.5", "Upper/case", "https://quay.io/prometheus"] {
            assert!(repository(text).is_err(), "{text}");
        }
        assert_eq!(controller_id("promsidecar"), Ok("promsidecar".to_owned()));
        for text in ["", " ", " a", "a\n"] {
            assert!(controller_id(text).is_err(), "{text:?}");
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
        for text in ["3", "latest", "v3.x.1", "3.1.2.3"] {
            assert!(prometheus_version(text).is_err(), "{text}");
        }
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for text in ["", "15", "s", "-1s", "1h", "61m", "18446744073709551615m", "1.5s", "15 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
