//! Label selectors of Kubernetes: what they match, whether the API machinery takes them, and as relabel rules. PURE.
//!
//! Input: a `metav1.LabelSelector`. Output: violations, a yes or no for labels at hand, or rules over pod discovery's labels.
//! Rules: apimachinery `pkg/apis/meta/v1/helpers.go`, `pkg/labels/selector.go`.

use std::collections::BTreeMap;

use crate::template::api::{LabelSelector, LabelSelectorRequirement};
use crate::template::prometheus::{Flow, Relabel};
use crate::template::validate::text;
use crate::template::violation::{Findings, Path, Rule};

const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];

/// Checks a selector as the API machinery does when it is used.
pub(crate) fn check(selector: &LabelSelector, path: &Path, findings: &mut Findings) {
    let labels = path.key("matchLabels");
    for (key, value) in &selector.match_labels {
        let path = labels.key(key);
        check_key(key, &path, findings);
        check_value(value, &path, findings);
    }
    let expressions = path.key("matchExpressions");
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        check_requirement(requirement, &expressions.index(index), findings);
    }
}

fn check_requirement(requirement: &LabelSelectorRequirement, path: &Path, findings: &mut Findings) {
    check_key(&requirement.key, &path.key("key"), findings);
    let values = path.key("values");
    match (requirement.operator.as_str(), requirement.values.is_empty()) {
        ("In" | "NotIn", true) => findings.violation_at(&values, Rule::Required),
        ("Exists" | "DoesNotExist", false) => {
            let rule = Rule::Other { rule: "has no meaning for this operator", fix: "remove it" };
            findings.violation_at(&values, rule);
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
        (other, _) => findings.violation(&path.key("operator"), other, Rule::OneOf(OPERATORS)),
    }
    for (index, value) in requirement.values.iter().enumerate() {
        check_value(value, &values.index(index), findings);
    }
}

fn check_key(key: &str, path: &Path, findings: &mut Findings) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| !text::is_subdomain(prefix)) || name.is_empty() || !is_name(name) {
        findings.violation(path, key, Rule::Text("is not the key of a label"));
    }
}

fn check_value(value: &str, path: &Path, findings: &mut Findings) {
    if !is_name(value) {
        findings.violation(path, value, Rule::Text("is not the value of a label"));
    }
}

/// Up to 63 letters, digits, `-`, `_` and `.`, the first and last a letter or digit; or nothing.
fn is_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Whether labels satisfy every requirement; an empty selector takes all of them.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// The selector over labels of pod discovery: upstream's rules, in upstream's order, with values that match exactly.
pub(super) fn rules(selector: &LabelSelector) -> Vec<Relabel> {
    let labels = selector.match_labels.iter();
    let labels = labels.map(|(key, value)| by_value(key, std::slice::from_ref(value), "keep"));
    let expressions = selector.match_expressions.iter().filter_map(|requirement| {
        let LabelSelectorRequirement { key, operator, values } = requirement;
        match operator.as_str() {
            "In" => Some(by_value(key, values, "keep")),
            "NotIn" => Some(by_value(key, values, "drop")),
            "Exists" => Some(by_presence(key, "keep")),
            "DoesNotExist" => Some(by_presence(key, "drop")),
            _ => None,
        }
    });
    labels.chain(expressions).collect()
}

/// Label for what a selector excludes; it begins so that it ends with relabeling.
const EXCLUDED: &str = "__tmp_promsidecar_excluded";

/// Takes ports that a container declares.
pub(super) fn declared() -> Relabel {
    Relabel::keep("__meta_kubernetes_pod_container_port_protocol", ".+")
}

/// Rules that drop the targets which these rules, each a keep or a drop, would take.
pub(super) fn drops(taking: impl IntoIterator<Item = Relabel>) -> Vec<Relabel> {
    // An empty value removes the label that earlier ones may have left.
    let mut drops = vec![Relabel::set(EXCLUDED, "")];
    let (mut sources, mut regexes) = (Vec::new(), Vec::new());
    for rule in taking {
        if rule.action == Some("drop") {
            let (target_label, replacement) = (Some(EXCLUDED.to_owned()), Some("true".to_owned()));
            drops.push(Relabel { target_label, replacement, action: None, ..rule });
        } else {
            sources.extend(rule.source_labels.0);
            regexes.push(format!("(?:{})", rule.regex.unwrap_or_default()));
        }
    }
    // It closes the list: nothing is excluded.
    sources.push(EXCLUDED.to_owned());
    regexes.push(String::new());
    let regex = Some(regexes.join(";"));
    drops.push(Relabel { source_labels: Flow(sources), regex, action: Some("drop"), ..Relabel::default() });
    drops
}

fn by_value(key: &str, values: &[String], action: &'static str) -> Relabel {
    let key = sanitise(key);
    let values: Vec<_> = values.iter().map(|value| value.replace('.', r"\.")).collect();
    Relabel {
        source_labels: Flow(vec![
            format!("__meta_kubernetes_pod_label_{key}"),
            format!("__meta_kubernetes_pod_labelpresent_{key}"),
        ]),
        regex: Some(format!("({});true", values.join("|"))),
        action: Some(action),
        ..Relabel::default()
    }
}

fn by_presence(key: &str, action: &'static str) -> Relabel {
    Relabel {
        source_labels: Flow(vec![format!("__meta_kubernetes_pod_labelpresent_{}", sanitise(key))]),
        regex: Some("true".to_owned()),
        action: Some(action),
        ..Relabel::default()
    }
}

/// A label's key as discovery spells it.
pub(super) fn sanitise(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{check, matches, rules};
    use crate::template::api::LabelSelector;
    use crate::template::violation::{Findings, Path};
    use serde_json::{Value, json};

    fn selector(value: Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_operator_decides_by_value_and_by_presence() {
        let labels: BTreeMap<_, _> = [("app".to_owned(), "web".to_owned())].into();
        let check = |expression: Value, expected| {
            let selector = selector(json!({"matchExpressions": [expression]}));
            assert_eq!(matches(&selector, &labels), expected, "{selector:?}");
        };
        check(json!({"key": "app", "operator": "In", "values": ["api", "web"]}), true);
        check(json!({"key": "app", "operator": "NotIn", "values": ["api", "web"]}), false);
        check(json!({"key": "tier", "operator": "In", "values": ["web"]}), false);
        check(json!({"key": "tier", "operator": "NotIn", "values": ["web"]}), true);
        check(json!({"key": "app", "operator": "Exists"}), true);
        check(json!({"key": "tier", "operator": "Exists"}), false);
        check(json!({"key": "app", "operator": "DoesNotExist"}), false);
        check(json!({"key": "tier", "operator": "DoesNotExist"}), true);
        assert!(matches(&selector(json!({})), &labels));
        assert!(matches(&selector(json!({"matchLabels": {"app": "web"}})), &labels));
        assert!(!matches(&selector(json!({"matchLabels": {"app": "we"}})), &labels));
    }

    #[test]
    fn what_the_api_machinery_refuses_is_a_violation() {
        for (value, path) in [
            (json!({"matchLabels": {"a/b/c": "x"}}), "s.matchLabels[\"a/b/c\"]"),
            (json!({"matchLabels": {"a": "x y"}}), "s.matchLabels.a"),
            (json!({"matchLabels": {"": "x"}}), "s.matchLabels[\"\"]"),
            (json!({"matchExpressions": [{"key": "a", "operator": "in"}]}), "s.matchExpressions[0].operator"),
            (json!({"matchExpressions": [{"key": "a", "operator": "In"}]}), "s.matchExpressions[0].values"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "s.matchExpressions[0].values",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b", "-"]}]}),
                "s.matchExpressions[0].values[1]",
            ),
        ] {
            let mut findings = Findings::default();
            check(&selector(value.clone()), &Path::root("s"), &mut findings);
            let paths: Vec<_> = findings.violations.iter().map(|violation| &*violation.path).collect();
            assert_eq!(paths, [path], "{value}");
        }
        let mut findings = Findings::default();
        let good = json!({"matchLabels": {"app.kubernetes.io/name": "", "x": "a.b_c-d"}});
        check(&selector(good), &Path::root("s"), &mut findings);
        assert_eq!(findings.violations, []);
    }

    #[test]
    fn values_match_exactly() {
        let rules = rules(&selector(json!({"matchLabels": {"ver/x": "1.2"}})));
        assert_eq!(rules[0].regex.as_deref(), Some(r"(1\.2);true"));
        assert_eq!(rules[0].source_labels.0[0], "__meta_kubernetes_pod_label_ver_x");
    }
}
