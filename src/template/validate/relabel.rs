//! Relabelings. PURE.
//!
//! Input: upstream's relabelings. Output: Prometheus' own, or violations: upstream does not check those of remote write, and
//! Prometheus refuses the whole file for one of them. Rules: prometheus `model/relabel`.

use super::text;
use crate::names;
use crate::template::api::http::RelabelConfig;
use crate::template::prometheus::{Flow, Relabel};
use crate::template::violation::{Findings, Path, Rule};

/// Actions in upstream's spelling; any capitalisation is accepted.
const ACTIONS: &[&str] = &[
    "replace",
    "keep",
    "drop",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
    "keepequal",
    "dropequal",
];

/// What is said of a name that is not one.
pub(super) const NOT_A_LABEL: &str = "is not a label name";

/// Reads a list of relabelings.
pub(crate) fn relabelings(
    configs: &[RelabelConfig],
    legacy_names: bool,
    path: &Path,
    findings: &mut Findings,
) -> Vec<Relabel> {
    let read = |(index, config)| relabeling(config, legacy_names, &path.index(index), findings);
    configs.iter().enumerate().map(read).collect()
}

fn relabeling(config: &RelabelConfig, legacy_names: bool, path: &Path, findings: &mut Findings) -> Relabel {
    let lowered = config.action.as_deref().unwrap_or_default().to_ascii_lowercase();
    let action = text::choice(Some(&lowered), ACTIONS, ACTIONS, &path.key("action"), findings);
    let source_path = path.key("sourceLabels");
    for (index, label) in config.source_labels.iter().enumerate() {
        text::line(label, &source_path.index(index), findings);
        if !text::is_label_name(label, legacy_names) {
            findings.violation(&source_path.index(index), label, Rule::Text(NOT_A_LABEL));
        }
    }
    let line = |value: &Option<String>, name: &str, findings: &mut Findings| {
        value.as_deref().and_then(|value| text::line(value, &path.key(name), findings)).map(str::to_owned)
    };
    let regex = config.regex.clone().filter(|regex| !regex.is_empty());
    if let Some(expression) = &regex {
        text::line(expression, &path.key("regex"), findings);
        if let Err(why) = super::re2::check(expression) {
            findings.violation(&path.key("regex"), expression, Rule::Regex(why));
        }
    }
    let relabel = Relabel {
        source_labels: Flow(config.source_labels.clone()),
        separator: line(&config.separator, "separator", findings),
        regex,
        modulus: config.modulus.filter(|modulus| *modulus != 0),
        target_label: line(&config.target_label, "targetLabel", findings).filter(|label| !label.is_empty()),
        replacement: line(&config.replacement, "replacement", findings),
        action,
    };
    if lowered.is_empty() || action.is_some() {
        check(&relabel, legacy_names, path, findings);
    }
    relabel
}

/// The rules that depend on the action.
fn check(relabel: &Relabel, legacy_names: bool, path: &Path, findings: &mut Findings) {
    let action = relabel.action.unwrap_or("replace");
    let only_regex = matches!(action, "labeldrop" | "labelkeep");
    let compares = matches!(action, "keepequal" | "dropequal");
    let changes_case = matches!(action, "lowercase" | "uppercase");
    let has_target = compares || changes_case || matches!(action, "replace" | "hashmod");
    match &relabel.target_label {
        None if has_target => findings.violation_at(&path.key("targetLabel"), Rule::Required),
        Some(label) if has_target && !is_target(label, action, legacy_names) => {
            findings.violation(&path.key("targetLabel"), label, Rule::Text(NOT_A_LABEL));
        }
        Some(label) if label.starts_with(names::INTERNAL_LABEL_PREFIX) => {
            let rule = Rule::Text("is reserved for the identity of the agent's pod");
            findings.violation(&path.key("targetLabel"), label, rule);
        }
        _ => {}
    }
    if action == "hashmod" && relabel.modulus.is_none() {
        findings.violation_at(&path.key("modulus"), Rule::Required);
    }
    let replacement = relabel.replacement.as_deref().unwrap_or("$1");
    if action == "labelmap" && !is_target(replacement, "replace", legacy_names) {
        findings.violation(&path.key("replacement"), replacement, Rule::Text(NOT_A_LABEL));
    }
    let custom_replacement = relabel.replacement.is_some() && replacement != "$1";
    let custom_separator = relabel.separator.as_deref().is_some_and(|separator| separator != ";");
    let custom_regex = relabel.regex.as_deref().is_some_and(|regex| regex != "(.*)");
    for (name, set, forbidden) in [
        ("replacement", custom_replacement, only_regex || compares || changes_case),
        ("separator", custom_separator, only_regex || compares),
        ("modulus", relabel.modulus.is_some(), only_regex || compares),
        ("sourceLabels", !relabel.source_labels.0.is_empty(), only_regex),
        ("targetLabel", relabel.target_label.is_some(), only_regex),
        ("regex", custom_regex, compares),
    ] {
        if set && forbidden {
            let rule = Rule::Other {
                rule: "has no meaning for this action, and Prometheus refuses it",
                fix: "remove it, or use another action",
            };
            findings.violation_at(&path.key(name), rule);
        }
    }
}

/// A target may refer to groups of the expression where the action expands them.
fn is_target(label: &str, action: &str, legacy_names: bool) -> bool {
    if action == "replace" && legacy_names && label.contains('$') {
        return is_template(label);
    }
    text::is_label_name(label, legacy_names)
}

/// Prometheus' own pattern for templates of legacy names: letters, digits, `_`, `$word` and `${word}`, no digit first.
fn is_template(label: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = label;
    while let Some((before, after)) = rest.split_once('$') {
        let reference = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}'),
            None => Some(after.split_at(after.find(|c| !is_word(c)).unwrap_or(after.len()))),
        };
        let Some((name, next)) = reference else { return false };
        if name.is_empty() || !name.chars().all(is_word) || !before.chars().all(is_word) {
            return false;
        }
        rest = next;
    }
    rest.chars().all(is_word) && !label.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::relabelings;
    use crate::template::api::http::RelabelConfig;
    use crate::template::violation::{Findings, Path};
    use serde_json::json;

    fn violations(config: serde_json::Value) -> Vec<String> {
        let config: RelabelConfig = serde_json::from_value(config).unwrap();
        let mut findings = Findings::default();
        relabelings(&[config], false, &Path::root("r"), &mut findings);
        findings.violations.iter().map(|violation| violation.path.clone()).collect()
    }

    #[test]
    fn good_relabelings_pass() {
        for config in [
            json!({"action": "Drop", "sourceLabels": ["__name__"], "regex": "go_.*"}),
            json!({"targetLabel": "a", "replacement": "b"}),
            json!({"action": "labelmap", "regex": "x_(.+)"}),
            json!({"action": "HashMod", "sourceLabels": ["a"], "targetLabel": "b", "modulus": 4}),
            json!({"action": "keepequal", "sourceLabels": ["a"], "targetLabel": "b"}),
            json!({"action": "lowercase", "sourceLabels": ["a"], "targetLabel": "b"}),
            json!({"action": "labeldrop", "regex": "tmp_.*"}),
            json!({"sourceLabels": ["a"], "regex": "(.+)", "targetLabel": "${1}_x"}),
        ] {
            assert_eq!(violations(config.clone()), [""; 0], "{config}");
        }
    }

    #[test]
    fn templates_of_legacy_names_are_read_as_prometheus_reads_them() {
        for good in ["$1", "${1}", "a$1", "a_${b}c9", "$a$b", "_$1"] {
            assert!(super::is_template(good), "{good}");
        }
        for bad in ["$", "${", "${}", "1$1", "a$", "$1-", "a.$1", "$${1}", "${a b}", "$1}"] {
            assert!(!super::is_template(bad), "{bad}");
        }
    }

    #[test]
    fn what_prometheus_refuses_is_a_violation() {
        for (config, path) in [
            (json!({"action": "frobnicate"}), "r[0].action"),
            (json!({"sourceLabels": ["a"]}), "r[0].targetLabel"),
            (json!({"action": "drop", "regex": "("}), "r[0].regex"),
            (json!({"action": "hashmod", "targetLabel": "a"}), "r[0].modulus"),
            (json!({"action": "labeldrop", "regex": "a", "sourceLabels": ["b"]}), "r[0].sourceLabels"),
            (json!({"action": "keepequal", "targetLabel": "a", "regex": "b"}), "r[0].regex"),
            (json!({"action": "uppercase", "targetLabel": "a", "replacement": "b"}), "r[0].replacement"),
            (json!({"action": "keep", "sourceLabels": [""]}), "r[0].sourceLabels[0]"),
            (json!({"targetLabel": "a", "replacement": "a\nb"}), "r[0].replacement"),
        ] {
            assert_eq!(violations(config.clone()), [path], "{config}");
        }
    }
}
