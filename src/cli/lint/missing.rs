//! Requests for templates that are not there. PURE.
//!
//! Input: an object, and the templates of the whole input. Output: a finding for each request that names none of them;
//! none where the input has no template at all, since templates may live elsewhere.

use std::collections::BTreeSet;

use serde_json::Value;

use super::finding::{Finding, Rule, path};
use super::pods::PodTemplate;
use crate::admission::request::{parse_bool, parse_reference};
use crate::names;
use crate::template::agent::TemplateId;

/// Finds what the object asks for in vain; `namespace` is its own.
pub(super) fn requests(
    object: &Value,
    namespace: &str,
    templates: &BTreeSet<TemplateId>,
    findings: &mut Vec<Finding>,
) {
    if templates.is_empty() {
        return;
    }
    let mut judge = |value: Option<&str>, namespace: &str, field: String| {
        let Some(value) = value.filter(|value| parse_bool(value).is_none()) else { return };
        let Some(reference) = parse_reference(value) else { return };
        let id = TemplateId {
            namespace: reference.namespace.unwrap_or(namespace).to_owned(),
            name: reference.name.to_owned(),
        };
        if !templates.contains(&id) {
            let what = format!("asks for {id}, and no such template is in the input");
            findings.push(Finding { rule: Rule::TemplateMissing, field, what, fix: fix(&id, templates) });
        }
    };
    if object["kind"] == "Namespace" {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        for (map, key) in [("labels", names::INJECT), ("annotations", names::TEMPLATE)] {
            judge(metadata[map][key].as_str(), name, path(&["metadata", map, key]).to_string());
        }
    }
    if let Some(pod) = PodTemplate::of(object) {
        judge(pod.annotation(names::INJECT), namespace, pod.field(names::INJECT));
    }
}

/// The template that is meant: one of that namespace whose name comes near, else one of that name elsewhere.
fn fix(id: &TemplateId, templates: &BTreeSet<TemplateId>) -> String {
    let near = |known: &&TemplateId| {
        let edits = strsim::damerau_levenshtein(&known.name, &id.name);
        known.namespace == id.namespace && edits <= 2.max(id.name.len() / 3)
    };
    let distance = |known: &&TemplateId| strsim::damerau_levenshtein(&known.name, &id.name);
    let meant = templates.iter().filter(near).min_by_key(distance);
    match meant.or_else(|| templates.iter().find(|known| known.name == id.name)) {
        Some(meant) => format!("name {meant} if that is meant, or add the template"),
        None => "name a template that exists, or add it to the input by --templates".to_owned(),
    }
}
