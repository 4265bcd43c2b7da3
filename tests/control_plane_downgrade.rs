//! What one release left to another on a real API server, whichever of them is the newer one: last good versions, the
//! certificate, injected pods; and what commands say of it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/release.rs"]
mod release;
mod support;
#[path = "support/upgrade.rs"]
mod upgrade;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use control_plane::controller::{
    Controller, OWN_NAMESPACE, conditions, config_map, edit, id, path, rendered,
};
use control_plane::https::until;
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods, registration};
use control_plane::{ControlPlane, Printed};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::manifest;
use promsidecar::names;
use promsidecar::store::last_good;
use release::{Release, next};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use upgrade::{Cluster, start_controller};

const DEGRADED: [[&str; 2]; 2] = [["False", "Invalid"], ["Degraded", "LastGoodInForce"]];

fn secret_path() -> String {
    format!("/api/v1/namespaces/{OWN_NAMESPACE}/secrets/{}", names::TLS_SECRET)
}

/// Waits until an object is there that is `so`; gives it.
async fn that(plane: &ControlPlane, path: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    until(what, || async {
        let reply = plane.api.send("GET", path, &Value::Null).await;
        reply.status == 200 && so(&reply.body)
    })
    .await;
    plane.api.get(path).await
}

/// What the next release keeps in an object beside what this one does.
fn further(object: &Value) -> [Value; 2] {
    let (key, _) = next::FURTHER_KEY.unwrap();
    let annotation = format!("{}{key}", names::PREFIX);
    [object["data"][key].clone(), object["metadata"]["annotations"][annotation].clone()]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_release_kept_of_templates_and_certificates_serves_the_other() {
    let cluster = Cluster::start().await;
    let plane = &cluster.plane;
    let one = id("shop", "one");
    let flags = ["--rotation-wait=3s", "--rotation-overlap=30s"];
    let leading = async |release: Release| {
        let controller = start_controller(release, &plane.kubeconfig("admin"), &flags);
        controller.leads().await;
        controller
    };
    let kept_path = format!("/api/v1/namespaces/{OWN_NAMESPACE}/configmaps/{}", last_good::name(&one));
    let guest = config_map("guest", &one);
    let (key, value) = next::FURTHER_KEY.unwrap();

    let newer = leading(Release::Next).await;
    cluster.delivered(Release::Next, &one, &["shop", "guest"]).await;
    let good = rendered(plane, &one, "guest").await;
    let kept = plane.api.get(&kept_path).await;
    assert_eq!(further(&kept), [json!(value), json!(value)]);
    edit(plane, &path(&one), &json!({"spec": {"version": "v2.53.0"}})).await;
    conditions(plane, &one, DEGRADED).await;
    // In the middle of a rotation.
    let signed = |secret: &Value| !secret["data"]["tls.crt"].is_null();
    let first = that(plane, &secret_path(), "the certificate is made", signed).await;
    assert!(further(&first).iter().all(Value::is_string), "{key}");
    let asks = json!({"metadata": {"annotations": {(names::ROTATE): "now"}}});
    edit(plane, &secret_path(), &asks).await;
    let is_next = |secret: &Value| secret["data"]["ca-next.key"].as_str().is_some_and(|key| !key.is_empty());
    let prepared = that(plane, &secret_path(), "the next authority is made", is_next).await;
    cluster.kill(newer).await;

    // While nobody leads the configuration is lost, and the template is broken otherwise.
    assert_eq!(plane.api.send("DELETE", &guest, &Value::Null).await.status, 200);
    edit(plane, &path(&one), &json!({"spec": {"version": "v2.52.0"}})).await;
    let webhook = cluster.webhook(Release::This, "downgraded").await;
    let mut pod = asking_pod("web");
    pod["metadata"]["annotations"][names::INJECT] = json!("shop/one");
    let answer = webhook.asked("/mutate/pod/no", "guest", &pod).await;
    assert_eq!(answer["auditAnnotations"]["decision"], "injected", "{answer:#}");
    let this = leading(Release::This).await;
    cluster.holds(Release::This, &guest, &good).await;
    conditions(plane, &one, DEGRADED).await;
    assert_eq!(plane.api.get(&kept_path).await, kept, "what it need not write it leaves as it is");
    let switched = that(plane, &secret_path(), "the next authority signs", |secret| !is_next(secret)).await;
    assert_eq!(switched["data"]["ca.key"], prepared["data"]["ca-next.key"]);
    assert_ne!(switched["data"]["tls.crt"], first["data"]["tls.crt"]);
    assert_eq!(further(&switched), further(&first));

    // And the other way: what the older one kept, the newer one reads.
    edit(plane, &path(&one), &json!({"spec": {"version": "3.12.0"}})).await;
    cluster.delivered(Release::This, &one, &["shop", "guest"]).await;
    let good = rendered(plane, &one, "guest").await;
    edit(plane, &path(&one), &json!({"spec": {"version": "v2.53.0"}})).await;
    conditions(plane, &one, DEGRADED).await;
    assert_eq!(further(&plane.api.get(&kept_path).await), further(&kept), "what it does not know stays");
    let (kept, secret) = (plane.api.get(&kept_path).await, plane.api.get(&secret_path()).await);
    cluster.kill(this).await;
    assert_eq!(plane.api.send("DELETE", &guest, &Value::Null).await.status, 200);
    let _newer = leading(Release::Next).await;
    cluster.holds(Release::Next, &guest, &good).await;
    conditions(plane, &one, DEGRADED).await;
    assert_eq!(plane.api.get(&kept_path).await, kept);
    assert_eq!(plane.api.get(&secret_path()).await, secret);
}

/// A Deployment of one pod that asks.
fn deployment(name: &str, place: &str) -> Value {
    let labels = json!({"app": name});
    let asks = json!({(names::INJECT): "true", (names::PORT): "8080"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": place},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": asks},
                "spec": {"containers": [{"name": "web", "image": "registry.example.com/shop/web:1.4"}]},
            },
        },
    })
}

async fn create(plane: &ControlPlane, object: &Value) {
    let created = plane.kubectl(&["create", "-f", "-"], &object.to_string()).await;
    assert_eq!(created.code, 0, "{created:?}");
}

/// Waits for something while every pod of `shop` becomes ready, as on a node.
async fn with_kubelet<T>(plane: &ControlPlane, what: impl Future<Output = T>) -> T {
    let kubelet = async {
        loop {
            for pod in plane.api.list(&pods("shop")).await {
                let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
                let path = format!("{}/{}/status", pods("shop"), pod["metadata"]["name"].as_str().unwrap());
                // It may have gone meanwhile.
                plane.api.send("PATCH", &path, &json!({"status": ready})).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        done = what => done,
        () = kubelet => unreachable!("it goes on for ever"),
    }
}

/// Restarts owners by this release's program, while pods become ready.
async fn run(plane: &ControlPlane) -> Printed {
    let mut command = Release::This.command(&["rollout", "run", "-n", "shop", "--pause=100ms"]);
    command.env("KUBECONFIG", plane.kubeconfig("admin"));
    with_kubelet(plane, tokio::task::spawn_blocking(move || asked::run(command))).await.unwrap()
}

/// Registers a webhook in place of the one before, and waits until it is asked.
async fn registered(cluster: &Cluster, release: Release) -> control_plane::injector::Program {
    let plane = &cluster.plane;
    let webhook = cluster.webhook(release, &format!("registered-{release:?}")).await;
    let object = registration(&["shop"], &webhook.url(), &webhook.ca);
    let path = format!("{CONFIGURATIONS}/promsidecar-shop");
    let changed = plane.api.send("PATCH", &path, &object).await;
    if changed.status == 404 {
        plane.api.create(CONFIGURATIONS, &object).await;
    }
    until("the webhook is asked", || async {
        let tried =
            plane.api.send("POST", &format!("{}?dryRun=All", pods("shop")), &asking_pod("tried")).await;
        version(&tried.body) == release.status()
    })
    .await;
    webhook
}

/// Version of a pod's status; 0 without one.
fn version(pod: &Value) -> u32 {
    let status = pod["metadata"]["annotations"][names::STATUS].as_str().unwrap_or("{}");
    let status: Value = serde_json::from_str(status).unwrap();
    status["version"].as_u64().map_or(0, |version| u32::try_from(version).unwrap())
}

async fn pod_of(plane: &ControlPlane, app: &str) -> Value {
    let path = format!("{}?labelSelector=app%3D{app}", pods("shop"));
    until(&format!("{app} has a pod"), || async { !plane.api.list(&path).await.is_empty() }).await;
    plane.api.list(&path).await.remove(0)
}

/// Whoever has nothing.
async fn empty_receiver() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = || async { r#"{"status": "success", "data": {"result": []}}"# };
    let router = Router::new().route("/api/v1/query", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_downgrade_pods_of_the_newer_release_run_on_and_are_restarted_when_it_suits() {
    let cluster = Cluster::start().await;
    let plane = &cluster.plane;
    let one = id("shop", "one");
    // As it is installed, but that nothing runs its pods.
    let mut serves = deployment("promsidecar-webhook", OWN_NAMESPACE);
    serves["spec"]["replicas"] = json!(0);
    serves["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["webhook"]);
    create(plane, &serves).await;
    create(plane, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})).await;
    let controller = start_controller(Release::Next, &plane.kubeconfig("admin"), &[]);
    controller.leads().await;
    let webhook = registered(&cluster, Release::Next).await;
    create(plane, &deployment("web", "shop")).await;
    assert_eq!(version(&pod_of(plane, "web").await), Release::Next.status());
    cluster.create_injected(Release::Next, "far", "next").await;
    cluster.delivered(Release::Next, &one, &["shop", "guest", "far"]).await;
    cluster.counted(&one, 2, 2).await;
    let web = pod_of(plane, "web").await["metadata"]["name"].as_str().unwrap().to_owned();

    let available = async || {
        let status = plane.api.get("/apis/apps/v1/namespaces/shop/deployments/web").await["status"].clone();
        status["availableReplicas"] == 1
    };
    with_kubelet(plane, until("web is available", available)).await;

    // The older program beside the newer webhook says so, and restarts nobody.
    let refused = run(plane).await;
    let end = format!(
        "shop Deployment/web: a pod of it would be injected by {}: use the program of that version\n\
         stopped: nobody else is restarted. Mend it and run the same command again; or go on without it: --except Deployment/web\n\
         0 restarted, 0 left alone\n",
        newer()
    );
    assert_eq!((refused.code, refused.stdout), (1, format!("{}{end}", plan_of_web(plane))));
    drop(webhook);
    cluster.kill(controller).await;
    let _webhook = registered(&cluster, Release::This).await;
    let controller = start_controller(Release::This, &plane.kubeconfig("admin"), &[]);
    controller.leads().await;
    cluster.delivered(Release::This, &one, &["shop", "guest", "far"]).await;
    cluster.counted(&one, 2, 0).await;
    plane.api.create(&pods("shop"), &asking_pod("new")).await;
    cluster.counted(&one, 3, 1).await;
    still_used(&cluster, &controller).await;
    told_by_the_older(&cluster).await;
    told_by_the_newer(&cluster, &web);

    // What was refused before goes through now.
    let run = run(plane).await;
    let end = "shop Deployment/web: restarted; waiting for its rolling update\n\
        shop Deployment/web: complete: its pods are up to date\n\
        1 restarted, 0 left alone\n";
    assert_eq!((run.code, run.stdout), (0, format!("{}{end}", plan_of_web(plane))));
    assert_eq!(version(&pod_of(plane, "web").await), Release::This.status());
}

/// Who injected the pods, as this release says it.
fn newer() -> String {
    format!("a newer promsidecar ({}, status version {})", next::PROGRAM, next::STATUS)
}

/// Why it does not take their agents out.
fn refusal() -> String {
    let (program, version) = (Release::This.version(), Release::This.status());
    format!(
        "annotation sidecar.prometheus.io/status is of {}, and {program} knows versions up to {version}: use that one",
        newer()
    )
}

/// The first line of a plan.
fn head(plane: &ControlPlane) -> String {
    format!("cluster: context test, https://{}\n", plane.api.address)
}

/// The plan that this release makes, while `web` has a pod of the next one.
fn plan_of_web(plane: &ControlPlane) -> String {
    format!(
        "{}NAMESPACE\tOWNER\tPODS\tOUTDATED\tWITHOUT-AGENT\tWHAT\n\
         shop\tDeployment/web\t1\t1\t0\trestart\n\
         {}1 to restart, 0 to restart once they are complete, 0 with the next run, 0 by hand\n",
        head(plane),
        note(1)
    )
}

/// What a plan says of pods that a newer promsidecar injected.
fn note(count: usize) -> String {
    format!(
        "note: a newer promsidecar injected {count} of the outdated pods: where its webhook is installed, use its program; after a \
         downgrade their owners are restarted as others are\n"
    )
}

/// Runs a command of a release as administrator.
fn ask(plane: &ControlPlane, release: Release, arguments: &[&str]) -> Printed {
    let mut command = release.command(arguments);
    command.env("KUBECONFIG", plane.kubeconfig("admin"));
    asked::run(command)
}

/// A namespace in which only a pod of the next release runs is one that uses the template, until that pod is gone.
async fn still_used(cluster: &Cluster, controller: &Controller) {
    let (plane, one) = (&cluster.plane, id("shop", "one"));
    let counted = async |count| {
        until("the controller knows the pods", || async {
            controller.metric("promsidecar_injected_pods{state=\"all\"}").await == count
        })
        .await;
    };
    cluster.create_injected(Release::Next, "spare", "next").await;
    counted(4).await;
    cluster.delivered(Release::This, &one, &["spare"]).await;
    cluster.looks_again(controller, &one).await;
    let unused = async |place: &str| {
        plane.api.get(&config_map(place, &one)).await["metadata"]["annotations"]
            .get(names::UNUSED_SINCE)
            .is_some()
    };
    assert_eq!((unused("far").await, unused("spare").await), (false, false));
    let now = json!({"gracePeriodSeconds": 0});
    assert_eq!(plane.api.send("DELETE", &format!("{}/next", pods("spare")), &now).await.status, 200);
    until("its configuration is noted as unused", || unused("spare")).await;
    assert!(!unused("far").await);
    assert_eq!(controller.metric("promsidecar_injected_pods{state=\"newer\"}").await, 2);
    cluster.counted(&one, 3, 1).await;
}

/// What this release says of the pod that the next one injected.
async fn told_by_the_older(cluster: &Cluster) {
    let plane = &cluster.plane;
    let asked = |arguments: &[&str]| {
        let Printed { code, stdout, stderr } = ask(plane, Release::This, arguments);
        assert_eq!(stderr, "", "{arguments:?}");
        (code, stdout)
    };
    let (map, newer, refusal) = (config_map_name(&id("shop", "one")), newer(), refusal());
    let explained = format!(
        "Pod/next in far\n  \
           injected from shop/one by {newer}; not ready; only that one can tell whether it is up to date\n  \
           configuration: ConfigMap {map}: is there\n  \
           note: what follows is of the pod with the agent that it has: {refusal}\n\
         if it were created now:\n\
         Pod/next in far\n  \
           · not-requested           the pod's annotation asks for shop/one\n  \
           · opted-out\n  \
           ✗ already-injected\n\
         not injected: already-injected\n  \
           fix: nothing to do; to inject afresh, take our container, volumes, annotations and label out of the manifest\n"
    );
    assert_eq!(asked(&["explain", "pod/next", "-n", "far"]), (0, explained));
    let planned = format!(
        "{}NAMESPACE\tOWNER\tPODS\tOUTDATED\tWITHOUT-AGENT\tWHAT\n\
         far\tPod/next\t1\t1\t0\tby hand: nothing creates it again: delete it, and create it anew\n\
         {}0 to restart, 0 to restart once they are complete, 0 with the next run, 1 by hand\n",
        head(plane),
        note(1)
    );
    assert_eq!(asked(&["rollout", "plan", "-n", "far"]), (0, planned));
    let status = "NAMESPACE\tTEMPLATE\tRECONCILED\tAVAILABLE\tPODS\tUP-TO-DATE\tREADY\tNAMESPACES\n\
        shop\tone\tTrue\tTrue\t3\t1\t0\tfar\n\
        shop/one: a newer promsidecar injected 1 of its pods: only that one can tell whether they are up to date\n";
    assert_eq!(asked(&["status", "-n", "far"]), (0, status.to_owned()));
    let verified = "starting  far/next: its phase is Pending; template shop/one\n\
        note: a newer promsidecar injected 1 of these pods; they are judged as the others\n\
        0 missing, 0 down, 0 failing, 0 no-target, 1 starting, 0 ended, 0 delivering\n";
    let url = empty_receiver().await;
    assert_eq!(asked(&["verify", "-n", "far", "--query-url", &url]), (0, verified.to_owned()));
}

/// What the next release says of a pod that this one injected, and of its own: which of them a new one would be like.
fn told_by_the_newer(cluster: &Cluster, web: &str) {
    let asked = |arguments: &[&str]| ask(&cluster.plane, Release::Next, arguments);
    let map = config_map_name(&id("shop", "one"));
    for (pod, by, current) in [
        ("new", Release::This, "outdated: created again, the pod would get another agent"),
        (web, Release::Next, "up to date"),
    ] {
        let by = by.version();
        let explained = asked(&["explain", &format!("pod/{pod}"), "-n", "shop"]);
        let beginning = format!(
            "Pod/{pod} in shop\n  \
               injected from shop/one (native), generation 1, by promsidecar {by}; not ready; {current}\n  \
             configuration: ConfigMap {map}: is there\nif it were created now:\n"
        );
        assert!(explained.stdout.starts_with(&beginning), "{}", explained.stdout);
        assert!(explained.stdout.ends_with("\ninjected from shop/one (native)\n"), "{}", explained.stdout);
        assert_eq!((explained.code, &*explained.stderr), (0, ""));
    }
    let planned = asked(&["rollout", "plan", "-n", "shop"]);
    let expected = "NAMESPACE\tOWNER\tPODS\tOUTDATED\tWITHOUT-AGENT\tWHAT\n\
        shop\tPod/new\t1\t1\t0\tby hand: nothing creates it again: delete it, and create it anew\n\
        0 to restart, 0 to restart once they are complete, 0 with the next run, 1 by hand\n";
    let expected = format!("{}{expected}", head(&cluster.plane));
    assert_eq!((planned.code, planned.stdout, &*planned.stderr), (0, expected, ""));
    let status = asked(&["status", "-n", "shop"]);
    let expected = "NAMESPACE\tTEMPLATE\tRECONCILED\tAVAILABLE\tPODS\tUP-TO-DATE\tREADY\tNAMESPACES\n\
        shop\tone\tTrue\tTrue\t3\t1\t0\tshop\n";
    assert_eq!((status.code, &*status.stdout, &*status.stderr), (0, expected, ""));
}

/// Runs a command over a manifest.
fn over(release: Release, arguments: &[&str], manifest: &str) -> Printed {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("manifest.yaml");
    std::fs::write(&path, manifest).unwrap();
    let mut command = release.command(arguments);
    command.arg("--filename=manifest.yaml").current_dir(directory.path());
    asked::run(command)
}

/// The objects of a manifest.
fn objects(manifest: &str) -> Vec<Value> {
    manifest::read(manifest).unwrap().into_iter().map(|document| document.object).collect()
}

#[test]
fn manifests_that_this_release_injected_are_the_next_ones_to_restore_and_not_the_other_way_round() {
    let mut template = control_plane::controller::template("one");
    template["metadata"]["namespace"] = json!("shop");
    let documents = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        template,
        deployment("web", "shop"),
    ];
    let manifest = documents.map(|document| serde_saphyr::to_string(&document).unwrap()).join("---\n");
    let injected = |release| {
        let injected = over(release, &["inject"], &manifest);
        assert_eq!(injected.code, 0, "{injected:?}");
        assert_ne!(objects(&injected.stdout), objects(&manifest));
        injected.stdout
    };
    let (this, next) = (injected(Release::This), injected(Release::Next));
    // Neither adds to what the other one did.
    for (release, injected) in [(Release::This, &next), (Release::Next, &this)] {
        let differs = over(release, &["diff"], injected);
        assert_eq!((differs.code, &*differs.stdout), (0, ""), "{release:?}");
        let again = over(release, &["inject"], injected);
        assert_eq!((again.code, &again.stdout), (0, injected), "{release:?}");
    }
    let restored = over(Release::Next, &["uninject"], &this);
    assert_eq!((restored.code, objects(&restored.stdout)), (0, objects(&manifest)));
    let refused = over(Release::This, &["uninject"], &next);
    let why = format!("promsidecar: manifest.yaml: document 3: Deployment/web in shop: {}\n", refusal());
    assert_eq!((refused.code, &*refused.stdout, refused.stderr), (3, "", why));
    // What version 1 wrote, for good.
    for case in ["parents-absent", "parents-null-and-empty", "pod-container-mode"] {
        let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/status-v1").join(case);
        let read = |name: &str| std::fs::read_to_string(frozen.join(name)).unwrap();
        let restored = over(Release::Next, &["uninject"], &read("injected.yaml"));
        assert_eq!((restored.code, objects(&restored.stdout)), (0, objects(&read("before.yaml"))), "{case}");
    }
}
