//! Monitors that templates select and that their agents cannot run, and Services whose endpoints they cannot know. PURE.
//!
//! Input: objects. Output: findings of a monitor or Service, each rule once however many templates select it.

use super::finding::{Finding, Item, Rule};
use crate::monitors::any::AnyMonitor;
use crate::monitors::collect::{Collector, Unusable, is_collected, placed};
use crate::monitors::object::{Kind, MonitorKey};
use crate::monitors::selection::{Refused, Selection};
use crate::monitors::service::Service;
use crate::template::{Settings, Template, validate};

/// What the claimed templates among the objects make of the monitors among them.
pub(super) struct Judged<'a> {
    /// One a template.
    selections: Vec<Selection>,
    /// Objects that do not count, by their places.
    unusable: Vec<(&'a Item, Unusable)>,
    /// Namespace of objects that name none.
    namespace: &'a str,
}

impl<'a> Judged<'a> {
    /// Judges the monitors; `namespace` is that of objects that name none.
    pub(super) fn of(
        items: impl Iterator<Item = &'a Item> + Clone,
        settings: &Settings,
        namespace: &'a str,
    ) -> Self {
        let mut monitors = Collector::default();
        let noted = |item: &'a Item| Some((item, monitors.note(&item.object, namespace).err()?));
        let unusable = items.clone().filter_map(noted).collect();
        let monitors = monitors.into_monitors();
        let agents = items.filter_map(|item| {
            let template = Template::read(&placed(&item.object, namespace), settings).ok()?;
            template.claimed.then(|| validate::validate(&template, settings).ok()).flatten()
        });
        let selections = agents.map(|agent| monitors.select_everywhere(&agent)).collect();
        Self { selections, unusable, namespace }
    }

    /// What is wrong with this object, if it is a monitor or Service.
    pub(super) fn findings(&self, item: &Item, findings: &mut Vec<Finding>) {
        if !is_collected(&item.object) {
            return;
        }
        if let Some((_, unusable)) = self.unusable.iter().find(|(other, _)| std::ptr::eq(*other, item)) {
            findings.push(Finding {
                rule: Rule::MonitorRejected,
                field: unusable.field(),
                what: unusable.what(),
                fix: unusable.fix().to_owned(),
            });
            return;
        }
        let object = placed(&item.object, self.namespace);
        let monitor = Kind::of(&object).map(|kind| AnyMonitor::read(kind, &object));
        if let Some(Ok(monitor)) = monitor {
            self.rejected(&monitor.key(), findings);
        } else if let Ok(service) = Service::read(&object) {
            self.refused(&service, findings);
        }
    }

    fn rejected(&self, monitor: &MonitorKey, findings: &mut Vec<Finding>) {
        let all = self.selections.iter().flat_map(|selection| &selection.rejected);
        let own = all.filter(|rejected| rejected.monitor == *monitor);
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

    fn refused(&self, service: &Service, findings: &mut Vec<Finding>) {
        let all = self.selections.iter().flat_map(|selection| &selection.refused);
        for Refused { monitor, why, .. } in all.filter(|refused| refused.service == service.id) {
            let finding = Finding {
                rule: Rule::MonitorRejected,
                field: "spec".to_owned(),
                what: format!("of a Service that {monitor} selects {}", why.what()),
                fix: why.fix().to_owned(),
            };
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
}
