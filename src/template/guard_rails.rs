//! What platform owners allow templates and monitors to do. PURE.
//!
//! Input: values of flags. Output: [`GuardRails`], which validation holds templates and monitors against. What is not set
//! limits nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::agent::Agent;
use super::duration::PromDuration;
use super::image::{self, ImageReference};
use super::quantity::Quantity;
use super::validate::text;

/// The bounds of every template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuardRails {
    /// Where agents may send to; anywhere if empty.
    pub receivers: Vec<Destination>,
    /// Images that templates may name; any if empty. The default one is always allowed.
    pub images: Vec<Images>,
    /// Shortest scrape interval of templates and monitors.
    pub min_scrape_interval: Option<PromDuration>,
    /// Largest requests and limits of the agent's container, by resource.
    pub ceilings: BTreeMap<String, Quantity>,
    /// Most targets of one job, above zero.
    pub max_targets: Option<u64>,
}

impl GuardRails {
    /// Whether agents may send to a URL. One that is none, such as a text with variables of the kubelet, leads anywhere.
    pub fn lead_to(&self, url: &str) -> bool {
        text::is_url(url) && self.receivers.iter().any(|destination| destination.allows(url))
    }
}

/// The flag of each bound, as messages name it.
pub mod flag {
    /// [`super::GuardRails::receivers`].
    pub const RECEIVERS: &str = "--allowed-receivers";
    /// [`super::GuardRails::images`].
    pub const IMAGES: &str = "--allowed-images";
    /// [`super::GuardRails::min_scrape_interval`].
    pub const MIN_SCRAPE_INTERVAL: &str = "--min-scrape-interval";
    /// [`super::GuardRails::ceilings`].
    pub const CEILINGS: &str = "--max-agent-resources";
    /// [`super::GuardRails::max_targets`].
    pub const MAX_TARGETS: &str = "--max-targets";
}

/// A scheme, a host, a port and the beginning of a path, such as `https://*.example.com/api/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    text: String,
    scheme: String,
    host: String,
    any_subdomain: bool,
    port: Option<String>,
    /// Without the slash at its end.
    path: String,
}

/// The parts of a URL that was checked before.
struct Parts<'a> {
    scheme: &'a str,
    host: String,
    port: Option<&'a str>,
    path: &'a str,
    tail: &'a str,
}

/// Takes a URL apart; `None` where it has no scheme.
fn parts(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, tail) = behind.split_at(behind.find(['?', '#']).unwrap_or(behind.len()));
    let (host, port) = host_and_port(authority);
    Some(Parts { scheme, host: host.to_ascii_lowercase(), port, path, tail })
}

/// Addresses of IPv6 keep their brackets.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[end..].split_once(':') {
        Some((host, port)) => (&authority[..end + host.len()], Some(port).filter(|port| !port.is_empty())),
        None => (authority, None),
    }
}

fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { "443" } else { "80" }
}

impl Destination {
    /// Whether a URL leads there. A path that could leave the one that is allowed does not.
    pub fn allows(&self, url: &str) -> bool {
        let Some(found) = parts(url) else { return false };
        let default = default_port(&self.scheme);
        let decoded = found.path.to_ascii_lowercase();
        let leaves = decoded.contains("%2e")
            || decoded.contains("%2f")
            || decoded.contains("%5c")
            || decoded.split(['/', '\\']).any(|segment| segment == "." || segment == "..");
        let below =
            found.path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        found.scheme == self.scheme
            && self.is_host(&found.host)
            && found.port.unwrap_or(default) == self.port.as_deref().unwrap_or(default)
            && (self.path.is_empty() || below && !leaves)
    }

    /// Whether the host of `HOST[:PORT]` is the one that is allowed. The protocol of traces has ports of its own.
    pub fn allows_host(&self, endpoint: &str) -> bool {
        self.is_host(&host_and_port(endpoint).0.to_ascii_lowercase())
    }

    fn is_host(&self, host: &str) -> bool {
        if self.any_subdomain {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a URL such as https://metrics.example.com, https://*.example.com or \
                                https://metrics.example.com/api/";
        let plain = text.replacen("://*.", "://", 1);
        let any_subdomain = plain.len() != text.len();
        let found = parts(&plain).filter(|_| text::is_url(&plain)).ok_or(EXPECTED)?;
        if !found.tail.is_empty() {
            return Err(format!("{EXPECTED}, without ? and #"));
        }
        Ok(Self {
            text: text.to_owned(),
            scheme: found.scheme.to_owned(),
            host: found.host,
            any_subdomain,
            port: found.port.map(str::to_owned),
            path: found.path.trim_end_matches('/').to_owned(),
        })
    }
}

/// One repository, or all below a path that ends with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    text: String,
    /// With the registry that runtimes add.
    full: String,
}

impl Images {
    /// Whether an image is of these.
    pub fn allows(&self, image: ImageReference<'_>) -> bool {
        let full = image.full_repository();
        full == self.full || self.full.ends_with('/') && full.starts_with(&self.full)
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Images {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected an image repository without a tag, such as quay.io/prometheus/prometheus, \
                                or the beginning of some with a slash at its end, such as registry.example.com/";
        const ANY: &str = "x";
        let repository = if text.ends_with('/') { format!("{text}{ANY}") } else { text.to_owned() };
        match ImageReference::parse(&repository) {
            Some(ImageReference { tag: None, digest: None, .. }) => {
                let full = image::full_repository(&repository);
                let full = if text.ends_with('/') { full[..full.len() - ANY.len()].to_owned() } else { full };
                Ok(Self { text: text.to_owned(), full })
            }
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

/// Least ceilings: what an agent gets where its template says nothing.
const LEAST_CEILINGS: [(&str, Quantity); 3] = [
    ("cpu", Quantity::from_millis(500)),
    ("memory", Agent::DEFAULT_MEMORY_LIMIT),
    ("ephemeral-storage", Agent::LEAST_WAL_SIZE),
];

/// `RESOURCE=QUANTITY` of `--max-agent-resources`.
pub fn ceiling(text: &str) -> Result<(String, Quantity), String> {
    const EXPECTED: &str = "expected cpu, memory or ephemeral-storage and a quantity, such as memory=512Mi";
    let (name, amount) = text.split_once('=').ok_or(EXPECTED)?;
    let (_, least) = LEAST_CEILINGS.into_iter().find(|(known, _)| *known == name).ok_or(EXPECTED)?;
    let amount = Quantity::parse(amount).ok_or(EXPECTED)?;
    if amount < least {
        return Err(format!(
            "expected {name} of {least} or more, which agents have where their template states none"
        ));
    }
    Ok((name.to_owned(), amount))
}

#[cfg(test)]
mod tests {
    use super::{Destination, Images, ceiling};
    use crate::template::image::ImageReference;

    #[test]
    fn a_destination_is_scheme_host_port_and_the_beginning_of_a_path() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            (
                "https://metrics.example.com",
                &[
                    "https://metrics.example.com",
                    "https://METRICS.example.com/api/v1/write",
                    "https://metrics.example.com:443/",
                    "https://metrics.example.com?tenant=a",
                ],
                &[
                    "http://metrics.example.com/",
                    "https://metrics.example.com:8443/",
                    "https://metrics.example.com.evil.test/",
                    "https://evil.test/metrics.example.com",
                    "https://evil.test/?https://metrics.example.com",
                    "https://ametrics.example.com/",
                    "https://metrics.example.com./",
                    "metrics.example.com",
                ],
            ),
            (
                "http://receiver:9090",
                &["http://receiver:9090/x"],
                &["http://receiver/x", "http://receiver:80/"],
            ),
            ("http://receiver:80", &["http://receiver/x", "http://receiver:80/"], &["http://receiver:8080/"]),
            (
                "https://*.example.com",
                &["https://a.example.com/", "https://a.b.example.com"],
                &[
                    "https://example.com/",
                    "https://.example.com/",
                    "https://aexample.com",
                    "https://a.example.com.evil.test",
                ],
            ),
            (
                "https://m.example.com/api/",
                &[
                    "https://m.example.com/api",
                    "https://m.example.com/api/v1/write?x=..",
                    "https://m.example.com/api/..a",
                ],
                &[
                    "https://m.example.com/",
                    "https://m.example.com/apiary",
                    "https://m.example.com/api/../admin",
                    "https://m.example.com/api/%2E%2e/admin",
                    "https://m.example.com/api/..%2fadmin",
                    "https://m.example.com/api/..",
                ],
            ),
            ("http://[::1]:9090/", &["http://[::1]:9090/api"], &["http://[::1]/api", "http://[::2]:9090/"]),
        ];
        for (allowed, inside, outside) in cases {
            let destination: Destination = allowed.parse().unwrap();
            assert_eq!(destination.to_string(), allowed);
            for url in inside {
                assert!(destination.allows(url), "{allowed} allows {url}");
            }
            for url in outside {
                assert!(!destination.allows(url), "{allowed} does not allow {url}");
            }
        }
        let tempo: Destination = "https://*.example.com:8443/api".parse().unwrap();
        assert!(tempo.allows_host("tempo.example.com:4317") && tempo.allows_host("tempo.example.com"));
        assert!(!tempo.allows_host("example.com:4317") && !tempo.allows_host("tempo.example.net:4317"));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in [
            "",
            "*",
            "metrics.example.com",
            "ftp://a/",
            "https://",
            "https://a.*.test",
            "https://*",
            "https://u:p@a/",
            "https://a/?b",
        ] {
            let error = text.parse::<Destination>().unwrap_err();
            assert!(error.starts_with("expected a URL such as"), "{text}: {error}");
        }
    }

    #[test]
    fn images_are_one_repository_or_all_below_a_path() {
        let cases: [(&str, &[&str], &[&str]); 4] = [
            (
                "quay.io/prometheus/prometheus",
                &["quay.io/prometheus/prometheus:v3.5.0"],
                &["quay.io/prometheus/prometheus-evil:v3.5.0", "quay.io.evil.test/prometheus/prometheus"],
            ),
            (
                "registry.example.com/",
                &["registry.example.com/a/b:v1"],
                &["registry.example.com.evil.test/a", "docker.io/registry.example.com/a"],
            ),
            (
                "prom/",
                &["prom/prometheus", "docker.io/prom/prometheus:v3.5.0"],
                &["prometheus", "quay.io/prom/prometheus"],
            ),
            (
                "localhost:5000/team/",
                &["localhost:5000/team/prometheus"],
                &["localhost:5000/teams/prometheus"],
            ),
        ];
        for (allowed, inside, outside) in cases {
            let images: Images = allowed.parse().unwrap();
            assert_eq!(images.to_string(), allowed);
            let allows = |image: &&str| images.allows(ImageReference::parse(image).unwrap());
            assert!(inside.iter().all(allows), "{allowed}");
            assert!(!outside.iter().any(allows), "{allowed}");
        }
        for text in ["", "/", "a:v1", "A/", "a//", "a b"] {
            assert!(text.parse::<Images>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_ceiling_is_never_below_what_an_agent_needs_anyway() {
        assert_eq!(
            ceiling("memory=512Mi").map(|(name, amount)| format!("{name}={amount}")),
            Ok("memory=512Mi".to_owned())
        );
        for (text, part) in [
            ("memory", "such as memory=512Mi"),
            ("memory=", "such as memory=512Mi"),
            ("gpu=1", "expected cpu, memory or ephemeral-storage"),
            ("cpu=much", "such as memory=512Mi"),
            ("cpu=-1", "cpu of 500m or more"),
            ("memory=64Mi", "memory of 128Mi or more"),
            ("ephemeral-storage=1M", "ephemeral-storage of 1Gi or more"),
        ] {
            assert!(ceiling(text).unwrap_err().contains(part), "{text}: {:?}", ceiling(text));
        }
    }
}
