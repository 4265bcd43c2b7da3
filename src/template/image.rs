//! Image references. PURE.
//!
//! Input: `registry:port/repository:tag@digest`. Output: its parts, or why a kubelet would refuse it: a container with a
//! malformed image never starts, and as a native sidecar it would hold back the application. Grammar: distribution/reference.

use super::version::Version;

/// Longest repository with its registry.
const MAX_REPOSITORY: usize = 255;

/// A reference in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageReference<'a> {
    /// Registry and path.
    pub repository: &'a str,
    /// Behind the colon.
    pub tag: Option<&'a str>,
    /// Behind the at sign.
    pub digest: Option<&'a str>,
}

impl<'a> ImageReference<'a> {
    /// Reads a reference; `None` where it is not one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash is that of the registry's port.
        let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[path_start..].find(':') {
            Some(colon) => (&name[..path_start + colon], Some(&name[path_start + colon + 1..])),
            None => (name, None),
        };
        let valid = is_repository(repository) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
        valid.then_some(Self { repository, tag, digest })
    }

    /// The version that the tag names, variants such as `-distroless` and `-busybox` included.
    pub fn version(&self) -> Option<Version> {
        Version::parse(self.tag?)
    }

    /// Whether the image has no shell.
    pub fn is_distroless(&self) -> bool {
        self.tag.is_some_and(|tag| tag.ends_with("-distroless") || tag.contains("-distroless-"))
    }

    /// The repository with the registry that container runtimes add.
    pub fn full_repository(&self) -> String {
        full_repository(self.repository)
    }
}

/// `prom/prometheus` as `docker.io/prom/prometheus`; repositories with a registry as they are.
pub fn full_repository(repository: &str) -> String {
    match repository.split_once('/') {
        None => format!("docker.io/library/{repository}"),
        Some((first, _)) if !is_registry(first) => format!("docker.io/{repository}"),
        Some(_) => repository.to_owned(),
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn is_repository(repository: &str) -> bool {
    let mut parts = repository.split('/').peekable();
    let has_path = repository.contains('/');
    if has_path && parts.peek().is_some_and(|first| is_registry(first)) {
        let registry = parts.next().unwrap_or_default();
        let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
        let host_valid = !host.is_empty()
            && host.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            });
        if !host_valid || port.parse::<u16>().is_err() {
            return false;
        }
    }
    repository.len() <= MAX_REPOSITORY && parts.all(is_path_component)
}

/// Lower-case letters and digits, separated by one dot, one or two underscores, or hyphens.
fn is_path_component(part: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(part.bytes().next())
        && edge(part.bytes().last())
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && !["..", "._", "_.", ".-", "-.", "_-", "-_", "___"].iter().any(|bad| part.contains(bad))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == length && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::{ImageReference, full_repository};
    use crate::template::version::Version;

    #[test]
    fn the_tag_is_told_from_the_port_and_from_the_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!("registry.example.org:5000/team/prometheus:v3.5.0@{digest}");
        let image = ImageReference::parse(&text).unwrap();
        assert_eq!(image.repository, "registry.example.org:5000/team/prometheus");
        assert_eq!((image.tag, image.digest), (Some("v3.5.0"), Some(digest.as_str())));
        let image = ImageReference::parse("localhost:5000/prometheus").unwrap();
        assert_eq!((image.repository, image.tag), ("localhost:5000/prometheus", None));
    }

    #[test]
    fn versions_are_found_in_tags_with_variants() {
        let version = |text| ImageReference::parse(text).unwrap().version();
        for text in ["p:v3.13.5", "p:3.13.5", "p:v3.13.5-distroless", "p:v3.13.5-busybox"] {
            assert_eq!(version(text), Some(Version::new(3, 13, 5)), "{text}");
        }
        for text in ["p", "p:latest", "p:main-3.1", "p:3"] {
            assert_eq!(version(text), None, "{text}");
        }
        assert!(ImageReference::parse("p:v3.13.5-distroless").unwrap().is_distroless());
        assert!(!ImageReference::parse("p:v3.13.5").unwrap().is_distroless());
    }

    #[test]
    fn what_a_kubelet_refuses_is_refused() {
        for text in [
            "",
            " ",
            "P",
            "a b",
            "a:",
            "a@",
            "a@sha256:1",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "-a",
            "a:b:c",
            "r.io:x/a",
            "a\n",
            "https://r.io/a",
            "a:-x",
        ] {
            assert_eq!(ImageReference::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn short_names_mean_the_default_registry() {
        assert_eq!(full_repository("prom/prometheus"), "docker.io/prom/prometheus");
        assert_eq!(full_repository("prometheus"), "docker.io/library/prometheus");
        assert_eq!(full_repository("quay.io/prometheus/prometheus"), "quay.io/prometheus/prometheus");
    }
}
