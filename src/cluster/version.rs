//! Versions of Kubernetes. PURE.
//!
//! Input: the text of a version, as users, API servers and kubelets write it. Output: major and minor, which compare.

use std::fmt;
use std::str::FromStr;

/// First release whose kubelets run native sidecars without a feature gate (KEP-753, beta in 1.29).
pub const NATIVE_SIDECARS: KubernetesVersion = KubernetesVersion { major: 1, minor: 29 };

/// First release whose API server admits no kubelet older than [`NATIVE_SIDECARS`] beside it: kubelets may be three minor
/// versions behind (version skew policy), and native sidecars are stable from here on.
pub const NATIVE_SIDECARS_EVERYWHERE: KubernetesVersion = KubernetesVersion { major: 1, minor: 33 };

/// `major.minor` of Kubernetes; a patch level or a vendor's suffix (`v1.33.4-eks-1`) is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KubernetesVersion {
    major: u16,
    minor: u16,
}

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let version = text.strip_prefix('v').unwrap_or(text);
        let (major, rest) = version.split_once('.').unwrap_or((version, ""));
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let minor = rest.get(..end).unwrap_or_default();
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err("want MAJOR.MINOR of Kubernetes, such as 1.33".to_owned()),
        }
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether agents of mode `auto` are native sidecars: by the API server alone if it is new enough, else by the oldest
/// kubelet. `kubelets` is `None` where nodes may not be listed.
pub fn native_sidecars(api_server: KubernetesVersion, kubelets: Option<&[KubernetesVersion]>) -> bool {
    api_server >= NATIVE_SIDECARS_EVERYWHERE
        || api_server >= NATIVE_SIDECARS
            && kubelets.is_some_and(|kubelets| {
                !kubelets.is_empty() && kubelets.iter().all(|kubelet| *kubelet >= NATIVE_SIDECARS)
            })
}

#[cfg(test)]
mod tests {
    use super::{KubernetesVersion, native_sidecars};

    fn version(text: &str) -> KubernetesVersion {
        text.parse().unwrap()
    }

    #[test]
    fn kubernetes_versions_are_compared_by_number() {
        assert!(version("1.9") < version("v1.29.3"));
        assert_eq!(version("1.33.4-eks-9f2c"), version("1.33+"));
        for text in ["", "1", "one.two", "1.", "v", "1.x"] {
            assert!(text.parse::<KubernetesVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn agents_are_native_sidecars_where_every_kubelet_runs_them() {
        let (old, new) = (version("1.28"), version("1.29"));
        assert!(native_sidecars(version("1.33"), None));
        assert!(native_sidecars(version("1.37"), Some(&[old])));
        assert!(native_sidecars(version("1.32"), Some(&[new, version("1.31")])));
        // A kubelet that is too old, none that is known, none at all, and an API server that drops the field.
        assert!(!native_sidecars(version("1.32"), Some(&[new, old])));
        assert!(!native_sidecars(version("1.32"), None));
        assert!(!native_sidecars(version("1.32"), Some(&[])));
        assert!(!native_sidecars(version("1.28"), Some(&[new])));
    }
}
