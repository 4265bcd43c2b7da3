//! The series of a pod's monitors: through upstream's configuration and pod discovery as a central Prometheus has them, and
//! through ours and the targets annotation, as its agent has them. The same series arrive with the same labels.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::admission::{Answer, OutcomeKind, Policy, admit};
use promsidecar::names;
use promsidecar::template::render;
use serde_json::{Value, json};
use support::monitors::compare::{agent_of, monitors_of};
use support::monitors::objects::{agent, monitor, surroundings};
use support::oracle::{self, Labels, Series, Surroundings};
use support::reviews::creation;

const IP: &str = "10.0.0.7";

/// Pods of a namespace, as a client would create them.
fn pods() -> Vec<Value> {
    let port = |name: &str, number: u16| json!({"name": name, "containerPort": number});
    let pod = |metadata: Value, spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let inject = "sidecar.prometheus.io/inject";
    let web = json!({"name": "web", "image": "web:1", "ports": [port("metrics", 8080), port("admin", 8081)]});
    let sidecar = json!({"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "ports": [port("metrics", 9100)]});
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true}]);
    vec![
        pod(
            json!({"generateName": "web-1-", "ownerReferences": owner, "annotations": {(inject): "true", "port": "8081"},
                "labels": {"app": "web", "app.kubernetes.io/version": "1.2", "team": "shop"}}),
            json!({"containers": [web, {"name": "worker", "image": "worker:1"}], "initContainers": [sidecar]}),
        ),
        pod(
            json!({"name": "api-0", "annotations": {(inject): "true", (names::PORT): "8081"}, "labels": {"app": "api.v1", "canary": "true"}}),
            json!({"containers": [web]}),
        ),
        pod(
            json!({"generateName": "job-", "annotations": {(inject): "true"}, "labels": {"app": "web"}}),
            json!({"containers": [{"name": "job", "image": "job:1", "ports": [{"containerPort": 9090}]}]}),
        ),
    ]
}

/// Monitors, by what each is about.
fn monitors() -> Vec<Value> {
    let copy = |from: &str, to: &str| json!({"sourceLabels": [from], "targetLabel": to});
    let spec =
        |selector: Value, endpoint: Value| json!({"selector": selector, "podMetricsEndpoints": [endpoint]});
    let web = json!({"matchLabels": {"app": "web"}});
    let mut specs = vec![
        spec(json!({}), json!({})),
        spec(web.clone(), json!({"port": "metrics"})),
        spec(
            json!({"matchLabels": {"app.kubernetes.io/version": "1.2"}}),
            json!({"portNumber": 8081, "path": "/a"}),
        ),
        spec(
            json!({"matchExpressions": [{"key": "canary", "operator": "Exists"}]}),
            json!({"targetPort": 8080}),
        ),
        spec(
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["api.v1"]}]}),
            json!({"port": "metrics|admin", "honorLabels": true, "scheme": "https", "params": {"a": ["b"]}}),
        ),
        spec(
            json!({}),
            json!({"relabelings": [
                copy("__meta_kubernetes_pod_node_name", "node"),
                copy("__meta_kubernetes_pod_ip", "ip"),
                copy("__meta_kubernetes_pod_host_ip", "host"),
                copy("__meta_kubernetes_pod_uid", "uid"),
                copy("__meta_kubernetes_pod_name", "instance"),
                copy("__address__", "address"),
            ]}),
        ),
        spec(
            web,
            json!({
                "relabelings": [
                    {"sourceLabels": ["__address__", "__meta_kubernetes_pod_annotation_port"],
                        "regex": "([^:]+)(?::\\d+)?;(\\d+)", "replacement": "$1:$2", "targetLabel": "__address__"},
                    {"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(.+)"},
                    {"sourceLabels": ["__meta_kubernetes_pod_controller_kind"], "targetLabel": "kind"},
                ],
                "metricRelabelings": [
                    copy("pod", "pod_again"),
                    copy("instance", "server"),
                    {"sourceLabels": ["__name__"], "regex": "debug_.*", "action": "drop"},
                ],
            }),
        ),
    ];
    specs[1]["jobLabel"] = json!("team");
    specs[2]["podTargetLabels"] = json!(["team", "app.kubernetes.io/version"]);
    specs[4]["selectorMechanism"] = json!("RelabelConfig");
    let named = specs.into_iter().enumerate();
    named.map(|(index, spec)| monitor("shop", &format!("m{index}"), json!({}), spec)).collect()
}

fn exposed() -> Vec<Labels> {
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    vec![
        labels(&[("__name__", "requests"), ("code", "200")]),
        labels(&[("__name__", "own"), ("pod", "own"), ("instance", "own"), ("namespace", "own")]),
        labels(&[("__name__", "debug_x")]),
    ]
}

/// What arrives: per job and URL path, the labels of every series.
type Arrived = BTreeMap<(String, String), Vec<Option<Labels>>>;

fn arrived(config: &str, around: &Surroundings) -> Arrived {
    let labelled = oracle::labels(config, around).expect("the configuration can be read");
    assert_eq!(labelled.failures, [""; 0]);
    let kept = labelled.targets.into_iter().filter(|target| target.labels.is_some());
    let monitored = kept.filter(|target| target.job.starts_with("podMonitor/"));
    let mut arrived = Arrived::new();
    for target in monitored {
        let url = target.url.unwrap_or_default().replace(IP, "localhost");
        let sent = target.series.into_iter().map(|Series { mut sent, .. }| sent.pop().flatten());
        arrived.entry((target.job, url)).or_default().extend(sent);
    }
    for sent in arrived.values_mut() {
        sent.sort();
    }
    arrived
}

/// The pod as it is stored once it runs.
fn running(pod: &Value, name: &str) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["namespace"] = json!("shop");
    pod["metadata"]["uid"] = json!("8c2f1c0e");
    pod["spec"]["nodeName"] = json!("node-1");
    pod["status"] = json!({"phase": "Running", "podIP": IP, "hostIP": "192.0.2.1",
        "conditions": [{"type": "Ready", "status": "True"}]});
    pod
}

/// The targets annotation of the pod after the webhook.
fn targets(pod: &Value, template: &Value, monitors: &[Value]) -> String {
    let documents: Vec<_> = std::iter::once(template).chain(monitors).map(ToString::to_string).collect();
    let catalog = support::catalog(&documents.join("\n"));
    let review = serde_json::to_vec(&creation(pod, "shop")).unwrap();
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let Answer::Reviewed { body, outcome } = admit(&review, &catalog, &policy) else {
        unreachable!("a review is answered")
    };
    assert_eq!(outcome.kind, OutcomeKind::Injected, "{pod}");
    let patched = support::patched(pod, &body).expect("an injection has a patch");
    patched["metadata"]["annotations"][names::TARGETS]
        .as_str()
        .expect("an injected pod has targets")
        .to_owned()
}

#[test]
fn series_of_monitors_arrive_as_a_central_prometheus_would_have_sent_them() {
    let (mut series, mut targets_seen) = (0, 0);
    for version in ["v3.5.2", "v3.16.0"] {
        let template = agent(json!({
            "version": version, "podMonitorSelector": {}, "replicaExternalLabelName": "", "podTargetLabels": ["team"],
            "enforcedNamespaceLabel": "tenant", "remoteWrite": [{"url": "https://receiver.example/api/v1/write"}],
        }));
        let monitors = monitors();
        let mut objects = surroundings();
        objects.push(template.clone());
        objects.extend(monitors.iter().cloned());
        let generated = oracle::config(&objects, false).unwrap();
        assert_eq!((generated.selected.len(), generated.rejected.len()), (monitors.len(), 0));
        let upstream = generated.config.replace("$(SHARD)", "0");
        let agent = agent_of(&template);
        let selection = monitors_of(&monitors).select(&agent, "shop");
        assert_eq!((selection.taken.len(), selection.notes()), (monitors.len(), Vec::new()));
        let config = render::render(&agent, "shop", &selection);
        for pod in pods() {
            let sent = oracle::sent(&pod).unwrap().pod;
            let name = sent["metadata"]["name"].as_str().filter(|name| !name.is_empty());
            let name = name.unwrap_or("web-1-x7k2q").to_owned();
            let central = Surroundings {
                pods: vec![running(&sent, &name)],
                series: exposed(),
                ..Surroundings::default()
            };
            let facts = [name.as_str(), IP, "node-1", "8c2f1c0e", "192.0.2.1"];
            let env = names::RUNTIME_FACTS.iter().map(|fact| fact.env.to_owned());
            let beside = Surroundings {
                files: [(names::TARGETS_GLOB.to_owned(), targets(&sent, &template, &monitors))].into(),
                env: env.zip(facts.map(str::to_owned)).collect(),
                series: exposed(),
                ..Surroundings::default()
            };
            let (theirs, ours) = (arrived(&upstream, &central), arrived(&config, &beside));
            assert!(!theirs.is_empty());
            assert_eq!(ours, theirs, "{pod}");
            targets_seen += ours.len();
            series += ours.values().flatten().flatten().count();
        }
    }
    println!("{targets_seen} targets, {series} series");
    assert!(targets_seen >= 40 && series >= 190, "{targets_seen} targets, {series} series");
}

#[test]
fn a_pod_mounts_the_files_of_its_namespaces_monitors_apart_from_the_templates() {
    let key = |name: &str, key: &str| json!({"name": name, "key": key});
    let endpoint = |credentials: Value| json!({"selector": {}, "podMetricsEndpoints": [{"authorization": {"credentials": credentials}}]});
    let template = agent(json!({
        "podMonitorSelector": {}, "podMonitorNamespaceSelector": {},
        "scrapeClasses": [
            {"name": "used", "authorization": {"credentials": key("class", "token")}},
            {"name": "unused", "tlsConfig": {"ca": {"secret": key("scrape", "token")}}},
            {"name": "unusable", "tlsConfig": {"ca": {"secret": key("nowhere", "token")}, "certFile": "/a", "keyFile": "/b"}},
        ],
        "remoteWrite": [{"url": "https://receiver.example/", "authorization": {"credentials": key("remote", "token")}}],
    }));
    let any = json!({"selector": {}, "podMetricsEndpoints": [{}], "scrapeClass": "used", "namespaceSelector": {"any": true}});
    let monitors = [
        // What a class refers to is nothing of the monitor's.
        monitor("web", "any", json!({}), any),
        monitor("shop", "a", json!({}), endpoint(key("scrape", "token"))),
        monitor("shop", "b", json!({}), endpoint(key("remote", "token"))),
        monitor("web", "c", json!({}), endpoint(key("elsewhere", "token"))),
    ];
    let documents: Vec<_> = std::iter::once(&template).chain(&monitors).map(ToString::to_string).collect();
    let catalog = support::catalog(&documents.join("\n"));
    let pod = &pods()[1];
    let review = serde_json::to_vec(&creation(pod, "shop")).unwrap();
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let Answer::Reviewed { body, .. } = admit(&review, &catalog, &policy) else { unreachable!("answered") };
    let patched = support::patched(pod, &body).unwrap();
    let volumes = patched["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == names::VOLUME_CONFIG).unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    let secrets: Vec<_> = sources.iter().filter_map(|source| source.get("secret")).cloned().collect();
    let secret = |name: &str, whose: &str| {
        let path = format!("{whose}secrets/{name}/token");
        json!({"name": name, "optional": true, "items": [{"key": "token", "path": path}]})
    };
    // No field of a template leads to what is mounted for monitors.
    let of_template = ["class", "remote", "scrape"].map(|name| secret(name, ""));
    let of_monitors = ["remote", "scrape"].map(|name| secret(name, "monitors/"));
    assert_eq!(secrets, [&of_template[..], &of_monitors].concat());
    let agent = agent_of(&template);
    let selection = monitors_of(&monitors).select(&agent, "shop");
    let file = selection.jobs.iter().find(|job| job.job_name == "podMonitor/web/any/0").unwrap();
    let file = file.authorization.as_ref().unwrap().credentials_file.as_deref();
    assert_eq!(file, Some("secrets/class/token"));
    // Whoever wants to use the template elsewhere has to be permitted them.
    let objects: Vec<_> = agent.objects().into_iter().map(|(_, name)| name).collect();
    assert_eq!(objects, ["class", "remote", "scrape"]);
    let verdict = oracle::validate(&oracle::sent(&patched).unwrap().pod, "shop").unwrap();
    assert_eq!(verdict.errors, [""; 0]);
}

#[test]
fn a_hinted_port_is_scraped_once_by_a_monitor_if_one_says_so() {
    let web = json!({"name": "web", "image": "web:1", "ports": [
        {"name": "metrics", "containerPort": 8080}, {"name": "admin", "containerPort": 8081}, {"containerPort": 8082},
    ]});
    let pod = |labels: Value| {
        let annotations =
            json!({"sidecar.prometheus.io/inject": "true", (names::PORT): "8080,8081,8082,8099"});
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [web]},
            "metadata": {"name": "web-0", "labels": labels, "annotations": annotations}})
    };
    let by =
        |selector: Value, endpoints: Value| json!({"selector": selector, "podMetricsEndpoints": endpoints});
    let expression = |key: &str, operator: &str, values: &[&str]| {
        let mut expression = json!({"key": key, "operator": operator});
        if !values.is_empty() {
            expression["values"] = json!(values);
        }
        expression
    };
    let specs = [
        by(json!({"matchLabels": {"app": "a"}}), json!([{"port": "metrics"}])),
        by(
            json!({"matchExpressions": [expression("app", "NotIn", &["a", "b"])]}),
            json!([{"portNumber": 8081}]),
        ),
        by(
            json!({"matchLabels": {"tier": "x"}, "matchExpressions": [expression("app", "DoesNotExist", &[])]}),
            json!([{"portNumber": 8080}, {"port": "admin|x"}]),
        ),
        by(json!({"matchExpressions": [expression("app", "In", &["d.e", "f"])]}), json!([{}])),
    ];
    let template = agent(json!({"podMonitorSelector": {}}));
    let named = specs.into_iter().enumerate();
    let monitors: Vec<_> =
        named.map(|(index, spec)| monitor("shop", &format!("m{index}"), json!({}), spec)).collect();
    let agent = agent_of(&template);
    let config = render::render(&agent, "shop", &monitors_of(&monitors).select(&agent, "shop"));
    for (labels, monitored) in [
        (json!({"app": "a"}), vec!["8080"]),
        (json!({"app": "b"}), vec![]),
        (json!({"app": "c"}), vec!["8081"]),
        (json!({"tier": "x"}), vec!["8080", "8081"]),
        (json!({"tier": "x", "app": "b"}), vec![]),
        (json!({"app": "d.e"}), vec!["8080", "8081", "8082"]),
        (json!({"app": "dxe"}), vec!["8081"]),
        (json!({}), vec!["8081"]),
    ] {
        let pod = pod(labels);
        let files = [(names::TARGETS_GLOB.to_owned(), targets(&pod, &template, &monitors))].into();
        let labelled = oracle::labels(&config, &Surroundings { files, ..Surroundings::default() }).unwrap();
        let mut ports: BTreeMap<bool, BTreeSet<String>> = BTreeMap::new();
        for target in labelled.targets.into_iter().filter(|target| target.labels.is_some()) {
            let url = target.url.unwrap_or_default();
            let port = url.trim_start_matches("http://localhost:").trim_end_matches("/metrics").to_owned();
            ports.entry(target.job.starts_with("podMonitor/")).or_default().insert(port);
        }
        let of = |monitored| ports.get(&monitored).cloned().unwrap_or_default();
        let expected: BTreeSet<_> = monitored.iter().map(|port| (*port).to_owned()).collect();
        assert_eq!(of(true), expected, "{pod}");
        // Nobody declares the last, so no monitor scrapes it.
        let all = ["8080", "8081", "8082", "8099"].map(str::to_owned);
        let hints: BTreeSet<_> = all.into_iter().filter(|port| !expected.contains(port)).collect();
        assert_eq!(of(false), hints, "{pod}");
    }
}
