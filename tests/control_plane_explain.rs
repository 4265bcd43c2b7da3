//! `promsidecar explain KIND/NAME` and `promsidecar status` on a real API server: what was done with pods, what would be done now,
//! and how templates are.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use asked::{Watched, ask, ask_by, is_golden};
use control_plane::ControlPlane;
use control_plane::controller::{Controller, OWN_NAMESPACE, config_map, delivered, edit, id, path, template};
use control_plane::definitions::agents;
use control_plane::https::until;
use control_plane::injector::{Program, asking_pod, pods};
use promsidecar::names;
use serde_json::{Value, json};

/// A Deployment whose pods ask, by this port.
fn deployment(name: &str, annotations: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": [{"name": "web", "image": "registry.example.com/shop/web:1.4"}]},
            },
        },
    })
}

async fn create(plane: &ControlPlane, object: &Value) {
    let created = plane.kubectl(&["create", "-f", "-"], &object.to_string()).await;
    assert_eq!(created.code, 0, "{created:?}");
}

/// Name of the pod of a Deployment, once it is there.
async fn pod_of(plane: &ControlPlane, app: &str) -> String {
    let path = format!("{}?labelSelector=app%3D{app}", pods("shop"));
    until(&format!("{app} has a pod"), || async { !plane.api.list(&path).await.is_empty() }).await;
    let pod = plane.api.list(&path).await.remove(0);
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_workloads_are_explained_by_what_was_done_and_what_would_be_done_now() {
    let plane = ControlPlane::shared().await;
    let _webhook = Program::installed(plane, &["shop"], OWN_NAMESPACE).await;
    let controller = Controller::leading(&plane.kubeconfig("admin"), &[]).await;
    // As it is installed, but that nothing runs its pods.
    let mut serves = deployment("promsidecar-webhook", &json!({}));
    serves["metadata"]["namespace"] = json!(OWN_NAMESPACE);
    serves["spec"]["replicas"] = json!(0);
    serves["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["webhook"]);
    create(plane, &serves).await;
    let one = id("shop", "one");
    plane.api.create(&agents("shop"), &template("one")).await;
    delivered(plane, &one, "shop").await;

    let asks = json!({(names::INJECT): "true", (names::PORT): "8080"});
    create(plane, &deployment("web", &asks)).await;
    let web = pod_of(plane, "web").await;
    is_golden("explain-deployment.txt", &ask(plane, "admin", &["explain", "deploy/web", "-n", "shop"]), 0);
    let pod = format!("pod/{web}");
    is_golden("explain-pod.txt", &ask(plane, "admin", &["explain", &pod, "-n", "shop"]), 0);

    let lost = json!({(names::INJECT): "ome", (names::PORT): "8080"});
    create(plane, &deployment("lost", &lost)).await;
    pod_of(plane, "lost").await;
    is_golden("explain-skipped.txt", &ask(plane, "admin", &["explain", "deployment/lost", "-n", "shop"]), 1);

    statuses(plane).await;

    // A monitor of Services needs a file that the pod does not mount.
    edit(plane, &path(&one), &json!({"spec": {"serviceMonitorSelector": {}}})).await;
    let secret = json!({"name": "scraping", "key": "token"});
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {}, "endpoints": [{"port": "http", "bearerTokenSecret": secret}]},
    });
    create(plane, &monitor).await;
    let found = ask(plane, "admin", &["explain", &pod, "-n", "shop"]);
    assert!(found.stdout.contains("outdated: created again, the pod would get another agent"), "{found:?}");
    let deleted = plane.kubectl(&["delete", "servicemonitor", "web", "--namespace=shop"], "").await;
    assert_eq!(deleted.code, 0, "{deleted:?}");

    // Another version: the pod is outdated, and its ConfigMap goes with nobody to bring it back.
    edit(plane, &path(&one), &json!({"spec": {"version": "3.12.0"}})).await;
    delivered(plane, &one, "shop").await;
    let status = || ask(plane, "admin", &["status", "-n", "shop"]);
    until("its status tells of the edit", || async { status().code == 0 }).await;
    drop(controller);
    let deleted = plane.api.send("DELETE", &config_map("shop", &one), &Value::Null).await;
    assert_eq!(deleted.status, 200);
    let found = ask(plane, "admin", &["explain", &pod, "-n", "shop", "-o", "json"]);
    assert_eq!((found.code, &*found.stderr), (1, ""));
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((&found["pods"][0]["injected"], &found["pods"][0]["current"]), (&json!(true), &json!(false)));
    let map = found["pods"][0]["configMap"].as_str().unwrap();
    assert_eq!(found["configMaps"], json!({map: false}));
    assert_eq!((&found["now"]["injected"], &found["now"]["template"]), (&json!(true), &json!("shop/one")));
    assert_eq!(found["notes"], json!([]));

    // An edit that no controller has looked at is in force nowhere.
    edit(plane, &path(&one), &json!({"spec": {"version": "2.0.0"}})).await;
    let found = status();
    assert!(found.code == 1 && found.stdout.contains("shop\tone\tTrue?\tTrue?\t"), "{found:?}");
    let remark = "shop/one: no controller has looked at it since its last edit: see promsidecar check\n";
    assert!(found.stdout.contains(remark), "{found:?}");

    // By the flags of the webhook that is installed, not by ours.
    let flags = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "web", "image": "promsidecar", "args": ["webhook", "--exclude-namespace=shop"]},
    ]}}}});
    edit(plane, "/apis/apps/v1/namespaces/promsidecar-system/deployments/promsidecar-webhook", &flags).await;
    let found = ask(plane, "admin", &["explain", "deploy/web", "-n", "shop"]);
    let end = "not injected: namespace-excluded: pods of shop are never injected\n";
    assert!(found.code == 1 && found.stdout.contains(end), "{}", found.stdout);

    flags_from_elsewhere(plane).await;
    somebody_else(plane).await;
}

/// Flags that come from a ConfigMap are followed; of those from a Secret it is said that they cannot be seen.
async fn flags_from_elsewhere(plane: &ControlPlane) {
    let metadata = json!({"name": "flags", "namespace": OWN_NAMESPACE});
    create(
        plane,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"exclude": "shop"}}),
    )
    .await;
    let env = json!([
        {"name": "PROMSIDECAR_EXCLUDE_NAMESPACE", "valueFrom": {"configMapKeyRef": {"name": "flags", "key": "exclude"}}},
        {"name": "PROMSIDECAR_MAX_TARGETS", "valueFrom": {"secretKeyRef": {"name": "flags", "key": "most"}}},
    ]);
    let container = json!({"name": "web", "image": "promsidecar", "args": ["webhook"], "env": env});
    let flags = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    edit(plane, "/apis/apps/v1/namespaces/promsidecar-system/deployments/promsidecar-webhook", &flags).await;
    let found = ask(plane, "admin", &["explain", "deploy/web", "-n", "shop"]);
    let end = "not injected: namespace-excluded: pods of shop are never injected\n";
    let note = "  note: the webhook's --max-targets cannot be seen (PROMSIDECAR_MAX_TARGETS: it comes from Secret flags): decided as if \
        it were not set\n";
    assert!(found.code == 1 && found.stdout.contains(end) && found.stdout.contains(note), "{}", found.stdout);
    let untold = "cannot tell whether it is up to date, because the webhook's --max-targets cannot be seen (PROMSIDECAR_MAX_TARGETS: \
        it comes from Secret flags)\n";
    assert!(found.stdout.contains(untold), "{}", found.stdout);
}

/// How templates are: of one namespace, of all, and again when something changes.
async fn statuses(plane: &ControlPlane) {
    // Counts are written every ten seconds.
    until("both pods are counted", || async {
        plane.api.get(&path(&id("shop", "one"))).await["status"]["replicas"] == 1
    })
    .await;
    is_golden("status.txt", &ask(plane, "admin", &["status", "-n", "shop"]), 0);
    let nothing = ask(plane, "admin", &["status"]);
    assert_eq!((nothing.code, &*nothing.stdout), (0, "no templates\n"), "{nothing:?}");

    let mut watched = Watched::start(plane, &["status", "-A", "--watch"]);
    watched.until("shop\tone\tTrue\tTrue\t1\t1\t0\tshop\n").await;
    let mut bad = template("two");
    bad["spec"]["version"] = json!("2.55.0");
    plane.api.create(&agents("shop"), &bad).await;
    watched.until("shop\ttwo\tFalse\tFalse\t0\t0\t0\t-\n").await;
    is_golden("status-wide.txt", &ask(plane, "admin", &["status", "-A", "-o", "wide"]), 1);
    let found = ask(plane, "admin", &["status", "-A", "-o", "json"]);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["templates"][0]["pods"], json!({"all": 1, "updated": 1, "ready": 0}));
    assert_eq!(found["skipped"][0], json!({"namespace": "shop", "reason": "template-not-found", "pods": 1}));
    // Pods that ask in vain change no template.
    let mut vain = asking_pod("vain");
    vain["metadata"]["annotations"][names::INJECT] = json!("ome");
    plane.api.create(&pods("shop"), &vain).await;
    watched.until("shop: 2 pods that ask have no agent: template-not-found\n").await;
    let deleted = plane.api.send("DELETE", &format!("{}/vain", pods("shop")), &Value::Null).await;
    assert_eq!(deleted.status, 200);
    // The reader goes, and with the next change the program does.
    watched.hang_up();
    let deleted = plane.api.send("DELETE", &path(&id("shop", "two")), &Value::Null).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(watched.ended().await, Some(0));
}

/// Whoever may see his pods alone is told what else would count.
async fn somebody_else(plane: &ControlPlane) {
    plane.api.create(&pods("shop"), &asking_pod("mine")).await;
    let metadata = json!({"name": "tenant", "namespace": "shop"});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    create(plane, &account).await;
    let role = ["create", "role", "tenant", "--verb=get,list", "--resource=pods", "-n", "shop"];
    let bind =
        ["create", "rolebinding", "tenant", "--role=tenant", "--serviceaccount=shop:tenant", "-n", "shop"];
    for arguments in [&role[..], &bind] {
        assert_eq!(plane.kubectl(arguments, "").await.code, 0);
    }
    let tenant = plane.service_account("shop", "tenant").await;
    let found = ask_by(&tenant, &["explain", "po/mine", "-n", "shop"]);
    assert_eq!((found.code, &*found.stderr), (1, ""), "{found:?}");
    let notes: Vec<_> = found.stdout.lines().filter_map(|line| line.strip_prefix("  note: ")).collect();
    let forbidden = |what: &str| format!("forbidden: you may not {what}");
    assert_eq!(
        notes,
        [
            forbidden(
                "list deployments.apps in namespace promsidecar-system: decided by the flags of this command"
            ),
            forbidden("get namespaces shop"),
            forbidden("list prometheusagents.monitoring.coreos.com in all namespaces"),
            forbidden("list prometheusagents.monitoring.coreos.com in namespace shop"),
            forbidden("list podmonitors.monitoring.coreos.com in all namespaces"),
            forbidden("list podmonitors.monitoring.coreos.com in namespace shop"),
            forbidden("list servicemonitors.monitoring.coreos.com in all namespaces"),
            forbidden("list servicemonitors.monitoring.coreos.com in namespace shop"),
            forbidden("list configmaps in namespace promsidecar-system"),
            "cannot tell for sure what would be done now, because you may not list namespaces".to_owned(),
        ],
        "{}",
        found.stdout
    );

    let found = ask_by(&tenant, &["status", "-n", "shop"]);
    let skipped = "shop: 1 pod that asks has no agent: template-not-found";
    assert!(found.stdout.contains(skipped), "{found:?}");
    let note = "note: forbidden: you may not list prometheusagents.monitoring.coreos.com in namespace shop\n";
    assert!(found.stdout.contains(note), "{found:?}");
    let found = ask_by(&tenant, &["status", "-n", "shop", "--watch"]);
    assert_eq!(found.code, 3);
    assert!(found.stderr.starts_with("promsidecar: templates cannot be watched: "), "{found:?}");

    for (object, error) in [
        ("pod/none", "there is no pod none in namespace shop; choose another by -n"),
        ("prometheusagents/one", "prometheusagents one is no pod, and has no pod template"),
        (
            "prometheusagent.what/one",
            "the cluster knows no kind \"prometheusagent.what\": write it as kubectl does, such as deploy or rollouts.argoproj.io",
        ),
    ] {
        let found = ask(plane, "admin", &["explain", object, "-n", "shop"]);
        assert_eq!(
            (found.code, &*found.stdout, &*found.stderr),
            (3, "", &*format!("promsidecar: {error}\n"))
        );
    }
    let found = ask(plane, "admin", &["explain", "pod/a b", "-n", "shop"]);
    assert_eq!(found.code, 2, "{found:?}");
}
