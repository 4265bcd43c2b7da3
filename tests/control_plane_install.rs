//! What `webhook-config/` installs, on a real API server: it is taken as it is, the policy for ConfigMaps is in force, and
//! everything can be removed again.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
mod support;

use control_plane::https::until;
use control_plane::injector::CONFIGURATIONS;
use control_plane::{ControlPlane, Printed};
use kustomize::{OVERLAYS, build, find, overlay};
use promsidecar::names;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const CONTROLLER: &str = "system:serviceaccount:promsidecar-system:promsidecar-controller";
/// A bundle: it is never used.
const BUNDLE: &str = "Cg==";
/// The name of a configuration of ours.
const OURS: &str = "promsidecar-shop-6b3e3555";

/// Does what the documents say; gives what kubectl printed.
async fn apply(plane: &ControlPlane, overlay: &str) -> Printed {
    let folder = kustomize::overlay(overlay);
    let applied = plane.kubectl(&["apply", "-k", folder.to_str().unwrap()], "").await;
    assert_eq!((applied.code, &*applied.stderr), (0, ""), "{applied:?}");
    applied
}

/// A control plane with the default overlay, whose policy is in force.
async fn installed() -> &'static ControlPlane {
    static INSTALLED: OnceCell<&'static ControlPlane> = OnceCell::const_new();
    INSTALLED
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            // What was there before us.
            plane.api.create_namespace(&namespace("before")).await;
            let created =
                plane.kubectl(&["create", "-n", "before", "-f", "-"], &plain(OURS).to_string()).await;
            permitted(&created);
            apply(plane, "self-managed").await;
            until("the policy is in force", || async {
                let dry = ["create", "configmap", OURS, "--dry-run=server"];
                plane.kubectl(&dry, "").await.code != 0
            })
            .await;
            plane
        })
        .await
}

/// A namespace with an administrator who is called like it, and a ConfigMap of ours in it.
async fn tenant(plane: &ControlPlane, name: &str) {
    plane.api.create_namespace(&namespace(name)).await;
    tenant_of(plane, name).await;
    permitted(&write(plane, name, CONTROLLER, &ours(OURS)).await);
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

async fn tenant_of(plane: &ControlPlane, name: &str) {
    let user = format!("--user={name}");
    // Nobody fills the built-in role `admin` here.
    let role = ["create", "role", "administrator", "--verb=*", "--resource=*", "-n", name];
    permitted(&plane.kubectl(&role, "").await);
    let bind = ["create", "rolebinding", "administrator", "--role=administrator", &user, "-n", name];
    permitted(&plane.kubectl(&bind, "").await);
}

/// A ConfigMap as the controller writes it.
fn ours(name: &str) -> Value {
    let mut object = plain(name);
    object["metadata"]["labels"] = json!({(names::MANAGED_BY): names::MANAGER});
    object
}

fn plain(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"prometheus.yml": "{}"}})
}

/// Runs kubectl as somebody else.
async fn as_user(
    plane: &ControlPlane,
    namespace: &str,
    user: &str,
    arguments: &[&str],
    input: &Value,
) -> Printed {
    let user = format!("--as={user}");
    let input = if input.is_null() { String::new() } else { input.to_string() };
    plane.kubectl(&[&[&*user, "-n", namespace], arguments].concat(), &input).await
}

/// Creates or changes an object by server-side apply, as the controller does.
async fn write(plane: &ControlPlane, namespace: &str, user: &str, object: &Value) -> Printed {
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    as_user(plane, namespace, user, &apply, object).await
}

async fn delete(plane: &ControlPlane, namespace: &str, user: &str, name: &str) -> Printed {
    as_user(plane, namespace, user, &["delete", "configmap", name, "--wait=false"], &Value::Null).await
}

#[track_caller]
fn permitted(printed: &Printed) {
    assert_eq!(printed.code, 0, "{printed:?}");
}

/// Refused by the policy, with this reason.
#[track_caller]
fn refused(printed: &Printed, why: &str) {
    assert_eq!(printed.code, 1, "{printed:?}");
    let told = &printed.stderr;
    assert!(told.contains("ValidatingAdmissionPolicy 'promsidecar-config-maps'"), "{told}");
    assert!(told.contains("Forbidden") && told.contains(why), "{told}");
}

const NOT_YOURS: &str = "are written by the controller of promsidecar alone, since they say where the credentials mounted \
    beside them are sent. Edit the PrometheusAgent that it is rendered from, or choose another name.";
const NO_OTHERS: &str = "the controller of promsidecar writes ConfigMaps named promsidecar-… with the label \
    app.kubernetes.io/managed-by: promsidecar, and no others.";

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_is_applied_twice_and_the_second_time_changes_nothing() {
    let plane = installed().await;
    // As whoever makes the certificate does.
    let bundle =
        json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": BUNDLE}]).to_string();
    let set = ["patch", "mutatingwebhookconfiguration", "promsidecar", "--type=json", "-p", &bundle];
    permitted(&plane.kubectl(&set, "").await);
    let again = apply(plane, "self-managed").await.stdout;
    let changed: Vec<_> = again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
    // kubectl always sends the selector of these; the API server sees that it is the same.
    let budgets = ["controller", "webhook"].map(|name| format!("promsidecar-{name}"));
    let expected = budgets.each_ref().map(|name| format!("poddisruptionbudget.policy/{name} configured"));
    assert_eq!(changed, expected);
    for name in budgets {
        let path = format!("/apis/policy/v1/namespaces/promsidecar-system/poddisruptionbudgets/{name}");
        assert_eq!(plane.api.get(&path).await["metadata"]["generation"], 1);
    }
    assert_eq!(again.lines().count(), build(&overlay("self-managed")).len());
    let registration = plane.api.get(&format!("{CONFIGURATIONS}/promsidecar")).await;
    assert_eq!(registration["webhooks"][0]["clientConfig"]["caBundle"], BUNDLE);
    let namespace = plane.api.get("/api/v1/namespaces/promsidecar-system").await;
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    // The API server makes the pods, so Pod Security let them pass.
    until("both Deployments have their pods", || async {
        plane.api.list("/api/v1/namespaces/promsidecar-system/pods").await.len() == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_overlay() {
    let plane = installed().await;
    for name in OVERLAYS {
        // Kinds of cert-manager are not known here.
        let objects = build(&overlay(name)).into_iter();
        let known = objects.filter(|object| object["apiVersion"] != "cert-manager.io/v1");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": known.collect::<Vec<_>>()});
        let dry = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let applied = plane.kubectl(&dry, &list.to_string()).await;
        assert_eq!((applied.code, &*applied.stderr), (0, ""), "{name}: {applied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_controller_writes_a_configuration() {
    let plane = installed().await;
    tenant(plane, "written").await;
    let mut stolen = ours(OURS);
    stolen["data"] = json!({"prometheus.yml": "stolen"});
    let mut stripped = ours(OURS);
    stripped["metadata"]["labels"] = json!({(names::MANAGED_BY): "somebody"});
    let mut hooked = ours(OURS);
    hooked["metadata"]["finalizers"] = json!(["example.com/never"]);
    // The namespace's administrator, and the cluster's.
    for user in ["written", "admin"] {
        let (namespace, group) = ("written", "--as-group=system:masters");
        let more: &[&str] = if user == "admin" { &[group] } else { &[] };
        for object in [&stolen, &stripped, &hooked, &plain("promsidecar-mine"), &ours("promsidecar-mine")] {
            let apply = [&["apply", "--server-side", "--force-conflicts", "-f", "-"], more].concat();
            refused(&as_user(plane, namespace, user, &apply, object).await, NOT_YOURS);
            let create = [&["create", "-f", "-"], more].concat();
            let created = as_user(plane, namespace, user, &create, object).await;
            assert_eq!(created.code, 1, "{created:?}");
        }
        let mut generated = plain("");
        generated["metadata"] = json!({"generateName": "promsidecar-"});
        let create = [&["create", "-f", "-"], more].concat();
        refused(&as_user(plane, namespace, user, &create, &generated).await, NOT_YOURS);
        let delete = [&["delete", "configmap", OURS], more].concat();
        refused(&as_user(plane, namespace, user, &delete, &Value::Null).await, NOT_YOURS);
        let all = [&["delete", "--raw", "/api/v1/namespaces/written/configmaps"], more].concat();
        refused(&as_user(plane, namespace, user, &all, &Value::Null).await, NOT_YOURS);
    }
    let path = format!("/api/v1/namespaces/written/configmaps/{OURS}");
    let stored = plane.api.get(&path).await;
    assert_eq!(stored["data"], json!({"prometheus.yml": "{}"}));
    // A migration of the storage version writes what is there.
    assert_eq!(plane.api.send("PUT", &path, &stored).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_writes_configurations_and_nothing_else() {
    let plane = installed().await;
    tenant(plane, "writes").await;
    let mut changed = ours(OURS);
    changed["data"] = json!({"prometheus.yml": "{\"global\": {}}"});
    permitted(&write(plane, "writes", CONTROLLER, &changed).await);
    permitted(&delete(plane, "writes", CONTROLLER, OURS).await);

    permitted(&write(plane, "writes", "writes", &plain("settings")).await);
    for object in [&ours("settings"), &ours("other"), &plain("promsidecar-unlabelled")] {
        refused(&write(plane, "writes", CONTROLLER, object).await, NO_OTHERS);
    }
    refused(&delete(plane, "writes", CONTROLLER, "settings").await, NO_OTHERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_of_other_names_are_nobodys_business() {
    let plane = installed().await;
    tenant(plane, "others").await;
    for name in ["kube-root-ca.crt", "promsidecar", "my-promsidecar-settings"] {
        for data in ["a", "b"] {
            let mut object = plain(name);
            object["data"] = json!({"key": data});
            permitted(&write(plane, "others", "others", &object).await);
        }
        permitted(&delete(plane, "others", "others", name).await);
    }
    let mut generated = plain("");
    generated["metadata"] = json!({"generateName": "settings-"});
    permitted(&as_user(plane, "others", "others", &["create", "-f", "-"], &generated).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_policy_stops_nothing_but_configurations() {
    let plane = installed().await;
    tenant(plane, "error").await;
    let objects = build(&overlay("self-managed"));
    let mut policy = find(&objects, "ValidatingAdmissionPolicy", "promsidecar-config-maps").clone();
    let mut binding = find(&objects, "ValidatingAdmissionPolicyBinding", "promsidecar-config-maps").clone();
    for object in [&mut policy, &mut binding] {
        object["metadata"]["name"] = json!("promsidecar-broken");
    }
    policy["spec"]["validations"] = json!([{"expression": "object.data['missing'] == 'a'"}]);
    binding["spec"]["policyName"] = json!("promsidecar-broken");
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": "error"}});
    binding["spec"]["matchResources"] = json!({"namespaceSelector": here});
    for object in [policy, binding] {
        permitted(&plane.kubectl(&["create", "-f", "-"], &object.to_string()).await);
    }
    let mut changed = ours(OURS);
    changed["data"] = json!({"prometheus.yml": "{\"global\": {}}"});
    let told = std::cell::RefCell::new(String::new());
    until("the broken policy is in force", || async {
        let written = write(plane, "error", CONTROLLER, &changed).await;
        let refused = written.code != 0;
        told.replace(written.stderr);
        refused
    })
    .await;
    let told = told.into_inner();
    assert!(told.contains("promsidecar-broken") && told.contains("no such key"), "{told}");
    permitted(&write(plane, "error", "error", &plain("kube-root-ca.crt")).await);
    permitted(&delete(plane, "error", "error", "kube-root-ca.crt").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_removed_in_the_order_of_the_document() {
    let plane = ControlPlane::start(None).await;
    apply(&plane, "self-managed").await;
    plane.api.create_namespace(&namespace("left")).await;
    let create = [
        "create",
        "-n",
        "left",
        "-f",
        "-",
        "--as=system:serviceaccount:promsidecar-system:promsidecar-controller",
    ];
    permitted(&plane.kubectl(&create, &ours(OURS).to_string()).await);
    let document = include_str!("../docs/operations.md");
    let (_, removing) = document.split_once("\n## Removing\n").unwrap();
    let block = removing.split("```").nth(1).unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let commands: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("kubectl ")).collect();
    assert_eq!(commands.len(), 4, "{block}");
    for command in commands {
        let command = command.replace("webhook-config/", &format!("{root}/webhook-config/"));
        let done = plane.kubectl(&command.split(' ').collect::<Vec<_>>(), "").await;
        permitted(&done);
    }
    let found = plane
        .kubectl(&["get", "configmaps", "-A", "-l", "app.kubernetes.io/managed-by=promsidecar"], "")
        .await;
    assert_eq!(found.stdout, "", "{found:?}");
    let kinds = "namespaces,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,\
        validatingadmissionpolicies,validatingadmissionpolicybindings";
    let left =
        plane.kubectl(&["get", kinds, "-l", "app.kubernetes.io/name=promsidecar", "-o", "name"], "").await;
    assert_eq!((left.code, &*left.stdout), (0, ""), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_of_our_name_that_is_not_ours_can_be_removed_by_its_owner() {
    let plane = installed().await;
    tenant_of(plane, "before").await;
    let mut changed = plain(OURS);
    changed["data"] = json!({"prometheus.yml": "stolen"});
    refused(&write(plane, "before", "before", &changed).await, NOT_YOURS);
    refused(&delete(plane, "before", CONTROLLER, OURS).await, NO_OTHERS);
    permitted(&delete(plane, "before", "before", OURS).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_owners_end_with_what_they_have() {
    let plane = installed().await;
    tenant(plane, "ending").await;
    // One that the garbage collector removes.
    permitted(&write(plane, "ending", "ending", &plain("owner")).await);
    let owner = plane.api.get("/api/v1/namespaces/ending/configmaps/owner").await;
    let mut dependent = ours("promsidecar-owned");
    dependent["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    permitted(&write(plane, "ending", CONTROLLER, &dependent).await);
    permitted(&delete(plane, "ending", "ending", "owner").await);
    let path = "/api/v1/namespaces/ending/configmaps/promsidecar-owned";
    until("the garbage collector removes what was owned", || async {
        plane.api.send("GET", path, &Value::Null).await.status == 404
    })
    .await;

    // One with a finalizer, which somebody takes away by hand: only once the namespace ends.
    let mut held = ours("promsidecar-held");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    permitted(&write(plane, "ending", CONTROLLER, &held).await);
    let release = [
        "patch",
        "configmap",
        "promsidecar-held",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ];
    refused(&as_user(plane, "ending", "ending", &release, &Value::Null).await, NOT_YOURS);
    let ended = plane.kubectl(&["delete", "namespace", "ending", "--wait=false"], "").await;
    permitted(&ended);
    let path = "/api/v1/namespaces/ending/configmaps/promsidecar-held";
    until("the namespace controller asks for its end", || async {
        plane.api.get(path).await["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    // The roles of the namespace are gone by now; its cluster's administrator remains.
    let steal = [&release[..5], &[r#"{"data":{"prometheus.yml":"stolen"}}"#]].concat();
    refused(&plane.kubectl(&[&["-n", "ending"], &steal[..]].concat(), "").await, NOT_YOURS);
    permitted(&plane.kubectl(&[&["-n", "ending"], &release[..]].concat(), "").await);
    until("the namespace is gone", || async {
        plane.api.send("GET", "/api/v1/namespaces/ending", &Value::Null).await.status == 404
    })
    .await;
}
