//! The validated template. PURE: data only.
//!
//! Input: made by `validate` alone. Output: the single input of `render` (the configuration) and of
//! `admission::sidecar` (the container and its volumes); everything here is resolved, so neither needs the raw spec's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::api::PrometheusAgentSpec;
use super::guard_rails::GuardRails;
use super::prometheus::{
    Authorization, Global, Limits, Otlp, Relabel, RemoteWrite, Runtime, Storage, Tls, Tracing,
};
use super::quantity::Quantity;
use super::validate::text;
use super::version::Version;
use super::violation::{Violation, Warning};

/// Namespace and name of a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl TemplateId {
    /// `namespace/name`, as [`Self`] is displayed; nothing where these are no names.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let are_names = text::is_label(namespace) && text::is_subdomain(name);
        are_names.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How the agent's container is placed, by template annotation `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModePreference {
    /// Native where the cluster can, else an ordinary container.
    #[default]
    Auto,
    /// Always an init container with `restartPolicy: Always` (KEP-753).
    Native,
    /// Always an ordinary container.
    Container,
}

impl ModePreference {
    /// As written in the annotation.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Container => "container",
        }
    }
}

/// Requests and limits by resource name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// `resources.requests`.
    pub requests: BTreeMap<String, Quantity>,
    /// `resources.limits`.
    pub limits: BTreeMap<String, Quantity>,
}

/// Which kind of object holds a file of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileSource {
    /// A Secret of the pod's namespace.
    Secret,
    /// A `ConfigMap` of the pod's namespace.
    ConfigMap,
}

/// A key of a Secret or `ConfigMap` that the configuration reads as a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileReference {
    /// Secret or `ConfigMap`.
    pub source: FileSource,
    /// Name of the object, in the pod's namespace.
    pub name: String,
    /// Key within the object.
    pub key: String,
    /// Whether an agent that lacks the file exits (TLS files of remote write), rather than failing single requests.
    pub essential: bool,
    /// Whether a monitor refers to it. Such files have a directory of their own: what is mounted for the monitors of a
    /// namespace is nothing that a template of another could name, and send somewhere.
    pub of_monitor: bool,
}

impl FileReference {
    /// Path below the configuration's directory, which is also how the configuration names it.
    pub fn path(&self) -> String {
        let directory = match self.source {
            FileSource::Secret => "secrets",
            FileSource::ConfigMap => "configmaps",
        };
        let whose = if self.of_monitor { "monitors/" } else { "" };
        format!("{whose}{directory}/{}/{}", self.name, self.key)
    }
}

/// An environment variable filled from a Secret of the pod's namespace, for credentials without a file form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretEnv {
    /// Name of the variable.
    pub env: String,
    /// Name of the Secret.
    pub secret: String,
    /// Key within it.
    pub key: String,
}

/// A field of the template that has no effect, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoredField {
    /// Path of the field, such as `spec.podMetadata`.
    pub path: String,
    /// The reason, for people.
    pub why: String,
}

/// A template that passed validation.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one template, not states")]
pub struct Agent {
    /// Which object this was.
    pub id: TemplateId,
    /// `metadata.generation`, 0 where the object has none (files).
    pub generation: i64,
    /// Prometheus version that gates flags and configuration keys.
    pub version: Version,
    /// Full image reference.
    pub image: String,
    /// `imagePullPolicy`, one of the three of Kubernetes.
    pub image_pull_policy: Option<String>,
    /// Native sidecar or container.
    pub mode: ModePreference,
    /// Whether the agent runs under the supervision loop (`supervise` resolved against the image).
    pub supervised: bool,
    /// Flags that the template adds after ours, complete (`--log.level=debug`), in order.
    pub flags: Vec<String>,
    /// Whether something has to reach the agent's port: it then listens on a fixed, declared one.
    pub fixed_port: bool,
    /// Whether the job over the agent's own metrics is rendered.
    pub self_monitor: bool,
    /// Path of these metrics, where it is not the usual one.
    pub metrics_path: Option<String>,
    /// The template's own resources, empty where it states none. Requests never exceed limits.
    pub resources: Resources,
    /// `containers[prometheus].env`, whole `EnvVar` objects; no names of ours, no `LD_*`.
    pub env: Vec<serde_json::Value>,
    /// Extra `VolumeMount` objects; volume names prefixed as in `volumes`, not under our paths.
    pub volume_mounts: Vec<serde_json::Value>,
    /// Extra `Volume` objects (emptyDir, configMap, secret), names prefixed so that they cannot meet the pod's.
    pub volumes: Vec<serde_json::Value>,
    /// `storage.emptyDir.sizeLimit`.
    pub wal_size_limit: Option<Quantity>,
    /// `storage.emptyDir.medium`.
    pub wal_medium: Option<String>,
    /// Files that the configuration refers to, sorted.
    pub files: BTreeSet<FileReference>,
    /// Credentials by environment, sorted.
    pub secret_env: BTreeSet<SecretEnv>,
    /// Global scrape interval.
    pub scrape_interval: Duration,
    /// Global scrape timeout.
    pub scrape_timeout: Duration,
    /// What the platform's owners allow its monitors.
    pub guard_rails: GuardRails,
    /// Whether a `PodMonitor` or `ServiceMonitor` selector is set, so that a pod without hints may still be scraped.
    pub selects_monitors: bool,
    /// The object as read, for `render`.
    pub spec: PrometheusAgentSpec,
    /// What the template says without effect, sorted by path.
    pub ignored: Vec<IgnoredField>,
    /// The checked parts of the configuration, for `render`.
    pub config: ConfigParts,
}

/// The checked parts of a template's configuration, without the labels of the pod's identity and without jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigParts {
    /// `global` with the template's external labels and limits.
    pub global: Global,
    /// `runtime`.
    pub runtime: Option<Runtime>,
    /// `storage`.
    pub storage: Option<Storage>,
    /// `otlp`.
    pub otlp: Option<Otlp>,
    /// `tracing`.
    pub tracing: Option<Tracing>,
    /// `remote_write` with the template's relabelings.
    pub remote_write: Vec<RemoteWrite>,
    /// Limits that upstream writes on every job.
    pub job_limits: Limits,
    /// `honor_timestamps` of every job.
    pub honor_timestamps: Option<bool>,
    /// Pod labels that become target labels, in the form in which discovery spells them.
    pub pod_target_labels: Vec<String>,
    /// What monitors may refer to by name.
    pub scrape_classes: Vec<ScrapeClass>,
    /// Label that every series carries with the pod's namespace.
    pub enforced_namespace_label: Option<String>,
    /// Limits that the template does not state.
    pub derived: Derived,
    /// What is used as written, but should make its author think again. Sorted by path.
    pub warnings: Vec<Warning>,
    /// Secrets and `ConfigMap`s that `env` and `volumes` of the agent read.
    pub referenced_objects: BTreeSet<(FileSource, String)>,
}

/// What the jobs of monitors of one class have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrapeClass {
    /// Its name.
    pub name: String,
    /// Whether monitors that name none are of this class.
    pub default: bool,
    /// Protocol where a response names none that is known.
    pub fallback_scrape_protocol: Option<&'static str>,
    /// Relabelings before the monitor's own.
    pub relabel_configs: Vec<Relabel>,
    /// Relabelings of series before the monitor's own.
    pub metric_relabel_configs: Vec<Relabel>,
    /// For endpoints without TLS settings of their own; its files also for those that lack the like. They are the template's.
    pub tls_config: Option<Tls>,
    /// For endpoints that say nothing of authentication. Its file is the template's.
    pub authorization: Option<Authorization>,
    /// Why monitors cannot be of the class; the template is used all the same.
    pub violations: Vec<Violation>,
}

/// Limits derived from the agent's memory; absent where the template states its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Derived {
    /// `sample_limit`.
    pub sample_limit: Option<u64>,
    /// `body_size_limit`.
    pub body_size_limit: Option<String>,
}

impl Resources {
    /// The memory that an agent with these resources may use: the limit, else the default, never below the request.
    pub fn memory_limit(&self) -> Quantity {
        self.limits.get("memory").copied().unwrap_or_else(|| {
            let request = self.requests.get("memory").copied().unwrap_or_default();
            request.max(Agent::DEFAULT_MEMORY_LIMIT)
        })
    }
}

impl Agent {
    /// Default memory limit of the agent's container.
    pub const DEFAULT_MEMORY_LIMIT: Quantity = Quantity::from_mebibytes(128);

    /// Least size limit of the write-ahead log's volume, where the template states none.
    pub const LEAST_WAL_SIZE: Quantity = Quantity::from_mebibytes(1024);

    /// Size limit of the write-ahead log's volume: the template's, else above what the agent's flags let accumulate, since
    /// exceeding it evicts the pod.
    pub fn wal_size(&self) -> Quantity {
        self.wal_size_limit.unwrap_or_else(|| self.memory_limit().times(4).max(Self::LEAST_WAL_SIZE))
    }

    /// The memory that the agent may use: the template's limit, else the default, never below its request.
    pub fn memory_limit(&self) -> Quantity {
        self.resources.memory_limit()
    }

    /// Every Secret and `ConfigMap` that the agent reads: by the configuration, by environment, by extra volumes. A template
    /// of another namespace may use only those that the pod's namespace lists.
    pub fn objects(&self) -> BTreeSet<(FileSource, &str)> {
        let files = self.files.iter().map(|file| (file.source, file.name.as_str()));
        let env = self.secret_env.iter().map(|env| (FileSource::Secret, env.secret.as_str()));
        let extra = self.config.referenced_objects.iter().map(|(source, name)| (*source, name.as_str()));
        files.chain(env).chain(extra).collect()
    }
}
