//! Flags that decide about pods, shared by every command that decides.
//!
//! Input: flags and their variables. Output: a [`Policy`].

use super::values;
use crate::admission::Policy;
use crate::admission::request::parse_reference;
use crate::cluster::version::{KubernetesVersion, NATIVE_SIDECARS, NATIVE_SIDECARS_EVERYWHERE};
use crate::template::agent::TemplateId;

/// Taken where nothing is looked up and the flag is not given.
pub(super) const DEFAULT_VERSION: KubernetesVersion = NATIVE_SIDECARS_EVERYWHERE;

/// As settings are printed, where it is looked up.
pub(super) const LOOKED_UP: &str = "looked up";

/// Flags of the policy.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArgs {
    /// Version of the cluster and of its oldest kubelet; agents of mode auto are native sidecars from 1.29 on. [default: looked
    /// up in the cluster by `webhook` and `run`, else 1.33]
    #[arg(long, env = "PROMSIDECAR_KUBERNETES_VERSION", value_name = "MAJOR.MINOR")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Which namespaces ask, and for what.
    #[command(flatten)]
    pub namespaces: NamespaceArgs,
}

/// Flags of the policy that say which namespaces ask, and for what.
#[derive(Debug, Clone, clap::Args)]
pub struct NamespaceArgs {
    /// Template of pods that ask without a name in namespaces without a template.
    #[arg(long, env = "PROMSIDECAR_DEFAULT_TEMPLATE", value_name = "NAMESPACE/NAME", value_parser = template_id)]
    pub default_template: Option<TemplateId>,
    /// Namespaces whose pods are never injected, beside kube-system, kube-public and kube-node-lease.
    #[arg(long, env = "PROMSIDECAR_EXCLUDE_NAMESPACE", value_delimiter = ',', value_name = "NAMESPACE", value_parser = values::namespace)]
    pub exclude_namespace: Vec<String>,
    /// Where promsidecar itself is.
    #[command(flatten)]
    pub own: OwnNamespaceArgs,
}

/// Flag of every command that has to know where promsidecar itself is.
#[derive(Debug, Clone, clap::Args)]
pub struct OwnNamespaceArgs {
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
        let version = self.kubernetes_version.unwrap_or(DEFAULT_VERSION);
        Policy { native_sidecars: version >= NATIVE_SIDECARS, ..self.namespaces.to_policy() }
    }
}

impl NamespaceArgs {
    /// The policy that these flags mean, where no mode of an agent is decided.
    pub fn to_policy(&self) -> Policy {
        let mut excluded: std::collections::BTreeSet<String> =
            self.exclude_namespace.iter().cloned().collect();
        excluded.insert(self.own.own_namespace.clone());
        Policy {
            excluded_namespaces: excluded,
            default_template: self.default_template.clone(),
            native_sidecars: false,
        }
    }
}

/// `NAMESPACE/NAME` of a template.
pub(super) fn template_id(text: &str) -> Result<TemplateId, String> {
    let reference = parse_reference(text).and_then(|reference| Some((reference.namespace?, reference.name)));
    let (namespace, name) = reference.ok_or("want NAMESPACE/NAME of a template")?;
    Ok(TemplateId { namespace: namespace.to_owned(), name: name.to_owned() })
}
