//! The way there: how the pods of one namespace move over to agents beside them, each scraped once at any time. PURE.
//!
//! Input: a conversion. Output: numbered steps, with commands and YAML to paste.

use std::fmt::Write;

use super::object::{Conversion, SERVER_KIND};
use crate::names;
use crate::template::agent::FileSource;

/// First release of prometheus-operator whose scrape classes have relabelings.
const CLASSES_SINCE: &str = "0.74";

/// One step: what to do, and lines to paste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub what: String,
    /// Commands or YAML.
    pub paste: Vec<String>,
}

impl Step {
    fn new(what: impl Into<String>, paste: impl IntoIterator<Item = String>) -> Self {
        Self { what: what.into(), paste: paste.into_iter().collect() }
    }
}

/// The steps in order. Every pod keeps its scraper until the pod that replaces it, with the label, brings its own.
pub fn steps(conversion: &Conversion, monitors: &[String]) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(credentials(conversion));
    steps.push(apply(conversion));
    steps.push(what_agents_refuse(conversion));
    steps.extend(do_not_scrape_twice(conversion, monitors));
    steps.extend([opt_in(conversion), look(conversion), dashboards(conversion)]);
    steps.extend([back(conversion), the_end(conversion)]);
    steps
}

/// The source, as people call it.
pub fn source(conversion: &Conversion) -> String {
    format!("{} {}", conversion.kind, conversion.source)
}

fn credentials(conversion: &Conversion) -> Option<Step> {
    if conversion.objects.is_empty() {
        return None;
    }
    let Conversion { pods, objects, source, id, .. } = conversion;
    let mut what = format!("See that namespace {pods} has what its agents read:");
    for (index, ((kind, name), keys)) in objects.iter().enumerate() {
        let kind = match kind {
            FileSource::Secret => "Secret",
            FileSource::ConfigMap => "ConfigMap",
        };
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let keys = if keys.is_empty() { "all keys".to_owned() } else { keys.join(", ") };
        let separator = if index == 0 { " " } else { ", " };
        write!(what, "{separator}{kind} {name} ({keys})").ok()?;
    }
    if *pods != source.namespace {
        write!(what, ". They are in {} now; copy them", source.namespace).ok()?;
    }
    let mut paste = Vec::new();
    if *pods != id.namespace {
        what.push_str(". The namespace allows a template of another to use them:");
        let names: Vec<_> = objects.keys().map(|(_, name)| name.as_str()).collect();
        paste.push(format!(
            "kubectl annotate namespace {pods} {}={}",
            names::ALLOWED_SECRETS,
            names.join(",")
        ));
    }
    Some(Step::new(what, paste))
}

fn apply(conversion: &Conversion) -> Step {
    let id = &conversion.id;
    Step::new(
        "Apply the template (standard output of this command). Nothing is injected yet",
        [
            "kubectl apply -f template.yaml".to_owned(),
            format!(
                "kubectl wait -n {} prometheusagent/{} --for=condition=Reconciled --timeout=2m",
                id.namespace, id.name
            ),
        ],
    )
}

/// With the rule below, what agents do not scrape of a pod, nobody does.
fn what_agents_refuse(conversion: &Conversion) -> Step {
    Step::new(
        format!(
            "See what agents will not scrape, since nobody will once a pod of {} has its agent: what is listed as rejected or \
             refused, and whatever is scraped now and in no monitor that the template selects. Mend it, or leave it to the \
             central one by a scrape class without the rule of the next step",
            conversion.pods
        ),
        [
            "kubectl get prometheusagents,podmonitors,servicemonitors,services,namespaces -A -o yaml > cluster.yaml".to_owned(),
            "promsidecar validate -f cluster.yaml".to_owned(),
            format!("count by (job) (up{{namespace=\"{}\"}})", conversion.pods),
        ],
    )
}

/// The rule that drops a pod with an agent of its own, as items of a list.
fn rule() -> [String; 3] {
    let label: String =
        names::INJECTED.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    [
        format!("- sourceLabels: [__meta_kubernetes_pod_label_{label}]"),
        "  regex: \"true\"".to_owned(),
        "  action: drop".to_owned(),
    ]
}

fn do_not_scrape_twice(conversion: &Conversion, monitors: &[String]) -> [Step; 2] {
    let source = source(conversion);
    let indented = |depth: usize| rule().map(|line| format!("{}{line}", " ".repeat(depth)));
    let only = "only pods with an agent are dropped; keep it where the manifest is kept, or the next sync takes it away";
    let class = match &conversion.default_class {
        Some(class) => Step::new(
            format!(
                "Add to the relabelings of the scrape class {class:?} of {source}, its default ({only}):"
            ),
            indented(0),
        ),
        None => {
            let head = [
                "spec:",
                "  scrapeClasses:",
                "  - name: without-agent",
                "    default: true",
                "    relabelings:",
            ];
            let lines = head.map(str::to_owned).into_iter().chain(indented(4));
            Step::new(
                format!("Add to {source} (prometheus-operator {CLASSES_SINCE} or later; {only}):"),
                lines,
            )
        }
    };
    let which = if monitors.is_empty() { String::new() } else { format!(" (here: {})", monitors.join(", ")) };
    let others = Step::new(
        format!(
            "Add the same to the relabelings of monitors that name a scrapeClass{which}. In agents it has no effect: their \
             targets lack that label. Agents read no ScrapeConfigs and no additionalScrapeConfigs: the default class reaches \
             ScrapeConfigs too, so one that finds pods and has to go on needs a class of its own without the rule; to jobs of \
             additionalScrapeConfigs add it, as source_labels of relabel_configs, only where the pods' annotations or monitors \
             have the same target"
        ),
        [],
    );
    [class, others]
}

/// Commands that create the pods of a namespace anew.
fn restart(namespace: &str) -> String {
    format!("kubectl rollout restart -n {namespace} deployment,statefulset,daemonset")
}

fn opt_in(conversion: &Conversion) -> Step {
    let Conversion { pods, id, .. } = conversion;
    Step::new(
        format!(
            "When the central one has loaded the rule, opt namespace {pods} in, and replace its pods; each comes with its agent, \
             and the central one leaves it out. Jobs come with their next run; bare pods, and workloads with OnDelete, when \
             they are deleted"
        ),
        [
            format!("kubectl annotate --overwrite namespace {pods} {}={id}", names::TEMPLATE),
            format!("kubectl label --overwrite namespace {pods} {}=true", names::INJECT),
            restart(pods),
        ],
    )
}

fn look(conversion: &Conversion) -> Step {
    let pods = &conversion.pods;
    let spec = &conversion.template["spec"];
    let label = spec["prometheusExternalLabelName"]
        .as_str()
        .filter(|label| !label.is_empty())
        .unwrap_or("prometheus");
    Step::new(
        "See that each pod has its agent, and, at the receiver, that every job of before is there, and that the last query finds \
         nothing but targets that several central replicas scrape",
        [
            format!("kubectl get pods -n {pods} -L {}", names::INJECTED),
            format!("count by (job) (up{{namespace=\"{pods}\"}})"),
            format!("count by ({label}) (up{{namespace=\"{pods}\"}})"),
            format!(
                "count by (job, namespace, pod, container, endpoint, instance) (up{{namespace=\"{pods}\"}}) > 1"
            ),
        ],
    )
}

fn dashboards(conversion: &Conversion) -> Step {
    let spec = &conversion.template["spec"];
    let label = spec["prometheusExternalLabelName"].as_str().unwrap_or("prometheus");
    let (before, now) = (&conversion.source, &conversion.id);
    let replicas = "the label prometheus_replica (or replicaExternalLabelName) is gone";
    if label.is_empty() {
        return Step::new(format!("Dashboards and alerts: {replicas}; no label names the template"), []);
    }
    if before == now {
        return Step::new(
            format!(
                "Dashboards and alerts: {label}={before:?} stays; {replicas}",
                before = before.to_string()
            ),
            [],
        );
    }
    Step::new(
        format!(
            "Dashboards and alerts: {label}=\"{before}\" becomes {label}=\"{now}\", and {replicas}. To keep the old value, put into \
             the template:"
        ),
        [
            "spec:".to_owned(),
            "  prometheusExternalLabelName: \"\"".to_owned(),
            "  externalLabels:".to_owned(),
            format!("    {label}: {before}"),
        ],
    )
}

fn back(conversion: &Conversion) -> Step {
    let pods = &conversion.pods;
    Step::new(
        "To go back: pods without an agent are the central one's again, whatever became of the rule and the template",
        [
            format!("kubectl label namespace {pods} {}-", names::INJECT),
            format!("kubectl annotate namespace {pods} {}-", names::TEMPLATE),
            restart(pods),
        ],
    )
}

fn the_end(conversion: &Conversion) -> Step {
    let source = source(conversion);
    let more = if conversion.kind == SERVER_KIND { ", or keep it as a receiver" } else { "" };
    let id = &conversion.id;
    Step::new(
        format!(
            "Other namespaces move in the same way, each added to those that the template allows. When nothing is left that \
             {source} scrapes, delete it{more}; not before"
        ),
        [format!(
            "kubectl annotate --overwrite -n {} prometheusagent/{} {}={},ANOTHER",
            id.namespace,
            id.name,
            names::ALLOWED_NAMESPACES,
            conversion.pods
        )],
    )
}
