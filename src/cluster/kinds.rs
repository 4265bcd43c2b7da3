//! The kinds of objects that are asked for once. PURE: constants only.
//!
//! Input: nothing. Output: how the API server names them.

use super::seen::Resource;

/// Definitions.
pub const DEFINITIONS: Resource =
    Resource::of_cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions");
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
/// `StatefulSets`.
pub const STATEFUL_SETS: Resource = Resource::new("apps/v1", "StatefulSet", "statefulsets");
/// `DaemonSets`.
pub const DAEMON_SETS: Resource = Resource::new("apps/v1", "DaemonSet", "daemonsets");
/// `ReplicaSets`.
pub const REPLICA_SETS: Resource = Resource::new("apps/v1", "ReplicaSet", "replicasets");
/// Jobs.
pub const JOBS: Resource = Resource::new("batch/v1", "Job", "jobs");
/// Rollouts of Argo.
pub const ROLLOUTS: Resource = Resource::new("argoproj.io/v1alpha1", "Rollout", "rollouts");
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
pub const PROMETHEUSES: Resource = Resource::new("monitoring.coreos.com/v1", "Prometheus", "prometheuses");
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
