//! Monitors that templates select and that their agents cannot run. PURE.
//!
//! Input: objects. Output: findings of a monitor, each rule once however many templates select it.

use super::finding::{Finding, Item, Rule};
use crate::monitors::collect::{Collector, Unusable, placed};
use crate::monitors::podmonitor::PodMonitor;
use crate::monitors::selection::Rejected;
use crate::template::{Settings, Template, validate};

/// What the claimed templates among the objects make of the monitors among them.
pub(super) struct Judged<'a> {
    rejected: Vec<Rejected>,
    /// Monitors that do not count, by their places.
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
        let rejected = agents.flat_map(|agent| monitors.select_everywhere(&agent).rejected).collect();
        Self { rejected, unusable, namespace }
    }

    /// What is wrong with this object, if it is a monitor.
    pub(super) fn findings(&self, item: &Item, findings: &mut Vec<Finding>) {
        if !PodMonitor::is_monitor(&item.object) {
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
        let Ok(monitor) = PodMonitor::read(&placed(&item.object, self.namespace)) else { return };
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
