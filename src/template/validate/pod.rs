//! Extra parts of the agent's container: environment, volumes, mounts. PURE.
//!
//! Input: `containers`, `volumes`, `volumeMounts` as loose JSON. Output: objects of which every field was checked: one wrong
//! type or value would make the API server refuse the application's pod.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::clouds;
use super::mounts::{is_inside, mount_of, nested, objects};
use super::object::Object;
use super::text;
use crate::names;
use crate::template::agent::FileSource;
use crate::template::api::PrometheusAgentSpec;
use crate::template::api::pod::Resources;
use crate::template::api::read;
use crate::template::quantity::Quantity;
use crate::template::violation::{Findings, Path, Rule};

/// Name of upstream's container, which is the agent's here.
const CONTAINER: &str = "prometheus";
/// Before the names of a template's volumes, so that they cannot meet those of the pod.
pub(crate) const VOLUME_PREFIX: &str = "promsidecar-x-";
/// Variables that promsidecar sets besides the runtime facts.
const OUR_ENV: [&str; 5] =
    ["POD_NAMESPACE", "GOGC", "GOMAXPROCS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// What a template adds to the agent's container.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(crate) env: Vec<Value>,
    pub(crate) volumes: Vec<Value>,
    pub(crate) volume_mounts: Vec<Value>,
    /// `containers[prometheus].resources` with its path.
    pub(crate) resources: Option<(Resources, Path)>,
    /// Objects that `env` and `volumes` read.
    pub(crate) objects: BTreeSet<(FileSource, String)>,
}

/// Reads everything that a template adds to the container.
pub(crate) fn extras(spec: &PrometheusAgentSpec, sigv4_keys: bool, findings: &mut Findings) -> Extras {
    let root = Path::root("spec");
    let mut extras = Extras::default();
    let mut names = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        volume_of(volume, &root.key("volumes").index(index), &mut names, &mut extras, findings);
    }
    let mut mounts: Vec<(&Map<String, Value>, Path)> = Vec::new();
    for (index, mount) in spec.volume_mounts.iter().enumerate() {
        mounts.push((mount, root.key("volumeMounts").index(index)));
    }
    let mut seen = false;
    for (index, container) in spec.containers.iter().enumerate() {
        let path = root.key("containers").index(index);
        match container.get("name") {
            Some(Value::String(name)) if name == CONTAINER && !seen => {
                seen = true;
                agent_container(container, &path, sigv4_keys, &mut mounts, &mut extras, findings);
            }
            Some(Value::String(name)) if name == CONTAINER => {
                findings.violation(
                    &path.key("name"),
                    name,
                    Rule::Duplicate { of: "an earlier item".to_owned() },
                );
            }
            Some(Value::String(_)) => {
                findings.ignored(&path, "foreign containers are not added to the application's pod");
            }
            _ => findings.violation_at(&path.key("name"), Rule::Required),
        }
    }
    let mut places = BTreeSet::new();
    objects(&spec.secrets, FileSource::Secret, &mut places, &mut extras, findings);
    objects(&spec.config_maps, FileSource::ConfigMap, &mut places, &mut extras, findings);
    for (mount, path) in mounts {
        if let Some(mount) = mount_of(mount, &path, &names, &mut places, findings) {
            extras.volume_mounts.push(mount);
        }
    }
    nested(&extras, findings);
    extras
}

fn agent_container<'a>(
    container: &'a Map<String, Value>,
    path: &Path,
    sigv4_keys: bool,
    mounts: &mut Vec<(&'a Map<String, Value>, Path)>,
    extras: &mut Extras,
    findings: &mut Findings,
) {
    let mut names = BTreeSet::new();
    for (key, value) in container {
        let path = path.key(key);
        match (key.as_str(), value) {
            ("name", _) | (_, Value::Null) => {}
            ("resources", _) => {
                let mut unknown = Vec::new();
                let resources = read::lenient(value, &path, findings, &mut unknown);
                extras.resources = Some((resources, path));
                for path in &unknown {
                    findings.ignored(path, "is not known to promsidecar");
                }
            }
            ("env", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let path = path.index(index);
                    if let Some(env) = env_of(item, &path, sigv4_keys, &mut names, extras, findings) {
                        extras.env.push(env);
                    }
                }
            }
            ("volumeMounts", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    match item.as_object() {
                        Some(mount) => mounts.push((mount, path.index(index))),
                        None => wrong_type(&path.index(index), "an object", findings),
                    }
                }
            }
            ("env" | "volumeMounts", _) => wrong_type(&path, "a list", findings),
            _ => findings.violation_at(
                &path,
                Rule::Other {
                    rule: "is a field of the agent's container that a template may not set",
                    fix: "set only env, resources and volumeMounts there",
                },
            ),
        }
    }
}

fn wrong_type(path: &Path, expected: &str, findings: &mut Findings) {
    findings.violation_at(path, Rule::WrongType(format!("has the wrong type: expected {expected}")));
}

/// One variable, rebuilt from the fields that are known.
fn env_of(
    item: &Value,
    path: &Path,
    sigv4_keys: bool,
    names: &mut BTreeSet<String>,
    extras: &mut Extras,
    findings: &mut Findings,
) -> Option<Value> {
    let mut object = Object::new(item, path, findings)?;
    let name = object.text("name", findings)?;
    let value = object.text_or_absent("value", findings);
    let from = object.object("valueFrom", findings);
    object.finish(findings);
    let path_of_name = path.key("name");
    if let Some(rule) = forbidden_env(&name, sigv4_keys) {
        findings.violation(&path_of_name, &name, rule);
        return None;
    }
    if !names.insert(name.clone()) {
        findings.violation(&path_of_name, &name, Rule::Duplicate { of: "an earlier item".to_owned() });
        return None;
    }
    match (value, from) {
        (Some(value), None) => {
            // Control characters are fine here; NUL is not.
            if value.contains('\0') {
                findings.violation(&path.key("value"), value, Rule::Text("holds a NUL"));
                return None;
            }
            Some(json!({"name": name, "value": value}))
        }
        (None, None) => Some(json!({"name": name})),
        (None, Some(from)) => {
            let from = value_from(from, extras, findings)?;
            Some(json!({"name": name, "valueFrom": from}))
        }
        (Some(_), Some(_)) => {
            let with = path.key("valueFrom").to_string();
            findings.violation_at(&path.key("value"), Rule::Conflict { with });
            None
        }
    }
}

fn forbidden_env(name: &str, sigv4_keys: bool) -> Option<Rule> {
    let well_formed = !name.is_empty()
        && name.len() <= 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && !name.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && name != "."
        && !name.starts_with("..");
    let aws = name.starts_with("AWS_") && !sigv4_keys;
    let ours = names::RUNTIME_FACTS.iter().any(|fact| fact.env == name) || OUR_ENV.contains(&name) && !aws;
    if !well_formed {
        Some(Rule::Text("is not the name of a variable"))
    } else if ours {
        Some(Rule::Other {
            rule: "is a variable that promsidecar sets",
            fix: "remove it, or use another name",
        })
    } else if name.starts_with("LD_") {
        Some(Rule::Other { rule: "changes which code the agent runs", fix: "remove it" })
    } else {
        clouds::forbidden_variable(name)
    }
}

/// `valueFrom`: a field of the pod, or a key of a Secret or `ConfigMap`.
fn value_from(mut from: Object<'_>, extras: &mut Extras, findings: &mut Findings) -> Option<Value> {
    const FIELDS: [&str; 11] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
        "metadata.labels",
        "metadata.annotations",
    ];
    let path = from.path().clone();
    let field = from.object("fieldRef", findings);
    let secret = from.object("secretKeyRef", findings);
    let config_map = from.object("configMapKeyRef", findings);
    from.finish(findings);
    match (field, secret, config_map) {
        (Some(mut field), None, None) => {
            let field_path = field.text("fieldPath", findings)?;
            // Its only value is the default.
            let _ = field.text_or_absent("apiVersion", findings);
            field.finish(findings);
            if FIELDS[..9].contains(&field_path.as_str()) {
                return Some(json!({"fieldRef": {"fieldPath": field_path}}));
            }
            findings.violation(
                &path.key("fieldRef").key("fieldPath"),
                field_path,
                Rule::Text("is not a field that the agent's environment may be filled from"),
            );
            None
        }
        (None, Some(secret), None) => key_ref(secret, FileSource::Secret, "secretKeyRef", extras, findings),
        (None, None, Some(map)) => key_ref(map, FileSource::ConfigMap, "configMapKeyRef", extras, findings),
        _ => {
            let rule = Rule::Other {
                rule: "does not name exactly one source",
                fix: "set one of fieldRef, secretKeyRef, configMapKeyRef",
            };
            findings.violation_at(&path, rule);
            None
        }
    }
}

/// A reference to a key. Optional unless the template insists: a missing object would hold back the application.
fn key_ref(
    mut selector: Object<'_>,
    source: FileSource,
    kind: &str,
    extras: &mut Extras,
    findings: &mut Findings,
) -> Option<Value> {
    let (name, key) = (selector.text("name", findings), selector.text("key", findings));
    let optional = selector.boolean("optional", findings).unwrap_or(true);
    let path = selector.path().clone();
    selector.finish(findings);
    let (name, key) = (name?, key?);
    if !text::is_subdomain(&name) || !text::is_data_key(&key) {
        findings.violation(
            &path,
            format!("{name}/{key}"),
            Rule::Text("is not the name and key of an object"),
        );
        return None;
    }
    extras.objects.insert((source, name.clone()));
    let mut value = Map::new();
    value.insert(kind.to_owned(), json!({"name": name, "key": key, "optional": optional}));
    Some(Value::Object(value))
}

/// One volume, rebuilt from the fields that are known.
fn volume_of(
    volume: &Map<String, Value>,
    path: &Path,
    names: &mut BTreeSet<String>,
    extras: &mut Extras,
    findings: &mut Findings,
) {
    let mut object = Object::of_map(volume, path);
    let name = object.text("name", findings);
    let empty_dir = object.object("emptyDir", findings);
    let config_map = object.object("configMap", findings);
    let secret = object.object("secret", findings);
    object.finish_with(
        &Rule::Other {
            rule: "is a kind of volume that a template may not add to an application's pod",
            fix: "use emptyDir, configMap or secret",
        },
        findings,
    );
    let source = match (empty_dir, config_map, secret) {
        (Some(empty_dir), None, None) => empty_dir_of(empty_dir, findings),
        (None, Some(map), None) => projection(map, FileSource::ConfigMap, extras, findings),
        (None, None, Some(secret)) => projection(secret, FileSource::Secret, extras, findings),
        // Kubernetes' default; a mount of a volume that is not there would make the API server refuse the pod.
        (None, None, None) => Some(("emptyDir", json!({}))),
        _ => {
            let rule = Rule::Other { rule: "has several sources", fix: "keep one of them" };
            findings.violation_at(path, rule);
            None
        }
    };
    let Some(name) = name else { return };
    let full = format!("{VOLUME_PREFIX}{name}");
    if !text::is_label(&name) || !text::is_label(&full) {
        let rule =
            Rule::Text("is not the name of a volume: at most 49 lower-case letters, digits and hyphens");
        findings.violation(&path.key("name"), &name, rule);
    } else if !names.insert(name.clone()) {
        findings.violation(&path.key("name"), &name, Rule::Duplicate { of: "an earlier item".to_owned() });
    } else if let Some((kind, source)) = source {
        let mut volume = Map::new();
        volume.insert("name".to_owned(), Value::String(full));
        volume.insert(kind.to_owned(), source);
        extras.volumes.push(Value::Object(volume));
    }
}

fn empty_dir_of(mut object: Object<'_>, findings: &mut Findings) -> Option<(&'static str, Value)> {
    let medium = object.text_or_absent("medium", findings).filter(|medium| !medium.is_empty());
    let size = object.text_or_absent("sizeLimit", findings);
    let path = object.path().clone();
    object.finish(findings);
    let mut value = Map::new();
    if let Some(medium) = medium {
        if medium != "Memory" {
            findings.violation(&path.key("medium"), medium, Rule::OneOf(&["Memory"]));
            return None;
        }
        value.insert("medium".to_owned(), Value::String(medium));
    }
    if let Some(size) = size {
        if Quantity::parse(&size).is_none_or(Quantity::is_negative) {
            findings.violation(&path.key("sizeLimit"), size, Rule::Quantity);
            return None;
        }
        value.insert("sizeLimit".to_owned(), Value::String(size));
    }
    Some(("emptyDir", Value::Object(value)))
}

/// A Secret or `ConfigMap` as files. Optional unless the template insists.
fn projection(
    mut object: Object<'_>,
    source: FileSource,
    extras: &mut Extras,
    findings: &mut Findings,
) -> Option<(&'static str, Value)> {
    let (kind, name_field) = match source {
        FileSource::Secret => ("secret", "secretName"),
        FileSource::ConfigMap => ("configMap", "name"),
    };
    let name = object.text(name_field, findings);
    let optional = object.boolean("optional", findings).unwrap_or(true);
    let mode = object.integer("defaultMode", 0..=0o777, findings);
    let items = object.list("items", findings);
    let path = object.path().clone();
    object.finish(findings);
    let name = name?;
    if !text::is_subdomain(&name) {
        findings.violation(
            &path.key(name_field),
            name,
            Rule::Text("is not the name of an object (RFC 1123)"),
        );
        return None;
    }
    let mut value = Map::new();
    value.insert(name_field.to_owned(), json!(name));
    value.insert("optional".to_owned(), json!(optional));
    if let Some(mode) = mode {
        value.insert("defaultMode".to_owned(), json!(mode));
    }
    if let Some(items) = items {
        let items: Vec<Value> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| key_to_path(item, &path.key("items").index(index), findings))
            .collect();
        value.insert("items".to_owned(), Value::Array(items));
    }
    extras.objects.insert((source, name));
    Some((kind, Value::Object(value)))
}

fn key_to_path(item: &Value, path: &Path, findings: &mut Findings) -> Option<Value> {
    let mut object = Object::new(item, path, findings)?;
    let (key, file) = (object.text("key", findings), object.text("path", findings));
    let mode = object.integer("mode", 0..=0o777, findings);
    object.finish(findings);
    let (key, file) = (key?, file?);
    if !text::is_data_key(&key) || !is_inside(&file) {
        let rule = Rule::Text("is not a key and a relative path without ..");
        findings.violation(path, format!("{key}: {file}"), rule);
        return None;
    }
    if let Some(rule) = clouds::forbidden_path(&file) {
        findings.violation(&path.key("path"), file, rule);
        return None;
    }
    let mut value = json!({"key": key, "path": file});
    if let Some(mode) = mode {
        value["mode"] = json!(mode);
    }
    Some(value)
}
