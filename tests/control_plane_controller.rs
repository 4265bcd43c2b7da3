//! The controller on a real API server with prometheus-operator's definitions.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use control_plane::ControlPlane;
use control_plane::controller::{
    Controller, GOOD, OWN_NAMESPACE, condition, conditions, config_map, edit, id, rendered, template,
};
use control_plane::definitions::{MALFORMED, MANY, agents, create_many, define, one_of_many};
use control_plane::https::{get, until};
use control_plane::injector::{Program, asking_pod, pods};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::admission::{Answer, Policy, admit};
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// One control plane that knows the definitions, and one controller that leads.
async fn shared() -> &'static (&'static ControlPlane, Controller) {
    static SHARED: OnceCell<(&'static ControlPlane, Controller)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            define(plane).await;
            plane.api.create_namespace(&namespace(OWN_NAMESPACE, None)).await;
            let controller = Controller::start(&plane.kubeconfig("admin"), &[]);
            until("the controller leads", || async {
                controller.ready().await.0 == 200 && controller.metric("promsidecar_leader").await == 1
            })
            .await;
            (plane, controller)
        })
        .await
}

fn namespace(name: &str, inject: Option<&str>) -> Value {
    let labels = inject.map_or_else(|| json!({}), |inject| json!({(names::INJECT): inject}));
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

async fn stored(plane: &ControlPlane, id: &TemplateId) -> Value {
    plane.api.get(&format!("{}/{}", agents(&id.namespace), id.name)).await
}

/// Waits until a ConfigMap has this content; gives it.
async fn delivered(plane: &ControlPlane, path: &str, content: &str) -> Value {
    until(&format!("{path} is delivered"), || async {
        let reply = plane.api.send("GET", path, &Value::Null).await;
        reply.body["data"][names::CONFIG_KEY] == content
    })
    .await;
    plane.api.get(path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_delivered_to_its_namespace_and_to_those_that_ask_for_it() {
    let (plane, _) = shared().await;
    let one = id("deliver-own", "one");
    plane.api.create_namespace(&namespace("deliver-own", None)).await;
    let mut asks = namespace("deliver-asks", Some("true"));
    asks["metadata"]["annotations"] = json!({(names::TEMPLATE): "deliver-own/one"});
    plane.api.create_namespace(&asks).await;
    plane.api.create_namespace(&namespace("deliver-silent", None)).await;
    plane.api.create(&agents("deliver-own"), &template("one")).await;

    for name in ["deliver-own", "deliver-asks"] {
        let path = config_map(name, &one);
        let found = delivered(plane, &path, &rendered(plane, &one, name).await).await;
        assert_eq!(found["metadata"]["labels"], json!({(names::MANAGED_BY): names::MANAGER}));
        assert_eq!(found["metadata"]["annotations"], json!({(names::TEMPLATE): "deliver-own/one"}));
    }
    let object = conditions(plane, &one, GOOD).await;
    assert_eq!(object["status"]["replicas"], 0);
    let silent = plane.api.send("GET", &config_map("deliver-silent", &one), &Value::Null).await;
    assert_eq!(silent.status, 404);

    // As people look at it.
    let columns = plane.kubectl(&["get", "prometheusagents", "-n", "deliver-own"], "").await.stdout;
    let (head, row) = columns.split_once('\n').unwrap();
    let of = |column: &str| row[head.find(column).unwrap()..].split_whitespace().next().unwrap();
    assert_eq!((of("RECONCILED"), of("AVAILABLE"), of("READY")), ("True", "True", "0"), "{columns}");

    // An edit arrives wherever the template is used, and one that is no longer asked for is kept.
    edit(plane, &format!("{}/one", agents("deliver-own")), &json!({"spec": {"scrapeInterval": "11s"}})).await;
    for name in ["deliver-own", "deliver-asks"] {
        delivered(plane, &config_map(name, &one), &rendered(plane, &one, name).await).await;
    }
    let declined = json!({"metadata": {"labels": {(names::INJECT): "false"}}});
    edit(plane, "/api/v1/namespaces/deliver-asks", &declined).await;
    until("it is noted as unused", || async {
        let found = plane.api.get(&config_map("deliver-asks", &one)).await;
        found["metadata"]["annotations"][names::UNUSED_SINCE].is_string()
    })
    .await;
    let asked = json!({"metadata": {"labels": {(names::INJECT): "true"}}});
    edit(plane, "/api/v1/namespaces/deliver-asks", &asked).await;
    until("it is used again", || async {
        let found = plane.api.get(&config_map("deliver-asks", &one)).await;
        found["metadata"]["annotations"].get(names::UNUSED_SINCE).is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_changes_nothing_that_is_delivered_and_the_status_names_every_violation() {
    let (plane, controller) = shared().await;
    let one = id("edits", "one");
    plane.api.create_namespace(&namespace("edits", None)).await;
    plane.api.create(&agents("edits"), &template("one")).await;
    let good = rendered(plane, &one, "edits").await;
    let before = delivered(plane, &config_map("edits", &one), &good).await;
    conditions(plane, &one, GOOD).await;

    let path = format!("{}/one", agents("edits"));
    edit(plane, &path, &json!({"spec": {"version": "v2.53.0", "scrapeTimeout": "10m"}})).await;
    let object = conditions(plane, &one, [["False", "Invalid"], ["Degraded", "LastGoodInForce"]]).await;
    let message = condition(&object, "Reconciled")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.version: ") && message.contains("spec.scrapeTimeout: "), "{message}");
    let after = plane.api.get(&config_map("edits", &one)).await;
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);

    edit(plane, &path, &json!({"spec": {"version": null, "scrapeTimeout": null, "scrapeInterval": "12s"}}))
        .await;
    conditions(plane, &one, GOOD).await;
    delivered(plane, &config_map("edits", &one), &rendered(plane, &one, "edits").await).await;
    assert_eq!(controller.metric("promsidecar_leader").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_a_configuration_is_put_right() {
    let (plane, _) = shared().await;
    let one = id("drift", "one");
    plane.api.create_namespace(&namespace("drift", None)).await;
    plane.api.create(&agents("drift"), &template("one")).await;
    let (path, good) = (config_map("drift", &one), rendered(plane, &one, "drift").await);
    delivered(plane, &path, &good).await;
    for change in [
        json!({"data": {(names::CONFIG_KEY): "stolen"}}),
        json!({"data": null}),
        json!({"metadata": {"annotations": {(names::TEMPLATE): "other/one"}}}),
    ] {
        edit(plane, &path, &change).await;
        let found = delivered(plane, &path, &good).await;
        until("its annotation is right", || async {
            let found = plane.api.get(&path).await;
            found["metadata"]["annotations"][names::TEMPLATE] == "drift/one"
        })
        .await;
        assert_eq!(found["metadata"]["labels"][names::MANAGED_BY], names::MANAGER);
    }
    let deleted = plane.api.send("DELETE", &path, &Value::Null).await;
    assert_eq!(deleted.status, 200);
    delivered(plane, &path, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_not_ours_is_never_overwritten_and_the_status_says_so() {
    let (plane, _) = shared().await;
    let one = id("conflict", "one");
    plane.api.create_namespace(&namespace("conflict", None)).await;
    let foreign = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_map_name(&one)},
        "data": {(names::CONFIG_KEY): "theirs"},
    });
    plane.api.create("/api/v1/namespaces/conflict/configmaps", &foreign).await;
    plane.api.create(&agents("conflict"), &template("one")).await;
    let object = conditions(plane, &one, [["False", "ConfigMapConflict"], ["True", "Published"]]).await;
    let message = condition(&object, "Reconciled")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("is not ours") && message.contains("delete or rename it"), "{message}");
    let path = config_map("conflict", &one);
    assert_eq!(plane.api.get(&path).await["data"], foreign["data"]);

    // The next look finds that it is gone: an edit brings it about.
    assert_eq!(plane.api.send("DELETE", &path, &Value::Null).await.status, 200);
    edit(plane, &format!("{}/one", agents("conflict")), &json!({"spec": {"scrapeInterval": "13s"}})).await;
    delivered(plane, &path, &rendered(plane, &one, "conflict").await).await;
    conditions(plane, &one, GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_pod_of_a_namespace_brings_its_configuration_and_is_counted() {
    let (plane, controller) = shared().await;
    let one = id("fleet", "one");
    for name in ["fleet", "fleet-other"] {
        plane.api.create_namespace(&namespace(name, None)).await;
    }
    plane.api.create(&agents("fleet"), &template("one")).await;
    conditions(plane, &one, GOOD).await;

    // As the webhook would have injected it.
    let mut pod = asking_pod("web");
    pod["metadata"]["annotations"][names::INJECT] = json!("fleet/one");
    let review = support::reviews::creation(&pod, "fleet-other");
    let manifest = serde_json::to_string(&stored(plane, &one).await).unwrap();
    let policy = Policy { native_sidecars: true, ..Policy::default() };
    let answer = admit(&serde_json::to_vec(&review).unwrap(), &support::catalog(&manifest), &policy);
    let Answer::Reviewed { body, .. } = answer else { panic!("{answer:?}") };
    let injected = support::patched(&pod, &body).expect("the pod is injected");
    plane.api.create(&pods("fleet-other"), &injected).await;
    delivered(plane, &config_map("fleet-other", &one), &rendered(plane, &one, "fleet-other").await).await;
    until("it is counted", || async {
        let status = stored(plane, &one).await["status"].clone();
        (&status["replicas"], &status["updatedReplicas"], &status["unavailableReplicas"])
            == (&json!(1), &json!(1), &json!(1))
    })
    .await;
    assert_ne!(controller.metric("promsidecar_injected_pods{state=\"all\"}").await, 0);

    // The namespace ends with everything in it.
    assert_eq!(plane.api.send("DELETE", "/api/v1/namespaces/fleet-other", &Value::Null).await.status, 200);
    until("its pod is no longer counted", || async {
        // No kubelet confirms the end of a pod.
        let now = json!({"gracePeriodSeconds": 0});
        plane.api.send("DELETE", &format!("{}/web", pods("fleet-other")), &now).await;
        stored(plane, &one).await["status"]["replicas"] == 0
    })
    .await;
    conditions(plane, &one, GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_template_costs_none_of_five_hundred_others() {
    let (plane, _) = shared().await;
    plane.api.create_namespace(&namespace("many", None)).await;
    create_many(plane, "many", template).await;
    let bad = [["False", "Invalid"], ["False", "NothingToInject"]];
    conditions(plane, &id("many", &one_of_many(MALFORMED)), bad).await;
    until("all others are delivered", || async {
        let found = plane.api.list("/api/v1/namespaces/many/configmaps").await;
        let ours =
            found.iter().filter(|object| object["metadata"]["labels"][names::MANAGED_BY] == names::MANAGER);
        ours.count() == MANY - 1
    })
    .await;
    conditions(plane, &id("many", &one_of_many(MANY - 1)), GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_good_survives_the_controller_and_the_absence_of_definitions_is_told() {
    let plane = ControlPlane::start(None).await;
    plane.api.create_namespace(&namespace(OWN_NAMESPACE, None)).await;
    plane.api.create_namespace(&namespace("survive", None)).await;
    let first = Controller::start(&plane.kubeconfig("admin"), &[]);
    until("it says what is missing", || async {
        let (status, text) = first.ready().await;
        status == 503 && text.contains("templates not known: the API server does not know this kind")
    })
    .await;
    define(&plane).await;
    let one = id("survive", "one");
    plane.api.create(&agents("survive"), &template("one")).await;
    let good = rendered(&plane, &one, "survive").await;
    delivered(&plane, &config_map("survive", &one), &good).await;
    let path = format!("{}/one", agents("survive"));
    edit(&plane, &path, &json!({"spec": {"version": "v2.53.0"}})).await;
    let degraded = [["False", "Invalid"], ["Degraded", "LastGoodInForce"]];
    conditions(&plane, &one, degraded).await;
    drop(first);

    // While nobody leads, the configuration is lost and the template is broken otherwise.
    assert_eq!(plane.api.send("DELETE", &config_map("survive", &one), &Value::Null).await.status, 200);
    edit(&plane, &path, &json!({"spec": {"version": "v2.52.0"}})).await;
    // A webhook that never saw the good version injects from it.
    let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig("admin").display());
    let webhook = Program::start_with(&plane.directory("webhook"), &kubeconfig);
    until("the webhook is ready", || async { get(webhook.admin, "/readyz").await.0 == 200 }).await;
    let answer = webhook.asked("/mutate/pod/no", "survive", &asking_pod("web")).await;
    assert_eq!(answer["auditAnnotations"]["decision"], "injected", "{answer:#}");

    let second = Controller::start(&plane.kubeconfig("admin"), &[]);
    let found = delivered(&plane, &config_map("survive", &one), &good).await;
    assert_eq!(found["data"][names::CONFIG_KEY], good);
    conditions(&plane, &one, degraded).await;
    assert_eq!(second.metric("promsidecar_leader").await, 1);

    // With the template goes what was kept of it; its pods keep what they have.
    assert_eq!(plane.api.send("DELETE", &path, &Value::Null).await.status, 200);
    until("nothing is kept", || async {
        let kept =
            format!("/api/v1/namespaces/{OWN_NAMESPACE}/configmaps?labelSelector={}", names::LAST_GOOD);
        plane.api.list(&kept).await.is_empty()
    })
    .await;
    assert_eq!(plane.api.get(&config_map("survive", &one)).await["data"][names::CONFIG_KEY], good);
}
