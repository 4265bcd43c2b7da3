//! What the checks look at. PURE: data only.
//!
//! Input: made by whoever asks the API server. Output: objects as JSON, as far as the user may see them.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::permissions::{Access, Created};
use super::probe::Tried;
use crate::admission::Policy;
use crate::cluster::seen::Seen;
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

/// Everything.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The time.
    pub now: Timestamp,
    /// What everything of ours is called.
    pub names: Names,
    /// What templates mean: as the webhook was told.
    pub settings: Settings,
    /// What else the webhook was told.
    pub admission: Policy,
    /// What of that cannot be seen.
    pub unseen_flags: Vec<String>,
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
    /// What whoever installs has to be allowed to create, and whether he is.
    pub installer: Vec<(Created, bool)>,
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
            admission: Policy::default(),
            unseen_flags: Vec::new(),
            version: "v1.37.2".to_owned(),
            definitions: BTreeMap::new(),
            registrations: Ok(Vec::new()),
            secret: Ok(None),
            deployments: Ok(Vec::new()),
            lease: Ok(None),
            permissions: Vec::new(),
            installer: Vec::new(),
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
