//! Pods that come by an entry of the registration before their namespace is known here: what the API server saw of it counts.

#![expect(clippy::panic, reason = "a failed step fails the test")]

mod support;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::decision::Missing;
use promsidecar::admission::entry::Entry;
use promsidecar::admission::reason::Reason;
use promsidecar::admission::{Answer, OutcomeKind, Policy, admit_by};
use promsidecar::names;
use promsidecar::webhook::router::PATHS;
use serde_json::{Value, json};
use support::{catalog, reviews, template_id};

/// A template for everybody that uses a Secret, one of the pod's namespace, and no namespace.
const TEMPLATES: &str = "
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: base
  namespace: platform
  annotations:
    operator.prometheus.io/controller-id: promsidecar
    sidecar.prometheus.io/allowed-namespaces: '*'
spec:
  remoteWrite:
  - url: https://metrics.example.com/api/v1/write
    basicAuth:
      username: {name: rw, key: user}
      password: {name: rw, key: password}
---
apiVersion: monitoring.coreos.com/v1alpha1
kind: PrometheusAgent
metadata:
  name: shop
  namespace: new
  annotations: {operator.prometheus.io/controller-id: promsidecar}
spec:
  remoteWrite: [{url: https://metrics.example.com/api/v1/write}]
";

/// What happens to a pod: the outcome, what it is for the lack of, and the status of HTTP.
type Happened = (OutcomeKind, Option<Reason>, Option<Missing>, u16);

/// The labels that the API server saw on the namespace before it called an entry.
fn labels(entry: Entry) -> Value {
    let mut labels = json!({});
    if entry.asked_by_namespace() {
        labels[names::INJECT] = json!("true");
    }
    if entry.required_by_namespace() {
        labels[names::REQUIRED] = json!("true");
    }
    labels
}

/// The pod that comes by an entry.
fn pod(entry: Entry) -> Value {
    let mut annotations = json!({(names::PORT): "8080"});
    if !entry.asked_by_namespace() {
        annotations[names::INJECT] = json!("true");
    }
    if matches!(entry, Entry::NamespacePod | Entry::PodPod) {
        annotations[names::REQUIRED] = json!("true");
    }
    json!({
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    })
}

fn policy() -> Policy {
    Policy { native_sidecars: true, ..Policy::default() }
}

fn answer(entry: Option<Entry>, pod: &Value, catalog: &Catalog, policy: &Policy) -> Answer {
    let review = reviews::creation(pod, "new").to_string();
    admit_by(entry, review.as_bytes(), catalog, policy)
}

fn happened(answer: &Answer) -> Happened {
    match answer {
        Answer::Reviewed { outcome, .. } => {
            (outcome.kind, outcome.reason, outcome.missing.as_deref().cloned(), 200)
        }
        Answer::Failed { outcome, .. } => {
            (outcome.kind, outcome.reason, outcome.missing.as_deref().cloned(), 500)
        }
        Answer::Unreadable { message } => panic!("{message}"),
    }
}

/// The templates and the namespace with this metadata.
fn with_namespace(metadata: &Value) -> Catalog {
    let mut metadata = metadata.clone();
    metadata["name"] = json!("new");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    catalog(&format!("{TEMPLATES}---\n{namespace}\n"))
}

fn namespace() -> Missing {
    Missing::Namespace("new".to_owned())
}

#[test]
fn an_unknown_namespace_is_waited_for_by_every_entry_and_what_the_api_server_saw_of_it_is_not_forgotten() {
    let unknown = catalog(TEMPLATES);
    let found =
        Entry::ALL.map(|entry| (entry, happened(&answer(Some(entry), &pod(entry), &unknown, &policy()))));
    let failed = (OutcomeKind::Skipped, Some(Reason::InternalError), Some(namespace()), 500);
    let warned = (OutcomeKind::Skipped, Some(Reason::InternalError), Some(namespace()), 200);
    let injected = (OutcomeKind::Injected, None, Some(namespace()), 200);
    assert_eq!(
        found,
        [
            (Entry::NamespaceNs, failed.clone()),
            (Entry::NamespacePod, failed.clone()),
            (Entry::NamespaceNo, warned),
            (Entry::PodNs, failed),
            (Entry::PodPod, injected.clone()),
            (Entry::PodNo, injected),
        ]
    );
}

#[test]
fn nobody_is_left_guessing_why_a_pod_of_an_unknown_namespace_has_no_agent() {
    let entry = Entry::NamespaceNo;
    let answer = answer(Some(entry), &pod(entry), &catalog(TEMPLATES), &policy());
    let Answer::Reviewed { body, outcome } = answer else { panic!("{answer:?}") };
    let detail = "labels of namespace new that the API server has are not known here";
    let response: Value = serde_json::from_slice(&body).unwrap_or_default();
    assert_eq!(
        response["response"],
        json!({
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "allowed": true,
            "warnings": [format!("promsidecar: not injected: internal-error: {detail}")],
            "auditAnnotations": {"decision": "skipped", "reason": "internal-error", "detail": detail},
        })
    );
    assert_eq!(outcome.refusal.map(|log| log.detail), Some(detail.to_owned()));
}

#[test]
fn a_namespace_that_has_come_is_decided_by_with_nothing_missing() {
    for entry in Entry::ALL {
        let known = with_namespace(&json!({"labels": labels(entry)}));
        let found = happened(&answer(Some(entry), &pod(entry), &known, &policy()));
        assert_eq!(found, (OutcomeKind::Injected, None, None, 200), "{entry:?}");
    }
}

#[test]
fn labels_that_the_api_server_saw_count_on_a_namespace_that_is_known_without_them() {
    let older = with_namespace(&json!({}));
    for (entry, status) in [(Entry::NamespaceNs, 500), (Entry::NamespacePod, 500), (Entry::NamespaceNo, 200)]
    {
        let found = happened(&answer(Some(entry), &pod(entry), &older, &policy()));
        assert_eq!(
            found,
            (OutcomeKind::Skipped, Some(Reason::InternalError), Some(namespace()), status),
            "{entry:?}"
        );
    }
    // The pod names its template itself: only who requires it is told by the entry.
    let mut absent = pod(Entry::PodNs);
    absent["metadata"]["annotations"][names::INJECT] = json!("absent");
    let missing = Some(Missing::Template(template_id("new/absent")));
    let not_found = |kind| (kind, Some(Reason::TemplateNotFound), missing.clone(), 200);
    let found =
        [Entry::PodNs, Entry::PodNo].map(|entry| happened(&answer(Some(entry), &absent, &older, &policy())));
    assert_eq!(found, [not_found(OutcomeKind::Denied), not_found(OutcomeKind::Skipped)]);
}

#[test]
fn a_folder_with_a_namespace_that_allows_secrets_is_waited_for_and_then_injected() {
    let mut asking = pod(Entry::PodNs);
    asking["metadata"]["annotations"][names::INJECT] = json!("platform/base");
    let at_first = happened(&answer(Some(Entry::PodNs), &asking, &catalog(TEMPLATES), &policy()));
    assert_eq!(at_first, (OutcomeKind::Skipped, Some(Reason::InternalError), Some(namespace()), 500));
    let came = with_namespace(&json!({
        "labels": {(names::REQUIRED): "true"},
        "annotations": {(names::ALLOWED_SECRETS): "rw"},
    }));
    let then = happened(&answer(Some(Entry::PodNs), &asking, &came, &policy()));
    assert_eq!(then, (OutcomeKind::Injected, None, None, 200));
}

#[test]
fn the_default_template_is_not_taken_before_the_namespace_could_name_its_own() {
    let plain = TEMPLATES.replace(
        "    basicAuth:\n      username: {name: rw, key: user}\n      password: {name: rw, key: password}\n",
        "",
    );
    let elsewhere = plain.replace("namespace: new", "namespace: other");
    let policy = Policy { default_template: Some(template_id("platform/base")), ..policy() };
    let asking = pod(Entry::PodNo);
    let found = happened(&answer(Some(Entry::PodNo), &asking, &catalog(&elsewhere), &policy));
    assert_eq!(
        found,
        (OutcomeKind::Injected, None, Some(namespace()), 200),
        "it stands only if nothing comes"
    );
}

#[test]
fn what_the_pod_alone_decides_waits_for_no_namespace() {
    let unknown = catalog(TEMPLATES);
    let excluded = Policy { excluded_namespaces: ["new".to_owned()].into(), ..policy() };
    let mut on_the_host = pod(Entry::NamespaceNs);
    on_the_host["spec"]["hostNetwork"] = json!(true);
    let entry = Some(Entry::NamespaceNs);
    let found = [
        happened(&answer(entry, &pod(Entry::NamespaceNs), &unknown, &excluded)),
        happened(&answer(entry, &on_the_host, &unknown, &policy())),
    ];
    assert_eq!(
        found,
        [
            (OutcomeKind::Skipped, Some(Reason::NamespaceExcluded), None, 200),
            (OutcomeKind::Denied, Some(Reason::HostNetwork), None, 200),
        ]
    );
}

#[test]
fn by_the_plain_path_a_namespace_that_is_not_known_is_one_that_says_nothing() {
    let unknown = catalog(TEMPLATES);
    let plain = |pod: &Value| happened(&answer(Entry::of_path("/mutate"), pod, &unknown, &policy()));
    assert_eq!(
        plain(&pod(Entry::NamespaceNs)),
        (OutcomeKind::Skipped, Some(Reason::NotRequested), None, 200)
    );
    assert_eq!(plain(&pod(Entry::PodNo)), (OutcomeKind::Injected, None, None, 200));
}

#[test]
fn every_path_but_the_plain_one_is_that_of_an_entry_and_the_registration_calls_these() {
    let registration: Value =
        serde_saphyr::from_str(include_str!("../webhook-config/base/registration.yaml")).unwrap_or_default();
    let called = registration["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    let called: Vec<_> =
        called.iter().filter_map(|entry| entry["clientConfig"]["service"]["path"].as_str()).collect();
    assert_eq!(called, Entry::ALL.map(Entry::path));
    assert_eq!(PATHS.map(Entry::of_path)[0], None);
    assert_eq!(PATHS[1..], Entry::ALL.map(Entry::path));
}
