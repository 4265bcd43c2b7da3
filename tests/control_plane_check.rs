//! `promsidecar check` on a real API server: an installation as it is shipped, every fault that can be made of it, what a user may
//! not see, and what a removal leaves.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use asked::{ask, ask_by, is_golden, run};
use base64::prelude::{BASE64_STANDARD, Engine};
use control_plane::definitions::define;
use control_plane::https::until;
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods, start};
use control_plane::leash::Leash;
use control_plane::{ControlPlane, tool};
use kustomize::{OWN_NAMESPACE, build, command_line, find, overlay, with_flags};
use promsidecar::names;
use promsidecar::x509;
use serde_json::{Value, json};

/// An installation as it is shipped, but that the API server calls the webhook by an address: no Service leads anywhere here.
struct Installed {
    plane: ControlPlane,
    /// Both programs, while they run.
    programs: Vec<Leash>,
}

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/promsidecar";

async fn program(plane: &ControlPlane, name: &str, flags: &[(&str, String)]) -> (Leash, Value) {
    let objects = build(&overlay("self-managed"));
    let kubeconfig = plane.service_account(OWN_NAMESPACE, name).await;
    let mut flags = flags.to_vec();
    flags.push(("--admin-listen", "127.0.0.1:0".to_owned()));
    let mut line = with_flags(command_line(find(&objects, "Deployment", name)), &flags);
    line.push(format!("--kubeconfig={}", kubeconfig.display()));
    start(&line, &format!("promsidecar {} started", line[0]))
}

fn data(secret: &Value, key: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap()
}

/// Waits for a certificate for these names; writes it as the kubelet mounts it.
async fn mount(plane: &ControlPlane, directory: &Path, name: &str) {
    let path = format!("/api/v1/namespaces/{OWN_NAMESPACE}/secrets/{}", names::TLS_SECRET);
    until("the certificate is made", || async {
        let secret = plane.api.send("GET", &path, &Value::Null).await.body;
        let made = x509::certificates(&data(&secret, "tls.crt")).and_then(|chain| x509::names(&chain[0]));
        made.is_ok_and(|names| names.iter().any(|made| made == name))
    })
    .await;
    let secret = plane.api.get(&path).await;
    for key in ["tls.key", "tls.crt"] {
        fs::write(directory.join(key), data(&secret, key)).unwrap();
    }
}

impl Installed {
    async fn new() -> Self {
        let plane = ControlPlane::start(None).await;
        let undefined = ask(&plane, "admin", &["check", "--pre"]);
        assert_eq!((undefined.code, &*undefined.stderr), (1, ""), "{}", undefined.stdout);
        assert!(
            undefined.stdout.contains("fix: kubectl create -k webhook-config/crds\n"),
            "{}",
            undefined.stdout
        );
        define(&plane).await;
        is_golden("check-pre.txt", &ask(&plane, "admin", &["check", "--pre"]), 0);
        plane.api.create_namespace(&json!({"metadata": {"name": "default"}})).await;
        let folder = overlay("self-managed");
        let applied = plane.kubectl(&["apply", "-k", folder.to_str().unwrap()], "").await;
        assert_eq!(applied.code, 0, "{applied:?}");
        let (controller, _) = program(&plane, "promsidecar-controller", &[]).await;
        let directory = plane.directory("certs");
        mount(&plane, &directory, "promsidecar-webhook.promsidecar-system.svc").await;
        let file = |name: &str| directory.join(name).display().to_string();
        let flags = [
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--tls-cert-file", file("tls.crt")),
            ("--tls-key-file", file("tls.key")),
        ];
        let (webhook, started) = program(&plane, "promsidecar-webhook", &flags).await;
        let mut registration = plane.api.get(REGISTRATION).await;
        for entry in registration["webhooks"].as_array_mut().unwrap() {
            let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
            let url = format!("https://{}{path}", started["listen"].as_str().unwrap());
            entry["clientConfig"] = json!({"url": url, "caBundle": entry["clientConfig"]["caBundle"]});
        }
        let replaced = plane.api.send("PUT", REGISTRATION, &registration).await;
        assert_eq!(replaced.status, 200, "{}", replaced.body);
        mount(&plane, &directory, "127.0.0.1").await;
        until("pods are answered", || async {
            let path = format!("{}?dryRun=All", pods("default"));
            let tried = plane.api.send("POST", &path, &asking_pod("web")).await.body;
            tried["metadata"]["labels"][names::INJECTED] == "false"
        })
        .await;
        let installed = Self { plane, programs: vec![controller, webhook] };
        installed.set_ready("", "True").await;
        installed
    }

    /// Says of pods that they are ready or not, as a kubelet would.
    async fn set_ready(&self, selector: &str, ready: &str) {
        let own = pods(OWN_NAMESPACE);
        until("the Deployments have their pods", || async { self.plane.api.list(&own).await.len() == 4 })
            .await;
        for pod in self.plane.api.list(&format!("{own}?labelSelector={selector}")).await {
            let path = format!("{own}/{}/status", pod["metadata"]["name"].as_str().unwrap());
            let status =
                json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
            assert_eq!(self.plane.api.send("PATCH", &path, &status).await.status, 200);
        }
        let webhook = format!("/apis/apps/v1/namespaces/{OWN_NAMESPACE}/deployments/promsidecar-webhook");
        let wanted = u64::from(ready == "True") * 2;
        until("the Deployments count them", || async {
            let status = self.plane.api.get(&webhook).await["status"].clone();
            let others = self.plane.api.get(&webhook.replace("webhook", "controller")).await;
            status["readyReplicas"].as_u64().unwrap_or(0) == wanted && others["status"]["readyReplicas"] == 2
        })
        .await;
    }

    async fn create(&self, objects: &Value) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let created = self.plane.kubectl(&["create", "-f", "-"], &list.to_string()).await;
        assert_eq!(created.code, 0, "{created:?}");
    }

    async fn delete(&self, path: &str) {
        let deleted = self.plane.api.send("DELETE", path, &Value::Null).await;
        assert_eq!(deleted.status, 200, "{path}: {}", deleted.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_as_it_is_shipped_works_and_every_fault_is_found_by_its_name() {
    let mut installed = Installed::new().await;
    is_golden("check.txt", &ask(&installed.plane, "admin", &["check"]), 0);
    as_a_plugin(&installed.plane);
    somebody_else(&installed).await;

    break_it(&mut installed).await;
    is_golden("check-faults.txt", &ask(&installed.plane, "admin", &["check"]), 1);

    // What there is to remove, then its removal as documented.
    is_golden("check-uninstall.txt", &ask(&installed.plane, "admin", &["check", "--uninstall"]), 1);
    let document = include_str!("../docs/operations.md");
    let (_, removing) = document.split_once("\n## Removing\n").unwrap();
    let block = removing.split("```").nth(1).unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    for command in block.lines().filter_map(|line| line.strip_prefix("kubectl ")) {
        let command = command.replace("webhook-config/", &format!("{root}/webhook-config/"));
        let done = installed.plane.kubectl(&command.split(' ').collect::<Vec<_>>(), "").await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    installed.delete(&format!("{CONFIGURATIONS}/promsidecar-old")).await;
    installed.delete(&format!("{}/web", pods("shop"))).await;
    until("the pod is gone", || async { installed.plane.api.list(&pods("shop")).await.is_empty() }).await;
    let after = ask(&installed.plane, "admin", &["check", "--uninstall"]);
    assert_eq!((after.code, &*after.stderr), (0, ""), "{after:?}");
    let lines: Vec<&str> = after.stdout.lines().collect();
    let server = format!("https://{}", installed.plane.api.address);
    let expected = [
        &*format!("cluster: context test, {server}"),
        "warning     left: namespaces that ask for agents: shop",
    ];
    assert_eq!(lines[..2], expected, "{after:?}");
}

/// `kubectl promsidecar`, by what kubectl is configured with.
fn as_a_plugin(plane: &ControlPlane) {
    let path = plane.directory("plugins");
    symlink(env!("CARGO_BIN_EXE_promsidecar"), path.join("kubectl-promsidecar")).unwrap();
    let kubectl = |arguments: &[&str], kubeconfig: PathBuf| {
        let mut command = Command::new(tool("kubectl"));
        command.env_clear().env("PATH", &path).env("KUBECONFIG", kubeconfig);
        command.arg("promsidecar").args(arguments);
        run(command)
    };
    let found = kubectl(&["check", "-o", "json"], plane.kubeconfig("admin"));
    assert_eq!((found.code, &*found.stderr), (0, ""), "{}", found.stdout);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["counts"]["failed"], 0);
    let usage = kubectl(&["check", "--what"], plane.kubeconfig("admin"));
    assert_eq!(usage.code, 2);
    assert!(usage.stderr.contains("Usage: kubectl promsidecar check "), "{}", usage.stderr);

    // The current context's namespace, another context, another namespace; contexts of several files.
    let mut kubeconfig: Value =
        serde_json::from_str(&fs::read_to_string(plane.kubeconfig("admin")).unwrap()).unwrap();
    kubeconfig["contexts"][0] = json!({
        "name": "second", "context": {"cluster": "test", "user": "admin", "namespace": "of-the-context"},
    });
    kubeconfig["current-context"] = json!("second");
    let file = path.join("config");
    fs::write(&file, kubeconfig.to_string()).unwrap();
    let both = format!("{}:{}", file.display(), plane.kubeconfig("admin").display());
    for (arguments, namespace) in [
        (&["check", "-o", "json"][..], "of-the-context"),
        (&["check", "-o", "json", "--context=test"], "default"),
        (&["check", "-o", "json", "-n", "named"], "named"),
    ] {
        let found = kubectl(arguments, PathBuf::from(&both));
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        let webhook =
            found["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == "webhook");
        let said = webhook.unwrap()["found"].as_str().unwrap();
        assert!(said.contains(&format!(" in {namespace}")), "{arguments:?}: {said}");
    }
    let nobody = kubectl(&["check", "--context=third"], PathBuf::from(&both));
    assert_eq!(nobody.code, 3);
    assert!(nobody.stderr.starts_with("promsidecar: --context third: cannot be used: "), "{}", nobody.stderr);
}

/// Whoever may see nothing is told so by name, and nothing failed for it.
async fn somebody_else(installed: &Installed) {
    let plane = &installed.plane;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": "default"}});
    installed.create(&json!([account])).await;
    let kubeconfig = plane.service_account("default", "nobody").await;
    is_golden("check-forbidden.txt", &ask_by(&kubeconfig, &["check"]), 0);
    let before = ask_by(&kubeconfig, &["check", "--pre"]);
    let denied = "failed      installer: you may not create namespaces, clusterroles, clusterrolebindings, ";
    assert!(before.code == 1 && before.stdout.contains(denied), "{before:?}");

    let mut unknown: Value =
        serde_json::from_str(&fs::read_to_string(plane.kubeconfig("admin")).unwrap()).unwrap();
    unknown["users"][0]["user"]["token"] = json!("expired");
    let path = plane.directory("expired").join("config");
    fs::write(&path, unknown.to_string()).unwrap();
    let printed = ask_by(&path, &["check"]);
    assert_eq!((printed.code, &*printed.stdout), (3, ""), "{printed:?}");
    assert!(printed.stderr.contains("the API server does not know you: "), "{}", printed.stderr);
}

/// Everything that can be wrong at once.
async fn break_it(installed: &mut Installed) {
    let labels = json!({(names::INJECT): "true"});
    let metadata = |name: &str| json!({"name": name, "namespace": "shop", "labels": {"app": "web"}});
    let endpoint = json!([{"port": "http"}]);
    let containers = |image: &str| json!([{"name": "c", "image": image}]);
    let old = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "operator", "namespace": "shop"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "operator"}},
            "template": {
                "metadata": {"labels": {"app": "operator"}},
                "spec": {"containers": containers("quay.io/prometheus-operator/prometheus-operator:v0.72.0")},
            },
        },
    });
    let entry = json!({
        "name": "sidecar.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}},
    });
    installed.plane.api.create_namespace(&json!({"metadata": {"name": "shop", "labels": labels}})).await;
    installed
        .create(&json!([
            {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("small"),
                "spec": {"limits": [{"type": "Container", "max": {"memory": "100Mi"}}]}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}},
            {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata("central"),
                "spec": {"podMonitorSelector": {}}},
            {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata("web"),
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "podMetricsEndpoints": endpoint}},
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "vpa-webhook-config"}, "webhooks": [entry]},
            old,
        ]))
        .await;
    let mut pod = asking_pod("web");
    pod["metadata"]["labels"] = json!({"app": "web", (names::INJECTED): "true"});
    pod["metadata"]["annotations"] = json!({(names::INJECT): "false"});
    installed.plane.api.create(&pods("shop"), &pod).await;
    let version = json!({"status": {"nodeInfo": {
        "kubeletVersion": "v1.28.4", "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
        "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
    }}});
    let node = installed.plane.api.send("PATCH", "/api/v1/nodes/node-1/status", &version).await;
    assert_eq!(node.status, 200, "{}", node.body);

    // Nobody mends anything from here on.
    installed.programs.clear();
    for path in [
        "/apis/coordination.k8s.io/v1/namespaces/promsidecar-system/leases/promsidecar-controller",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/promsidecar-webhook",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/promsidecar-config-maps",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servicemonitors.monitoring.coreos.com",
    ] {
        installed.delete(path).await;
    }
    let mut registration = installed.plane.api.get(REGISTRATION).await;
    registration["webhooks"][0]["failurePolicy"] = json!("Ignore");
    registration["webhooks"][1]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    registration["webhooks"].as_array_mut().unwrap().pop();
    let replaced = installed.plane.api.send("PUT", REGISTRATION, &registration).await;
    assert_eq!(replaced.status, 200, "{}", replaced.body);
    let mut second = registration.clone();
    second["metadata"] = json!({"name": "promsidecar-old"});
    for entry in second["webhooks"].as_array_mut().unwrap() {
        entry["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}});
    }
    installed.plane.api.create(CONFIGURATIONS, &second).await;
    installed.set_ready("app.kubernetes.io/component%3Dwebhook", "False").await;
    until("the registration without an entry is in force", || async {
        let found = ask(&installed.plane, "admin", &["check", "-o", "json"]).stdout;
        found.contains("the API server cannot call it: ")
    })
    .await;
}
