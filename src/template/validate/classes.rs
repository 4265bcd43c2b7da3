//! `scrapeClasses`: what the jobs of several monitors have in common. PURE.
//!
//! Input: upstream's classes. Output: the parts that are rendered, with what keeps monitors from using them; violations where
//! the operator would give up the template (prometheus-operator `getScrapeClassConfig`), and no others.

use std::collections::BTreeMap;

use super::credentials::Needs;
use super::global::PROTOCOLS;
use super::relabel::{NOT_A_LABEL, relabelings};
use super::{http, text};
use crate::monitors::doubts::{self, Authored, LEAVES, NO_SCHEME};
use crate::names;
use crate::template::agent::ScrapeClass;
use crate::template::api;
use crate::template::api::http::SecretOrConfigMap;
use crate::template::prometheus::{Relabel, Tls};
use crate::template::violation::{Findings, Path, Rule, Violation, Warning};

const NODE: &str = "labels of the node are not known: the agent does not talk to the API server";

/// Reads every class. What those that can be used refer to are files of the template.
pub(super) fn scrape_classes(
    classes: &[api::ScrapeClass],
    legacy: bool,
    needs: &mut Needs,
    findings: &mut Findings,
) -> Vec<ScrapeClass> {
    let root = Path::root("spec").key("scrapeClasses");
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut default = None;
    for (index, class) in classes.iter().enumerate() {
        let path = root.index(index);
        if class.name.is_empty() {
            findings.violation_at(&path.key("name"), Rule::Required);
        } else if let Some(first) = names.insert(&class.name, index) {
            let of = root.index(first).key("name").to_string();
            findings.violation(&path.key("name"), &class.name, Rule::Duplicate { of });
        }
        if class.default == Some(true)
            && let Some(first) = default.replace(index)
        {
            let of = root.index(first).key("default").to_string();
            findings.violation_at(&path.key("default"), Rule::Duplicate { of });
        }
    }
    let read = |(index, class)| scrape_class(class, legacy, &root.index(index), needs, findings);
    classes.iter().enumerate().map(read).collect()
}

fn scrape_class(
    class: &api::ScrapeClass,
    legacy: bool,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> ScrapeClass {
    text::line(&class.name, &path.key("name"), findings);
    let mut found = Findings::default();
    let mut files = Needs::default();
    let read = ScrapeClass { violations: Vec::new(), ..parts(class, legacy, path, &mut files, &mut found) };
    let has_paths = has_paths(class);
    let (theirs, ours): (Vec<_>, Vec<_>) =
        found.violations.into_iter().partition(|violation| is_refused_upstream(&violation.rule, has_paths));
    findings.violations.extend(theirs);
    findings.ignored.extend(found.ignored);
    findings.warnings.extend(found.warnings);
    findings.warnings.extend(ours.iter().map(|violation| Warning {
        path: violation.path.clone(),
        text: format!("{}; monitors of the class are rejected", violation.without_path()),
    }));
    if ours.is_empty() {
        needs.add_optional(&files);
    }
    ScrapeClass { violations: ours, ..read }
}

/// Every part of a class; all that is wrong with it is told.
fn parts(
    class: &api::ScrapeClass,
    legacy: bool,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> ScrapeClass {
    let (targets, metrics) = (path.key("relabelings"), path.key("metricRelabelings"));
    let relabel_configs = relabelings(&class.relabelings, legacy, &targets, findings);
    let metric_relabel_configs = relabelings(&class.metric_relabelings, legacy, &metrics, findings);
    let authored = Authored {
        before: &[Relabel::copy(names::POD_NAME.meta_label, "pod")],
        targets: (&relabel_configs, targets),
        metrics: (&metric_relabel_configs, metrics),
    };
    doubts::report(&authored, findings);
    path_and_reference(class, path, findings);
    if class.attach_metadata.as_ref().is_some_and(|attach| attach.node == Some(true)) {
        findings.ignored(&path.key("attachMetadata").key("node"), NODE);
    }
    let fallback = class.fallback_scrape_protocol.as_deref();
    let fallback_path = path.key("fallbackScrapeProtocol");
    let tls = class.tls_config.as_ref();
    let tls = tls.map(|tls| http::tls_config(tls, &path.key("tlsConfig"), needs, findings));
    let authorization = class.authorization.as_ref();
    ScrapeClass {
        name: class.name.clone(),
        default: class.default == Some(true),
        fallback_scrape_protocol: text::choice(fallback, PROTOCOLS, PROTOCOLS, &fallback_path, findings),
        tls_config: tls.filter(|tls| *tls != Tls::default()),
        authorization: authorization
            .map(|auth| http::any_authorization(auth, &path.key("authorization"), needs, findings)),
        relabel_configs,
        metric_relabel_configs,
        violations: Vec::new(),
    }
}

/// A file that a class may name by reference or by path: the section, and either field with whether it is stated.
struct File {
    section: &'static str,
    reference: (&'static str, bool),
    path: (&'static str, bool),
}

fn files(class: &api::ScrapeClass) -> [File; 4] {
    let is_path = |path: Option<&String>| path.is_some_and(|path| !path.is_empty());
    let refers = |either: Option<&SecretOrConfigMap>| {
        either.is_some_and(|either| either.secret.is_some() || either.config_map.is_some())
    };
    let (tls, auth) = (class.tls_config.as_ref(), class.authorization.as_ref());
    let of_tls = |reference, path| File { section: "tlsConfig", reference, path };
    [
        of_tls(
            ("ca", refers(tls.and_then(|tls| tls.ca.as_ref()))),
            ("caFile", is_path(tls.and_then(|tls| tls.ca_file.as_ref()))),
        ),
        of_tls(
            ("cert", refers(tls.and_then(|tls| tls.cert.as_ref()))),
            ("certFile", is_path(tls.and_then(|tls| tls.cert_file.as_ref()))),
        ),
        of_tls(
            ("keySecret", tls.is_some_and(|tls| tls.key_secret.is_some())),
            ("keyFile", is_path(tls.and_then(|tls| tls.key_file.as_ref()))),
        ),
        File {
            section: "authorization",
            reference: ("credentials", auth.is_some_and(|auth| auth.credentials.is_some())),
            path: ("credentialsFile", is_path(auth.and_then(|auth| auth.credentials_file.as_ref()))),
        },
    ]
}

/// The operator refuses a path beside a reference to the same.
fn path_and_reference(class: &api::ScrapeClass, path: &Path, findings: &mut Findings) {
    for file in files(class) {
        http::one_credential(&[file.reference, file.path], &path.key(file.section), findings);
    }
}

fn has_paths(class: &api::ScrapeClass) -> bool {
    files(class).iter().any(|file| file.path.1)
}

/// Whether the operator, or the definition, refuses the template for it. The last good version then stays in force, with the
/// jobs of every monitor.
fn is_refused_upstream(rule: &Rule, has_paths: bool) -> bool {
    match rule {
        Rule::Regex(_) | Rule::Conflict { .. } | Rule::Exceeds { .. } | Rule::OneOf(_) => true,
        // A certificate may be a reference where its key is a path.
        Rule::Required => !has_paths,
        Rule::Text(text) => *text == NOT_A_LABEL,
        Rule::Other { .. } => *rule != LEAVES && *rule != NO_SCHEME,
        _ => false,
    }
}

/// Why a monitor cannot be of a class.
pub(crate) fn refusals(class: &ScrapeClass) -> impl Iterator<Item = Violation> + '_ {
    let which = if class.default { "the default scrape class" } else { "a scrape class" };
    class.violations.iter().map(move |violation| Violation {
        path: Path::root("spec").key("scrapeClass").to_string(),
        value: Some(class.name.clone()),
        rule: Rule::ScrapeClass(format!("is {which} of the template, which agents cannot use: {violation}")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Needs;
    use super::scrape_classes;
    use crate::template::agent::ScrapeClass;
    use crate::template::violation::Findings;
    use serde_json::{Value, json};

    fn read(classes: &Value) -> (Vec<ScrapeClass>, Vec<String>, Findings) {
        let classes: Vec<_> = serde_json::from_value(classes.clone()).unwrap();
        let (mut needs, mut findings) = (Needs::default(), Findings::default());
        let read = scrape_classes(&classes, false, &mut needs, &mut findings);
        assert!(needs.files.iter().all(|file| !file.essential && !file.of_monitor));
        (read, needs.files.iter().map(crate::template::agent::FileReference::path).collect(), findings)
    }

    #[test]
    fn what_the_operator_takes_rejects_the_monitors_of_the_class_alone() {
        let key = json!({"name": "s", "key": "k"});
        for (class, path) in [
            (json!({"tlsConfig": {"caFile": "/etc/ca.crt"}}), "tlsConfig.caFile"),
            (json!({"tlsConfig": {"cert": {"secret": key}, "keyFile": "/k"}}), "tlsConfig.keyFile"),
            (json!({"authorization": {"credentialsFile": "/token"}}), "authorization.credentialsFile"),
            (json!({"authorization": {"type": "a b", "credentials": key}}), "authorization.type"),
            (
                json!({"relabelings": [{"targetLabel": "__address__", "replacement": "a:1"}]}),
                "relabelings[0].replacement",
            ),
            (
                json!({"relabelings": [{"targetLabel": "__scheme__", "replacement": "http://evil.example/?x="}]}),
                "relabelings[0].replacement",
            ),
            (
                json!({"metricRelabelings": [{"targetLabel": "__promsidecar_x"}]}),
                "metricRelabelings[0].targetLabel",
            ),
        ] {
            let mut class = class;
            class["name"] = json!("c");
            let (classes, files, findings) = read(&json!([class]));
            assert_eq!((findings.violations, files), (Vec::new(), Vec::new()), "{class}");
            let path = format!("spec.scrapeClasses[0].{path}");
            assert!(
                classes[0].violations.iter().any(|violation| violation.path == path),
                "{class}: {classes:?}"
            );
            let told = findings.warnings.iter().find(|warning| warning.path == path);
            let told = told.map(|warning| warning.text.as_str()).unwrap_or_default();
            assert!(told.ends_with("; monitors of the class are rejected"), "{class}: {told}");
        }
    }

    #[test]
    fn what_the_operator_refuses_is_a_violation_of_the_template() {
        let key = json!({"name": "s", "key": "k"});
        for (class, path) in [
            (json!({"relabelings": [{"regex": "(", "targetLabel": "a"}]}), "relabelings[0].regex"),
            (json!({"metricRelabelings": [{"sourceLabels": ["a"]}]}), "metricRelabelings[0].targetLabel"),
            (json!({"tlsConfig": {"ca": {"secret": key}, "caFile": "/ca"}}), "tlsConfig.caFile"),
            (json!({"tlsConfig": {"cert": {"secret": key}}}), "tlsConfig.keySecret"),
            (json!({"tlsConfig": {"minVersion": "TLS13", "maxVersion": "TLS12"}}), "tlsConfig.minVersion"),
            (
                json!({"authorization": {"credentials": key, "credentialsFile": "/t"}}),
                "authorization.credentialsFile",
            ),
            (json!({"authorization": {"type": "Basic", "credentials": key}}), "authorization.type"),
            (json!({"fallbackScrapeProtocol": "Text"}), "fallbackScrapeProtocol"),
        ] {
            let mut class = class;
            class["name"] = json!("c");
            let (_, _, findings) = read(&json!([class]));
            let paths: Vec<_> = findings.violations.iter().map(|violation| &*violation.path).collect();
            assert_eq!(paths, [format!("spec.scrapeClasses[0].{path}")], "{class}");
        }
    }

    #[test]
    fn what_a_class_refers_to_is_a_file_of_the_template_that_an_agent_runs_without() {
        let key = |key: &str| json!({"name": "s", "key": key});
        let tls =
            json!({"ca": {"configMap": key("ca")}, "cert": {"secret": key("crt")}, "keySecret": key("key")});
        let class = json!({"name": "c", "tlsConfig": tls, "authorization": {"credentials": key("token")}});
        let (classes, files, findings) = read(&json!([class]));
        assert_eq!((findings.violations, findings.warnings), (Vec::new(), Vec::new()));
        assert_eq!(files, ["secrets/s/crt", "secrets/s/key", "secrets/s/token", "configmaps/s/ca"]);
        let tls = classes[0].tls_config.as_ref().unwrap();
        assert_eq!(tls.ca_file.as_deref(), Some("configmaps/s/ca"));
        let authorization = classes[0].authorization.as_ref().unwrap();
        assert_eq!(authorization.credentials_file.as_deref(), Some("secrets/s/token"));
    }
}
