//! Checks of text that ends in a file, a flag, a label, a header or a URL. PURE.
//!
//! Input: text and its path. Output: the text where it is fit, else a violation.

use crate::template::duration::PromDuration;
use crate::template::violation::{Findings, Path, Rule};

/// Longest text of any single field; the rendered file must fit a `ConfigMap`.
const MAX_TEXT: usize = 16 * 1024;

/// One line of visible text.
pub(crate) fn line<'a>(text: &'a str, path: &Path, findings: &mut Findings) -> Option<&'a str> {
    let rule = if text.chars().any(char::is_control) {
        "holds a control character"
    } else if text.len() > MAX_TEXT {
        "is longer than 16 KiB"
    } else {
        return Some(text);
    };
    findings.violation(path, text, Rule::Text(rule));
    None
}

/// Optional text; empty means absent, as upstream.
pub(crate) fn optional_line(text: Option<&str>, path: &Path, findings: &mut Findings) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    line(text, path, findings).map(str::to_owned)
}

/// An optional duration; empty means absent, as upstream.
pub(crate) fn duration(text: Option<&str>, path: &Path, findings: &mut Findings) -> Option<PromDuration> {
    let text = text.filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(duration) => Some(duration),
        Err(error) => {
            findings.violation(path, text, Rule::Duration(error));
            None
        }
    }
}

/// One of a closed list with its translation; empty means absent.
pub(crate) fn choice(
    text: Option<&str>,
    allowed: &'static [&'static str],
    translations: &[&'static str],
    path: &Path,
    findings: &mut Findings,
) -> Option<&'static str> {
    let text = text.filter(|text| !text.is_empty())?;
    let found = allowed.iter().position(|name| *name == text).and_then(|index| translations.get(index));
    if found.is_none() {
        findings.violation(path, text, Rule::OneOf(allowed));
    }
    found.copied()
}

/// A label name that Prometheus 3 accepts: any text, or letters, digits and underscores under the legacy scheme.
pub(crate) fn is_label_name(name: &str, legacy: bool) -> bool {
    !name.is_empty() && (!legacy || is_legacy_label_name(name))
}

fn is_legacy_label_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.bytes().next().is_some_and(|b| b.is_ascii_digit())
}

/// An `http` or `https` URL that Go's parser and a Prometheus in a `ConfigMap` can take: no user, no password.
pub(crate) fn url(text: &str, path: &Path, findings: &mut Findings) -> Option<String> {
    match check_url(text) {
        Ok(()) => return Some(text.to_owned()),
        // The URL itself is not repeated: it holds a password.
        Err(UrlProblem::Credentials) => findings.violation_at(
            path,
            Rule::ClearText("remove user and password from the URL; use basicAuth or authorization where the field has one"),
        ),
        Err(UrlProblem::Malformed(why)) => findings.violation(path, text, Rule::Url(why)),
    }
    None
}

/// Whether [`url`] takes it.
pub(crate) fn is_url(text: &str) -> bool {
    check_url(text).is_ok()
}

#[derive(Debug, PartialEq, Eq)]
enum UrlProblem {
    Credentials,
    Malformed(&'static str),
}

fn check_url(text: &str) -> Result<(), UrlProblem> {
    use UrlProblem::{Credentials, Malformed};
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or(Malformed("does not begin with http:// or https://"))?;
    if text.len() > MAX_TEXT {
        return Err(Malformed("is longer than 16 KiB"));
    }
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    if authority.contains('@') {
        return Err(Credentials);
    }
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Malformed("holds a space or control character"));
    }
    if !is_authority(authority) {
        return Err(Malformed("has no valid host and port"));
    }
    let mut escapes = tail.split('%').skip(1);
    if !escapes.all(|part| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit())) {
        return Err(Malformed("has a % that two hexadecimal digits do not follow"));
    }
    Ok(())
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match port.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if port.is_empty() => ("v6", None),
            None => return false,
        }
    } else {
        authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    let host_valid = !host.is_empty()
        && host.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || "-._~".contains(c));
    host_valid && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// RFC 1123 subdomain: names of Secrets and `ConfigMap`s.
pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// RFC 1123 label: names of namespaces and volumes.
pub(crate) fn is_label(name: &str) -> bool {
    let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 63
        && alphanumeric(name.bytes().next())
        && alphanumeric(name.bytes().last())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Key of a Secret or `ConfigMap`, which becomes a file name.
pub(crate) fn is_data_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key != "."
        && !key.starts_with("..")
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// Size in bytes as upstream's pattern has it and Prometheus reads it: both KB and KiB mean 1024.
pub(crate) fn byte_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let number = text.strip_suffix('B')?;
    let number = number
        .strip_suffix('i')
        .map_or(Some(number), |number| number.ends_with(['K', 'M', 'G', 'T', 'P', 'E']).then_some(number))?;
    let (number, shift) = match number.chars().last()? {
        'K' => (&number[..number.len() - 1], 10),
        'M' => (&number[..number.len() - 1], 20),
        'G' => (&number[..number.len() - 1], 30),
        'T' => (&number[..number.len() - 1], 40),
        'P' => (&number[..number.len() - 1], 50),
        'E' => (&number[..number.len() - 1], 60),
        _ => (number, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if fraction.is_empty() || fraction.len() > 18 || !digits(whole) || !digits(fraction) {
        return None;
    }
    if whole.is_empty() && !number.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse().ok()?;
    let bytes = whole.checked_mul(1 << shift)?.checked_add(fraction * (1 << shift) / divisor)?;
    u64::try_from(bytes).ok().filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// Header name: an HTTP token.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::{UrlProblem, byte_size, check_url, is_data_key, is_label_name, is_subdomain};

    #[test]
    fn urls_are_checked_as_go_would() {
        for good in [
            "http://a",
            "https://rw.example.com/api/v1/write?x=%20y",
            "http://10.0.0.1:9090/",
            "http://[fd00::1]:9090/x",
            "http://svc_name.ns.svc:80",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        assert_eq!(check_url("https://user:pass@a/"), Err(UrlProblem::Credentials));
        for bad in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:x",
            "http://a b",
            "http://a/%zz",
            "http://[::1",
            "http://[x]/",
            "http://a\n",
            "http://a/%2",
            "http://<a>",
        ] {
            assert!(matches!(check_url(bad), Err(UrlProblem::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_prometheus_reads_them() {
        for (text, bytes) in
            [("0", 0), ("1B", 1), ("1KB", 1024), ("1KiB", 1024), ("1.5MB", 3 << 19), (".5GiB", 1 << 29)]
        {
            assert_eq!(byte_size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "1", "B", "KB", "1kB", "1.KB", ".B", "1iB", "1 MB", "-1MB", "9EB", "999999EB", "1MBx", "1Ki"]
        {
            assert_eq!(byte_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_that_become_paths_cannot_leave_their_directory() {
        for bad in ["", ".", "..", "../x", "a/b", "..data", "a b", "a\0"] {
            assert!(!is_data_key(bad), "{bad:?}");
        }
        assert!(is_data_key("tls.crt") && is_data_key(".hidden") && is_data_key("A_b-c.d"));
        for bad in ["", ".", "..", "A", "a_b", "-a", "a/b", "a..b"] {
            assert!(!is_subdomain(bad), "{bad:?}");
        }
        assert!(is_label_name("a.b", false) && !is_label_name("a.b", true) && !is_label_name("", false));
    }
}
