//! The shipped roles are sufficient and minimal: by the audit log of a real API server, everything that the programs ask is
//! permitted, and everything that is permitted is asked.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
#[path = "support/rbac.rs"]
mod rbac;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use control_plane::definitions::agents;
use control_plane::https::{PATIENCE, get, until};
use control_plane::injector::{asking_pod, pods, start};
use control_plane::leash::Leash;
use kustomize::{OWN_NAMESPACE, build, command_line, find, folder, overlay, with_flags};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::controller::plan::config_map;
use promsidecar::names;
use promsidecar::store::last_good;
use promsidecar::template::agent::TemplateId;
use rbac::{Exception, Finding, Permission, Request, compare, permissions, requests};
use serde_json::{Value, json};

/// What is permitted and not asked here.
const EXCEPTIONS: [Exception; 1] = [Exception {
    account: "promsidecar-webhook",
    group: "",
    resource: "nodes",
    why: "nodes are asked for where the API server has version 1.30 to 1.32; this one is newer",
}];

/// A program as its Deployment starts it, with the token of its own account.
struct Program {
    process: Leash,
    admin: SocketAddr,
    webhook: Option<SocketAddr>,
}

impl Program {
    async fn start(plane: &ControlPlane, objects: &[Value], name: &str, certificates: &Path) -> Self {
        let deployment = find(objects, "Deployment", name);
        let account = deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap();
        let kubeconfig = plane.service_account(OWN_NAMESPACE, account).await;
        let anywhere = || "127.0.0.1:0".to_owned();
        let file = |name: &str| certificates.join(name).display().to_string();
        let mut replaced = vec![("--admin-listen", anywhere())];
        let is_webhook = name == "promsidecar-webhook";
        if is_webhook {
            replaced.extend([
                ("--listen", anywhere()),
                ("--tls-cert-file", file("tls.crt")),
                ("--tls-key-file", file("tls.key")),
            ]);
        }
        let mut line = with_flags(command_line(deployment), &replaced);
        line.push(format!("--kubeconfig={}", kubeconfig.display()));
        let (process, started) = start(&line, &format!("promsidecar {} started", line[0]));
        let address = |key: &str| started[key].as_str().map(|address| address.parse().unwrap());
        let program = Self {
            process,
            admin: address("admin").unwrap(),
            webhook: is_webhook.then(|| address("listen").unwrap()),
        };
        until(&format!("{name} is ready"), || async { get(program.admin, "/readyz").await.0 == 200 }).await;
        program
    }

    async fn leads(&self) -> bool {
        get(self.admin, "/metrics").await.1.contains("\npromsidecar_leader 1\n")
    }
}

fn namespace(name: &str, asks: Option<&str>) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    if let Some(template) = asks {
        object["metadata"]["labels"] = json!({(names::INJECT): "true"});
        object["metadata"]["annotations"] = json!({(names::TEMPLATE): template});
    }
    object
}

fn template(name: &str) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "name": name,
            "annotations": {(names::CONTROLLER_ID): "promsidecar", (names::ALLOWED_NAMESPACES): "*"},
        },
        "spec": {"remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]},
    })
}

fn id(text: &str) -> TemplateId {
    TemplateId::parse(text).unwrap()
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

async fn there(plane: &ControlPlane, namespace: &str, name: &str) {
    let path = path(namespace, name);
    until(&format!("{path} is there"), || async {
        plane.api.send("GET", &path, &Value::Null).await.status == 200
    })
    .await;
}

async fn gone(plane: &ControlPlane, namespace: &str, name: &str) {
    let path = path(namespace, name);
    until(&format!("{path} is gone"), || async {
        plane.api.send("GET", &path, &Value::Null).await.status == 404
    })
    .await;
}

/// Writes as the controller, to whom the policy permits it.
async fn as_controller(plane: &ControlPlane, arguments: &[&str], input: &str) {
    // Not by its token: what is asked here is not what the program asks.
    let user = "--as=system:serviceaccount:promsidecar-system:promsidecar-controller";
    let done = plane.kubectl(&[&[user, "--as-group=system:masters"], arguments].concat(), input).await;
    assert_eq!(done.code, 0, "{done:?}");
}

/// Waits until conditions of a template have this reason.
async fn reason(plane: &ControlPlane, id: &TemplateId, reason: &str) {
    until(&format!("{id} is {reason}"), || async {
        let object = plane.api.get(&format!("{}/{}", agents(&id.namespace), id.name)).await;
        let current = |condition: &Value| {
            condition["reason"] == reason
                && condition["observedGeneration"] == object["metadata"]["generation"]
        };
        object["status"]["conditions"].as_array().is_some_and(|found| found.iter().any(current))
    })
    .await;
}

/// What there is before anything of ours: the definition, a namespace, and in it a ConfigMap that is in our way.
async fn prepare(plane: &ControlPlane) {
    let definitions = folder("crds");
    let created = plane.kubectl(&["create", "-k", definitions.to_str().unwrap()], "").await;
    assert_eq!(created.code, 0, "{created:?}");
    plane.api.create_namespace(&namespace("shop", None)).await;
    let foreign = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config_map_name(&id("shop/foreign"))},
    });
    plane.api.create("/api/v1/namespaces/shop/configmaps", &foreign).await;
    let applied = plane.kubectl(&["apply", "-k", overlay("self-managed").to_str().unwrap()], "").await;
    assert_eq!(applied.code, 0, "{applied:?}");
}

/// Everything that templates, namespaces, pods and people bring about.
async fn drive(plane: &ControlPlane, webhook: &Program, ca: &str) {
    let one = id("shop/one");
    let delivered = config_map_name(&one);
    plane.api.create(&agents("shop"), &template("one")).await;
    there(plane, "shop", &delivered).await;
    reason(plane, &one, "Delivered").await;
    // A namespace opts in.
    plane.api.create_namespace(&namespace("asks", Some("shop/one"))).await;
    there(plane, "asks", &delivered).await;
    // An edit, a bad one, and a good one again.
    let edit = async |change: Value| {
        let reply =
            plane.api.send("PATCH", &format!("{}/one", agents("shop")), &json!({"spec": change})).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    edit(json!({"scrapeInterval": "11s"})).await;
    reason(plane, &one, "Delivered").await;
    edit(json!({"version": "v2.53.0"})).await;
    reason(plane, &one, "LastGoodInForce").await;
    edit(json!({"version": null})).await;
    reason(plane, &one, "Published").await;

    // Monitors that it selects.
    edit(json!({"podMonitorSelector": {}, "serviceMonitorSelector": {}})).await;
    for (kind, endpoints) in [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")] {
        let monitor = json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "web"},
            "spec": {"selector": {}, (endpoints): [{"port": "web"}]},
        });
        let monitors =
            format!("/apis/monitoring.coreos.com/v1/namespaces/shop/{}s", kind.to_ascii_lowercase());
        plane.api.create(&monitors, &monitor).await;
        until(&format!("the {kind} names the template"), || async {
            plane.api.get(&format!("{monitors}/web")).await["status"]["bindings"][0]["name"] == "one"
        })
        .await;
    }

    // A pod of another namespace is injected and brings its configuration.
    plane.api.create_namespace(&namespace("pods", None)).await;
    let mut pod = asking_pod("web");
    pod["metadata"]["annotations"][names::INJECT] = json!("shop/one");
    let injected = injected(webhook.webhook.unwrap(), ca, &pod).await;
    plane.api.create(&pods("pods"), &injected).await;
    there(plane, "pods", &delivered).await;

    // Somebody gets past the policy.
    as_controller(plane, &["delete", "configmap", &delivered, "-n", "asks"], "").await;
    there(plane, "asks", &delivered).await;
    let drift = r#"{"data":{"prometheus.yml":"drifted"}}"#;
    as_controller(plane, &["patch", "configmap", &delivered, "-n", "asks", "--type=merge", "-p", drift], "")
        .await;
    until("it is put right", || async {
        plane.api.get(&path("asks", &delivered)).await["data"][names::CONFIG_KEY] != "drifted"
    })
    .await;

    // A template whose ConfigMap is somebody else's.
    plane.api.create(&agents("shop"), &template("foreign")).await;
    reason(plane, &id("shop/foreign"), "ConfigMapConflict").await;

    // What nobody has used for long goes.
    let mut old = config_map(&one, "asked-once", "{}");
    old["metadata"]["annotations"][names::UNUSED_SINCE] = json!("2020-01-02T03:04:05Z");
    plane.api.create_namespace(&namespace("asked-once", None)).await;
    as_controller(plane, &["create", "-f", "-"], &old.to_string()).await;
    gone(plane, "asked-once", &delivered).await;

    // Pods of one owner ask and are refused, one after the other. Whoever leads later tells of them again, and finds it told.
    plane.api.create_namespace(&namespace("refused", None)).await;
    let deployment = refused("asks-in-vain");
    plane.api.create("/apis/apps/v1/namespaces/refused/deployments", &deployment).await;
    told(plane, "the owner has an Event", |event| event["series"].is_null()).await;
    let scale = ["scale", "deployment/asks-in-vain", "--namespace=refused", "--replicas=2"];
    assert_eq!(plane.kubectl(&scale, "").await.code, 0);
    told(plane, "it counts both", |event| event["series"]["count"] == 2).await;

    // A certificate that somebody damaged is made anew, and the registration told.
    let secret = format!("/api/v1/namespaces/{OWN_NAMESPACE}/secrets/promsidecar-webhook-tls");
    let damaged = json!({"data": {"tls.crt": "Cg=="}});
    assert_eq!(plane.api.send("PATCH", &secret, &damaged).await.status, 200);
    until("there is a certificate again", || async {
        plane.api.get(&secret).await["data"]["tls.crt"] != "Cg=="
    })
    .await;

    // With a template goes what was kept of it.
    let kept = last_good::name(&one);
    there(plane, OWN_NAMESPACE, &kept).await;
    assert_eq!(plane.api.send("DELETE", &format!("{}/one", agents("shop")), &Value::Null).await.status, 200);
    gone(plane, OWN_NAMESPACE, &kept).await;
}

/// A Deployment whose pods look as the webhook marks those that it refuses; here it is not called.
fn refused(name: &str) -> Value {
    let mut pod = asking_pod("x");
    let metadata = pod["metadata"].as_object_mut().unwrap();
    metadata.remove("name");
    metadata.insert("labels".to_owned(), json!({"app": name, (names::INJECTED): "false"}));
    metadata["annotations"][names::SKIPPED] =
        json!("template-not-found: no template in refused, and no default one");
    json!({
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": pod},
    })
}

/// Waits for an Event about a `ReplicaSet` of such a Deployment.
async fn told(plane: &ControlPlane, what: &str, so: impl Fn(&Value) -> bool) {
    until(what, || async {
        let events = plane.api.list("/apis/events.k8s.io/v1/namespaces/refused/events").await;
        events.iter().any(|event| event["regarding"]["kind"] == "ReplicaSet" && so(event))
    })
    .await;
}

/// The pod as the webhook makes it.
async fn injected(webhook: SocketAddr, ca: &str, pod: &Value) -> Value {
    let review = support::reviews::creation(pod, "pods");
    let mut client =
        control_plane::https::Client::new(control_plane::https::tls(webhook, "127.0.0.1", ca).await.unwrap())
            .await;
    let body = serde_json::to_vec(&review).unwrap();
    // The template may be on its way to this replica.
    let end = Instant::now() + PATIENCE;
    loop {
        let response =
            client.send("POST", "/mutate/pod/no", &["content-type: application/json"], &body).await;
        if let Some(pod) =
            support::patched(pod, response.body()).filter(|pod| pod["spec"]["volumes"].is_array())
        {
            return pod;
        }
        assert!(Instant::now() < end, "never injected: {}", String::from_utf8_lossy(response.body()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_permit_what_is_asked_and_nothing_else() {
    let plane = ControlPlane::start_audited(OWN_NAMESPACE).await;
    prepare(&plane).await;
    let objects = build(&overlay("self-managed"));
    let certificates = plane.directory("certificates");
    let mut certs = Command::new(env!("CARGO_BIN_EXE_promsidecar"));
    certs.args(["certs", "--dns-name=127.0.0.1", "--force", "--out"]).arg(&certificates);
    assert!(certs.output().unwrap().status.success());
    let ca = std::fs::read_to_string(certificates.join("ca.crt")).unwrap();

    let webhook = Program::start(&plane, &objects, "promsidecar-webhook", &certificates).await;
    let first = Program::start(&plane, &objects, "promsidecar-controller", &certificates).await;
    until("the first leads", || first.leads()).await;
    let second = Program::start(&plane, &objects, "promsidecar-controller", &certificates).await;
    drive(&plane, &webhook, &ca).await;
    drop(first.process);
    until("the second takes over", || second.leads()).await;

    let roles = permissions(&objects);
    let asked = agreed(&plane, &roles).await;
    // Whatever is taken away is missed, and whatever is added is seen.
    for permission in &roles {
        if EXCEPTIONS.iter().any(|exception| exception.is_about(permission)) {
            continue;
        }
        let mut fewer = roles.clone();
        fewer.remove(permission);
        let found = compare(&fewer, &asked, OWN_NAMESPACE, &EXCEPTIONS);
        let missed =
            |finding: &Finding| matches!(finding, Finding::NotPermitted(asked) if permission.covers(asked));
        assert!(found.iter().any(missed), "nobody misses {permission:?}: {found:?}");
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
            let added = Permission { verb: verb.to_owned(), ..permission.clone() };
            let mut more = roles.clone();
            if more.insert(added.clone()) {
                // Where it covers another one, that one is no longer needed either.
                let found = compare(&more, &asked, OWN_NAMESPACE, &EXCEPTIONS);
                assert!(found.contains(&Finding::Unused(added)), "{found:?}");
            }
        }
    }
}

/// Waits until what was asked and what is permitted agree; gives what was asked.
async fn agreed(plane: &ControlPlane, roles: &BTreeSet<Permission>) -> BTreeSet<Request> {
    let end = Instant::now() + PATIENCE;
    loop {
        let asked = requests(&plane.audit_log(), OWN_NAMESPACE);
        let found = compare(roles, &asked, OWN_NAMESPACE, &EXCEPTIONS);
        if found.is_empty() {
            return asked;
        }
        let final_ = |finding: &Finding| matches!(finding, Finding::Refused(_) | Finding::NotPermitted(_));
        assert!(!found.iter().any(final_) && Instant::now() < end, "{found:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn permission(namespace: Option<&str>, name: Option<&str>, verb: &str) -> Permission {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Permission {
        account: "a".to_owned(),
        namespace: owned(namespace),
        group: String::new(),
        resource: "secrets".to_owned(),
        name: owned(name),
        verb: verb.to_owned(),
    }
}

fn request(namespace: Option<&str>, name: Option<&str>, verb: &str) -> Request {
    let Permission { account, namespace, group, resource, name, verb } = permission(namespace, name, verb);
    Request { account, namespace, group, resource, name, verb, refused: false }
}

#[test]
fn roles_and_requests_are_compared_in_both_directions() {
    let compared = |permissions: &[&Permission], requests: &[&Request], exceptions: &[Exception]| {
        let permissions = permissions.iter().copied().cloned().collect();
        compare(&permissions, &requests.iter().copied().cloned().collect(), "own", exceptions)
    };
    let get = permission(Some("own"), Some("tls"), "get");
    let asked = request(Some("own"), Some("tls"), "get");
    assert_eq!(compared(&[&get], &[&asked], &[]), []);
    assert_eq!(compared(&[], &[&asked], &[]), [Finding::NotPermitted(asked.clone())]);
    assert_eq!(compared(&[&get], &[], &[]), [Finding::Unused(get.clone())]);
    let refused = Request { refused: true, ..asked.clone() };
    assert_eq!(compared(&[], &[&refused], &[]), [Finding::Refused(refused)]);

    // Another name, namespace, verb, and no name at all.
    for other in [
        request(Some("own"), Some("other"), "get"),
        request(Some("elsewhere"), Some("tls"), "get"),
        request(Some("own"), Some("tls"), "patch"),
        request(Some("own"), None, "get"),
    ] {
        let found = compared(&[&get], &[&asked, &other], &[]);
        assert_eq!(found, [Finding::NotPermitted(other)]);
    }

    // Two that permit the same: either alone would do.
    let wide = permission(None, None, "get");
    let found = compared(&[&get, &wide], &[&asked], &[]);
    assert_eq!(found, [Finding::Unused(wide.clone()), Finding::Unused(get.clone())]);
    assert_eq!(compared(&[&wide], &[&asked], &[]), [Finding::TooWide(wide.clone())]);
    assert_eq!(compared(&[&wide], &[&asked, &request(None, None, "get")], &[]), []);

    // An exception excuses what is not used, and nothing else.
    let exception = Exception { account: "a", group: "", resource: "secrets", why: "later" };
    assert_eq!(compared(&[&get], &[], &[exception]), []);
    assert_eq!(compared(&[&get], &[&asked], &[exception]), [Finding::NoException(exception)]);
    assert_eq!(compared(&[], &[], &[exception]), [Finding::NoException(exception)]);
}

#[test]
fn an_audit_log_tells_who_asked_for_what() {
    let event = |user: &str, verb: &str, object: Value, code: u16| {
        json!({"user": {"username": user}, "verb": verb, "objectRef": object, "responseStatus": {"code": code}}).to_string()
    };
    let own = "system:serviceaccount:own:a";
    let log = [
        event(
            own,
            "get",
            json!({"resource": "secrets", "namespace": "own", "name": "tls", "apiVersion": "v1"}),
            200,
        ),
        event(own, "create", json!({"resource": "secrets", "namespace": "own", "name": "tls"}), 201),
        event(own, "patch", json!({"resource": "secrets", "subresource": "status", "apiGroup": "g"}), 403),
        event(own, "get", Value::Null, 200).replace("\"objectRef\":null,", ""),
        event("system:serviceaccount:other:a", "get", json!({"resource": "secrets"}), 200),
    ];
    let status = Request {
        group: "g".to_owned(),
        resource: "secrets/status".to_owned(),
        refused: true,
        ..request(None, None, "patch")
    };
    let expected =
        [request(Some("own"), Some("tls"), "get"), request(Some("own"), None, "create"), status].into();
    assert_eq!(requests(&(log.join("\n") + "\n{\"half\": "), "own"), expected);
}

/// Rows of the table of permissions in the document, by cell.
fn documented_rows() -> impl Iterator<Item = Vec<String>> {
    let (_, section) = include_str!("../docs/security.md").split_once("\n## Permissions\n").unwrap();
    let rows = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

#[test]
fn the_permissions_of_the_document_are_those_of_the_roles() {
    let mut documented = BTreeSet::new();
    for row in documented_rows() {
        let [who, resource, verbs, place, _why] = &row[..] else { panic!("five columns: {row:?}") };
        let (resource, name) = match resource.split_once(" named ") {
            Some((resource, name)) => (resource, Some(name.to_owned())),
            None => (&**resource, None),
        };
        let (whole, subresource) = match resource.split_once('/') {
            Some((whole, subresource)) => (whole, format!("/{subresource}")),
            None => (resource, String::new()),
        };
        let (resource, group) = whole.split_once('.').unwrap_or((whole, ""));
        for verb in verbs.split(", ") {
            documented.insert(Permission {
                account: format!("promsidecar-{who}"),
                namespace: (place != "everywhere").then(|| place.clone()),
                group: group.to_owned(),
                resource: format!("{resource}{subresource}"),
                name: name.clone(),
                verb: verb.to_owned(),
            });
        }
    }
    let roles = permissions(&build(&overlay("self-managed")));
    let wrong: Vec<_> = documented.symmetric_difference(&roles).collect();
    assert!(wrong.is_empty(), "documented or permitted, and not both: {wrong:#?}");
}
