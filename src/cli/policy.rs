//! Flags that decide about pods, shared by every command that decides.
//!
//! Input: flags and their variables. Output: a [`Policy`].

use std::str::FromStr;

use super::values;
use crate::admission::Policy;
use crate::admission::request::parse_reference;
use crate::template::agent::TemplateId;

/// First release whose kubelets run native sidecars without a feature gate (KEP-753, beta in 1.29).
const NATIVE_SIDECARS: KubernetesVersion = KubernetesVersion { major: 1, minor: 29 };

/// Flags of the policy.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArgs {
    /// Version of the cluster and of its oldest kubelet, in place of looking them up; agents of mode auto are native
    /// sidecars from 1.29 on.
    #[arg(long, env = "PROMSIDECAR_KUBERNETES_VERSION", default_value = "1.33", value_name = "MAJOR.MINOR")]
    pub kubernetes_version: KubernetesVersion,
    /// Template of pods that ask without a name in namespaces without a template.
    #[arg(long, env = "PROMSIDECAR_DEFAULT_TEMPLATE", value_name = "NAMESPACE/NAME", value_parser = template_id)]
    pub default_template: Option<TemplateId>,
    /// Namespaces whose pods are never injected, beside kube-system, kube-public and kube-node-lease.
    #[arg(long, env = "PROMSIDECAR_EXCLUDE_NAMESPACE", value_delimiter = ',', value_name = "NAMESPACE", value_parser = values::namespace)]
    pub exclude_namespace: Vec<String>,
    /// The namespace that promsidecar itself runs in; its pods are never injected.
    #[arg(
        long,
        env = "PROMSIDECAR_OWN_NAMESPACE",
        default_value = "promsidecar-system",
        value_name = "NAMESPACE",
        value_parser = values::namespace
    )]
    pub own_namespace: String,
}

impl PolicyArgs {
    /// The policy that these flags mean.
    pub fn to_policy(&self) -> Policy {
        let mut excluded: std::collections::BTreeSet<String> =
            self.exclude_namespace.iter().cloned().collect();
        excluded.insert(self.own_namespace.clone());
        Policy {
            excluded_namespaces: excluded,
            default_template: self.default_template.clone(),
            native_sidecars: self.kubernetes_version >= NATIVE_SIDECARS,
        }
    }
}

/// `NAMESPACE/NAME` of a template.
pub(super) fn template_id(text: &str) -> Result<TemplateId, String> {
    let reference = parse_reference(text).and_then(|reference| Some((reference.namespace?, reference.name)));
    let (namespace, name) = reference.ok_or("want NAMESPACE/NAME of a template")?;
    Ok(TemplateId { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// `major.minor` of Kubernetes; a patch level or a vendor's suffix (`v1.33.4-eks-1`) is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

impl std::fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::KubernetesVersion;

    #[test]
    fn kubernetes_versions_are_compared_by_number() {
        let version = |text: &str| text.parse::<KubernetesVersion>();
        assert!(version("1.9").unwrap() < version("v1.29.3").unwrap());
        assert_eq!(version("1.33.4-eks-9f2c"), version("1.33+"));
        for text in ["", "1", "one.two", "1.", "v", "1.x"] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
