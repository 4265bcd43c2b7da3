//! Write rules that give series their pod's identity. PURE.
//!
//! Input: the jobs. Output: relabelings for the head of every remote write. What admission cannot know stands in targets as a
//! placeholder; these rules put the value of an external label in its place and then drop those labels.

use std::collections::BTreeSet;

use super::Job;
use crate::names::{INTERNAL_LABEL_PREFIX, POD_IP, RUNTIME_FACTS, RuntimeFact};
use crate::template::prometheus::{Relabel, flow};

/// Address of the pod seen from within, with its port, followed by the pod's address.
const LOOPBACK: &str = r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?";

/// Rules for every label that some job fills from a fact of run time, in the order in which the jobs name them.
pub(super) fn write_rules(jobs: &[Job]) -> Vec<Relabel> {
    let mut rules: Vec<Relabel> = Vec::new();
    let mut seen = BTreeSet::new();
    for rule in jobs.iter().flat_map(|job| &job.relabel_configs) {
        if let Some((fact, label)) = copied_fact(rule)
            && seen.insert((fact.env, label))
        {
            let regex = format!("{};(.+)", fact.placeholder);
            rules.push(Relabel::replace([label, fact.external_label], regex, label, "$1"));
        }
    }
    // Prometheus makes `instance` of the address, which is loopback here and the pod's own upstream.
    let instance = |address: &str, replacement: &str| {
        let sources = ["instance", POD_IP.external_label];
        Relabel::replace(sources, format!("{LOOPBACK};{address}"), "instance", replacement)
    };
    rules.push(instance("([^:]+)", "$3$2"));
    rules.push(instance("(.*:.*)", "[$3]$2"));
    rules.push(drop_internal());
    rules
}

/// Drops every label that is ours: an application cannot forge its pod's identity.
pub(super) fn drop_internal() -> Relabel {
    Relabel::drop_labels(format!("{INTERNAL_LABEL_PREFIX}.*"))
}

/// The label that a rule fills with an unchanged fact of run time.
fn copied_fact(rule: &Relabel) -> Option<(RuntimeFact, &str)> {
    let fact = RUNTIME_FACTS.into_iter().find(|fact| rule.source_labels == flow([fact.meta_label]))?;
    let whole = rule.regex.as_deref().is_none_or(|regex| matches!(regex, "(.*)" | "(.+)"));
    let unchanged = rule.replacement.as_deref().is_none_or(|text| matches!(text, "$1" | "${1}"));
    let replaces = rule.action.is_none_or(|action| action == "replace");
    let target = rule.target_label.as_deref()?;
    (whole && unchanged && replaces).then_some((fact, target))
}

#[cfg(test)]
mod tests {
    use super::write_rules;
    use crate::names::{NODE_NAME, POD_NAME};
    use crate::template::prometheus::{Relabel, ScrapeConfig, flow};

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
        let targets: Vec<_> = rules.iter().map(|rule| rule.target_label.as_deref().unwrap_or("-")).collect();
        assert_eq!(targets, ["pod", "node", "instance", "instance", "-"]);
        assert_eq!(rules[0].source_labels, flow(["pod", "__promsidecar_pod_name"]));
        assert_eq!(rules[0].regex.as_deref(), Some("__POD_NAME__;(.+)"));
    }
}
