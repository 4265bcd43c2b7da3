//! Controls of the oracle's operations on monitors and configurations: each accepts what is right and turns red on what is
//! wrong.

mod support;

use serde_json::{Value, json};
use support::oracle::{self, Labels, Surroundings};

fn agent() -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": "agent", "namespace": "shop"},
        "spec": {"podMonitorSelector": {}, "version": "v3.5.2"},
    })
}

fn monitor(name: &str, endpoint: &Value) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "podMetricsEndpoints": [endpoint]},
    })
}

#[test]
fn a_definition_prunes_what_it_does_not_know_and_sets_its_defaults() {
    let mut agent = agent();
    agent["spec"]["scrapeIntervall"] = json!("1m");
    let custom = oracle::custom_resource(&agent).unwrap();
    assert_eq!(custom.pruned, ["spec.scrapeIntervall"]);
    assert_eq!(custom.errors, [""; 0]);
    assert_eq!(custom.object["spec"]["scrapeInterval"], "30s");
}

#[test]
fn a_definition_refuses_what_its_schema_and_its_rules_forbid() {
    let mut agent = agent();
    agent["spec"]["scrapeInterval"] = json!("soon");
    let errors = oracle::custom_resource(&agent).unwrap().errors;
    assert!(errors[0].starts_with(r#"spec.scrapeInterval: Invalid value: "soon""#), "{errors:?}");
    agent["spec"] = json!({"mode": "DaemonSet", "replicas": 2});
    let errors = oracle::custom_resource(&agent).unwrap().errors;
    assert_eq!(errors, ["spec: Invalid value: replicas cannot be set when mode is DaemonSet"]);
}

#[test]
fn a_kind_without_a_definition_is_a_failure() {
    let refused = oracle::custom_resource(&json!({"apiVersion": "v1", "kind": "Pod"})).unwrap_err();
    assert_eq!(refused.stage, "definition");
}

#[test]
fn the_operator_takes_a_good_monitor_and_says_why_not_a_bad_one() {
    let good = monitor("good", &json!({"port": "metrics"}));
    let bad = monitor("bad", &json!({"port": "metrics", "interval": "10s", "scrapeTimeout": "1m"}));
    let generated = oracle::config(&[agent(), good, bad], false).unwrap();
    assert_eq!(generated.selected, ["PodMonitor/shop/good"]);
    assert_eq!(generated.rejected.keys().collect::<Vec<_>>(), ["PodMonitor/shop/bad"]);
    assert!(generated.rejected["PodMonitor/shop/bad"].contains("scrapeTimeout"), "{:?}", generated.rejected);
    assert!(generated.config.contains("job_name: podMonitor/shop/good/0"), "{}", generated.config);
    assert!(!generated.config.contains("shop/bad"), "{}", generated.config);
}

#[test]
fn the_operator_warns_of_what_it_leaves_out() {
    let mut agent = agent();
    agent["spec"]["version"] = json!("v2.53.0");
    agent["spec"]["scrapeFailureLogFile"] = json!("failures.log");
    let warnings = oracle::config(&[agent], false).unwrap().warnings;
    assert!(
        warnings.iter().any(|warning| warning.starts_with("ignoring \"scrape_failure_log_file\"")),
        "{warnings:?}"
    );
}

#[test]
fn the_operator_refuses_unknown_keys_and_missing_secrets() {
    let mut unknown = agent();
    unknown["spec"]["scrapeIntervall"] = json!("1m");
    assert_eq!(oracle::config(&[unknown], false).unwrap_err().stage, "objects");
    let mut agent = agent();
    let credentials = json!({"name": "absent", "key": "token"});
    agent["spec"]["remoteWrite"] =
        json!([{"url": "https://receiver.example/", "authorization": {"credentials": credentials}}]);
    assert_eq!(oracle::config(&[agent], false).unwrap_err().stage, "remote-write");
}

/// One job over pods and one over a file, a remote write that drops what is private.
const CONFIG: &str = "
global:
  external_labels: {cluster: eu-1, pod: external, zone: $ZONE}
scrape_configs:
- job_name: pods
  kubernetes_sd_configs: [{role: pod, namespaces: {names: [shop]}}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
- job_name: files
  file_sd_configs: [{files: [targets/pod.json]}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: debug_.*, action: drop}
remote_write:
- url: https://receiver.example/api/v1/write
  write_relabel_configs:
  - {source_labels: [__name__], regex: private_.*, action: drop}
";

fn pod(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "i", "ports": [{"containerPort": 8080}]}]},
        "status": {"podIP": "10.0.0.7"},
    })
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn series_are_followed_from_discovery_to_the_receiver() {
    let around = Surroundings {
        services: Vec::new(),
        pods: vec![pod("shop"), pod("elsewhere")],
        files: [("targets/pod.json".to_owned(), r#"[{"targets": ["localhost:8080"]}]"#.to_owned())].into(),
        env: [("ZONE".to_owned(), "a".to_owned())].into(),
        series: vec![
            labels(&[("__name__", "requests"), ("pod", "own")]),
            labels(&[("__name__", "private_x")]),
            labels(&[("__name__", "debug_x")]),
        ],
        reports: vec!["up".to_owned(), "debug_report".to_owned()],
    };
    let labelled = oracle::labels(CONFIG, &around).unwrap();
    assert_eq!(labelled.failures, [""; 0]);
    let [pods, files] = &*labelled.targets else { unreachable!("two targets: {:?}", labelled.targets) };
    assert_eq!((&*pods.job, &*files.job), ("pods", "files"));
    assert_eq!(pods.discovered["__meta_kubernetes_namespace"], "shop");
    assert_eq!(pods.url.as_deref(), Some("http://10.0.0.7:8080/metrics"));
    let own = [("instance", "10.0.0.7:8080"), ("job", "pods"), ("pod", "web-0")];
    assert_eq!(pods.labels, Some(labels(&own)));
    let stored = labels(&[&own[..], &[("__name__", "requests"), ("exported_pod", "own")]].concat());
    assert_eq!(pods.series[0].stored, Some(stored.clone()));
    let mut sent = stored;
    sent.extend(labels(&[("cluster", "eu-1"), ("zone", "a")]));
    assert_eq!(pods.series[0].sent, [Some(sent)]);
    // Dropped by write relabeling, dropped by metric relabeling, and reports, which no metric relabeling sees.
    assert_eq!((pods.series[1].stored.is_some(), &*pods.series[1].sent), (true, &[None][..]));
    assert_eq!((files.series[2].stored.is_none(), &*files.series[2].sent), (true, &[][..]));
    for (series, name) in files.series[3..].iter().zip(["up", "debug_report"]) {
        let report = labels(&[("__name__", name), ("instance", "localhost:8080"), ("job", "files")]);
        assert_eq!(series.stored, Some(report));
    }
    assert_eq!(files.series.len(), 5);
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused() {
    let refused = oracle::labels(&format!("{CONFIG}no_such_key: 1\n"), &Surroundings::default()).unwrap_err();
    assert_eq!(refused.stage, "config");
    assert!(refused.message.contains("no_such_key"), "{}", refused.message);
}

#[test]
fn targets_that_are_not_given_are_a_failure_and_not_an_empty_answer() {
    let refused = oracle::labels(CONFIG, &Surroundings::default()).unwrap_err();
    assert_eq!(refused.stage, "discovery of job files");
}

#[test]
fn a_pod_is_discovered_once_it_has_an_address() {
    let mut waiting = pod("shop");
    waiting["status"] = json!({});
    let groups = oracle::discover(&[pod("shop"), waiting]).unwrap();
    let [found, nothing] = &*groups else { unreachable!("one group a pod: {groups:?}") };
    assert_eq!(found.source, "pod/shop/web-0");
    assert_eq!(found.targets.as_ref().unwrap()[0]["__address__"], "10.0.0.7:8080");
    assert_eq!((&nothing.labels, &nothing.targets), (&None, &None));
}
