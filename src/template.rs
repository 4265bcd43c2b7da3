//! Templates: from an upstream `PrometheusAgent` to a validated [`agent::Agent`] and its rendered configuration. PURE.
//!
//! Input: one object as JSON and the operator's [`Settings`]. Output: a [`Template`] with all that decides who may use it,
//! and either the agent with its configuration or every violation at once.

use serde_json::Value;

pub mod agent;
pub mod api;
pub mod duration;
pub mod flags;
pub mod guard_rails;
pub mod image;
pub mod prometheus;
pub mod quantity;
pub mod render;
pub mod validate;
pub mod version;
pub mod violation;

use crate::names;
use agent::{IgnoredField, TemplateId};
use api::fields::Field;
use api::{PrometheusAgentSpec, read};
use guard_rails::GuardRails;
use version::Version;
use violation::{Findings, Path, Violation};

/// `apiVersion` of templates.
pub const API_VERSION: &str = "monitoring.coreos.com/v1alpha1";
/// `kind` of templates.
pub const KIND: &str = "PrometheusAgent";
/// Namespace of objects in files that name none, as for kubectl.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The operator's choices that decide what a template means; the same for every template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Value of `operator.prometheus.io/controller-id` that claims a template for us.
    pub controller_id: String,
    /// Image repository used where `spec.image` is absent.
    pub agent_image: String,
    /// Prometheus version used where the template names none.
    pub agent_version: Version,
    /// Repositories whose images have a shell, so that `supervise: auto` means supervised.
    pub supervisable_images: Vec<String>,
    /// What the platform's owners allow.
    pub guard_rails: GuardRails,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controller_id: crate::names::DEFAULT_CONTROLLER_ID.to_owned(),
            agent_image: "quay.io/prometheus/prometheus".to_owned(),
            agent_version: Version::new(3, 13, 5),
            supervisable_images: vec![
                "quay.io/prometheus/prometheus".to_owned(),
                "docker.io/prom/prometheus".to_owned(),
            ],
            guard_rails: GuardRails::default(),
        }
    }
}

/// A `PrometheusAgent` as read, claimed or not, valid or not: all that decides who may use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Namespace and name.
    pub id: TemplateId,
    /// `metadata.uid`, empty where the object has none (files).
    pub uid: String,
    /// `metadata.generation`, 0 where the object has none (files).
    pub generation: i64,
    /// Whether the object carries our controller id.
    pub claimed: bool,
    /// Whether the object has a deletion timestamp.
    pub deleting: bool,
    /// `spec.paused`: the published version stays as it is.
    pub paused: bool,
    /// Annotation `allowed-namespaces` as written.
    pub allowed_namespaces: Option<String>,
    /// Other annotations of ours as written.
    pub annotations: Annotations,
    /// What of the spec could be read.
    pub spec: PrometheusAgentSpec,
    /// What could not, for `validate`.
    misread: Vec<Violation>,
    /// Fields without effect that show in the object alone.
    ignored: Vec<IgnoredField>,
}

/// The template's annotations that shape the agent, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotations {
    /// [`names::MODE`].
    pub mode: Option<String>,
    /// [`names::SUPERVISE`].
    pub supervise: Option<String>,
    /// [`names::SELF_MONITOR`].
    pub self_monitor: Option<String>,
}

/// The object is no `PrometheusAgent` that has an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another kind of object.
    #[error("is {found}, not a PrometheusAgent of {API_VERSION}")]
    Kind {
        /// `apiVersion kind` of the object.
        found: String,
    },
    /// No usable name.
    #[error("metadata.{field} is missing or not a name that the API server accepts")]
    Name {
        /// `name` or `namespace`.
        field: &'static str,
    },
}

/// Namespace and name of an object, or which of the two is none that the API server accepts. Without a namespace it is in
/// `default`, as for kubectl.
pub(crate) fn identity(metadata: &Value) -> Result<(&str, &str), &'static str> {
    let name = metadata["name"].as_str().unwrap_or_default();
    let namespace = match metadata.get("namespace") {
        None | Some(Value::Null) => DEFAULT_NAMESPACE,
        Some(Value::String(namespace)) if namespace.is_empty() => DEFAULT_NAMESPACE,
        // Anything else than text is no name, rather than none.
        Some(namespace) => namespace.as_str().unwrap_or_default(),
    };
    if !validate::text::is_subdomain(name) {
        return Err("name");
    }
    if !validate::text::is_label(namespace) {
        return Err("namespace");
    }
    Ok((namespace, name))
}

impl Template {
    /// Whether an object is of the kind that [`Template::read`] reads.
    pub fn is_template(object: &Value) -> bool {
        object["apiVersion"] == API_VERSION && object["kind"] == KIND
    }

    /// Reads one object. Whatever is wrong with its annotations and spec waits for [`validate::validate`].
    pub fn read(object: &Value, settings: &Settings) -> Result<Self, ReadError> {
        if !Self::is_template(object) {
            let text = |key| object.get(key).and_then(Value::as_str).unwrap_or("?");
            return Err(ReadError::Kind { found: format!("{} {}", text("apiVersion"), text("kind")) });
        }
        let metadata = &object["metadata"];
        let (namespace, name) = identity(metadata).map_err(|field| ReadError::Name { field })?;
        let mut findings = Findings::default();
        let annotation = annotations(metadata, &mut findings);
        let generation = metadata.get("generation").filter(|generation| !generation.is_null());
        if generation.is_some_and(|generation| generation.as_i64().is_none()) {
            wrong_type(&Path::root("metadata").key("generation"), "a whole number", &mut findings);
        }
        let spec = spec(object, &mut findings);
        Ok(Self {
            id: TemplateId { namespace: namespace.to_owned(), name: name.to_owned() },
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            generation: generation.and_then(Value::as_i64).unwrap_or_default(),
            claimed: annotation(names::CONTROLLER_ID).as_deref() == Some(settings.controller_id.as_str()),
            deleting: metadata.get("deletionTimestamp").is_some_and(|timestamp| !timestamp.is_null()),
            paused: spec.paused == Some(true),
            allowed_namespaces: annotation(names::ALLOWED_NAMESPACES),
            annotations: Annotations {
                mode: annotation(names::MODE),
                supervise: annotation(names::SUPERVISE),
                self_monitor: annotation(names::SELF_MONITOR),
            },
            spec,
            misread: findings.violations,
            ignored: findings.ignored,
        })
    }
}

/// The object's annotations; keys of ours that are no template annotations are reported.
fn annotations<'a>(
    metadata: &'a Value,
    findings: &mut Findings,
) -> impl Fn(&str) -> Option<String> + use<'a> {
    const OURS: [&str; 4] = [names::ALLOWED_NAMESPACES, names::MODE, names::SUPERVISE, names::SELF_MONITOR];
    let annotations = metadata.get("annotations").filter(|annotations| !annotations.is_null());
    let map = annotations.and_then(Value::as_object);
    let path = Path::root("metadata").key("annotations");
    if annotations.is_some() && map.is_none() {
        wrong_type(&path, "an object", findings);
    }
    for (key, value) in map.into_iter().flatten() {
        if !value.is_string() {
            wrong_type(&path.key(key), "text", findings);
        } else if key.starts_with(names::PREFIX) && !OURS.contains(&key.as_str()) {
            findings.ignored(&path.key(key), "is not an annotation of templates");
        }
    }
    move |key: &str| map?.get(key)?.as_str().map(str::to_owned)
}

fn wrong_type(path: &Path, expected: &str, findings: &mut Findings) {
    let rule = violation::Rule::WrongType(format!("has the wrong type: expected {expected}"));
    findings.violation_at(path, rule);
}

fn spec(object: &Value, findings: &mut Findings) -> PrometheusAgentSpec {
    let root = Path::root("spec");
    let Some(value) = object.get("spec").filter(|spec| !spec.is_null()) else {
        return PrometheusAgentSpec::default();
    };
    let mut unknown = Vec::new();
    let spec = read::lenient(value, &root, findings, &mut unknown);
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some(why) = Field::find(name).and_then(|field| field.why_ignored(value)) {
            findings.ignored(&root.key(name), why);
        }
    }
    // Fields with a verdict of their own were reported, or deliberately not.
    for path in unknown {
        let listed = path.as_str().strip_prefix("spec.").is_some_and(|name| Field::find(name).is_some());
        if !listed {
            findings.ignored(&path, "is not known to promsidecar");
        }
    }
    spec
}
