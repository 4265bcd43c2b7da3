//! What a central Prometheus with upstream's configuration would have sent of a pod.
//!
//! Input: a template, the monitors and Services around a pod, and the pod. Output: label sets at the receiver.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::pods::{NAMESPACE, SYNTHETIC, Who, stored};
use super::receiver::{Labels, Receiver};
use super::sidecar::Sidecar;
use crate::support::monitors::objects::surroundings;
use crate::support::oracle::{self, Surroundings};

/// What the applications expose. The second tries to be another pod.
pub(crate) const METRICS: &str = "
requests_total{code=\"200\"} 42
jobs_total{pod=\"worker-1\",namespace=\"elsewhere\",instance=\"10.9.9.9:1\",job=\"j\"} 7
debug_total 1
";

/// The same as labels.
pub(crate) fn exposed() -> Vec<Labels> {
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    vec![
        labels(&[("__name__", "requests_total"), ("code", "200")]),
        labels(&[
            ("__name__", "jobs_total"),
            ("pod", "worker-1"),
            ("namespace", "elsewhere"),
            ("instance", "10.9.9.9:1"),
            ("job", "j"),
        ]),
        labels(&[("__name__", "debug_total")]),
    ]
}

/// What a central Prometheus would have sent of this pod's monitors.
pub(crate) fn sent(
    template: &Value,
    monitors: &[Value],
    services: &[Value],
    who: Who,
    pod: &Value,
) -> BTreeSet<Labels> {
    let mut objects = surroundings();
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
    objects.push(template.clone());
    objects.extend(monitors.iter().cloned());
    let generated = oracle::config(&objects, false).unwrap();
    assert_eq!((generated.selected.len(), generated.rejected.len()), (monitors.len(), 0));
    let around = Surroundings {
        pods: vec![stored(who, &oracle::sent(pod).unwrap().pod)],
        services: services.to_vec(),
        series: exposed(),
        reports: SYNTHETIC.map(str::to_owned).to_vec(),
        ..Surroundings::default()
    };
    let labelled = oracle::labels(&generated.config.replace("$(SHARD)", "0"), &around).unwrap();
    assert_eq!(labelled.failures, [""; 0]);
    let series = labelled.targets.into_iter().flat_map(|target| target.series);
    series.filter_map(|series| series.sent.into_iter().next().flatten()).collect()
}

/// Waits until the receiver has these series, and says how many there are: no others may be. The agents end in order.
#[expect(clippy::print_stdout, reason = "the counts are what a reader of the log wants")]
pub(crate) async fn assert_delivered(receiver: &Receiver, agents: Vec<Sidecar>, expected: &BTreeSet<Labels>) {
    let arrived: BTreeSet<Labels> = receiver.receives(expected).await.into_keys().collect();
    println!(
        "{} agents, {} series, unexplained differences: {}",
        agents.len(),
        arrived.len(),
        arrived.symmetric_difference(expected).count()
    );
    assert_eq!(arrived, *expected);
    for agent in agents {
        assert_eq!(agent.stop().finished.code(), 0);
    }
}
