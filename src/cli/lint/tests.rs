use serde_json::{Value, json};

use super::super::finding::{Finding, Item};
use super::lint;
use crate::manifest;
use crate::template::Settings;

fn items(file: &str, text: &str) -> Vec<Item> {
    let documents = manifest::read(text).unwrap().into_iter();
    let item = |document: manifest::Document| Item {
        file: file.to_owned(),
        document: document.number,
        object: document.object,
    };
    documents.map(item).collect()
}

/// `document rule field` of every finding.
fn found_in(text: &str, context: &str) -> Vec<String> {
    let (items, context) = (items("f", text), items("c", context));
    let reports = lint(&items, &context, &Settings::default(), "default");
    let line = |item: &Item, finding: &Finding| {
        format!("{}{} {} {}", item.file, item.document, finding.rule.word(), finding.field)
    };
    reports
        .iter()
        .flat_map(|report| report.findings.iter().map(|finding| line(report.item, finding)))
        .collect()
}

fn found(text: &str) -> Vec<String> {
    found_in(text, "")
}

/// A Deployment of team-a that asks, with these annotations besides.
fn deployment(annotations: &Value) -> Value {
    let mut template = json!({
        "metadata": {"annotations": {"sidecar.prometheus.io/inject": "true"}},
        "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}]},
    });
    for (key, value) in annotations.as_object().unwrap() {
        template["metadata"]["annotations"][key] = value.clone();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "team-a"},
        "spec": {"template": template},
    })
}

fn annotated(annotations: &Value) -> Vec<String> {
    found(&deployment(annotations).to_string())
}

const POD: &str = "spec.template.metadata.annotations";

#[test]
fn a_monitor_that_a_template_selects_and_cannot_run_is_found_once() {
    let template = |name: &str, namespace: &str| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
            "metadata": {"name": name, "namespace": namespace,
                "annotations": {"operator.prometheus.io/controller-id": "promsidecar"}},
            "spec": {"podMonitorSelector": {"matchLabels": {"team": "a"}}},
        })
    };
    let monitor = |name: &str, team: &str| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
            "metadata": {"name": name, "labels": {"team": team}},
            "spec": {"selector": {}, "podMetricsEndpoints": [{"proxyUrl": "http://proxy:3128"}]},
        })
    };
    let text = |objects: &[Value]| objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let monitors = text(&[monitor("one", "a"), monitor("two", "b")]);
    let context = text(&[template("one", "default"), template("two", "default"), template("three", "other")]);
    let expected = ["f1 monitor-rejected spec.podMetricsEndpoints[0].proxyUrl"];
    assert_eq!(found_in(&monitors, &context), expected);
    assert_eq!(found_in(&monitors, &text(&[template("three", "other")])), [""; 0]);
}

#[test]
fn the_examples_have_no_findings() {
    let text = [
        include_str!("../../../examples/namespace.yaml"),
        include_str!("../../../examples/template.yaml"),
        include_str!("../../../examples/deployment.yaml"),
        include_str!("../../../examples/cronjob.yaml"),
    ]
    .join("---\n");
    assert_eq!(found(&text), [""; 0]);
}

#[test]
fn misspelt_keys_are_found_in_the_name_and_in_the_prefix() {
    assert_eq!(
        annotated(&json!({
            "sidecar.prometheus.io/prot": "8080",
            "sidecars.prometheus.io/path": "/m",
            "sidecar.istio.io/inject": "true",
            "prometheus.io/interval": "30s",
        })),
        [
            format!("f1 unknown-key {POD}[\"sidecar.prometheus.io/prot\"]"),
            format!("f1 misspelt-prefix {POD}[\"sidecars.prometheus.io/path\"]"),
        ]
    );
}

#[test]
fn only_keys_that_may_stand_there_are_proposed() {
    let text = r#"
kind: Pod
metadata:
  name: p
  annotations: {sidecar.prometheus.io/injct: "true", sidecar.prometheus.io/skip: "true"}
  labels: {sidecar.prometheus.io/injcted: "true"}
spec: {containers: [{name: c}]}
---
kind: Namespace
metadata: {name: n, labels: {sidecars.prometheus.io/enabled: "true"}}
---
kind: Deployment
metadata: {name: d, annotations: {sidecar.prometheus.io/prot: "80"}}
spec: {template: {spec: {containers: [{name: c}]}}}
---
kind: Service
metadata: {name: s, annotations: {sidecar.prometheus.io/foo: x}}
"#;
    let items = items("f", text);
    let reports = lint(&items, &[], &Settings::default(), "default");
    let fixes: Vec<_> =
        reports.iter().flat_map(|report| &report.findings).map(|finding| &*finding.fix).collect();
    let prefix = "sidecar.prometheus.io";
    let of_pods = ["inject", "required", "port", "path", "scheme", "interval", "timeout"]
        .map(|name| format!("{prefix}/{name}"))
        .join(", ");
    assert_eq!(
        fixes,
        [
            &*format!("write {prefix}/inject if that is meant, else remove it"),
            &format!("remove it, or write one of the annotations {of_pods}"),
            &format!("remove it, or write one of the annotations {of_pods}"),
            &format!(
                "remove it, or write one of the labels {prefix}/inject, {prefix}/required, or of the annotations {prefix}/template, {prefix}/allowed-secrets"
            ),
            "remove it: keys of promsidecar belong on the pods of a workload",
            "remove it: no key of promsidecar belongs here",
        ]
    );
}

#[test]
fn keys_in_the_wrong_map_or_on_the_wrong_object_are_told_where_they_belong() {
    let text = r#"
kind: Namespace
apiVersion: v1
metadata:
  name: team-a
  annotations: {sidecar.prometheus.io/inject: "true", sidecar.prometheus.io/port: "80"}
---
kind: Pod
metadata: {name: p, labels: {sidecar.prometheus.io/inject: "true"}}
spec: {containers: [{name: c}]}
---
kind: CronJob
metadata: {name: c, annotations: {sidecar.prometheus.io/port: "80"}}
spec:
  jobTemplate:
    metadata: {labels: {sidecar.prometheus.io/inject: shop}}
    spec: {template: {spec: {containers: [{name: c}]}}}
---
kind: Service
metadata: {name: s, annotations: {sidecar.prometheus.io/mode: native, prometheus.io/scrape: "true"}}
---
kind: ConfigMap
metadata: {name: m, annotations: {sidecar.prometheus.io/template: team-a/shop}}
"#;
    let items = items("f", text);
    let reports = lint(&items, &[], &Settings::default(), "default");
    let findings: Vec<_> = reports
        .iter()
        .flat_map(|report| &report.findings)
        .map(|finding| format!("{} {}: {}", finding.rule.word(), finding.field, finding.fix))
        .collect();
    assert_eq!(
        findings,
        [
            "annotation-for-label metadata.annotations[\"sidecar.prometheus.io/inject\"]: move it to metadata.labels",
            "wrong-object metadata.annotations[\"sidecar.prometheus.io/port\"]: move it there, or remove it",
            "label-for-annotation metadata.labels[\"sidecar.prometheus.io/inject\"]: move it to metadata.annotations",
            "workload-metadata metadata.annotations[\"sidecar.prometheus.io/port\"]: move it to spec.jobTemplate.spec.template.metadata.annotations",
            "workload-metadata spec.jobTemplate.metadata.labels[\"sidecar.prometheus.io/inject\"]: move it to spec.jobTemplate.spec.template.metadata.annotations",
            "wrong-object metadata.annotations[\"sidecar.prometheus.io/mode\"]: move it there, or remove it",
        ]
    );
}

#[test]
fn every_value_that_admission_cannot_read_is_found_at_once() {
    assert_eq!(
        annotated(&json!({
            "sidecar.prometheus.io/inject": "ja bitte",
            "sidecar.prometheus.io/required": "yes",
            "sidecar.prometheus.io/port": "grpc",
            "sidecar.prometheus.io/path": "metrics",
            "sidecar.prometheus.io/scheme": "HTTPS",
            "sidecar.prometheus.io/interval": "soon",
            "sidecar.prometheus.io/timeout": "10s",
        })),
        ["inject", "required", "port", "path", "scheme", "interval"]
            .map(|key| format!("f1 invalid-value {POD}[\"sidecar.prometheus.io/{key}\"]"))
    );
    assert_eq!(
        annotated(&json!({"sidecar.prometheus.io/interval": "5s", "sidecar.prometheus.io/timeout": "10s"})),
        [format!("f1 invalid-value {POD}[\"sidecar.prometheus.io/timeout\"]")]
    );
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {
        "name": "n",
        "labels": {"sidecar.prometheus.io/inject": "a/b/c", "sidecar.prometheus.io/required": "1"},
        "annotations": {"sidecar.prometheus.io/template": "Team"},
    }});
    assert_eq!(
        found(&namespace.to_string()),
        [
            "f1 invalid-value metadata.labels[\"sidecar.prometheus.io/inject\"]",
            "f1 invalid-value metadata.labels[\"sidecar.prometheus.io/required\"]",
            "f1 invalid-value metadata.annotations[\"sidecar.prometheus.io/template\"]",
        ]
    );
}

#[test]
fn values_that_are_no_text_are_found_and_community_hints_that_cannot_be_used() {
    assert_eq!(
        annotated(&json!({"sidecar.prometheus.io/required": true, "prometheus.io/scrape": true})),
        ["prometheus.io/scrape", "sidecar.prometheus.io/required"]
            .map(|key| format!("f1 not-text {POD}[\"{key}\"]"))
    );
    assert_eq!(annotated(&json!({"prometheus.io/port": "grpc"})), [format!("f1 unusable-hint {POD}")]);
}

#[test]
fn port_names_are_not_judged_where_a_patch_leaves_the_containers_out() {
    let mut patch = deployment(&json!({"sidecar.prometheus.io/port": "http"}));
    assert_eq!(found(&patch.to_string()), [""; 0]);
    patch["spec"]["template"]["spec"] = json!({});
    assert_eq!(found(&patch.to_string()), [""; 0]);
    patch["spec"]["template"]["metadata"]["annotations"]["sidecar.prometheus.io/scheme"] = json!("ftp");
    assert_eq!(
        found(&patch.to_string()),
        [format!("f1 invalid-value {POD}[\"sidecar.prometheus.io/scheme\"]")]
    );
}

#[test]
fn hints_need_a_request_by_the_pod_or_by_a_namespace_of_either_input() {
    let hinted = |key: &str, value: &str, inject: &str| {
        let mut object = deployment(&json!({key: value}));
        let annotations = &mut object["spec"]["template"]["metadata"]["annotations"];
        if inject.is_empty() {
            annotations.as_object_mut().unwrap().remove("sidecar.prometheus.io/inject");
        } else {
            annotations["sidecar.prometheus.io/inject"] = json!(inject);
        }
        object.to_string()
    };
    let namespace = |inject: &str| {
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {
            "name": "team-a", "labels": {"sidecar.prometheus.io/inject": inject},
        }})
        .to_string()
    };
    for (key, value) in [
        ("prometheus.io/scrape", "True"),
        ("prometheus.io/port", "8080"),
        ("sidecar.prometheus.io/port", "http"),
    ] {
        let expected = [format!("f1 hints-without-request {POD}[\"{key}\"]")];
        assert_eq!(found(&hinted(key, value, "")), expected, "{key}");
        assert_eq!(found_in(&hinted(key, value, ""), &namespace("true")), [""; 0], "{key}");
        let together = format!("{}\n---\n{}", hinted(key, value, ""), namespace("shop"));
        assert_eq!(found(&together), [""; 0], "{key}");
        assert_eq!(found(&hinted(key, value, "true")), [""; 0], "{key}");
        // Whoever declines knows of us.
        assert_eq!(found(&hinted(key, value, "false")), [""; 0], "{key}");
        assert_eq!(found_in(&hinted(key, value, ""), &namespace("false")), [""; 0], "{key}");
    }
    assert_eq!(found(&hinted("prometheus.io/scrape", "false", "")), [""; 0]);
}

#[test]
fn keys_that_promsidecar_writes_belong_on_injected_pods_alone() {
    let mut copied = deployment(&json!({"sidecar.prometheus.io/targets": "[]"}));
    copied["spec"]["template"]["metadata"]["labels"] = json!({"sidecar.prometheus.io/injected": "true"});
    assert_eq!(
        found(&copied.to_string()),
        [
            format!("f1 written-by-promsidecar {POD}[\"sidecar.prometheus.io/targets\"]"),
            "f1 written-by-promsidecar spec.template.metadata.labels[\"sidecar.prometheus.io/injected\"]"
                .to_owned(),
        ]
    );
    copied["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "prometheus-agent"}]);
    assert_eq!(found(&copied.to_string()), [""; 0]);
}

#[test]
fn a_spelling_of_a_label_that_the_api_server_does_not_compare_is_found() {
    let labels = |inject: &str, required: &str| {
        found(
            &json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "n", "labels": {
                "sidecar.prometheus.io/inject": inject, "sidecar.prometheus.io/required": required,
            }}})
            .to_string(),
        )
    };
    let spelling = |key: &str| format!("f1 label-spelling metadata.labels[\"sidecar.prometheus.io/{key}\"]");
    assert_eq!(labels("fALSE", "tRuE"), [spelling("required"), spelling("inject")]);
    for word in ["true", "True", "TRUE"] {
        assert_eq!(labels("False", word), [""; 0]);
    }
    // What is not compared at all, or compared with the other word.
    assert_eq!(labels("tRuE", "fALSE"), [""; 0]);
}

#[test]
fn a_misspelt_key_of_the_community_is_found_on_pods_alone() {
    assert_eq!(
        annotated(&json!({"prometheus.io/prot": "8080", "prometheus.io/job": "web"})),
        [format!("f1 misspelt-hint {POD}[\"prometheus.io/prot\"]")]
    );
    let service =
        r#"{"kind": "Service", "metadata": {"name": "s", "annotations": {"prometheus.io/prot": "80"}}}"#;
    assert_eq!(found(service), [""; 0]);
}

#[test]
fn a_request_for_a_template_that_is_not_in_the_input_is_found_where_templates_are() {
    let ours = template(&json!({"operator.prometheus.io/controller-id": "promsidecar"}));
    let asking = |value: &str| deployment(&json!({"sidecar.prometheus.io/inject": value})).to_string();
    assert_eq!(found(&asking("shoop")), [""; 0], "templates may live elsewhere");
    let fixes = |text: &str| {
        let (items, context) = (items("f", text), items("c", &ours));
        let reports = lint(&items, &context, &Settings::default(), "default");
        let findings = reports.iter().flat_map(|report| &report.findings);
        findings.map(|finding| format!("{}: {}", finding.rule.word(), finding.fix)).collect::<Vec<_>>()
    };
    let near = "template-missing: name team-a/shop if that is meant, or add the template";
    assert_eq!(fixes(&asking("shoop")), [near]);
    assert_eq!(fixes(&asking("team-b/shop")), [near]);
    assert_eq!(
        fixes(&asking("other")),
        ["template-missing: name a template that exists, or add it to the input by --templates"]
    );
    for value in ["shop", "team-a/shop", "true", "false"] {
        assert_eq!(fixes(&asking(value)), [""; 0], "{value}");
    }
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {
        "name": "team-a",
        "labels": {"sidecar.prometheus.io/inject": "shp"},
        "annotations": {"sidecar.prometheus.io/template": "team-b/shop"},
    }});
    assert_eq!(fixes(&namespace.to_string()), [near, near]);
}

/// A template of team-a with these annotations.
fn template(annotations: &Value) -> String {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
        "metadata": {"name": "shop", "namespace": "team-a", "annotations": annotations},
        "spec": {"remoteWrite": [{"url": "https://metrics.test/w"}]},
    })
    .to_string()
}

#[test]
fn a_template_that_is_meant_but_not_claimed_is_found() {
    let id = "metadata.annotations[\"operator.prometheus.io/controller-id\"]";
    let not_claimed = format!("template-not-claimed {id}");
    let ours = json!({"operator.prometheus.io/controller-id": "promsidecar"});
    let foreign = template(&json!({"operator.prometheus.io/controller-id": "main"}));
    let bare = template(&json!({}));
    let by_name = deployment(&json!({"sidecar.prometheus.io/inject": "shop"})).to_string();
    let by_true = deployment(&json!({})).to_string();

    assert_eq!(found(&bare), [""; 0], "nobody asks");
    assert_eq!(found(&format!("{by_name}\n---\n{bare}")), [format!("f2 {not_claimed}")]);
    assert_eq!(found(&format!("{by_name}\n---\n{foreign}")), [format!("f2 {not_claimed}")]);
    assert_eq!(found_in(&by_name, &bare), [format!("c1 {not_claimed}")]);
    assert_eq!(found_in(&by_true, &bare), [format!("c1 {not_claimed}")]);
    assert_eq!(found(&format!("{by_name}\n---\n{}", template(&ours))), [""; 0]);
    // Whoever asks for whichever template applies gets the claimed one, and the other may be the operator's.
    let other = template(&ours).replace("shop", "other");
    assert_eq!(found(&format!("{by_true}\n---\n{bare}\n---\n{other}")), [""; 0]);
    let named_by_namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {
        "name": "team-b", "annotations": {"sidecar.prometheus.io/template": "team-a/shop"},
    }});
    assert_eq!(found_in(&named_by_namespace.to_string(), &bare), [format!("c1 {not_claimed}")]);
    let annotated = template(&json!({"sidecar.prometheus.io/mode": "native"}));
    assert_eq!(found(&annotated), [format!("f1 {not_claimed}")]);
    assert_eq!(found_in(&by_true, &annotated.replace("shop", "x").replace("team-a", "y")), [""; 0]);
}

#[test]
fn a_misspelt_controller_id_and_bad_values_of_a_template_are_found() {
    let id = "metadata.annotations[\"operator.prometheus.io/controller-id\"]";
    let misspelt = template(&json!({"operator.prometheus.io/controller-id": "PromSidecar"}));
    assert_eq!(found(&misspelt), [format!("f1 misspelt-controller-id {id}")]);
    let key = template(&json!({"operator.prometheus.io/controllerid": "promsidecar"}));
    assert_eq!(
        found(&key),
        ["f1 unknown-key metadata.annotations[\"operator.prometheus.io/controllerid\"]".to_owned()]
    );
    let values = template(&json!({
        "operator.prometheus.io/controller-id": "promsidecar",
        "sidecar.prometheus.io/mode": "sidecar",
        "sidecar.prometheus.io/allowed-namespaces": "team_b",
    }));
    assert_eq!(
        found(&values),
        ["allowed-namespaces", "mode"]
            .map(|key| format!("f1 invalid-value metadata.annotations[\"sidecar.prometheus.io/{key}\"]"))
    );
    let elsewhere = r#"{"kind": "Prometheus", "metadata": {"name": "p", "annotations": {"operator.prometheus.io/controller-id": "ID"}}}"#;
    assert_eq!(found(&elsewhere.replace("ID", "promsidecar")), [format!("f1 wrong-object {id}")]);
    assert_eq!(found(&elsewhere.replace("ID", "main")), [""; 0]);
}

#[test]
fn objects_of_any_shape_are_passed_over() {
    let odd = "{kind: 1}\n---\n{metadata: 3, kind: Deployment, spec: {template: 1}}\n---\n{kind: Pod, metadata: {annotations: [a]}, spec: []}\n---\n{kind: CronJob}\n---\n{kind: Namespace, metadata: {name: [], labels: x}}\n---\n{apiVersion: monitoring.coreos.com/v1alpha1, kind: PrometheusAgent}";
    assert_eq!(found(odd), [""; 0]);
}
