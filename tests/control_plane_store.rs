//! The program without a directory: it follows the templates and namespaces of a real API server.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use control_plane::ControlPlane;
use control_plane::definitions::{MALFORMED, MANY, agents, create_many, define, one_of_many};
use control_plane::faults::{Fault, Faults};
use control_plane::https::{get, until};
use control_plane::injector::{CONFIGURATIONS, Program, asking_pod, pods, registration};
use control_plane::wire::Wire;
use promsidecar::names;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// As the program is started in a cluster, but for its certificate.
fn program(plane: &ControlPlane, name: &str, api: SocketAddr) -> Program {
    let directory = plane.directory(name);
    let kubeconfig = kubeconfig(plane, &directory.join("kubeconfig"), api);
    Program::start_with(&directory, &format!("--kubeconfig={}", kubeconfig.display()))
}

/// The administrator's kubeconfig with another address.
fn kubeconfig(plane: &ControlPlane, path: &std::path::Path, api: SocketAddr) -> PathBuf {
    let text = std::fs::read_to_string(plane.kubeconfig("admin")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://{api}"));
    std::fs::write(path, config.to_string()).unwrap();
    path.to_path_buf()
}

fn namespace(name: &str, inject: &str) -> Value {
    let metadata = json!({"name": name, "labels": {(names::INJECT): inject}});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

fn template(name: &str) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": name, "annotations": {(names::CONTROLLER_ID): "promsidecar"}},
        "spec": {"remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]},
    })
}

/// A Deployment whose pods say what to scrape, and leave it to their namespace whether they are injected.
fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {(names::PORT): "8080"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example.com/shop/web:1.4"}]},
            },
        },
    })
}

async fn ready(program: &Program) -> (u16, String) {
    get(program.admin, "/readyz").await
}

/// Seconds since each source is out of date.
async fn staleness(program: &Program) -> BTreeMap<String, f64> {
    let (_, text) = get(program.admin, "/metrics").await;
    let lines = text.lines().filter_map(|line| line.strip_prefix("promsidecar_source_staleness_seconds"));
    lines
        .map(|line| {
            let (labels, seconds) = line.rsplit_once(' ').unwrap();
            (labels.to_owned(), seconds.parse().unwrap())
        })
        .collect()
}

fn injected(answer: &Value) -> bool {
    answer["auditAnnotations"]["decision"] == "injected"
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_the_definitions_and_serves_from_its_last_state_while_the_api_server_is_away() {
    let plane = ControlPlane::start(None).await;
    let wire = Wire::to(plane.api.address).await;
    let program = program(&plane, "away", wire.address);
    until("it says what is missing", || async {
        ready(&program).await
            == (
                503,
                "not ready: templates not known: the API server does not know this kind: install its \
                 definition (CRD)\n"
                    .to_owned(),
            )
    })
    .await;
    define(&plane).await;
    until("it picks the definitions up", || async { ready(&program).await.0 == 200 }).await;

    plane.api.create_namespace(&namespace("away", "true")).await;
    plane.api.create(&agents("away"), &template("shop")).await;
    let pod = &asking_pod("web");
    until("it knows the template", || async {
        injected(&program.asked("/mutate/pod/no", "away", pod).await)
    })
    .await;
    // The watch of a kind that has just been defined may be refused once more.
    until("no source is stale", || async {
        staleness(&program).await.values().all(|seconds| *seconds == 0.0)
    })
    .await;

    wire.cut();
    until("every source is stale", || async {
        let staleness = staleness(&program).await;
        staleness.len() == 6
            && staleness.iter().all(|(source, seconds)| source.contains("version") || *seconds > 0.0)
    })
    .await;
    assert!(injected(&program.asked("/mutate/pod/no", "away", pod).await));
    assert_eq!(ready(&program).await.0, 200, "what it knows is good enough to serve");
    // What happens meanwhile is seen later.
    let delete = plane.api.send("DELETE", &format!("{}/shop", agents("away")), &Value::Null).await;
    assert_eq!(delete.status, 200);
    plane.api.create(&agents("away"), &template("other")).await;
    wire.mend();
    until("it is up to date again", || async {
        staleness(&program).await.values().all(|seconds| *seconds == 0.0)
    })
    .await;
    let answer = program.asked("/mutate/pod/no", "away", pod).await;
    assert_eq!(answer["auditAnnotations"]["template"], "away/other");
}

/// One control plane that knows the definitions, and one program that follows it, registered for these namespaces.
async fn shared() -> &'static (&'static ControlPlane, Program) {
    static SHARED: OnceCell<(&'static ControlPlane, Program)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            define(plane).await;
            let program = program(plane, "shared", plane.api.address);
            until("the program is ready", || async { ready(&program).await.0 == 200 }).await;
            (plane, program)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_namespace_that_its_watch_does_not_bring_fails_and_is_not_passed_over() {
    let (plane, _) = shared().await;
    let faults = Faults::before(plane, "behind").await;
    // Namespaces are listed once; from then on this replica hears no more of them.
    let mut lists = 0;
    faults.set(move |asked| {
        let namespaces = asked.path.contains("/api/v1/namespaces?");
        lists += u32::from(namespaces && !asked.is_watch());
        if namespaces && (asked.is_watch() || lists > 1) { Fault::Answer(403) } else { Fault::None }
    });
    let source = format!("--kubeconfig={}", faults.kubeconfig.display());
    let program = Program::start_with(&plane.directory("behind-program"), &source);
    until("the program is ready", || async { ready(&program).await.0 == 200 }).await;

    let mut required = namespace("behind", "true");
    required["metadata"]["labels"][names::REQUIRED] = json!("true");
    plane.api.create_namespace(&required).await;
    plane.api.create(&agents("behind"), &template("shop")).await;
    let mut pod = asking_pod("web");
    pod["metadata"]["annotations"] = json!({(names::PORT): "8080"});
    let (status, text) = program.answered("/mutate/namespace/ns", "behind", &pod).await;
    let detail = "labels of namespace behind that the API server has are not known here";
    assert_eq!((status, &*text), (500, &*format!("internal-error: {detail}")));
    assert_eq!(ready(&program).await.0, 200);
    let warned = program.asked("/mutate/namespace/no", "behind", &pod).await;
    assert_eq!(warned["warnings"], json!([format!("promsidecar: not injected: internal-error: {detail}")]));
    let waited = waits(&program).await;
    assert!(waited.contains(&"{result=\"in-vain\"} 1".to_owned()), "{waited:?}");

    faults.set(|_| Fault::None);
    until("the namespace has come", || async {
        program.answered("/mutate/namespace/ns", "behind", &pod).await.0 == 200
    })
    .await;
    assert!(injected(&program.asked("/mutate/namespace/ns", "behind", &pod).await));
}

/// Namespaces that are applied at once with what is in them, but for the first, which shows that the registration is in force.
const FOLDERS: usize = 101;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_applied_at_once_is_injected_every_time() {
    let (plane, program) = shared().await;
    let names: Vec<String> = (0..FOLDERS).map(|number| format!("folder-{number}")).collect();
    let registration = registration(&names, &program.url(), &program.ca);
    plane.api.create(CONFIGURATIONS, &registration).await;
    // The first one asks for a template that is not there, to see that the registration is in force.
    plane.api.create_namespace(&namespace(&names[0], "absent")).await;
    until("the registration is in force", || async {
        let reply =
            plane.api.send("POST", &format!("{}?dryRun=All", pods(&names[0])), &asking_pod("probe")).await;
        !reply.warnings.is_empty()
    })
    .await;

    let mut api = plane.api.connect().await;
    for (number, name) in names.iter().enumerate().skip(1) {
        let deployments = format!("/apis/apps/v1/namespaces/{name}/deployments");
        // A label that names its template, one that leaves it open, and the order in which kubectl applies a folder.
        let inject = if number % 2 == 0 { "shop" } else { "true" };
        for (path, object) in [
            ("/api/v1/namespaces", namespace(name, inject)),
            (&*agents(name), template("shop")),
            (&*deployments, deployment("web")),
        ] {
            let reply = api.send("POST", path, &object).await;
            assert_eq!(reply.status, 201, "{path}: {}", reply.body);
        }
    }
    for name in &names[1..] {
        until(&format!("{name} has its pod"), || async {
            let pods = plane.api.list(&pods(name)).await;
            for pod in &pods {
                assert_eq!(pod["metadata"]["labels"][names::INJECTED], "true", "{pod:#}");
            }
            !pods.is_empty()
        })
        .await;
    }
    println!("{} folders injected, waits: {:?}", FOLDERS - 1, waits(program).await);
}

async fn waits(program: &Program) -> Vec<String> {
    let (_, text) = get(program.admin, "/metrics").await;
    let lines = text.lines().filter_map(|line| line.strip_prefix("promsidecar_admission_waits_total"));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_with_its_namespace_and_template_is_injected_in_the_same_breath() {
    let (plane, program) = shared().await;
    let mut api = plane.api.connect().await;
    for number in 0..FOLDERS {
        let name = format!("breath-{number}");
        for (path, object) in
            [("/api/v1/namespaces", namespace(&name, "true")), (&*agents(&name), template("shop"))]
        {
            let reply = api.send("POST", path, &object).await;
            assert_eq!(reply.status, 201, "{path}: {}", reply.body);
        }
        let mut pod = asking_pod("web");
        pod["metadata"]["annotations"] = json!({(names::PORT): "8080"});
        let answer = program.asked("/mutate/namespace/no", &name, &pod).await;
        assert!(injected(&answer), "{name}: {answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_template_is_in_force_and_a_bad_one_leaves_the_good_one_in_force() {
    let (plane, program) = shared().await;
    plane.api.create_namespace(&namespace("edits", "shop")).await;
    plane.api.create(&agents("edits"), &template("shop")).await;
    let path = format!("{}/shop", agents("edits"));
    let edit = async |change: Value| {
        let reply = plane.api.send("PATCH", &path, &change).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    let image = async || {
        let mut pod = asking_pod("web");
        pod["metadata"]["annotations"][names::INJECT] = json!("shop");
        let review = support::reviews::creation(&pod, "edits");
        let answer = program.asked("/mutate/pod/no", "edits", &pod).await;
        let body = json!({"response": answer});
        let patched = support::patched(&review["request"]["object"], &serde_json::to_vec(&body).unwrap());
        // One that was not injected has at most a mark.
        Some(patched?["spec"]["initContainers"][0]["image"].as_str()?.to_owned())
    };
    edit(json!({"spec": {"version": "v3.5.2"}})).await;
    let old = Some("quay.io/prometheus/prometheus:v3.5.2".to_owned());
    until("the edit is in force", || async { image().await == old }).await;

    edit(json!({"spec": {"version": "v2.53.0"}})).await;
    until("the bad edit is known", || async {
        let (_, text) = get(program.admin, "/metrics").await;
        text.lines().any(|line| line == "promsidecar_templates{state=\"last-good\"} 1")
    })
    .await;
    assert_eq!(image().await, old);

    edit(json!({"spec": {"version": "v3.16.0"}})).await;
    let new = Some("quay.io/prometheus/prometheus:v3.16.0".to_owned());
    until("it is mended", || async { image().await == new }).await;

    let reply = plane.api.send("DELETE", &path, &Value::Null).await;
    assert_eq!(reply.status, 200);
    until("the template is gone", || async { image().await.is_none() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_template_costs_none_of_five_hundred_others() {
    let (plane, program) = shared().await;
    plane.api.create_namespace(&namespace("many", "false")).await;
    create_many(plane, "many", template).await;
    let decided = async |number: usize| {
        let mut pod = asking_pod("web");
        pod["metadata"]["annotations"][names::INJECT] = json!(one_of_many(number));
        program.asked("/mutate/pod/no", "many", &pod).await["auditAnnotations"]["decision"].clone()
    };
    until("the last one is known", || async { decided(MANY - 1).await == "injected" }).await;
    for number in 0..MANY {
        let expected = if number == MALFORMED { "skipped" } else { "injected" };
        assert_eq!(decided(number).await, expected, "agent-{number}");
    }
}
