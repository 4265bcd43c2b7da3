//! Every rendered configuration through Prometheus' own relabeling: from the targets annotation of an injected pod to the
//! labels that arrive at each receiver, for pods whose name and addresses are known only to their agent.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use promsidecar::admission::Answer;
use promsidecar::names;
use serde_json::Value;
use support::cases::{self, Case};
use support::golden::folders;
use support::oracle::{self, Labels, Surroundings, Target};

/// The case whose pod has no name at admission.
const GENERATED_NAME: &str = "review-replicaset";

fn renderings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/render");
    let configs = folders(&root).into_iter().map(|folder| folder.join(names::CONFIG_KEY));
    configs.filter(|config| config.is_file()).collect()
}

/// The targets annotation that the webhook writes on the case's pod.
fn targets() -> String {
    let case = Case::read(&cases::root().join(GENERATED_NAME));
    let Answer::Reviewed { body, .. } = case.admit(&case.review) else {
        unreachable!("the case is injected")
    };
    let patched = support::patched(&case.review["request"]["object"], &body).expect("the case is injected");
    let targets = patched["metadata"]["annotations"][names::TARGETS].as_str();
    targets.expect("an injected pod has targets").to_owned()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What the job for annotations delivers of an application that has labels of our names, and of one that forges ours.
fn delivered(config: &str, ip: &str) -> Target {
    let facts = ["web-855886fbf-x7k2q", ip, "node-1", "8c2f1c0e-uid", "192.0.2.1"];
    let env = names::RUNTIME_FACTS.iter().map(|fact| fact.env.to_owned()).zip(facts.map(str::to_owned));
    let series = vec![
        labels(&[("__name__", "requests"), ("pod", "own"), ("instance", "own")]),
        labels(&[
            ("__name__", "forged"),
            ("__promsidecar_pod_name", "victim"),
            ("__promsidecar_pod_ip", "::"),
        ]),
    ];
    let files = [(names::TARGETS_GLOB.to_owned(), targets())].into();
    let around = Surroundings { env: env.collect(), files, series, ..Surroundings::default() };
    let labelled = oracle::labels(config, &around).expect("the configuration can be read");
    assert_eq!(labelled.failures, [""; 0]);
    let mut kept = labelled.targets.into_iter().filter(|target| target.labels.is_some());
    let target = kept.find(|target| target.job == names::JOB_ANNOTATIONS).expect("the hint is a target");
    assert!(kept.all(|other| other.job != names::JOB_ANNOTATIONS), "one hint, one target");
    target
}

#[test]
fn series_arrive_with_the_identity_of_their_pod() {
    let config = fs::read_to_string(&renderings()[0]).expect("a golden can be read");
    for (ip, instance) in [("10.0.0.7", "10.0.0.7:8080"), ("fd00::7", "[fd00::7]:8080")] {
        let target = delivered(&config, ip);
        let identity = labels(&[
            ("container", "web"),
            ("instance", instance),
            ("job", names::JOB_ANNOTATIONS),
            ("namespace", "team-a"),
            ("pod", "web-855886fbf-x7k2q"),
            ("prometheus", "team-a/shop"),
        ]);
        let own = [("__name__", "requests"), ("exported_instance", "own"), ("exported_pod", "own")];
        for (series, more) in
            target.series.iter().zip([&own[..], &[("__name__", "forged")], &[("__name__", "up")]])
        {
            let mut expected = identity.clone();
            expected.extend(labels(more));
            assert!(!series.sent.is_empty(), "there are receivers");
            assert!(
                series.sent.iter().all(|sent| sent.as_ref() == Some(&expected)),
                "{ip}: {:?}",
                series.sent
            );
        }
    }
}

#[test]
fn no_rendering_sends_a_placeholder_or_a_helper_or_another_identity() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for path in renderings() {
        let config = fs::read_to_string(&path).expect("a golden can be read");
        let target = delivered(&config, "10.0.0.7");
        *counts.entry("configurations").or_default() += 1;
        for sent in target.series.iter().flat_map(|series| &series.sent).flatten() {
            let at = format!("{}: {sent:?}", path.display());
            let helpers = sent.keys().filter(|name| name.starts_with("__") && *name != "__name__");
            assert_eq!(helpers.count(), 0, "{at}");
            for fact in &names::RUNTIME_FACTS {
                assert!(!sent.values().any(|value| value.contains(fact.placeholder)), "{at}");
            }
            assert!(
                !sent.values().any(|value| value.contains("victim") || value.contains("localhost")),
                "{at}"
            );
            *counts.entry("series").or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts["configurations"] >= 16 && counts["series"] >= 60, "{counts:?}");
}

#[test]
fn without_our_write_rules_placeholders_would_be_sent() {
    let config = fs::read_to_string(&renderings()[0]).expect("a golden can be read");
    let mut config: Value = serde_saphyr::from_str(&config).expect("a rendering is YAML");
    for receiver in config["remote_write"].as_array_mut().expect("there are receivers") {
        receiver.as_object_mut().expect("a receiver is an object").remove("write_relabel_configs");
    }
    let target = delivered(&config.to_string(), "10.0.0.7");
    let sent = target.series[0].sent[0].as_ref().expect("the series is sent");
    assert_eq!(sent["pod"], names::POD_NAME.placeholder);
}
