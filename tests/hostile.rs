//! Pods, namespaces and catalogs that nobody means well with: what they cost is bounded, what they get is still a valid pod.

mod support;

use std::fmt::Write;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::hints::{self, MAX_PORTS};
use promsidecar::admission::json::Field;
use promsidecar::admission::pod::PodView;
use promsidecar::admission::{Answer, Policy, admit};
use serde_json::{Value, json};
use support::input::TEMPLATE;
use support::{catalog, patched, reviews};

fn policy() -> Policy {
    Policy { native_sidecars: true, ..Policy::default() }
}

/// A pod that asks, with these annotations and this spec beside one container.
fn pod(annotations: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "annotations": {"sidecar.prometheus.io/inject": "true"}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    });
    for (target, members) in [("/metadata/annotations", annotations), ("/spec", spec)] {
        let target = pod.pointer_mut(target).and_then(Value::as_object_mut).expect("an object");
        target.extend(members.as_object().expect("an object").clone());
    }
    pod
}

/// The answer's response, and the pod after the patch.
fn answer(pod: &Value, catalog: &Catalog, policy: &Policy) -> (Value, Option<Value>) {
    let review = serde_json::to_vec(&reviews::creation(pod, "team-a")).expect("a value serialises");
    let Answer::Reviewed { body, .. } = admit(&review, catalog, policy) else {
        unreachable!("the review is readable")
    };
    let review: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    (review["response"].clone(), patched(pod, &body))
}

/// The agent's container in the patched pod.
fn agent(pod: &Value) -> Value {
    let (response, patched) = answer(pod, &catalog(TEMPLATE), &policy());
    let patched = patched.unwrap_or_else(|| unreachable!("not injected: {response}"));
    patched["spec"]["initContainers"][0].clone()
}

fn args(container: &Value) -> Vec<&str> {
    container["args"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_grace_period_of_any_length_gives_a_flush_deadline() {
    for (seconds, deadline) in [
        (i64::MAX, "2000ms"),
        (i64::MAX / 1000, "2000ms"),
        (3, "1000ms"),
        (1, "333ms"),
        (0, "0ms"),
        (-1, "0ms"),
        (i64::MIN, "0ms"),
    ] {
        let container = agent(&pod(&json!({}), &json!({"terminationGracePeriodSeconds": seconds})));
        let flag = format!("--storage.remote.flush-deadline={deadline}");
        assert!(args(&container).contains(&&*flag), "{seconds}: {container}");
    }
}

#[test]
fn only_user_ids_that_a_container_may_have_are_taken_from_a_namespace() {
    for (range, uid) in [
        ("1000650000/10000", 1_000_650_000),
        ("1000650000-1000659999", 1_000_650_000),
        (" 7 / 9", 7),
        ("2147483647/1", 2_147_483_647),
        ("2147483648/1", 65534),
        ("9223372036854775807/1", 65534),
        // Root would not start: the container says runAsNonRoot.
        ("0/10000", 65534),
        ("-5/10", 65534),
        ("", 65534),
        ("many", 65534),
    ] {
        let namespace = format!(
            "{TEMPLATE}---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-a\n  annotations:\n    openshift.io/sa.scc.uid-range: {range:?}\n"
        );
        let (_, patched) = answer(&pod(&json!({}), &json!({})), &catalog(&namespace), &policy());
        let patched = patched.expect("the pod is injected");
        assert_eq!(
            patched.pointer("/spec/initContainers/0/securityContext/runAsUser"),
            Some(&json!(uid)),
            "{range:?}"
        );
    }
}

/// The hints of a pod, as counted in the targets that it gets.
fn hinted_ports(pod: &Value) -> (Value, usize) {
    let (response, patched) = answer(pod, &catalog(TEMPLATE), &policy());
    let targets = patched.and_then(|pod| {
        let targets =
            pod.pointer("/metadata/annotations/sidecar.prometheus.io~1targets")?.as_str()?.to_owned();
        serde_json::from_str::<Value>(&targets).ok()
    });
    let groups = targets.as_ref().and_then(Value::as_array).into_iter().flatten();
    let hinted = groups.filter(|group| group["labels"]["__meta_promsidecar_source"] == "annotation").count();
    (response["warnings"].clone(), hinted)
}

#[test]
fn more_ports_than_anyone_scrapes_are_refused_or_cut() {
    let list = |count: usize| (1..=count).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    let annotated = |key: &str, value: String| pod(&json!({key: value}), &json!({}));
    assert_eq!(
        hinted_ports(&annotated("sidecar.prometheus.io/port", list(MAX_PORTS))),
        (Value::Null, MAX_PORTS)
    );
    let (warnings, hinted) = hinted_ports(&annotated("sidecar.prometheus.io/port", list(MAX_PORTS + 1)));
    assert_eq!(hinted, 0);
    let warning = warnings[0].as_str().expect("a warning");
    assert!(warning.starts_with("promsidecar: not injected: invalid-annotation: port \"1,2,3"), "{warning}");
    assert!(warning.ends_with("want at most 128 ports"), "{warning}");
    // One port named more often than there are ports is still one too many to read.
    let (_, hinted) = hinted_ports(&annotated("sidecar.prometheus.io/port", vec!["8080"; 40_000].join(",")));
    assert_eq!(hinted, 0);
    let (_, hinted) = hinted_ports(&annotated("prometheus.io/port", list(20_000)));
    assert_eq!(hinted, MAX_PORTS);

    let ports: Vec<_> = (1..=2000).map(|port| json!({"containerPort": port})).collect();
    let declared = json!({"containers": [{"name": "web", "image": "web", "ports": ports}]});
    let view = serde_json::to_vec(&pod(&json!({"prometheus.io/scrape": "true"}), &declared)).expect("JSON");
    let view: Field<PodView<'_>> = serde_json::from_slice(&view).expect("JSON");
    let hints = hints::read(view.value().expect("a pod")).expect("community annotations are never refused");
    assert_eq!(hints.ports.len(), MAX_PORTS);
    assert_eq!(hints.notes, ["only the first 128 hinted ports are scraped"]);
}

#[test]
fn bad_community_annotations_give_a_few_short_warnings() {
    let mut annotations = serde_json::Map::new();
    annotations.insert("prometheus.io/port".to_owned(), json!(format!("8080,{}", "x".repeat(1000))));
    for index in 0..500 {
        annotations.insert(format!("prometheus.io/param_{index}"), json!("\n"));
    }
    let (warnings, hinted) = hinted_ports(&pod(&Value::Object(annotations), &json!({})));
    let warnings = warnings.as_array().expect("there are warnings");
    assert_eq!((warnings.len(), hinted), (3, 1));
    assert!(warnings.iter().all(|warning| warning.as_str().is_some_and(|text| text.chars().count() <= 120)));
}

#[test]
fn a_hinted_duration_beyond_what_a_scrape_job_can_know_is_refused() {
    for (interval, refused) in [("1y", false), ("1y1ms", true), ("100y", true), ("290y", true)] {
        let pod = pod(&json!({"sidecar.prometheus.io/interval": interval}), &json!({}));
        let (response, patched) = answer(&pod, &catalog(TEMPLATE), &policy());
        assert_eq!(
            response["auditAnnotations"].get("reason"),
            refused.then(|| json!("invalid-annotation")).as_ref(),
            "{interval}"
        );
        assert_eq!(patched.expect("a refusal is marked")["spec"].get("initContainers").is_none(), refused);
    }
}

#[test]
fn a_template_with_a_cpu_limit_of_zero_leaves_a_guaranteed_pod_guaranteed() {
    let zero = format!(
        "{TEMPLATE}  containers:\n  - name: prometheus\n    resources: {{limits: {{cpu: \"0\", memory: 128Mi}}}}\n"
    );
    let amounts = json!({"cpu": "1", "memory": "1Gi"});
    let containers = json!({"containers": [{"name": "web", "image": "web", "resources": {"limits": amounts, "requests": amounts}}]});
    let (_, patched) = answer(&pod(&json!({}), &containers), &catalog(&zero), &policy());
    let patched = patched.expect("the pod is injected");
    let amounts = json!({"cpu": "100m", "memory": "128Mi"});
    assert_eq!(
        patched.pointer("/spec/initContainers/0/resources"),
        Some(&json!({"limits": amounts, "requests": amounts}))
    );
}

#[test]
fn the_agent_gives_up_below_the_memory_that_its_pod_has_as_a_whole() {
    let limit = |resources: Value| {
        let container = agent(&pod(&json!({}), &json!({"resources": resources})));
        assert_eq!(container.get("resources"), None);
        container["command"].as_array().expect("a list").iter().rev().nth(1).cloned()
    };
    // The template's 128Mi, or the pod's own limit, three quarters of it and 80Mi.
    assert_eq!(limit(json!({"limits": {"memory": "1Gi"}})), Some(json!("180224")));
    assert_eq!(limit(json!({"limits": {"memory": "100Mi"}})), Some(json!("158720")));
    assert_eq!(limit(json!({"requests": {"cpu": "1"}})), Some(json!("180224")));
}

#[test]
fn a_default_template_that_a_namespace_may_not_use_is_not_named_to_it() {
    let foreign = |annotations: &str| {
        format!(
            "apiVersion: monitoring.coreos.com/v1alpha1\nkind: PrometheusAgent\nmetadata:\n  name: secret-plan\n  namespace: platform\n  annotations: {{{annotations}}}\nspec:\n  podMonitorSelector: {{}}\n"
        )
    };
    let policy = Policy { default_template: Some(support::template_id("platform/secret-plan")), ..policy() };
    let claimed = "operator.prometheus.io/controller-id: promsidecar";
    let required = pod(&json!({"sidecar.prometheus.io/required": "true"}), &json!({}));
    let mut told = Vec::new();
    for (objects, reason) in [
        (foreign(claimed), "template-not-permitted"),
        (foreign(""), "template-not-claimed"),
        (TEMPLATE.replace("team-a", "elsewhere"), "template-not-found"),
    ] {
        let catalog = catalog(&objects);
        let (response, marked) = answer(&pod(&json!({}), &json!({})), &catalog, &policy);
        assert_eq!(response["auditAnnotations"]["reason"], reason);
        let (denial, _) = answer(&required, &catalog, &policy);
        let marked = marked.expect("the pod is marked");
        let public = [
            response["warnings"].to_string(),
            marked["metadata"]["annotations"]["sidecar.prometheus.io/skipped"].to_string(),
            denial["status"]["message"].to_string(),
        ];
        assert!(
            public.iter().all(|text| !text.contains("plan") && text.contains("template-not-found")),
            "{public:?}"
        );
        told.push(public);
    }
    // Whether it is there at all does not show either.
    assert!(told.iter().all(|public| *public == told[0]), "{told:?}");
}

#[test]
fn near_misses_of_the_pods_own_namespace_are_named_even_among_thousands() {
    let mut objects = String::new();
    for (namespace, count) in [("a-crowd", 1000), ("team-a", 1)] {
        for index in 0..count {
            let name = if count == 1 { "shop-main".to_owned() } else { format!("shop-{index:04}") };
            write!(
                objects,
                "---\napiVersion: monitoring.coreos.com/v1alpha1\nkind: PrometheusAgent\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  annotations: {{operator.prometheus.io/controller-id: promsidecar, sidecar.prometheus.io/allowed-namespaces: \"*\"}}\nspec: {{podMonitorSelector: {{}}}}\n"
            )
            .expect("a string takes every write");
        }
    }
    let asks = pod(&json!({"sidecar.prometheus.io/inject": "shop-mian"}), &json!({}));
    let (response, _) = answer(&asks, &catalog(&objects), &policy());
    assert_eq!(
        response["warnings"],
        json!([
            "promsidecar: not injected: template-not-found: no template shop-mian in team-a; near: shop-main"
        ])
    );
}
