//! From one object that prometheus-operator runs to a template. PURE.
//!
//! Input: the object, what the template is to be called, the settings. Output: the template, and all that there is to say
//! about it but the way there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::fields::{self, Note};
use crate::names;
use crate::template::agent::{Agent, FileSource, TemplateId};
use crate::template::{API_VERSION, KIND, ReadError, Settings, Template, identity, render, validate};

/// Kind of upstream's server.
pub const SERVER_KIND: &str = "Prometheus";
/// Its `apiVersion`.
const SERVER_API_VERSION: &str = "monitoring.coreos.com/v1";

/// Labels and annotations by which tools recognise what they manage: the template is not theirs, and a tool that finds
/// them on it may delete it. Those that end in `/` stand for all that begin so.
const TRACKING: [&str; 19] = [
    "app",
    "app.kubernetes.io/",
    "argocd.argoproj.io/",
    "chart",
    "config.k8s.io/",
    "config.kubernetes.io/",
    "fleet.cattle.io/",
    "helm.sh/",
    "helm.toolkit.fluxcd.io/",
    "heritage",
    "internal.config.kubernetes.io/",
    "kapp.k14s.io/",
    "kubectl.kubernetes.io/",
    "kustomize.toolkit.fluxcd.io/",
    "meta.helm.sh/",
    "objectset.rio.cattle.io/",
    "olm.operatorframework.io/",
    "operators.coreos.com/",
    "release",
];

/// What the template is to be.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Its name, where one is given.
    pub name: Option<String>,
    /// Its namespace, where another than the object's is given.
    pub namespace: Option<String>,
    /// Namespace whose pods move over, where another than the template's is given.
    pub pods: Option<String>,
}

/// What an object became.
#[derive(Debug)]
pub struct Conversion {
    /// `PrometheusAgent` or `Prometheus`.
    pub kind: &'static str,
    /// What it is called.
    pub source: TemplateId,
    /// Whether it is a template already.
    pub claimed: bool,
    /// The template.
    pub template: Value,
    /// What it is called.
    pub id: TemplateId,
    /// Namespace whose pods move over.
    pub pods: String,
    /// Fields that are used as they are.
    pub kept: Vec<&'static str>,
    /// Fields that are used otherwise than upstream, or without effect.
    pub modified: Vec<Note>,
    /// Fields that are not in the template.
    pub left_out: Vec<Note>,
    /// What else of the object is not in the template.
    pub removed: Vec<String>,
    /// What no agent can do, each with its fix.
    pub impossible: Vec<String>,
    /// What to think about.
    pub hints: Vec<String>,
    /// Secrets and `ConfigMap`s that the agents read, each with its keys; none where it is mounted as a whole.
    pub objects: BTreeMap<(FileSource, String), BTreeSet<String>>,
    /// The source's scrape class that is the default, if there is one.
    pub default_class: Option<String>,
}

/// Why there is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The object has no identity, or another version.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The template would be written over the object.
    #[error(
        "--name {0} is the name of the object itself, which prometheus-operator runs: name the template otherwise, or put it \
         into another --namespace"
    )]
    Itself(String),
}

/// Whether an object is of a kind that can be converted, in whichever version.
pub fn is_source(kind: &str) -> bool {
    kind == KIND || kind == SERVER_KIND
}

/// Makes the template.
pub fn convert(object: &Value, target: &Target, settings: &Settings) -> Result<Conversion, Refused> {
    let kind = kind(object)?;
    let metadata = &object["metadata"];
    let (namespace, name) = identity(metadata).map_err(|field| ReadError::Name { field })?;
    let source = TemplateId { namespace: namespace.to_owned(), name: name.to_owned() };
    let annotation = metadata["annotations"][names::CONTROLLER_ID].as_str();
    let claimed = kind == KIND && annotation == Some(settings.controller_id.as_str());
    let id = identify(kind, &source, claimed, target)?;
    let pods = target.pods.clone().unwrap_or_else(|| id.namespace.clone());

    let empty = Map::new();
    let spec = object["spec"].as_object().unwrap_or(&empty);
    let fields = fields::take(spec, claimed);
    let mut removed = Vec::new();
    let metadata = cleaned(object, &id, &pods, settings, &mut removed);
    let spec_of_template = match &object["spec"] {
        Value::Null | Value::Object(_) => Value::Object(fields.spec),
        // Of the wrong type, which validation says.
        other => other.clone(),
    };
    let template =
        json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec_of_template});

    let mut conversion = Conversion {
        kind,
        claimed,
        template,
        id,
        pods,
        kept: fields.kept,
        modified: fields.modified,
        left_out: fields.left_out,
        removed,
        impossible: Vec::new(),
        hints: Vec::new(),
        objects: BTreeMap::new(),
        default_class: default_class(spec),
        source,
    };
    conversion.judge(settings)?;
    Ok(conversion)
}

/// Of which kind an object is.
fn kind(object: &Value) -> Result<&'static str, ReadError> {
    if Template::is_template(object) {
        return Ok(KIND);
    }
    if object["apiVersion"] == SERVER_API_VERSION && object["kind"] == SERVER_KIND {
        return Ok(SERVER_KIND);
    }
    let text = |key| object.get(key).and_then(Value::as_str).unwrap_or("?");
    Err(ReadError::Kind { found: format!("{} {}", text("apiVersion"), text("kind")) })
}

/// What the template is called. It stands beside the object, which goes on until the last pod has moved.
fn identify(kind: &str, source: &TemplateId, claimed: bool, target: &Target) -> Result<TemplateId, Refused> {
    let namespace = target.namespace.clone().unwrap_or_else(|| source.namespace.clone());
    let in_place = kind == KIND && !claimed && namespace == source.namespace;
    let name = match &target.name {
        Some(name) if in_place && *name == source.name => return Err(Refused::Itself(name.clone())),
        Some(name) => name.clone(),
        None if in_place => format!("{}-sidecar", source.name),
        None => source.name.clone(),
    };
    Ok(TemplateId { namespace, name })
}

/// The scrape class that monitors are of which name none.
fn default_class(spec: &Map<String, Value>) -> Option<String> {
    let classes = spec.get("scrapeClasses")?.as_array()?;
    let class = classes.iter().find(|class| class["default"] == true)?;
    Some(class["name"].as_str().unwrap_or_default().to_owned())
}

/// Whether a label or annotation is that of a tool.
fn is_of(tool: &str, key: &str) -> bool {
    key == tool || tool.ends_with('/') && key.starts_with(tool)
}

/// The template's metadata: what people wrote, and what makes it one.
fn cleaned(
    object: &Value,
    id: &TemplateId,
    pods: &str,
    settings: &Settings,
    removed: &mut Vec<String>,
) -> Value {
    let mut metadata = json!({"name": id.name, "namespace": id.namespace});
    if object.get("status").is_some() {
        removed.push("status".to_owned());
    }
    for (field, value) in object["metadata"].as_object().into_iter().flatten() {
        match (field.as_str(), value) {
            ("name" | "namespace", _) => {}
            ("labels" | "annotations", Value::Object(members)) => {
                let mut kept = members.clone();
                kept.retain(|key, _| {
                    let is_tracking = TRACKING.iter().any(|tool| is_of(tool, key));
                    if is_tracking {
                        removed.push(format!("{} {key}", field.trim_end_matches('s')));
                    }
                    !is_tracking
                });
                if !kept.is_empty() {
                    metadata[field] = Value::Object(kept);
                }
            }
            _ => removed.push(format!("metadata.{field}")),
        }
    }
    let claim = json!(settings.controller_id);
    let other = metadata["annotations"].get(names::CONTROLLER_ID).filter(|other| **other != claim);
    removed.extend(other.map(|other| format!("annotation {}: {other}", names::CONTROLLER_ID)));
    metadata["annotations"][names::CONTROLLER_ID] = claim;
    let allowed = metadata["annotations"][names::ALLOWED_NAMESPACES].as_str().unwrap_or_default().to_owned();
    let is_listed = allowed.split(',').map(str::trim).any(|name| name == pods || name == "*");
    if pods != id.namespace && !is_listed {
        let list =
            if allowed.trim().is_empty() { pods.to_owned() } else { format!("{},{pods}", allowed.trim()) };
        metadata["annotations"][names::ALLOWED_NAMESPACES] = json!(list);
    }
    metadata
}

impl Conversion {
    /// What validation says of the template, and what else is to be said.
    fn judge(&mut self, settings: &Settings) -> Result<(), ReadError> {
        let template = Template::read(&self.template, settings)?;
        if template.spec.remote_write.is_empty() {
            self.impossible.push(self.no_receiver());
        }
        self.hints.extend(self.selection_hints());
        match validate::validate(&template, settings) {
            Ok(agent) => self.tell(&agent),
            Err(violations) => self.impossible.extend(violations.iter().map(ToString::to_string)),
        }
        Ok(())
    }

    /// What there is to say of a valid agent.
    fn tell(&mut self, agent: &Agent) {
        for field in &agent.ignored {
            if !self.modified.iter().any(|(path, _)| *path == field.path) {
                self.modified.push((field.path.clone(), format!("without effect: {}", field.why)));
            }
        }
        let warnings = agent.config.warnings.iter().filter(|warning| warning.path != "spec.remoteWrite");
        self.hints.extend(warnings.map(|warning| format!("{}: {}", warning.path, warning.text)));
        self.hints.extend(render::derived_lines(agent));
        for (source, name) in agent.objects() {
            self.objects.entry((source, name.to_owned())).or_default();
        }
        let files = agent.files.iter().map(|file| (file.source, &file.name, &file.key));
        let env = agent.secret_env.iter().map(|env| (FileSource::Secret, &env.secret, &env.key));
        for (source, name, key) in files.chain(env) {
            self.objects.entry((source, name.clone())).or_default().insert(key.clone());
        }
    }

    fn no_receiver(&self) -> String {
        let fix = if self.kind == SERVER_KIND {
            let TemplateId { namespace, name } = &self.source;
            format!(
                "add one; Prometheus {namespace}/{name} itself can be it where it has one replica and one shard, with \
                 enableRemoteWriteReceiver: true, at http://prometheus-operated.{namespace}.svc:9090/api/v1/write (and its \
                 routePrefix before /api, if it has one)"
            )
        } else {
            "add one".to_owned()
        };
        format!("spec.remoteWrite: names no receiver, and an agent keeps no samples itself; {fix}")
    }

    /// What the selectors mean of which the object says nothing.
    fn selection_hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        let spec = &self.template["spec"];
        let selectors = ["podMonitorSelector", "serviceMonitorSelector"];
        if selectors.iter().all(|selector| spec.get(selector).is_none()) {
            hints.push(format!(
                "no monitor is selected: pods say what to scrape by the annotation {}, or set spec.podMonitorSelector: {{}}",
                names::PORT
            ));
        }
        for (selector, namespaces) in
            selectors.iter().zip(["podMonitorNamespaceSelector", "serviceMonitorNamespaceSelector"])
        {
            let moved = self.id.namespace != self.source.namespace;
            if moved && spec.get(selector).is_some() && spec.get(namespaces).is_none() {
                let (now, before) = (&self.id.namespace, &self.source.namespace);
                hints.push(format!(
                    "spec.{namespaces}: is absent, which means the template's own namespace: monitors of {now} are selected, \
                     and those of {before} no longer; name the namespaces by labels, or {{}} for all"
                ));
            }
        }
        for receiver in ["enableRemoteWriteReceiver", "enableOTLPReceiver"] {
            if spec[receiver] == true {
                hints.push(format!(
                    "spec.{receiver}: each agent takes samples of its own pod; who sends to the central one goes on doing so"
                ));
            }
        }
        if self.kind == SERVER_KIND {
            let TemplateId { namespace, name } = &self.source;
            hints.push(format!(
                "rules, alerts and queries of Prometheus {namespace}/{name} no longer see pods that have moved, unless it is \
                 their receiver"
            ));
        }
        hints
    }
}
