//! What a user may not see of all that decides about pods, and which answers that leaves open. PURE.
//!
//! Input: the lists that the API server refused; a template, or a decision. Output: why the answer cannot be told, if it cannot: an
//! answer of half the facts would call a pod outdated, or up to date, that is not.

use super::seen::Forbidden;
use crate::admission::decision::{Decision, Missing, Verdict};
use crate::admission::reason::Reason;
use crate::monitors::object::Kind;
use crate::monitors::selection::selectors;
use crate::store::inventory::Inventory;
use crate::template::agent::TemplateId;

/// Objects of one kind that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Why those of all namespaces may not be seen, if they may not.
    pub forbidden: Option<Forbidden>,
    /// The one namespace whose objects were seen all the same.
    pub only: Option<String>,
}

/// What could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    /// Of templates.
    pub templates: Listed,
    /// Of `PodMonitors`.
    pub pod_monitors: Listed,
    /// Of `ServiceMonitors`.
    pub service_monitors: Listed,
    /// Of Namespaces.
    pub namespaces: Listed,
    /// Last good versions of templates, in our own namespace.
    pub last_good: Option<Forbidden>,
    /// Flags of the webhook that cannot be seen: which, and why.
    pub flags: Vec<String>,
}

impl Listed {
    /// Why objects of a namespace were not seen.
    fn hidden(&self, namespace: &str) -> Option<&Forbidden> {
        self.forbidden.as_ref().filter(|_| self.only.as_deref() != Some(namespace))
    }
}

/// Why something cannot be told.
fn because(forbidden: &Forbidden) -> String {
    format!("you may not {}", forbidden.0)
}

impl Gaps {
    /// Hash of the pod-level part that pods of a namespace get from a template now, if there is one; the error says why that cannot
    /// be told.
    pub fn hash(
        &self,
        inventory: &Inventory,
        id: &TemplateId,
        place: &str,
    ) -> Result<Option<String>, String> {
        let of_template = self.of_template(inventory, id, place).map(because);
        if let Some(why) = of_template.or_else(|| self.flags.first().cloned()) {
            return Err(why);
        }
        let entry = inventory.catalog().template(&id.namespace, &id.name);
        let sidecar = entry.and_then(|entry| entry.sidecar.as_ref());
        Ok(sidecar.map(|sidecar| sidecar.hash_in(place).to_owned()))
    }

    /// Why it cannot be told what a pod of a namespace gets that is created now, although this was decided.
    pub fn decided(&self, inventory: &Inventory, place: &str, decision: &Decision<'_>) -> Option<String> {
        let of_namespace = self.namespaces.hidden(place);
        let of_template = match &decision.verdict {
            Verdict::Inject(made) => self.of_template(inventory, &made.0.entry.id, place),
            Verdict::Refuse(refusal) => match refusal.missing.as_deref() {
                Some(Missing::Template(id)) => self.templates.hidden(&id.namespace),
                Some(Missing::AnyTemplate(namespace)) => self.templates.hidden(namespace),
                _ if refusal.reason == Reason::TemplateInvalid => self.last_good.as_ref(),
                _ => None,
            },
        };
        of_namespace.or(of_template).map(because).or_else(|| self.flags.first().cloned())
    }

    /// What was not seen and may make another agent of a template for the pods of a namespace.
    fn of_template(&self, inventory: &Inventory, id: &TemplateId, place: &str) -> Option<&Forbidden> {
        let Some(known) = inventory.templates().get(id) else {
            return self.templates.hidden(&id.namespace);
        };
        // What was good before decides about one that is bad, or paused.
        let Some(good) = known.good.as_ref().filter(|_| !known.paused || self.last_good.is_none()) else {
            return self.last_good.as_ref();
        };
        // Pods mount what monitors of their own namespace need.
        let kinds = [(Kind::Pod, &self.pod_monitors), (Kind::Service, &self.service_monitors)];
        kinds.into_iter().find_map(|(kind, listed)| {
            let (monitors, namespaces) = selectors(&good.agent, kind);
            let any = monitors.is_some() && (namespaces.is_some() || id.namespace == place);
            let by_labels = namespaces.and_then(|_| self.namespaces.hidden(place));
            listed.hidden(place).or(by_labels).filter(|_| any)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Gaps, Listed};
    use crate::cluster::seen::Forbidden;
    use crate::cluster::snapshot::Objects;
    use crate::store::inventory::Inventory;
    use crate::store::inventory::tests::template;
    use crate::template::Settings;
    use crate::template::agent::TemplateId;

    /// Templates of namespace `a` that select no monitors, those of their own namespace, those of some namespaces; one that is bad
    /// and one that is paused.
    fn inventory() -> Inventory {
        let with = |name: &str, key: &str| {
            let mut template = template(name, "3.13.5");
            template["spec"][key] = json!({});
            template
        };
        let mut everywhere = with("everywhere", "serviceMonitorSelector");
        everywhere["spec"]["serviceMonitorNamespaceSelector"] = json!({"matchLabels": {"team": "a"}});
        let mut paused = template("paused", "3.13.5");
        paused["spec"]["paused"] = json!(true);
        let templates = vec![
            template("plain", "3.13.5"),
            with("own", "podMonitorSelector"),
            everywhere,
            template("bad", "2.0.0"),
            paused,
        ];
        Objects { templates, ..Objects::default() }.inventory(&Settings::default()).0
    }

    fn hidden(what: &str, only: Option<&str>) -> Listed {
        Listed { forbidden: Some(Forbidden(format!("list {what}"))), only: only.map(str::to_owned) }
    }

    #[test]
    fn what_was_not_seen_leaves_open_what_rests_on_it_and_nothing_else() {
        let inventory = inventory();
        // For pods of a namespace: templates of which it cannot be told what they give, and why.
        let open = |gaps: &Gaps, place: &str| -> Vec<String> {
            let names = ["plain", "own", "everywhere", "bad", "paused", "gone"];
            let told = names.into_iter().filter_map(|name| {
                let id = TemplateId { namespace: "a".to_owned(), name: name.to_owned() };
                let why = gaps.hash(&inventory, &id, place).err()?;
                Some(format!("{name}: {why}"))
            });
            told.collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(open(&Gaps::default(), "a"), none);
        let templates = Gaps { templates: hidden("templates", None), ..Gaps::default() };
        assert_eq!(open(&templates, "a"), ["gone: you may not list templates"]);
        let templates = Gaps { templates: hidden("templates", Some("a")), ..Gaps::default() };
        assert_eq!(open(&templates, "b"), none);
        let pod_monitors = Gaps { pod_monitors: hidden("podmonitors", None), ..Gaps::default() };
        assert_eq!(open(&pod_monitors, "a"), ["own: you may not list podmonitors"]);
        // Monitors of the template's namespace are of no account to pods of another.
        assert_eq!(open(&pod_monitors, "b"), none);
        let service_monitors =
            Gaps { service_monitors: hidden("servicemonitors", Some("b")), ..Gaps::default() };
        assert_eq!(open(&service_monitors, "a"), ["everywhere: you may not list servicemonitors"]);
        assert_eq!(open(&service_monitors, "b"), none);
        let namespaces = Gaps { namespaces: hidden("namespaces", Some("b")), ..Gaps::default() };
        assert_eq!(open(&namespaces, "a"), ["everywhere: you may not list namespaces"]);
        assert_eq!(open(&namespaces, "b"), none);
        let last_good = Gaps { last_good: Some(Forbidden("list configmaps".to_owned())), ..Gaps::default() };
        assert_eq!(
            open(&last_good, "a"),
            ["bad: you may not list configmaps", "paused: you may not list configmaps"]
        );
        let flags = Gaps { flags: vec!["--agent-image cannot be seen".to_owned()], ..Gaps::default() };
        let all = ["plain", "own", "everywhere", "bad", "paused", "gone"];
        assert_eq!(open(&flags, "a"), all.map(|name| format!("{name}: --agent-image cannot be seen")));
    }
}
