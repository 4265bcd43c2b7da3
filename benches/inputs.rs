//! Reviews of several sizes and the catalog they are answered from.

use promsidecar::admission::Policy;
use promsidecar::admission::catalog::{AllowedNamespaces, Catalog, TemplateEntry};
use promsidecar::admission::sidecar::Sidecar;
use promsidecar::template::agent::{Agent, ModePreference, Resources, TemplateId};
use promsidecar::template::api::PrometheusAgentSpec;
use promsidecar::template::version::Version;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A captured review with our annotation, about 4 KB.
const SMALL: &str = include_str!("../tests/golden/admission/review-replicaset/review.json");

/// Name and bytes of each review, smallest first.
pub(crate) fn reviews() -> Vec<(&'static str, Vec<u8>)> {
    let small: Value = serde_json::from_str(SMALL).expect("the golden is JSON");
    let sized = |containers: usize, variables: usize| {
        let mut review = small.clone();
        let first = review["request"]["object"]["spec"]["containers"][0].clone();
        let list =
            review["request"]["object"]["spec"]["containers"].as_array_mut().expect("a pod has containers");
        for index in 1..containers {
            let mut next = first.clone();
            next["name"] = json!(format!("c{index}"));
            next["ports"][0]["containerPort"] = json!(8080 + index);
            list.push(next);
        }
        for container in list {
            let variables = (0..variables).map(|index| {
                json!({"name": format!("SHOP_SETTING_{index}"), "value": format!("value of setting number {index}")})
            });
            container["env"] = Value::Array(variables.collect());
        }
        serde_json::to_vec(&review).expect("a value serialises")
    };
    vec![("4KB", sized(1, 0)), ("12KB", sized(3, 33)), ("100KB", sized(4, 330)), ("1MB", sized(5, 2700))]
}

/// The same review from a pod that did not ask.
pub(crate) fn without_request(review: &[u8]) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(review).expect("a review is JSON");
    let annotations = review["request"]["object"]["metadata"]["annotations"].as_object_mut();
    annotations.expect("the pod asks").remove("sidecar.prometheus.io/inject");
    serde_json::to_vec(&review).expect("a value serialises")
}

/// One template in the reviews' namespace.
pub(crate) fn catalog() -> (Catalog, Policy) {
    let id = TemplateId { namespace: "team-a".to_owned(), name: "shop".to_owned() };
    let agent = Agent {
        id: id.clone(),
        generation: 1,
        version: Version::new(3, 13, 5),
        image: "quay.io/prometheus/prometheus:v3.13.5".to_owned(),
        image_pull_policy: None,
        mode: ModePreference::Auto,
        supervised: true,
        flags: Vec::new(),
        fixed_port: false,
        self_monitor: false,
        resources: Resources::default(),
        env: Vec::new(),
        volume_mounts: Vec::new(),
        volumes: Vec::new(),
        wal_size_limit: None,
        wal_medium: None,
        files: Default::default(),
        secret_env: Default::default(),
        scrape_interval: Duration::from_secs(30),
        scrape_timeout: Duration::from_secs(10),
        selects_monitors: false,
        spec: PrometheusAgentSpec::default(),
        ignored: Vec::new(),
    };
    let mut catalog = Catalog::default();
    catalog.insert_template(TemplateEntry {
        id,
        claimed: true,
        deleting: false,
        allowed_namespaces: AllowedNamespaces::All,
        sidecar: Some(Arc::new(Sidecar::compile(&agent))),
        violation: None,
    });
    (catalog, Policy { native_sidecars: true, ..Policy::default() })
}
