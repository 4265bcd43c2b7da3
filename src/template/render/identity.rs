//! Write rules that give series their pod's identity. PURE.
//!
//! Input: the jobs. Output: relabelings for the head of every remote write. What admission cannot know stands in targets as a
//! placeholder, and the pod's address as loopback; these rules put the value of an external label in its place and then drop
//! those labels. [`Carried`] follows such values through relabelings, also to tell authors where they are used too early.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{INTERNAL_LABEL_PREFIX, POD_IP, RUNTIME_FACTS, RuntimeFact};
use crate::template::prometheus::{Relabel, ScrapeConfig};

/// Address of the pod seen from within, with its port, followed by the pod's address.
const LOOPBACK: &str = r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?";
/// Label that Prometheus makes of the address of a target.
const INSTANCE: &str = "instance";
const ADDRESS: &str = "__address__";

/// Rules for every label that some job fills from a value of run time, in the order in which the jobs name them.
pub(super) fn write_rules<'a>(jobs: impl IntoIterator<Item = &'a ScrapeConfig>) -> Vec<Relabel> {
    let mut rules: Vec<Relabel> = Vec::new();
    let mut addresses = vec![INSTANCE.to_owned()];
    let mut seen = BTreeSet::new();
    let mut note = |effect: Effect| {
        let Effect::Copied(stand, label) = effect else { return };
        // What begins so ends with relabeling.
        if label.starts_with("__") {
            return;
        }
        match stand {
            Stand::Fact(fact) if seen.insert((fact.env, label.clone())) => {
                let regex = format!("{};(.+)", fact.placeholder);
                rules.push(Relabel::replace([&label, fact.external_label], regex, &label, "$1"));
            }
            Stand::Address if !addresses.contains(&label) => addresses.push(label),
            Stand::Fact(_) | Stand::Address => {}
        }
    };
    for job in jobs {
        let mut carried = Carried::default();
        job.relabel_configs.iter().for_each(|rule| note(carried.follow(rule)));
        carried.scraped();
        job.metric_relabel_configs.iter().for_each(|rule| note(carried.follow(rule)));
    }
    // The address is loopback here and the pod's own upstream.
    for label in addresses {
        let address = |address: &str, replacement: &str| {
            let sources = [label.as_str(), POD_IP.external_label];
            Relabel::replace(sources, format!("{LOOPBACK};{address}"), &label, replacement)
        };
        rules.push(address("([^:]+)", "$3$2"));
        rules.push(address("(.*:.*)", "[$3]$2"));
    }
    rules.push(drop_internal());
    rules
}

/// Drops every label that is ours: an application cannot forge its pod's identity.
pub(super) fn drop_internal() -> Relabel {
    Relabel::drop_labels(format!("{INTERNAL_LABEL_PREFIX}.*"))
}

/// What stands in a label in place of a value of run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// The placeholder of a fact.
    Fact(RuntimeFact),
    /// Loopback in place of the pod's address.
    Address,
}

/// What one relabeling does with such values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that remote write cannot mend.
    Nothing,
    /// It copies one unchanged to this label.
    Copied(Stand, String),
    /// It looks into the value of this label, which is not the real one yet.
    Uses(String, Stand),
}

/// Labels that hold such values, as relabelings go on.
#[derive(Debug)]
pub(crate) struct Carried {
    labels: BTreeMap<String, Stand>,
}

impl Default for Carried {
    fn default() -> Self {
        let facts = RUNTIME_FACTS.into_iter().map(|fact| (fact.meta_label.to_owned(), Stand::Fact(fact)));
        Self { labels: facts.chain([(ADDRESS.to_owned(), Stand::Address)]).collect() }
    }
}

impl Carried {
    /// Goes from the relabelings of targets to those of their series.
    pub(crate) fn scraped(&mut self) {
        self.labels.retain(|label, _| !label.starts_with("__"));
        self.labels.entry(INSTANCE.to_owned()).or_insert(Stand::Address);
    }

    /// Follows one relabeling.
    pub(crate) fn follow(&mut self, rule: &Relabel) -> Effect {
        match rule.action.unwrap_or("replace") {
            "replace" => self.replaced(rule),
            "keep" | "drop" => match self.source(rule) {
                Some((label, stand)) if !is_blind(rule, stand) => Effect::Uses(label, stand),
                _ => Effect::Nothing,
            },
            "labelmap" => {
                let prefix = literal_prefix(rule.regex.as_deref().unwrap_or_default());
                let mapped = self.labels.iter().find(|(label, _)| label.starts_with(prefix));
                mapped.map_or(Effect::Nothing, |(label, stand)| Effect::Uses(label.clone(), *stand))
            }
            "labeldrop" | "labelkeep" => Effect::Nothing,
            _ => self.source(rule).map_or(Effect::Nothing, |(label, stand)| Effect::Uses(label, stand)),
        }
    }

    fn replaced(&mut self, rule: &Relabel) -> Effect {
        let Some(target) = rule.target_label.as_deref() else { return Effect::Nothing };
        let Some((label, stand)) = self.source(rule) else {
            if rule.source_labels.0.is_empty() || matches_all(rule) {
                self.labels.remove(target);
            }
            return Effect::Nothing;
        };
        if rule.source_labels.0.len() == 1 && is_unchanged(rule) && !target.contains('$') {
            self.labels.insert(target.to_owned(), stand);
            return Effect::Copied(stand, target.to_owned());
        }
        // Another port at the same host; and whatever of it ends in `instance` is mended there.
        if stand == Stand::Address && (target == ADDRESS || target == INSTANCE) {
            self.labels.insert(target.to_owned(), stand);
            return Effect::Nothing;
        }
        let constant = rule.replacement.as_deref().is_some_and(|text| !text.contains('$'));
        if constant && is_blind(rule, stand) && !target.contains('$') {
            self.labels.remove(target);
            return Effect::Nothing;
        }
        Effect::Uses(label, stand)
    }

    /// The first source that holds such a value.
    fn source(&self, rule: &Relabel) -> Option<(String, Stand)> {
        let target = matches!(rule.action, Some("keepequal" | "dropequal"))
            .then_some(())
            .and(rule.target_label.as_ref());
        let mut sources = rule.source_labels.0.iter().chain(target);
        sources.find_map(|label| Some((label.clone(), *self.labels.get(label)?)))
    }
}

/// Whether the rule takes the whole value of its one source over.
fn is_unchanged(rule: &Relabel) -> bool {
    matches!(
        (rule.regex.as_deref(), rule.replacement.as_deref()),
        (None | Some("(.*)" | "(.+)"), None | Some("$1" | "${1}" | "$0" | "${0}"))
            | (Some(".*" | ".+"), Some("$0" | "${0}"))
    )
}

fn matches_all(rule: &Relabel) -> bool {
    matches!(rule.regex.as_deref(), None | Some("(.*)" | ".*"))
}

/// Whether the expression is the same to the value of run time and to what stands in its place.
fn is_blind(rule: &Relabel, stand: Stand) -> bool {
    let regex = rule.regex.as_deref().unwrap_or("(.*)");
    let any = matches!(regex, "(.*)" | ".*" | "(.+)" | ".+");
    // Ports are real; it is the host that is not.
    let any_host = [".*:", ".+:", "[^:]+:", "[^:]*:", "(.*):", "(.+):", "([^:]+):", "([^:]*):"];
    let alone = rule.source_labels.0.len() == 1;
    let port = stand == Stand::Address && any_host.iter().any(|host| regex.starts_with(host));
    alone && (any || port && !regex.contains('|'))
}

/// What every match of the expression begins with, as far as it can be told without reading it.
fn literal_prefix(regex: &str) -> &str {
    if regex.split('(').next().is_some_and(|head| head.contains('|')) || regex.contains(")|") {
        return "";
    }
    let end = regex.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(regex.len());
    // A repetition may leave the last one out.
    if regex[end..].starts_with(['*', '?', '{']) { &regex[..end.saturating_sub(1)] } else { &regex[..end] }
}

#[cfg(test)]
mod tests {
    use super::{Carried, Effect, write_rules};
    use crate::names::{NODE_NAME, POD_NAME};
    use crate::template::prometheus::{Relabel, ScrapeConfig, flow};

    fn targets(rules: &[Relabel]) -> Vec<&str> {
        rules.iter().map(|rule| rule.target_label.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn each_label_that_carries_an_unknown_fact_gets_one_rule() {
        let job = ScrapeConfig {
            relabel_configs: vec![
                Relabel::copy(POD_NAME.meta_label, "pod"),
                Relabel::copy(POD_NAME.meta_label, "pod"),
                Relabel::replace([NODE_NAME.meta_label], "(.+)", "node", "${1}"),
                Relabel::replace([NODE_NAME.meta_label], "a(.+)", "cut", "$1"),
                Relabel::copy("__meta_kubernetes_namespace", "namespace"),
            ],
            ..ScrapeConfig::default()
        };
        let rules = write_rules(&[job]);
        assert_eq!(targets(&rules), ["pod", "node", "instance", "instance", "-"]);
        assert_eq!(rules[0].source_labels, flow(["pod", "__promsidecar_pod_name"]));
        assert_eq!(rules[0].regex.as_deref(), Some("__POD_NAME__;(.+)"));
    }

    #[test]
    fn values_are_followed_from_label_to_label_and_into_series() {
        let job = ScrapeConfig {
            relabel_configs: vec![
                Relabel::copy(NODE_NAME.meta_label, "__tmp_node"),
                Relabel::copy("__tmp_node", "node"),
                Relabel::copy("__address__", "endpoint"),
            ],
            metric_relabel_configs: vec![
                Relabel::copy("node", "host"),
                Relabel::copy("instance", "server"),
                Relabel::copy("__tmp_node", "nothing"),
            ],
            ..ScrapeConfig::default()
        };
        let expected =
            ["node", "host", "instance", "instance", "endpoint", "endpoint", "server", "server", "-"];
        assert_eq!(targets(&write_rules(&[job])), expected);
    }

    #[test]
    fn what_looks_into_a_value_that_is_not_known_is_told() {
        let uses = |rule: Relabel| matches!(Carried::default().follow(&rule), Effect::Uses(..));
        let labelmap = |regex: &str| Relabel {
            regex: Some(regex.to_owned()),
            action: Some("labelmap"),
            ..Relabel::default()
        };
        let node = NODE_NAME.meta_label;
        for rule in [
            Relabel::keep(node, "node-1"),
            Relabel::replace([node], "(.+)-pool-.+", "pool", "$1"),
            Relabel::replace([node, "x"], "(.+);y", "node", "$1"),
            Relabel::replace([node], "node-1", "special", "yes"),
            Relabel::replace(["__address__"], "([^:]+):.*", "host", "$1"),
            Relabel { action: Some("lowercase"), ..Relabel::copy(node, "node") },
            Relabel { action: Some("keepequal"), ..Relabel::copy("x", node) },
            labelmap("__meta_kubernetes_pod_(.+)"),
            labelmap("(.+)|x"),
            labelmap("__meta_kubernetes_pod_nx?ode_name"),
        ] {
            assert!(uses(rule.clone()), "{rule:?}");
        }
        for rule in [
            Relabel::keep(node, ".+"),
            Relabel::replace([node], "(.+)", "on_a_node", "yes"),
            Relabel::replace(["__address__", "x"], r"([^:]+)(?::\d+)?;(\d+)", "__address__", "$1:$2"),
            Relabel::replace(["__address__"], "([^:]+):.*", "instance", "$1"),
            Relabel::keep("__address__", ".*:8080"),
            labelmap("__meta_kubernetes_pod_label_(.+)"),
            labelmap("__meta_kubernetes_pod_(?:label|annotation)_(.+)x"),
        ] {
            // The last one is told although it maps nothing of ours: it is not read that far.
            let told = rule.regex.as_deref().is_some_and(|regex| regex.contains("(?:label|"));
            assert_eq!(uses(rule.clone()), told, "{rule:?}");
        }
    }
}
