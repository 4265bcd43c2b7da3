//! What arrives of a pod's monitors: through upstream's configuration and pod discovery, and through ours and the targets
//! annotation.

#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::collections::BTreeMap;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::{Answer, OutcomeKind, Policy, admit};
use promsidecar::names;
use serde_json::{Value, json};

use super::objects::{CONFIG_MAP, NAMESPACES, SECRET};
use super::pods::Facts;
use crate::support::oracle::{self, Labelled, Labels, Series, Surroundings};
use crate::support::{self, reviews};

/// Names of what a scrape says of itself.
pub(crate) const REPORTS: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// What the webhook knows: every namespace may use the template, with what it refers to.
pub(crate) fn catalog(template: &Value, objects: &[Value]) -> Catalog {
    let mut template = template.clone();
    template["metadata"]["annotations"][names::ALLOWED_NAMESPACES] = json!("*");
    let namespaces = NAMESPACES.iter().map(|(name, tier)| {
        let annotations = json!({(names::ALLOWED_SECRETS): format!("{SECRET},{CONFIG_MAP}")});
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"tier": tier}, "annotations": annotations}})
    });
    let objects: Vec<_> = namespaces.chain([template]).chain(objects.iter().cloned()).collect();
    support::catalog(&objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"))
}

/// What every target exposes.
pub(crate) fn exposed() -> Vec<Labels> {
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    vec![
        labels(&[("__name__", "requests"), ("code", "200"), ("Path", "/A")]),
        labels(&[
            ("__name__", "own"),
            ("pod", "own"),
            ("instance", "own"),
            ("namespace", "own"),
            ("job", "own"),
        ]),
        labels(&[("__name__", "latency_bucket"), ("le", "5")]),
        labels(&[("__name__", "go_goroutines")]),
    ]
}

/// One series: as it is stored, and as each receiver gets it.
pub(crate) type Pair = (Option<Labels>, Vec<Option<Labels>>);

/// Per job and URL path, the labels of every series.
pub(crate) type Arrived = BTreeMap<(String, String), Vec<Pair>>;

/// Follows series through a configuration.
pub(crate) fn follow(config: &str, around: &Surroundings) -> Labelled {
    oracle::labels(config, around).unwrap_or_else(|failure| panic!("{failure:?}: {config}"))
}

/// Series of monitors and of one pod; what is not known before the pod runs is put in, in URLs and in what is stored.
pub(crate) fn arrived(labelled: &Labelled, facts: &Facts) -> Arrived {
    let mut arrived = Arrived::new();
    for target in labelled.targets.iter().filter(|target| target.labels.is_some()) {
        let uid = &target.discovered[names::POD_UID.meta_label];
        let is_its = *uid == facts.uid || *uid == names::POD_UID.placeholder;
        if !is_its || !target.job.starts_with("podMonitor/") {
            continue;
        }
        let url = target.url.as_deref().unwrap_or_default();
        let url = url.replace("//localhost", &format!("//{}", facts.host()));
        let pairs = target
            .series
            .iter()
            .map(|Series { stored, sent }| (stored.clone().map(|stored| known(stored, facts)), sent.clone()));
        arrived.entry((target.job.clone(), url)).or_default().extend(pairs);
    }
    for pairs in arrived.values_mut() {
        pairs.sort();
    }
    arrived
}

/// Stored labels with what the agent puts in when it sends them.
pub(crate) fn known(stored: Labels, facts: &Facts) -> Labels {
    let put_in = |value: String| {
        let stands = names::RUNTIME_FACTS.iter().position(|fact| fact.placeholder == value);
        if let Some(index) = stands {
            return facts.values()[index].to_owned();
        }
        match value.strip_prefix("localhost") {
            Some(port) if port.is_empty() || port.starts_with(':') => format!("{}{port}", facts.host()),
            _ => value,
        }
    };
    stored.into_iter().map(|(name, value)| (name, put_in(value))).collect()
}

/// What a central Prometheus has around it.
pub(crate) fn central(pods: &[(Value, Facts)], namespace: &str) -> Surroundings {
    let pods = pods.iter().map(|(pod, facts)| facts.running(pod, namespace));
    Surroundings { pods: pods.collect(), ..scraped() }
}

/// What the agent of the pod has around it; `None` where the pod gets none.
pub(crate) fn beside(pod: &Value, namespace: &str, catalog: &Catalog, facts: &Facts) -> Option<Surroundings> {
    let env = names::RUNTIME_FACTS.iter().map(|fact| fact.env.to_owned());
    Some(Surroundings {
        files: [(names::TARGETS_GLOB.to_owned(), targets(pod, namespace, catalog)?)].into(),
        env: env.zip(facts.values().map(str::to_owned)).collect(),
        ..scraped()
    })
}

pub(crate) fn scraped() -> Surroundings {
    Surroundings {
        series: exposed(),
        reports: REPORTS.map(str::to_owned).to_vec(),
        ..Surroundings::default()
    }
}

/// The targets annotation of the pod after the webhook.
fn targets(pod: &Value, namespace: &str, catalog: &Catalog) -> Option<String> {
    let review = serde_json::to_vec(&reviews::creation(pod, namespace)).expect("a review is JSON");
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let Answer::Reviewed { body, outcome } = admit(&review, catalog, &policy) else {
        unreachable!("a review is answered")
    };
    let patched = (outcome.kind == OutcomeKind::Injected).then(|| support::patched(pod, &body))??;
    patched["metadata"]["annotations"][names::TARGETS].as_str().map(str::to_owned)
}
