//! What the [`World`] has to tell: statuses and Events. PURE.
//!
//! Input: a template, and how its delivery went. Output: what does not stand in its status yet.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::World;
use crate::admission::catalog::TemplateEntry;
use crate::admission::decision;
use crate::admission::reason::Reason;
use crate::controller::condition::{self, Undelivered};
use crate::controller::events::event::{Event, Regarding, Sameness};
use crate::controller::events::refused::Refused;
use crate::controller::rendered::{Rejection, Rendered};
use crate::monitors::object;
use crate::template::agent::TemplateId;
use crate::template::{API_VERSION, KIND};

impl World {
    /// The status to write, where it says something new: the whole status, and whether it is more than counts. Of a template
    /// that nobody claims any more, ours is taken back.
    pub fn status(
        &self,
        id: &TemplateId,
        delivered: &Result<(), Undelivered>,
        now: Timestamp,
    ) -> Option<(Value, bool)> {
        if self.released.contains(id) {
            return Some((Value::Null, false));
        }
        let known = self.known(id)?;
        let notes = self.rendered.get(id).map(Rendered::notes).unwrap_or_default();
        let status = condition::status(known, delivered, self.counts_of(id), &notes, now);
        condition::differs(&known.status, &status).then(|| {
            let urgent = condition::is_urgent(&known.status, &status);
            (status, urgent)
        })
    }

    /// Events about a template and its monitors, where there is something that its status does not say yet. What is told of
    /// monitors is told once.
    pub fn news(&mut self, id: &TemplateId, delivered: &Result<(), Undelivered>) -> Vec<Event> {
        let announced = self.rendered.get_mut(id).map(Rendered::announce).unwrap_or_default();
        let Some(known) = self.known(id) else { return Vec::new() };
        let own = condition::news(known, delivered)
            .map(|(reason, note)| about(&known.entry, reason, "Publish", note, Sameness::Note));
        let monitors = announced.iter().filter_map(|rejection| {
            let note = condition::rejected_news(known, rejection)?;
            Some(about_monitor(rejection, note))
        });
        own.into_iter().chain(monitors).collect()
    }

    /// An Event for the owner of the template that a refused pod asked for, where the pod's owner may not know why.
    pub fn withheld(&self, refused: &Refused) -> Option<Event> {
        if refused.reason != Reason::TemplateNotFound {
            return None;
        }
        let namespace = &*refused.pod.namespace;
        let inject = refused.inject.as_deref();
        let (entry, truth) = decision::withheld(namespace, inject, self.catalog(), &self.policy)?;
        let note = format!("pods of namespace {namespace} asked: {}", truth.detail);
        let sameness = Sameness::Subject(namespace.to_owned());
        Some(about(entry, truth.reason.row().event, "Inject", note, sameness))
    }
}

/// A warning about a template.
fn about(
    entry: &TemplateEntry,
    reason: &'static str,
    action: &'static str,
    note: String,
    sameness: Sameness,
) -> Event {
    let regarding = Regarding {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        namespace: entry.id.namespace.clone(),
        name: entry.id.name.clone(),
        uid: entry.uid.clone(),
    };
    Event { regarding, reason, action, note, sameness }
}

/// A warning about a monitor, with the reason that prometheus-operator has for it.
fn about_monitor(Rejection { monitor, uid, .. }: &Rejection, note: String) -> Event {
    let regarding = Regarding {
        api_version: object::API_VERSION.to_owned(),
        kind: monitor.kind.word().to_owned(),
        namespace: monitor.id.namespace.clone(),
        name: monitor.id.name.clone(),
        uid: uid.clone(),
    };
    Event { regarding, reason: "InvalidConfiguration", action: "Render", note, sameness: Sameness::Note }
}
