//! From the documents of many files to one catalog. PURE.
//!
//! Input: the readable documents of each file, the settings, and the catalog before. Output: the new catalog, the monitors, and
//! what is wrong with single documents; one bad document never costs another.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::compile::{compile, template_id};
use crate::admission::catalog::{Catalog, NamespaceMeta, TemplateEntry};
use crate::manifest::Document;
use crate::monitors::collect::{Collector, is_collected};
use crate::monitors::selection::Monitors;
use crate::template::agent::Agent;
use crate::template::{DEFAULT_NAMESPACE, Settings};

/// API group and version of templates.
const TEMPLATE_API: &str = "monitoring.coreos.com/v1alpha1";

/// Documents by file name; the order of the names decides which of two equal objects counts.
pub type Files = BTreeMap<String, Vec<Document>>;

/// A document that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Name of its file.
    pub file: String,
    /// Its position in the file, from 1.
    pub document: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// What became of the documents.
#[derive(Debug)]
pub struct Built {
    /// Every template and namespace; templates with the files of the monitors that they select.
    pub catalog: Catalog,
    /// What was left out, sorted.
    pub problems: Vec<Problem>,
    /// What there is to say about the monitors that templates select, a line each.
    pub notes: Vec<String>,
}

/// Builds the catalog. Kinds other than `PrometheusAgent`, `PodMonitor`, `ServiceMonitor`, `Service` and `Namespace` are passed over,
/// so that a directory of mixed manifests will do.
pub fn build(files: &Files, settings: &Settings, previous: &Catalog) -> Built {
    let mut catalog = Catalog::default();
    let mut problems = Vec::new();
    let mut monitors = Collector::default();
    let mut agents: Vec<Agent> = Vec::new();
    let mut seen: HashSet<(&str, String)> = HashSet::new();
    for (file, documents) in files {
        for document in documents {
            let mut report = |message: String| {
                problems.push(Problem { file: file.clone(), document: document.number, message });
            };
            if is_collected(&document.object) {
                if let Err(unusable) = monitors.note(&document.object, DEFAULT_NAMESPACE) {
                    report(unusable.to_string());
                }
                continue;
            }
            let metadata = document.object.get("metadata").unwrap_or(&Value::Null);
            let id = template_id(metadata);
            let identity = match (document.kind(), document.api_version()) {
                ("PrometheusAgent", TEMPLATE_API) => ("PrometheusAgent", id.to_string()),
                ("Namespace", "v1") => ("Namespace", id.name.clone()),
                (kind @ ("PrometheusAgent" | "Namespace"), version) => {
                    let expected = if kind == "Namespace" { "v1" } else { TEMPLATE_API };
                    report(format!("apiVersion {version:?} of kind {kind} is not known; use {expected}"));
                    continue;
                }
                _ => continue,
            };
            if id.name.is_empty() {
                let kind = identity.0;
                report(format!(
                    "metadata.name of the {kind} is missing or no text; give it one, in quotes if it is a number"
                ));
                continue;
            }
            if !seen.insert(identity.clone()) {
                let (kind, name) = identity;
                report(format!(
                    "{kind} {name} was already defined above or in an earlier file, which counts; remove one"
                ));
                continue;
            }
            if identity.0 == "Namespace" {
                // A namespace is never unusable.
                monitors.note(&document.object, DEFAULT_NAMESPACE).ok();
                catalog.insert_namespace(id.name, namespace(metadata));
            } else {
                let previous = previous.template(&id.namespace, &id.name).map(AsRef::as_ref);
                match compile(&document.object, settings, previous) {
                    Ok(compiled) => {
                        agents.extend(compiled.agent);
                        catalog.insert_template(compiled.entry);
                    }
                    Err(error) => report(error.to_string()),
                }
            }
        }
    }
    let notes = monitored(&mut catalog, &agents, &monitors.into_monitors());
    Built { catalog, problems, notes }
}

/// Gives the templates the files of their monitors, for every namespace that has monitors of its own: nobody else's can refer
/// to its Secrets.
fn monitored(catalog: &mut Catalog, agents: &[Agent], monitors: &Monitors) -> Vec<String> {
    let mut notes = Vec::new();
    for agent in agents {
        let told = monitors.select_everywhere(agent).notes();
        notes.extend(told.into_iter().map(|note| format!("template {}: {note}", agent.id)));
        let Some(entry) = catalog.template(&agent.id.namespace, &agent.id.name) else { continue };
        let mut entry = TemplateEntry::clone(entry);
        let Some(mut sidecar) = entry.sidecar.as_deref().cloned() else { continue };
        for namespace in monitors.namespaces() {
            sidecar.set_monitor_files(namespace, &monitors.files(agent, namespace));
        }
        entry.sidecar = Some(Arc::new(sidecar));
        catalog.insert_template(entry);
    }
    notes
}

fn namespace(metadata: &Value) -> NamespaceMeta {
    let look_up = |map: &str, key: &str| metadata.get(map)?.get(key)?.as_str();
    NamespaceMeta::new(|key| look_up("labels", key), |key| look_up("annotations", key))
}

#[cfg(test)]
mod tests {
    use super::{Files, Problem, build};
    use crate::admission::catalog::Catalog;
    use crate::manifest;
    use crate::template::Settings;

    fn files(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(name, text)| ((*name).to_owned(), manifest::read(text).unwrap())).collect()
    }

    const TEMPLATE: &str = "
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata: {name: agent, namespace: team-a}
";

    #[test]
    fn templates_and_namespaces_are_found_among_other_kinds() {
        let text = format!(
            "{TEMPLATE}---
apiVersion: v1
kind: Namespace
metadata: {{name: team-a, labels: {{sidecar.prometheus.io/inject: agent}}}}
---
kind: Deployment
"
        );
        let built = build(&files(&[("a.yaml", &text)]), &Settings::default(), &Catalog::default());
        assert_eq!(built.problems, []);
        assert!(built.catalog.template("team-a", "agent").is_some());
        assert_eq!(built.catalog.namespace("team-a").unwrap().inject.as_deref(), Some("agent"));
    }

    #[test]
    fn monitors_are_judged_by_the_templates_that_select_them_and_a_bad_one_costs_no_other() {
        let text = format!(
            "{TEMPLATE}  annotations: {{operator.prometheus.io/controller-id: promsidecar}}
spec: {{podMonitorSelector: {{}}}}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {{name: good, namespace: team-a}}
spec:
  selector: {{}}
  podMetricsEndpoints: [{{authorization: {{credentials: {{name: scrape, key: token}}}}}}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {{name: bad, namespace: team-a}}
spec: {{selector: {{}}, podMetricsEndpoints: [{{interval: soon}}]}}
---
apiVersion: azmonitoring.coreos.com/v1
kind: PodMonitor
metadata: {{name: good, namespace: team-a}}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {{name: good, namespace: team-a}}
"
        )
        .replace(
            "metadata: {name: agent, namespace: team-a}\n",
            "metadata:\n  name: agent\n  namespace: team-a\n",
        );
        let built = build(&files(&[("a.yaml", &text)]), &Settings::default(), &Catalog::default());
        let problems: Vec<_> = built.problems.iter().map(|problem| problem.document).collect();
        assert_eq!(problems, [5]);
        let start =
            "template team-a/agent: rejected: PodMonitor team-a/bad: spec.podMetricsEndpoints[0].interval:";
        assert!(built.notes.len() == 1 && built.notes[0].starts_with(start), "{:?}", built.notes);
        let sidecar = built.catalog.template("team-a", "agent").unwrap().sidecar.clone().unwrap();
        assert!(sidecar.has_credentials("team-a") && !sidecar.has_credentials("team-b"));
        assert_ne!(sidecar.hash_in("team-a"), sidecar.hash_in("team-b"));
        assert_eq!(sidecar.hash_in("team-b"), sidecar.hash);
    }

    #[test]
    fn monitors_of_other_namespaces_give_a_template_the_files_that_their_namespaces_list() {
        let documents = |allowed: &str| {
            format!(
                "{TEMPLATE}  annotations:
    operator.prometheus.io/controller-id: promsidecar
    sidecar.prometheus.io/allowed-namespaces: \"*\"
spec: {{podMonitorSelector: {{}}, podMonitorNamespaceSelector: {{}}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: fresh, annotations: {{sidecar.prometheus.io/allowed-secrets: {allowed:?}}}}}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {{name: db, namespace: fresh}}
spec:
  selector: {{}}
  podMetricsEndpoints: [{{authorization: {{credentials: {{name: db-admin, key: token}}}}}}]
"
            )
            .replace(
                "metadata: {name: agent, namespace: team-a}\n",
                "metadata:\n  name: agent\n  namespace: team-a\n",
            )
        };
        for (allowed, is_mounted) in [("", false), ("other", false), ("other, db-admin", true)] {
            let files = files(&[("a.yaml", &documents(allowed))]);
            let built = build(&files, &Settings::default(), &Catalog::default());
            assert_eq!(built.problems, []);
            let sidecar = built.catalog.template("team-a", "agent").unwrap().sidecar.clone().unwrap();
            assert_eq!(sidecar.has_credentials("fresh"), is_mounted, "{allowed:?}");
            let why = "template team-a/agent: rejected: PodMonitor fresh/db: spec.podMetricsEndpoints: \"db-admin\": is not in";
            assert_eq!(
                built.notes.iter().any(|note| note.starts_with(why)),
                !is_mounted,
                "{:?}",
                built.notes
            );
        }
    }

    #[test]
    fn duplicates_nameless_objects_and_foreign_versions_are_reported_and_left_out() {
        let other = "
apiVersion: v1
kind: Namespace
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusAgent
metadata: {name: other}
";
        let files = files(&[("a.yaml", TEMPLATE), ("b.yaml", TEMPLATE), ("c.yaml", other)]);
        let built = build(&files, &Settings::default(), &Catalog::default());
        let problem = |file: &str, document, message: &str| Problem {
            file: file.to_owned(),
            document,
            message: message.to_owned(),
        };
        assert_eq!(
            built.problems,
            [
                problem(
                    "b.yaml",
                    1,
                    "PrometheusAgent team-a/agent was already defined above or in an earlier file, which counts; remove one"
                ),
                problem(
                    "c.yaml",
                    1,
                    "metadata.name of the Namespace is missing or no text; give it one, in quotes if it is a number"
                ),
                problem(
                    "c.yaml",
                    2,
                    "apiVersion \"monitoring.coreos.com/v1\" of kind PrometheusAgent is not known; use monitoring.coreos.com/v1alpha1"
                ),
            ]
        );
        assert_eq!(built.catalog.templates().count(), 1);
    }
}
