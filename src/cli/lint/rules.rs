//! What is wrong in manifests: keys that nobody reads, values that nobody understands, requests that nobody made. PURE.
//!
//! Input: objects with their places, those to judge and those that only count. Output: findings in the order of the objects.
//! Values are judged by the functions that admission itself uses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::finding::{Finding, Item, Report, Rule, path, shown};
use super::keys::{self, Holder, Map};
use super::missing;
use super::monitors;
use super::pods::{self, PodTemplate};
use crate::admission::catalog::NamespaceMeta;
use crate::admission::request::{Wanted, parse_bool, parse_reference};
use crate::names;
use crate::store::compile::template_id;
use crate::template::agent::TemplateId;
use crate::template::violation::{self, Path};
use crate::template::{self, Settings, Template, validate};

/// What the objects say about each other.
struct Known<'a> {
    settings: &'a Settings,
    /// Namespace of objects that name none.
    namespace: &'a str,
    namespaces: BTreeMap<&'a str, NamespaceMeta>,
    /// Templates that someone asks for, with who asks first.
    wanted: BTreeMap<TemplateId, String>,
    /// Namespaces that ask for whichever template applies, with who asks first.
    wanting_any: BTreeMap<String, String>,
    /// Templates, claimed or not.
    templates: BTreeSet<TemplateId>,
    /// Namespaces that have a claimed template.
    served: Vec<String>,
}

/// Judges `items`; `context` counts, but of it only templates that someone asks for are judged.
pub fn lint<'a>(
    items: &'a [Item],
    context: &'a [Item],
    settings: &Settings,
    namespace: &str,
) -> Vec<Report<'a>> {
    let known = Known::of(items.iter().chain(context), settings, namespace);
    let monitors = monitors::Judged::of(items.iter().chain(context), settings, namespace);
    let judged = items.iter().map(|item| (item, true)).chain(context.iter().map(|item| (item, false)));
    let mut reports = Vec::new();
    for (item, whole) in judged {
        let mut findings = Vec::new();
        if whole {
            known.keys(&item.object, &mut findings);
            known.values(&item.object, &mut findings);
            missing::requests(
                &item.object,
                known.namespace_of(&item.object),
                &known.templates,
                &mut findings,
            );
        }
        known.claim(&item.object, whole, &mut findings);
        if whole {
            monitors.findings(item, &mut findings);
        }
        if !findings.is_empty() {
            reports.push(Report { item, findings });
        }
    }
    reports
}

fn entries(metadata: &Value, map: Map) -> impl Iterator<Item = (&str, &Value)> {
    let entries = metadata.get(map.field()).and_then(Value::as_object);
    entries.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

impl<'a> Known<'a> {
    fn of(items: impl Iterator<Item = &'a Item> + Clone, settings: &'a Settings, namespace: &'a str) -> Self {
        let mut known = Self {
            settings,
            namespace,
            namespaces: BTreeMap::new(),
            wanted: BTreeMap::new(),
            wanting_any: BTreeMap::new(),
            templates: BTreeSet::new(),
            served: Vec::new(),
        };
        for item in items.clone() {
            let metadata = &item.object["metadata"];
            if kind(&item.object) == "Namespace" {
                let look_up = |map: Map, key: &str| metadata.get(map.field())?.get(key)?.as_str();
                let meta =
                    NamespaceMeta::new(|key| look_up(Map::Label, key), |key| look_up(Map::Annotation, key));
                let name = metadata["name"].as_str().unwrap_or_default();
                known.namespaces.entry(name).or_insert(meta);
            }
            if Template::is_template(&item.object) {
                let id = known.template_id(metadata);
                if Self::controller_id(metadata) == Some(known.claiming()) {
                    known.served.push(id.namespace.clone());
                }
                known.templates.insert(id);
            }
        }
        for item in items {
            known.note_requests(&item.object);
        }
        known
    }

    fn claiming(&self) -> &'a str {
        &self.settings.controller_id
    }

    fn controller_id(metadata: &Value) -> Option<&str> {
        metadata["annotations"][names::CONTROLLER_ID].as_str()
    }

    fn template_id(&self, metadata: &Value) -> TemplateId {
        let named = metadata.get("namespace").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        let id = template_id(metadata);
        if named { id } else { TemplateId { namespace: self.namespace.to_owned(), ..id } }
    }

    fn namespace_of<'v>(&'v self, object: &'v Value) -> &'v str {
        object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(self.namespace)
    }

    fn note_requests(&mut self, object: &Value) {
        let asks = shown(object);
        if kind(object) == "Namespace" {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let Some(meta) = self.namespaces.get(name) else { return };
            let by_label = meta.inject.as_deref().filter(|value| parse_bool(value).is_none());
            for value in by_label.into_iter().chain(meta.template.as_deref()) {
                if let Some(reference) = parse_reference(value) {
                    let id = TemplateId {
                        namespace: reference.namespace.unwrap_or(name).to_owned(),
                        name: reference.name.to_owned(),
                    };
                    self.wanted.entry(id).or_insert_with(|| asks.clone());
                }
            }
        }
        let Some(pod) = PodTemplate::of(object) else { return };
        let namespace = self.namespace_of(object).to_owned();
        let meta = self.namespaces.get(&*namespace).cloned().unwrap_or_default();
        pods::with_view(pod.value, |view| match Wanted::of(view, &meta) {
            Wanted::Template(reference, _) => {
                let id = TemplateId {
                    namespace: reference.namespace.unwrap_or(&namespace).to_owned(),
                    name: reference.name.to_owned(),
                };
                self.wanted.entry(id).or_insert(asks);
            }
            Wanted::Any(_) => {
                self.wanting_any.entry(namespace.clone()).or_insert(asks);
            }
            Wanted::Nothing | Wanted::Declined(_) | Wanted::Unreadable(_) => {}
        });
    }

    /// Spelling and place of every key.
    fn keys(&self, object: &Value, findings: &mut Vec<Finding>) {
        for Metadata { holder, path, value } in metadata(object) {
            for map in [Map::Annotation, Map::Label] {
                for (key, text) in entries(value, map) {
                    let field = path.key(map.field()).key(key);
                    let mut found = |rule, what: String, fix: String| {
                        findings.push(Finding { rule, field: field.to_string(), what, fix });
                    };
                    if let Some((rule, what, fix)) = self.key(object, (holder, map), &path, key, text) {
                        found(rule, what, fix);
                    } else if is_ours_to_judge(key) && !text.is_string() && !text.is_null() {
                        let fix = format!("quote it: \"{text}\"");
                        found(
                            Rule::NotText,
                            format!("{text} is no text, and the API server refuses it"),
                            fix,
                        );
                    }
                }
            }
        }
    }

    fn key(
        &self,
        object: &Value,
        (holder, map): (Holder, Map),
        path: &Path,
        key: &str,
        value: &Value,
    ) -> Option<(Rule, String, String)> {
        if key == names::CONTROLLER_ID {
            return self.controller_id_key((holder, map), path, value);
        }
        let Some(known) = keys::find(key) else { return misspelt(holder, map, key) };
        let other = map.other();
        if known.homes.contains(&(holder, map)) {
            let written = known.is_written && holder == Holder::Pod && !pods::has_agent(object);
            return written.then(|| {
                let what = "is written by promsidecar, and the pod has no agent's container";
                (Rule::WrittenByPromsidecar, what.to_owned(), "remove it from the manifest".to_owned())
            });
        }
        if known.homes.contains(&(holder, other)) {
            let rule = match map {
                Map::Label => Rule::LabelForAnnotation,
                Map::Annotation => Rule::AnnotationForLabel,
            };
            let what = format!("is read as {} here, not as {}", with_article(other), with_article(map));
            return Some((rule, what, format!("move it to {}", path.key(other.field()))));
        }
        let on_pods = known.homes.iter().find(|(home, _)| *home == Holder::Pod);
        if let (Holder::Workload, Some((_, home)), Some(pod)) = (holder, on_pods, PodTemplate::of(object)) {
            let what = format!("has no effect on a {}'s own metadata: its pods do not get it", kind(object));
            return Some((
                Rule::WorkloadMetadata,
                what,
                format!("move it to {}", pod.metadata_path().key(home.field())),
            ));
        }
        let place = if holder == Holder::Pod && kind(object) != "Pod" { "'s pods" } else { "" };
        let what = format!("has no effect on a {}{place}: it belongs in {}", kind(object), known.belongs());
        Some((Rule::WrongObject, what, "move it there, or remove it".to_owned()))
    }

    fn controller_id_key(
        &self,
        (holder, map): (Holder, Map),
        path: &Path,
        value: &Value,
    ) -> Option<(Rule, String, String)> {
        match (holder, map) {
            (Holder::Template, Map::Annotation) => None,
            (Holder::Template, Map::Label) => Some((
                Rule::LabelForAnnotation,
                "is read as an annotation here, not as a label".to_owned(),
                format!("move it to {}", path.key("annotations")),
            )),
            // Other operators claim other kinds by the same key.
            _ => (value.as_str() == Some(self.claiming())).then(|| {
                let what =
                    "claims an object that promsidecar does not read: only PrometheusAgents are templates";
                (Rule::WrongObject, what.to_owned(), "remove it, or nobody runs this object".to_owned())
            }),
        }
    }

    /// Values that cannot be read, and hints that nobody asked for.
    fn values(&self, object: &Value, findings: &mut Vec<Finding>) {
        let meta = self.namespaces.get(self.namespace_of(object));
        if kind(object) == "Namespace" {
            pods::namespace_values(&object["metadata"], findings);
        }
        if Template::is_template(object) {
            self.template_values(object, findings);
        }
        if let Some(pod) = PodTemplate::of(object) {
            let namespace = self.namespace_of(object);
            pods::pod_values(&pod, findings);
            pods::hints(&pod, namespace, meta, findings);
        }
    }

    /// What validation says about annotations; the spec is `validate`'s to judge.
    fn template_values(&self, object: &Value, findings: &mut Vec<Finding>) {
        let Ok(template) = Template::read(object, self.settings) else { return };
        let Err(violations) = validate::validate(&template, self.settings) else { return };
        for violation in violations {
            let wrong_type = matches!(violation.rule, violation::Rule::WrongType(_));
            if violation.path.starts_with("metadata.annotations") && !wrong_type {
                let value = violation.value.unwrap_or_default();
                findings.push(Finding {
                    rule: Rule::InvalidValue,
                    field: violation.path,
                    what: format!("{value:?} {}", violation.rule.text()),
                    fix: violation.rule.fix().into_owned(),
                });
            }
        }
    }

    /// Whether a template that is used, or meant to be, is claimed.
    fn claim(&self, object: &Value, whole: bool, findings: &mut Vec<Finding>) {
        if !Template::is_template(object) {
            return;
        }
        let metadata = &object["metadata"];
        let (ours, id) = (self.claiming(), self.template_id(metadata));
        let found = Self::controller_id(metadata);
        if found == Some(ours) {
            return;
        }
        let any = || self.wanting_any.get(&id.namespace).filter(|_| !self.served.contains(&id.namespace));
        let asks = self.wanted.get(&id).or_else(any);
        let field = path(&["metadata", "annotations", names::CONTROLLER_ID]).to_string();
        if let Some(value) = found.filter(|value| keys::is_nearly(value, ours)) {
            if whole || asks.is_some() {
                let what = format!("{value:?} does not claim the object: the controller id is {ours}");
                let fix = format!("write {ours}");
                findings.push(Finding { rule: Rule::MisspeltControllerId, field, what, fix });
            }
            return;
        }
        let carries = entries(metadata, Map::Annotation).any(|(key, _)| key.starts_with(names::PREFIX));
        let why = match (asks, whole && carries) {
            (Some(asks), _) => format!("{asks} asks for it"),
            (None, true) => "it has annotations of promsidecar".to_owned(),
            (None, false) => return,
        };
        let claimed = found.map_or_else(String::new, |value| format!(" (it is {value:?})"));
        findings.push(Finding {
            rule: Rule::TemplateNotClaimed,
            field,
            what: format!("{why}, but without {ours} here it is no template{claimed}"),
            fix: format!("set it to {ours}; if prometheus-operator runs this object, make a new one instead"),
        });
    }
}

const fn with_article(map: Map) -> &'static str {
    match map {
        Map::Annotation => "an annotation",
        Map::Label => "a label",
    }
}

/// Keys whose values are ours to judge: our own and the community's hints.
fn is_ours_to_judge(key: &str) -> bool {
    key.starts_with(names::PREFIX) || key.starts_with(names::COMMUNITY_PREFIX) || key == names::CONTROLLER_ID
}

/// A key that is none of ours, but means to be.
fn misspelt(holder: Holder, map: Map, key: &str) -> Option<(Rule, String, String)> {
    if let Some(name) = key.strip_prefix(names::PREFIX) {
        let fix = match keys::nearest(name, holder, map) {
            Some(nearest) => format!("write {nearest} if that is meant, else remove it"),
            None => choice(holder, map),
        };
        return Some((Rule::UnknownKey, "is no key of promsidecar".to_owned(), fix));
    }
    if let Some(name) = keys::name_behind_near_prefix(key) {
        let what = format!("is no key of promsidecar, whose keys begin with {}", names::PREFIX);
        let meant = keys::nearest(&name, holder, map);
        let fix = meant.map_or_else(|| choice(holder, map), |meant| format!("write {meant}"));
        return Some((Rule::MisspeltPrefix, what, fix));
    }
    if let (Holder::Pod, Map::Annotation, Some(meant)) = (holder, map, keys::meant_hint(key)) {
        let fix = format!("write {meant} if that is meant");
        return Some((Rule::MisspeltHint, "says nothing to promsidecar".to_owned(), fix));
    }
    (holder == Holder::Template && keys::is_nearly_controller_id(key)).then(|| {
        let fix = format!("write {}", names::CONTROLLER_ID);
        (Rule::UnknownKey, "is read by nobody".to_owned(), fix)
    })
}

/// What to do about a key that is near to none: the keys that may be meant.
fn choice(holder: Holder, map: Map) -> String {
    let maps = [map, map.other()].into_iter().filter_map(|map| {
        let keys: Vec<_> = keys::readable(holder, map).collect();
        (!keys.is_empty()).then(|| format!("{} {}", map.field(), keys.join(", ")))
    });
    let maps: Vec<_> = maps.collect();
    match (&maps[..], holder) {
        ([], Holder::Workload) => {
            "remove it: keys of promsidecar belong on the pods of a workload".to_owned()
        }
        ([], _) => "remove it: no key of promsidecar belongs here".to_owned(),
        (maps, _) => format!("remove it, or write one of the {}", maps.join(", or of the ")),
    }
}

/// One `metadata` of an object.
struct Metadata<'a> {
    holder: Holder,
    path: Path,
    value: &'a Value,
}

/// Every `metadata` that an object has.
fn metadata(object: &Value) -> Vec<Metadata<'_>> {
    let pod = PodTemplate::of(object);
    let own = match (kind(object), &pod) {
        ("Namespace", _) => Holder::Namespace,
        (template::KIND, _) => Holder::Template,
        ("ConfigMap", _) => Holder::ConfigMap,
        ("Secret", _) => Holder::Secret,
        ("MutatingWebhookConfiguration", _) => Holder::Registration,
        ("Pod", _) => Holder::Pod,
        (_, Some(_)) => Holder::Workload,
        (_, None) => Holder::Other,
    };
    let mut all = vec![(own, vec!["metadata"])];
    if kind(object) == "CronJob" {
        all.push((Holder::Workload, vec!["spec", "jobTemplate", "metadata"]));
    }
    if let Some(pod) = pod.filter(|pod| !pod.path.is_empty()) {
        all.push((Holder::Pod, [pod.path, &["metadata"]].concat()));
    }
    let found = all.into_iter().filter_map(|(holder, segments)| {
        let value = segments.iter().try_fold(object, |value, segment| value.get(segment))?;
        Some(Metadata { holder, path: path(&segments), value })
    });
    found.collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
