//! A monitor as read, of either kind. PURE.
//!
//! Input: one object as JSON. Output: a [`Monitor`] that keeps what could be read, and what could not for its judgement.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::NamespaceSelector;
use super::fields;
use crate::template::agent::IgnoredField;
use crate::template::api::read;
use crate::template::identity;
use crate::template::violation::{Findings, Path, Rule, Violation};

/// `apiVersion` of monitors.
pub const API_VERSION: &str = "monitoring.coreos.com/v1";

/// Kinds of monitors that become jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// By labels of pods.
    Pod,
    /// By labels of Services.
    Service,
}

impl Kind {
    /// All of them, in the order in which their jobs stand.
    pub const ALL: [Self; 2] = [Self::Pod, Self::Service];

    /// The kind of an object, if it is a monitor.
    pub fn of(object: &Value) -> Option<Self> {
        let is_monitor = object["apiVersion"] == API_VERSION;
        Self::ALL.into_iter().find(|kind| is_monitor && object["kind"] == kind.word())
    }

    /// `kind` of its objects.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pod => "PodMonitor",
            Self::Service => "ServiceMonitor",
        }
    }

    /// Several of its objects.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Pod => "PodMonitors",
            Self::Service => "ServiceMonitors",
        }
    }

    /// Beginning of the names of its jobs.
    pub(super) const fn job_prefix(self) -> &'static str {
        match self {
            Self::Pod => "podMonitor",
            Self::Service => "serviceMonitor",
        }
    }

    /// Name of its resource.
    pub(super) const fn resource(self) -> &'static str {
        match self {
            Self::Pod => "podmonitors",
            Self::Service => "servicemonitors",
        }
    }

    /// Field of the spec with what is scraped.
    pub(super) const fn endpoints(self) -> &'static str {
        match self {
            Self::Pod => "podMetricsEndpoints",
            Self::Service => "endpoints",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The spec of one kind of monitors.
pub trait Spec: DeserializeOwned + Default {
    /// Which kind.
    const KIND: Kind;

    /// Whose pods the monitor is about.
    fn namespace_selector(&self) -> &NamespaceSelector;

    /// Whether it asks for labels of nodes.
    fn attaches_nodes(&self) -> bool;
}

/// Namespace and name of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorId {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl fmt::Display for MonitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A monitor among those of every kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorKey {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name.
    pub id: MonitorId,
}

impl fmt::Display for MonitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// What monitors of every kind have in common.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name.
    pub id: &'a MonitorId,
    /// `metadata.uid`, empty where the object has none (files).
    pub uid: &'a str,
    /// `metadata.generation`, 0 where the object has none (files).
    pub generation: i64,
    /// `metadata.labels`.
    pub labels: &'a BTreeMap<String, String>,
    /// `status.bindings`, as they were written.
    pub bindings: &'a [Value],
    /// Whose pods it is about.
    pub namespace_selector: &'a NamespaceSelector,
}

/// A monitor, valid or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Monitor<S> {
    /// Namespace and name.
    pub id: MonitorId,
    /// `metadata.uid`, empty where the object has none (files).
    pub uid: String,
    /// `metadata.generation`, 0 where the object has none (files).
    pub generation: i64,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `status.bindings`, as they were written.
    pub bindings: Vec<Value>,
    /// What of the spec could be read.
    pub spec: S,
    /// What could not.
    pub(super) misread: Vec<Violation>,
    /// Fields without effect that show in the object alone.
    pub(super) ignored: Vec<IgnoredField>,
}

/// The object is no monitor of its kind that has an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another kind of object.
    #[error("is {found}, not a {wanted} of {API_VERSION}")]
    Kind {
        /// What it should be.
        wanted: Kind,
        /// `apiVersion kind` of the object.
        found: String,
    },
    /// No usable name.
    #[error("metadata.{field} of the {kind} is missing or not a name that the API server accepts")]
    Name {
        /// What it is.
        kind: Kind,
        /// `name` or `namespace`.
        field: &'static str,
    },
}

impl<S: Spec> Monitor<S> {
    /// What it has in common with those of other kinds.
    pub fn head(&self) -> Head<'_> {
        Head {
            kind: S::KIND,
            id: &self.id,
            uid: &self.uid,
            generation: self.generation,
            labels: &self.labels,
            bindings: &self.bindings,
            namespace_selector: self.spec.namespace_selector(),
        }
    }

    /// Reads one object; whatever is wrong with its spec waits for its judgement.
    pub fn read(object: &Value) -> Result<Self, ReadError> {
        if Kind::of(object) != Some(S::KIND) {
            let text = |key| object.get(key).and_then(Value::as_str).unwrap_or("?");
            return Err(ReadError::Kind {
                wanted: S::KIND,
                found: format!("{} {}", text("apiVersion"), text("kind")),
            });
        }
        let metadata = &object["metadata"];
        let (namespace, name) =
            identity(metadata).map_err(|field| ReadError::Name { kind: S::KIND, field })?;
        let mut findings = Findings::default();
        let labels = labels(metadata, &mut findings);
        let spec: S = spec(object, &mut findings);
        Ok(Self {
            id: MonitorId { namespace: namespace.to_owned(), name: name.to_owned() },
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            labels,
            bindings: object["status"]["bindings"].as_array().cloned().unwrap_or_default(),
            spec,
            misread: findings.violations,
            ignored: findings.ignored,
        })
    }

    /// Whether both are the same but for what others say of them.
    pub fn is_same_as(&self, other: &Self) -> bool
    where
        S: PartialEq,
    {
        let Self { id, uid, generation, labels, bindings: _, spec, misread, ignored } = self;
        (id, uid, generation, labels) == (&other.id, &other.uid, &other.generation, &other.labels)
            && (spec, misread, ignored) == (&other.spec, &other.misread, &other.ignored)
    }
}

/// `metadata.labels`; of values that are no text, only that they are none.
fn labels(metadata: &Value, findings: &mut Findings) -> BTreeMap<String, String> {
    let path = Path::root("metadata").key("labels");
    let wrong = |path: &Path, expected: &str, findings: &mut Findings| {
        let rule = Rule::WrongType(format!("has the wrong type: expected {expected}"));
        findings.violation_at(path, rule);
    };
    let mut labels = BTreeMap::new();
    match metadata.get("labels") {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(value) => {
                        labels.insert(key.clone(), value.to_owned());
                    }
                    None => wrong(&path.key(key), "text", findings),
                }
            }
        }
        Some(_) => wrong(&path, "an object", findings),
    }
    labels
}

fn spec<S: Spec>(object: &Value, findings: &mut Findings) -> S {
    let root = Path::root("spec");
    let mut unknown = Vec::new();
    let value = object.get("spec").filter(|spec| !spec.is_null());
    let spec: S = value.map(|value| read::lenient(value, &root, findings, &mut unknown)).unwrap_or_default();
    if spec.attaches_nodes() {
        findings.ignored(&root.key("attachMetadata").key("node"), fields::NODE);
    }
    for path in unknown {
        findings.ignored(&path, "is not known to promsidecar");
    }
    spec
}
