//! `ServiceMonitor`s by hand: which targets a pod's agent finds for its Services, what becomes of hints beside them, which Services
//! are refused, and what pods mount.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::names;
use promsidecar::template::render;
use serde_json::{Value, json};
use support::monitors::compare::{agent_of, monitors_of};
use support::monitors::objects::{agent, secret, service, service_monitor};
use support::oracle::{self, Surroundings};
use support::reviews::creation;

const HINTED: &str = "8080,8081,8099,8100";

/// A pod with two declared ports.
fn pod(labels: Value) -> Value {
    let ports = json!([{"name": "metrics", "containerPort": 8080}, {"name": "admin", "containerPort": 8081}]);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": ports}, {"name": "worker", "image": "worker:1"}]},
        "metadata": {"name": "web-0", "annotations": {"sidecar.prometheus.io/inject": "true", (names::PORT): HINTED}}});
    pod["metadata"]["labels"] = labels;
    pod
}

/// A Service of pods with `app: web`, and these ports.
fn web(name: &str, ports: Value) -> Value {
    let mut spec = json!({"selector": {"app": "web"}});
    spec["ports"] = ports;
    service("shop", name, json!({"app": "web", "team": "shop"}), spec)
}

fn monitor(name: &str, endpoint: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}, "targetLabels": ["team"]});
    spec["endpoints"] = Value::Array(vec![endpoint]);
    service_monitor("shop", name, json!({}), spec)
}

/// The pod after the webhook.
fn injected(pod: &Value, objects: &[Value]) -> Value {
    let documents: Vec<_> = objects.iter().map(ToString::to_string).collect();
    let catalog = support::catalog(&documents.join("\n"));
    let review = serde_json::to_vec(&creation(pod, "shop")).expect("a review is JSON");
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let Answer::Reviewed { body, .. } = admit(&review, &catalog, &policy) else { unreachable!("answered") };
    support::patched(pod, &body).expect("the pod gets an agent")
}

/// What the pod's agent scrapes, without what `labels` leaves out: by job, URL and labels.
fn scraped(pod: &Value, objects: &[Value]) -> BTreeMap<String, Vec<(String, String)>> {
    let template = agent(json!({"serviceMonitorSelector": {}}));
    let agent = agent_of(&template);
    let config = render::render(&agent, "shop", &monitors_of(objects).select(&agent, "shop"));
    let with_template = [&[template], objects].concat();
    let patched = injected(pod, &with_template);
    let targets = patched["metadata"]["annotations"][names::TARGETS].as_str().expect("targets").to_owned();
    let files = [(names::TARGETS_GLOB.to_owned(), targets)].into();
    let labelled = oracle::labels(&config, &Surroundings { files, ..Surroundings::default() });
    let labelled = labelled.expect("the configuration can be read");
    assert_eq!(labelled.failures, [""; 0]);
    let mut scraped: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for target in labelled.targets {
        let Some(labels) = target.labels else { continue };
        let shown = ["service", "job", "endpoint", "container", "team"];
        let shown = shown.iter().filter_map(|name| Some(format!("{name}={}", labels.get(*name)?)));
        let url = target.url.unwrap_or_default();
        scraped.entry(target.job).or_default().push((url, shown.collect::<Vec<_>>().join(" ")));
    }
    for targets in scraped.values_mut() {
        targets.sort();
    }
    scraped
}

/// The jobs of monitors alone.
fn of_monitors(pod: &Value, objects: &[Value]) -> Vec<String> {
    let jobs = scraped(pod, objects).into_iter().filter(|(job, _)| job.starts_with("serviceMonitor/"));
    jobs.flat_map(|(job, targets)| {
        targets.into_iter().map(move |(url, labels)| format!("{job} {url} {labels}"))
    })
    .collect()
}

#[test]
fn ports_by_name_by_number_and_undeclared_ones_are_found_under_the_names_of_their_services() {
    let pod = pod(json!({"app": "web"}));
    let named = web("named", json!([{"name": "http", "port": 80, "targetPort": "metrics"}]));
    let numbered = web("numbered", json!([{"name": "http", "port": 80, "targetPort": 8081}]));
    let undeclared = web(
        "undeclared",
        json!([{"name": "http", "port": 80, "targetPort": 7000}, {"name": "other", "port": 81, "targetPort": 7001}]),
    );
    let url = |port: u16| format!("http://localhost:{port}/metrics");
    let labels = |service: &str, container: &str| {
        format!("service={service} job={service} endpoint=http{container} team=shop")
    };
    let job = "serviceMonitor/shop/m/0";
    let services = [named.clone(), numbered, undeclared.clone()];
    assert_eq!(
        of_monitors(&pod, &[&services[..], &[monitor("m", json!({"port": "http"}))]].concat()),
        [
            format!("{job}/named {} {}", url(8080), labels("named", " container=web")),
            format!("{job}/numbered {} {}", url(8081), labels("numbered", " container=web")),
            format!("{job}/undeclared {} {}", url(7000), labels("undeclared", "")),
        ]
    );
    // Without a port, everything that is declared, and both numbers that are not.
    let every = of_monitors(&pod, &[undeclared, monitor("m", json!({}))]);
    let urls: Vec<_> =
        every.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        urls,
        [
            format!("{job}/undeclared {}", url(7000)),
            format!("{job}/undeclared {}", url(8080)),
            format!("{job}/undeclared {}", url(8081)),
            format!("{job}/undeclared:other {}", url(7001)),
        ]
    );
    // Another pod of the namespace has no job.
    let other = [named, monitor("m", json!({"port": "http"}))];
    let labels = json!({"app": "webby"});
    assert_eq!(of_monitors(&self::pod(labels), &other), [""; 0]);
}

#[test]
fn a_hinted_port_is_scraped_once_by_a_monitor_if_one_says_so() {
    let services = [
        web("named", json!([{"name": "http", "port": 80, "targetPort": "metrics"}])),
        web("numbered", json!([{"name": "extra", "port": 80, "targetPort": 8099}])),
    ];
    for (endpoint, monitored) in [
        (json!({"port": "http"}), vec!["8080"]),
        (json!({"port": "extra"}), vec!["8099"]),
        (json!({"port": "http|extra"}), vec!["8080", "8099"]),
        (json!({"port": "h.*"}), vec!["8080"]),
        (json!({"targetPort": "admin"}), vec!["8081"]),
        (json!({"targetPort": 8099}), vec![]),
        (json!({"port": "none"}), vec![]),
        (json!({}), vec!["8080", "8081", "8099"]),
        (
            json!({"port": "http", "relabelings": [{"sourceLabels": ["__meta_kubernetes_endpoint_port_name"], "targetLabel": "port"}]}),
            vec!["8080"],
        ),
    ] {
        let objects = [&services[..], &[monitor("m", endpoint.clone())]].concat();
        for labels in [json!({"app": "web"}), json!({"app": "other"})] {
            let monitored = if labels["app"] == "web" { monitored.clone() } else { Vec::new() };
            let mut ports: BTreeMap<bool, BTreeSet<String>> = BTreeMap::new();
            for (job, targets) in scraped(&pod(labels.clone()), &objects) {
                for (url, _) in targets {
                    let port =
                        url.trim_start_matches("http://localhost:").trim_end_matches("/metrics").to_owned();
                    ports.entry(job.starts_with("serviceMonitor/")).or_default().insert(port);
                }
            }
            let of = |by_monitor| ports.get(&by_monitor).cloned().unwrap_or_default();
            let expected: BTreeSet<_> = monitored.iter().map(|port| (*port).to_owned()).collect();
            assert_eq!(of(true), expected, "{endpoint} {labels}");
            let hints = HINTED.split(',').map(str::to_owned).filter(|port| !expected.contains(port));
            assert_eq!(of(false), hints.collect(), "{endpoint} {labels}");
        }
    }
}

#[test]
fn services_and_monitors_that_cannot_be_used_are_named_with_the_reason_and_cost_no_other() {
    let with = |name: &str, spec: Value| service("shop", name, json!({"app": "web"}), spec);
    let ports = json!([{"name": "http", "port": 80}]);
    let mut bad =
        monitor("bad", json!({"port": "http", "bearerTokenFile": "/t", "tlsConfig": {"caFile": "/ca"}}));
    bad["spec"]["serviceDiscoveryRole"] = json!("Pods");
    let mut foreign = monitor("foreign", json!({"port": "http", "bearerTokenSecret": secret("token")}));
    foreign["metadata"]["namespace"] = json!("web");
    foreign["spec"]["namespaceSelector"] = json!({"any": true});
    let mut elsewhere = monitor("elsewhere", json!({"port": "http"}));
    elsewhere["spec"]["namespaceSelector"] = json!({"matchNames": ["web"]});
    let mut none = monitor("none", json!({"port": "http"}));
    none["spec"]["selector"] = json!({"matchLabels": {"app": "none"}});
    let zone =
        json!([{"sourceLabels": ["__meta_kubernetes_endpointslice_endpoint_zone"], "targetLabel": "zone"}]);
    let objects = [
        web("good", ports.clone()),
        with("headless", json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": ports})),
        with("foreign", json!({"ports": ports})),
        with("outside", json!({"type": "ExternalName", "externalName": "db.example"})),
        with("portless", json!({"clusterIP": "None", "selector": {"app": "web"}})),
        bad,
        foreign,
        elsewhere,
        none,
        monitor("web", json!({"port": "http", "relabelings": zone})),
    ];
    let template =
        agent_of(&agent(json!({"serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {}})));
    let selection = monitors_of(&objects).select(&template, "shop");
    let jobs: Vec<_> = selection.jobs.iter().map(|job| &*job.job_name).collect();
    assert_eq!(jobs, ["serviceMonitor/shop/web/0/good", "serviceMonitor/shop/web/0/headless"]);
    let notes = selection.notes();
    let begin = [
        "rejected: ServiceMonitor shop/bad: spec.endpoints[0].bearerTokenFile: ",
        "rejected: ServiceMonitor shop/bad: spec.endpoints[0].tlsConfig.caFile: ",
        "rejected: ServiceMonitor shop/bad: spec.serviceDiscoveryRole: ",
        "rejected: ServiceMonitor web/foreign: spec.endpoints[0].bearerTokenSecret: ",
        "refused: ServiceMonitor shop/web: Service shop/foreign has no selector",
        "refused: ServiceMonitor shop/web: Service shop/outside is of type ExternalName",
        "refused: ServiceMonitor shop/web: Service shop/portless has no ports",
        "warning: ServiceMonitor shop/none: spec.selector: selects no Service of namespace shop",
        "warning: ServiceMonitor shop/web: spec.endpoints[0].relabelings[0]: looks into __meta_kubernetes_endpointslice_endpoint_zone",
        "not used: ServiceMonitor shop/elsewhere: ",
    ];
    assert_eq!(notes.len(), begin.len(), "{notes:#?}");
    for (note, begin) in notes.iter().zip(begin) {
        assert!(note.starts_with(begin), "{note}");
    }
}

#[test]
fn a_pod_mounts_the_files_of_its_namespaces_service_monitors() {
    let monitor =
        monitor("m", json!({"port": "http", "bearerTokenSecret": {"name": "scrape", "key": "token"}}));
    let template = agent(json!({"serviceMonitorSelector": {}}));
    let patched = injected(&pod(json!({"app": "web"})), &[template, monitor]);
    let volumes = patched["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == names::VOLUME_CONFIG).unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    let secrets: Vec<_> = sources.iter().filter_map(|source| source.get("secret")).cloned().collect();
    let items = json!([{"key": "token", "path": "monitors/secrets/scrape/token"}]);
    assert_eq!(secrets, [json!({"name": "scrape", "optional": true, "items": items})]);
}

#[test]
fn many_services_have_room_up_to_what_a_config_map_holds() {
    let endpoints: Vec<_> =
        (0..100).map(|number| json!({"port": "http", "path": format!("/{number}")})).collect();
    let mut large = monitor("large", json!({}));
    large["spec"]["endpoints"] = json!(endpoints);
    let mut objects: Vec<_> =
        (0..100).map(|number| web(&format!("s{number}"), json!([{"name": "http", "port": 80}]))).collect();
    objects.extend([large, monitor("small", json!({"port": "http"}))]);
    let template = agent_of(&agent(json!({"serviceMonitorSelector": {}})));
    let selection = monitors_of(&objects).select(&template, "shop");
    assert_eq!(selection.jobs.len(), 100);
    let [rejected] = &selection.rejected[..] else { unreachable!("{:?}", selection.notes()) };
    assert_eq!(rejected.monitor.id.to_string(), "shop/large");
    let why = rejected.violations[0].to_string();
    assert!(why.starts_with("spec.endpoints: makes the configuration larger"), "{why}");
    assert!(render::render(&template, "shop", &selection).len() < render::MAX_BYTES);
}
