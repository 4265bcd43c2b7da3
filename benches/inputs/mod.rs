//! Reviews of several sizes and the catalog they are answered from.

use promsidecar::admission::Policy;
use promsidecar::admission::catalog::Catalog;
use promsidecar::manifest;
use promsidecar::store::documents;
use promsidecar::template::Settings;
use serde_json::{Value, json};

/// A captured review with our annotation, about 4 KB.
const SMALL: &str = include_str!("../../tests/golden/admission/review-replicaset/review.json");

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
pub(crate) const TEMPLATE: &str = "
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: team-a
  annotations: {operator.prometheus.io/controller-id: promsidecar}
spec:
  remoteWrite:
  - url: https://metrics.example.com/api/v1/write
    authorization: {credentials: {name: rw-token, key: token}}
";

/// What the reviews are answered from.
pub(crate) fn catalog() -> (Catalog, Policy) {
    let documents = manifest::read(TEMPLATE).expect("the template is YAML");
    let files = [("template.yaml".to_owned(), documents)].into();
    let built = documents::build(&files, &Settings::default(), &Catalog::default());
    assert_eq!(built.problems, []);
    (built.catalog, Policy { native_sidecars: true, ..Policy::default() })
}
