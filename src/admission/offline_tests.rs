use serde_json::{Value, json};

use super::{Injected, Owner, Taken, UninjectError, inject, uninject};
use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::admission::decision::Refusal;
use crate::admission::reason::Reason;
use crate::admission::sidecar::Mode;
use crate::manifest;
use crate::release;
use crate::store::documents;
use crate::template::Settings;
use crate::template::agent::TemplateId;

fn catalog() -> Catalog {
    let template = "
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: team-a
  annotations: {operator.prometheus.io/controller-id: promsidecar}
spec:
  podMonitorSelector: {}
";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, labels: {sidecar.prometheus.io/inject: 'true'}}\n";
    let documents = manifest::read(&format!("{template}---\n{namespace}")).unwrap();
    documents::build(&[("a".to_owned(), documents)].into(), &Settings::default(), &Catalog::default()).catalog
}

fn injected(pod: &Value, owner: Owner<'_>) -> (Value, Injected) {
    let mut value = pod.clone();
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let injected = inject(&mut value, "team-a", owner, &catalog(), &policy).unwrap();
    (value, injected)
}

fn targets(pod: &Value) -> Value {
    let targets = &pod["metadata"]["annotations"]["sidecar.prometheus.io/targets"];
    serde_json::from_str(targets.as_str().unwrap()).unwrap()
}

#[test]
fn what_comes_out_is_what_went_in_whatever_was_missing() {
    let spec = json!({"containers": [{"name": "web"}]});
    for pod in [
        json!({"spec": spec}),
        json!({"metadata": null, "spec": spec}),
        json!({"metadata": {}, "spec": spec}),
        json!({"metadata": {"labels": null, "annotations": {}}, "spec": {"containers": [{"name": "web"}], "volumes": null, "initContainers": []}}),
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"initContainers": [{"name": "prepare"}], "containers": [{"name": "web"}], "volumes": [{"name": "data"}]}}),
    ] {
        let (mut value, out) = injected(&pod, Owner::Unknown);
        let template = TemplateId { namespace: "team-a".to_owned(), name: "shop".to_owned() };
        assert_eq!(out, Injected { template, mode: Mode::Native, warnings: Vec::new() });
        let agents = value["spec"]["initContainers"].as_array().unwrap();
        assert_eq!(agents.last().unwrap()["name"], "prometheus-agent");
        assert_eq!(uninject(&mut value), Ok(Taken::Agent { template: "team-a/shop".to_owned() }));
        assert_eq!(value, pod);
        assert_eq!(uninject(&mut value), Ok(Taken::Nothing));
    }
}

#[test]
fn what_was_added_since_stays_with_its_parents() {
    let pod = json!({"spec": {"containers": [{"name": "web"}]}});
    let (mut value, _) = injected(&pod, Owner::Unknown);
    value["metadata"]["labels"]["team"] = json!("a");
    value["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "data"}));
    value["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "prepare"}));
    uninject(&mut value).unwrap();
    assert_eq!(
        value,
        json!({
            "metadata": {"labels": {"team": "a"}},
            "spec": {"containers": [{"name": "web"}], "volumes": [{"name": "data"}], "initContainers": [{"name": "prepare"}]},
        })
    );
}

#[test]
fn targets_name_what_a_manifest_tells_and_nothing_made_up() {
    let spec = json!({"containers": [{"name": "web"}]});
    let template = json!({"metadata": {"name": "ignored"}, "spec": spec});
    let labels = |pod: &Value, owner| {
        let labels = targets(&injected(pod, owner).0)[0]["labels"].clone();
        let of = |name: &str| labels.get(format!("__meta_kubernetes_pod_{name}")).cloned();
        (of("name").unwrap(), of("controller_kind"), of("controller_name"))
    };
    let set = Owner::Workload { kind: "StatefulSet", name: "db" };
    assert_eq!(
        labels(&template, set),
        (json!("__POD_NAME__"), Some(json!("StatefulSet")), Some(json!("db")))
    );
    assert_eq!(labels(&template, Owner::Unknown), (json!("__POD_NAME__"), None, None));
    let pod = json!({"metadata": {"name": "one"}, "spec": spec});
    assert_eq!(labels(&pod, Owner::Nobody), (json!("one"), None, None));
}

#[test]
fn a_refusal_leaves_the_pod_and_says_whether_it_would_be_denied() {
    for (required, denied) in [("true", true), ("false", false)] {
        let pod = json!({
            "metadata": {"annotations": {"sidecar.prometheus.io/inject": "shopp", "sidecar.prometheus.io/required": required}},
            "spec": {"containers": [{"name": "web"}]},
        });
        let mut value = pod.clone();
        let refused =
            inject(&mut value, "team-a", Owner::Nobody, &catalog(), &Policy::default()).unwrap_err();
        assert_eq!((refused.refusal.reason, refused.denied), (Reason::TemplateNotFound, denied));
        assert_eq!(value, pod);
    }
    for odd in
        [json!(null), json!([]), json!({"spec": 5}), json!({"metadata": 7, "spec": {"containers": []}})]
    {
        let mut value = odd.clone();
        let refused =
            inject(&mut value, "team-a", Owner::Nobody, &catalog(), &Policy::default()).unwrap_err();
        assert_eq!(refused.refusal.reason, Reason::InternalError, "{odd}");
        assert_eq!(value, odd);
    }
}

#[test]
fn an_injected_pod_is_not_injected_again() {
    let (value, _) = injected(&json!({"spec": {"containers": [{"name": "web"}]}}), Owner::Unknown);
    let mut again = value.clone();
    let refused = inject(&mut again, "team-a", Owner::Unknown, &catalog(), &Policy::default()).unwrap_err();
    assert_eq!(refused.refusal.reason, Reason::AlreadyInjected);
    assert_eq!(again, value);
}

#[test]
fn the_mark_of_a_refusal_is_taken_out_with_the_parents_that_it_needed() {
    for before in [
        json!({"metadata": {"name": "web"}}),
        json!({"metadata": {"annotations": {"a": "b"}, "labels": {"c": "d"}}}),
    ] {
        let mut pod = before.clone();
        pod["metadata"]["annotations"]["sidecar.prometheus.io/skipped"] = json!("too-large: x");
        pod["metadata"]["labels"]["sidecar.prometheus.io/injected"] = json!("false");
        assert_eq!(uninject(&mut pod), Ok(Taken::Mark));
        assert_eq!(pod, before);
        assert_eq!(uninject(&mut pod), Ok(Taken::Nothing));
        assert_eq!(pod, before);
    }
}

#[test]
fn a_value_of_ours_without_quotes_is_refused_with_its_fix() {
    for (map, key, value) in [
        ("annotations", "sidecar.prometheus.io/inject", json!(true)),
        ("annotations", "sidecar.prometheus.io/port", json!(8080)),
        ("annotations", "prometheus.io/scrape", json!(true)),
        ("labels", "sidecar.prometheus.io/inject", json!(null)),
    ] {
        let mut pod = json!({"metadata": {map: {key: value}}, "spec": {"containers": [{"name": "web"}]}});
        let before = pod.clone();
        let refused = inject(&mut pod, "team-a", Owner::Nobody, &catalog(), &Policy::default()).unwrap_err();
        let detail = format!("{key} is {value}, which is no text; put it in quotes");
        assert_eq!(refused.refusal, Refusal::new(Reason::InvalidAnnotation, detail));
        assert_eq!(pod, before);
    }
}

#[test]
fn a_status_that_would_take_out_what_is_not_ours_is_refused() {
    let (pod, _) = injected(&json!({"spec": {"containers": [{"name": "web"}]}}), Owner::Unknown);
    let text = pod["metadata"]["annotations"]["sidecar.prometheus.io/status"].as_str().unwrap();
    let status: Value = serde_json::from_str(text).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut status = status.clone();
        change(&mut status);
        let mut pod = pod.clone();
        pod["metadata"]["annotations"]["sidecar.prometheus.io/status"] = json!(status.to_string());
        let before = pod.clone();
        let error = uninject(&mut pod).unwrap_err();
        assert_eq!(pod, before);
        error
    };
    for (list, name, foreign) in [
        ("containers", "web", "the container web"),
        ("volumes", "promsidecarx", "the volume promsidecarx"),
        ("annotations", "sidecar.prometheus.io/inject", "the annotation sidecar.prometheus.io/inject"),
        ("labels", "app", "the label app"),
    ] {
        let error = refused(&|status| status["added"][list].as_array_mut().unwrap().push(json!(name)));
        assert_eq!(error, UninjectError::Foreign(foreign.to_owned()));
    }
    assert_eq!(
        refused(&|status| status["version"] = json!(2)),
        UninjectError::Newer { version: 2, injector: release::PROGRAM.to_owned() }
    );
    assert!(matches!(refused(&|status| status["mode"] = json!("other")), UninjectError::Unreadable(_)));
    assert!(matches!(refused(&|status| *status = json!("text")), UninjectError::Unreadable(_)));
    let mut number = pod.clone();
    number["metadata"]["annotations"]["sidecar.prometheus.io/status"] = json!(5);
    assert_eq!(
        uninject(&mut number).unwrap_err().to_string(),
        "annotation sidecar.prometheus.io/status cannot be read (it is no text); take the agent out by hand"
    );
}

#[test]
fn an_agent_of_status_version_1_is_taken_out_again() {
    macro_rules! frozen {
        ($case:literal) => {
            (
                include_str!(concat!("../../tests/golden/status-v1/", $case, "/before.yaml")),
                include_str!(concat!("../../tests/golden/status-v1/", $case, "/injected.yaml")),
            )
        };
    }
    for (before, injected) in
        [frozen!("parents-absent"), frozen!("parents-null-and-empty"), frozen!("pod-container-mode")]
    {
        let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
        let mut pod = read(injected);
        assert!(matches!(uninject(&mut pod), Ok(Taken::Agent { .. })));
        assert_eq!(pod, read(before));
    }
}

#[test]
fn an_agent_of_a_later_version_stays_and_is_left_to_that_version() {
    let (pod, _) = injected(&json!({"spec": {"containers": [{"name": "web"}]}}), Owner::Unknown);
    let later = [
        json!({"version": 2, "mode": "native", "more": {}}),
        json!({"version": 99, "mode": "other"}),
        json!({"version": 99, "mode": {"kind": "native"}}),
        json!({"version": 99}),
    ];
    for status in later {
        let mut value = pod.clone();
        value["metadata"]["annotations"]["sidecar.prometheus.io/status"] = json!(status.to_string());
        let before = value.clone();
        let refused =
            inject(&mut value, "team-a", Owner::Unknown, &catalog(), &Policy::default()).unwrap_err();
        let silent = Refusal::new(Reason::AlreadyInjected, String::new());
        assert_eq!(refused.refusal, silent, "{status}");
        let version = u32::try_from(status["version"].as_u64().unwrap()).unwrap();
        assert_eq!(uninject(&mut value), Err(UninjectError::Newer { version, injector: String::new() }));
        assert_eq!(value, before);
    }
}
