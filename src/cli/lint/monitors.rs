//! Monitors that templates select and that their agents cannot run. PURE.
//!
//! Input: objects. Output: findings of a monitor, each rule once however many templates select it.

use serde_json::{Value, json};

use super::finding::{Finding, Item, Rule};
use crate::monitors::podmonitor::PodMonitor;
use crate::monitors::selection::{Monitors, Rejected};
use crate::store::documents::namespace_labels;
use crate::template::{Settings, Template, validate};

/// What the claimed templates among the objects make of the monitors among them.
pub(super) struct Judged<'a> {
    namespace: &'a str,
    rejected: Vec<Rejected>,
}

impl<'a> Judged<'a> {
    /// Judges the monitors; `namespace` is that of objects that name none.
    pub(super) fn of<'i>(
        items: impl Iterator<Item = &'i Item> + Clone,
        settings: &Settings,
        namespace: &'a str,
    ) -> Self {
        let mut monitors = Monitors::default();
        for Item { object, .. } in items.clone() {
            if PodMonitor::is_monitor(object) {
                if let Ok(monitor) = PodMonitor::read(&placed(object, namespace)) {
                    monitors.insert(monitor);
                }
            } else if object["kind"] == "Namespace" {
                let metadata = &object["metadata"];
                let name = metadata["name"].as_str().unwrap_or_default();
                monitors.insert_namespace(name.to_owned(), namespace_labels(metadata));
            }
        }
        let agents = items.filter_map(|item| {
            let template = Template::read(&placed(&item.object, namespace), settings).ok()?;
            template.claimed.then(|| validate::validate(&template, settings).ok()).flatten()
        });
        let rejected = agents.flat_map(|agent| monitors.select_everywhere(&agent).rejected).collect();
        Self { namespace, rejected }
    }

    /// What is wrong with this object, if it is a monitor.
    pub(super) fn findings(&self, object: &Value, findings: &mut Vec<Finding>) {
        if !PodMonitor::is_monitor(object) {
            return;
        }
        let Ok(monitor) = PodMonitor::read(&placed(object, self.namespace)) else { return };
        let own = self.rejected.iter().filter(|rejected| rejected.id == monitor.id);
        for violation in own.flat_map(|rejected| &rejected.violations) {
            let value = violation.value.as_ref().map(|value| format!("{value:?} ")).unwrap_or_default();
            let finding = Finding {
                rule: Rule::MonitorRejected,
                field: violation.path.clone(),
                what: format!("{value}{}", violation.rule.text()),
                fix: violation.rule.fix().into_owned(),
            };
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
}

/// The object with the namespace that it will have.
fn placed(object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    if object["metadata"]["namespace"].as_str().is_none_or(str::is_empty) && object["metadata"].is_object() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}
