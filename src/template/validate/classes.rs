//! `scrapeClasses`: what the jobs of several monitors have in common. PURE.
//!
//! Input: upstream's classes. Output: the parts that are rendered; violations where the operator would give up the template,
//! and where a class leads out of the pod.

use std::collections::BTreeMap;

use super::global::PROTOCOLS;
use super::relabel::relabelings;
use super::text;
use crate::monitors::doubts::{self, Authored};
use crate::template::agent::ScrapeClass;
use crate::template::api;
use crate::template::violation::{Findings, Path, Rule};

const CREDENTIALS: &str = "is not rendered in this version: monitors of the class are rejected";
const NODE: &str = "labels of the node are not known: the agent does not talk to the API server";

/// Reads every class.
pub(super) fn scrape_classes(
    classes: &[api::ScrapeClass],
    legacy: bool,
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
    let read = |(index, class)| scrape_class(class, legacy, &root.index(index), findings);
    classes.iter().enumerate().map(read).collect()
}

fn scrape_class(class: &api::ScrapeClass, legacy: bool, path: &Path, findings: &mut Findings) -> ScrapeClass {
    text::line(&class.name, &path.key("name"), findings);
    let (targets, metrics) = (path.key("relabelings"), path.key("metricRelabelings"));
    let relabel_configs = relabelings(&class.relabelings, legacy, &targets, findings);
    let metric_relabel_configs = relabelings(&class.metric_relabelings, legacy, &metrics, findings);
    let authored = Authored {
        before: &[],
        targets: (&relabel_configs, targets),
        metrics: (&metric_relabel_configs, metrics),
    };
    doubts::report(&authored, findings);
    for (given, name) in
        [(class.tls_config.is_some(), "tlsConfig"), (class.authorization.is_some(), "authorization")]
    {
        if given {
            findings.ignored(&path.key(name), CREDENTIALS);
        }
    }
    if class.attach_metadata.as_ref().is_some_and(|attach| attach.node == Some(true)) {
        findings.ignored(&path.key("attachMetadata").key("node"), NODE);
    }
    let fallback = class.fallback_scrape_protocol.as_deref();
    let fallback_path = path.key("fallbackScrapeProtocol");
    ScrapeClass {
        name: class.name.clone(),
        default: class.default == Some(true),
        fallback_scrape_protocol: text::choice(fallback, PROTOCOLS, PROTOCOLS, &fallback_path, findings),
        has_credentials: class.tls_config.is_some() || class.authorization.is_some(),
        relabel_configs,
        metric_relabel_configs,
    }
}
