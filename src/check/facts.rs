//! What the checks look at. PURE: data only.
//!
//! Input: made by whoever asks the API server. Output: objects as JSON, as far as the user may see them.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::permissions::Access;
use super::probe::Tried;
use crate::cluster::seen::{Resource, Seen};
use crate::names;
use crate::template::Settings;

/// What everything of ours is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Our own namespace.
    pub own_namespace: String,
    /// The `MutatingWebhookConfiguration`.
    pub registration: String,
    /// The Secret with the webhook's certificate.
    pub secret: String,
    /// The namespace in which a pod is tried.
    pub namespace: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            own_namespace: "promsidecar-system".to_owned(),
            registration: names::REGISTRATION.to_owned(),
            secret: names::TLS_SECRET.to_owned(),
            namespace: "default".to_owned(),
        }
    }
}

/// Kinds of objects, and what is asked for of each.
pub mod kinds {
    use super::Resource;

    /// Definitions.
    pub const DEFINITIONS: Resource = Resource::of_cluster(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    );
    /// Registrations of mutating webhooks.
    pub const REGISTRATIONS: Resource = Resource::of_cluster(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    );
    /// Policies of admission.
    pub const POLICIES: Resource = Resource::of_cluster(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
    );
    /// Where they are in force.
    pub const BINDINGS: Resource = Resource::of_cluster(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    );
    /// Deployments.
    pub const DEPLOYMENTS: Resource = Resource::new("apps/v1", "Deployment", "deployments");
    /// Leases.
    pub const LEASES: Resource = Resource::new("coordination.k8s.io/v1", "Lease", "leases");
    /// Secrets.
    pub const SECRETS: Resource = Resource::new("v1", "Secret", "secrets");
    /// Nodes.
    pub const NODES: Resource = Resource::of_cluster("v1", "Node", "nodes");
    /// Namespaces.
    pub const NAMESPACES: Resource = Resource::of_cluster("v1", "Namespace", "namespaces");
    /// Pods.
    pub const PODS: Resource = Resource::new("v1", "Pod", "pods");
    /// Services.
    pub const SERVICES: Resource = Resource::new("v1", "Service", "services");
    /// `ConfigMaps`.
    pub const CONFIG_MAPS: Resource = Resource::new("v1", "ConfigMap", "configmaps");
    /// Limits for containers.
    pub const LIMIT_RANGES: Resource = Resource::new("v1", "LimitRange", "limitranges");
    /// Quotas of namespaces.
    pub const QUOTAS: Resource = Resource::new("v1", "ResourceQuota", "resourcequotas");
    /// Templates, and agents of others.
    pub const AGENTS: Resource =
        Resource::new("monitoring.coreos.com/v1alpha1", "PrometheusAgent", "prometheusagents");
    /// Prometheus servers of an operator.
    pub const PROMETHEUSES: Resource =
        Resource::new("monitoring.coreos.com/v1", "Prometheus", "prometheuses");
    /// Monitors of pods.
    pub const POD_MONITORS: Resource = Resource::new("monitoring.coreos.com/v1", "PodMonitor", "podmonitors");
    /// Monitors of Services.
    pub const SERVICE_MONITORS: Resource =
        Resource::new("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors");
    /// Roles of the whole cluster.
    pub const CLUSTER_ROLES: Resource =
        Resource::of_cluster("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles");
    /// Who has them.
    pub const CLUSTER_ROLE_BINDINGS: Resource =
        Resource::of_cluster("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings");
    /// Classes of priority.
    pub const PRIORITY_CLASSES: Resource =
        Resource::of_cluster("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses");
}

/// Everything.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The time.
    pub now: Timestamp,
    /// What everything of ours is called.
    pub names: Names,
    /// What templates mean.
    pub settings: Settings,
    /// As the API server calls itself.
    pub version: String,
    /// Definitions, by name, as far as there are any.
    pub definitions: BTreeMap<&'static str, Seen<Option<Value>>>,
    /// Registrations of mutating webhooks.
    pub registrations: Seen<Vec<Value>>,
    /// The webhook's Secret.
    pub secret: Seen<Option<Value>>,
    /// Deployments, of others as well.
    pub deployments: Seen<Vec<Value>>,
    /// Who writes.
    pub lease: Seen<Option<Value>>,
    /// What our accounts have to be allowed, and whether they are.
    pub permissions: Vec<(Access, Seen<bool>)>,
    /// What became of the pods that were tried.
    pub tried: Tried,
    /// Nodes.
    pub nodes: Seen<Vec<Value>>,
    /// Namespaces.
    pub namespaces: Seen<Vec<Value>>,
    /// Metadata of injected pods.
    pub injected: Seen<Vec<Value>>,
    /// Limits for containers.
    pub limit_ranges: Seen<Vec<Value>>,
    /// Quotas of namespaces.
    pub quotas: Seen<Vec<Value>>,
    /// Templates, and agents of others.
    pub agents: Seen<Vec<Value>>,
    /// Prometheus servers of an operator.
    pub prometheuses: Seen<Vec<Value>>,
    /// Monitors of pods.
    pub pod_monitors: Seen<Vec<Value>>,
    /// Monitors of Services.
    pub service_monitors: Seen<Vec<Value>>,
    /// Services.
    pub services: Seen<Vec<Value>>,
    /// The policy for `ConfigMaps`.
    pub policy: Seen<Option<Value>>,
    /// Where it is in force.
    pub binding: Seen<Option<Value>>,
}

#[cfg(test)]
impl Default for Facts {
    fn default() -> Self {
        Self {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            names: Names::default(),
            settings: Settings::default(),
            version: "v1.37.2".to_owned(),
            definitions: BTreeMap::new(),
            registrations: Ok(Vec::new()),
            secret: Ok(None),
            deployments: Ok(Vec::new()),
            lease: Ok(None),
            permissions: Vec::new(),
            tried: Tried::default(),
            nodes: Ok(Vec::new()),
            namespaces: Ok(Vec::new()),
            injected: Ok(Vec::new()),
            limit_ranges: Ok(Vec::new()),
            quotas: Ok(Vec::new()),
            agents: Ok(Vec::new()),
            prometheuses: Ok(Vec::new()),
            pod_monitors: Ok(Vec::new()),
            service_monitors: Ok(Vec::new()),
            services: Ok(Vec::new()),
            policy: Ok(None),
            binding: Ok(None),
        }
    }
}
