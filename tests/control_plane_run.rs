//! `promsidecar run` on a real API server: one process that makes its certificate, is called, injects and delivers.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
mod support;

use control_plane::ControlPlane;
use control_plane::definitions::{agents, define};
use control_plane::https::{get, until};
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods, shipped};
use program::{Program, program};
use promsidecar::admission::sidecar::config_map_name;
use promsidecar::names;
use promsidecar::template::agent::TemplateId;
use serde_json::{Value, json};

const OWN: &str = "run-own";

fn arguments(plane: &ControlPlane) -> Vec<String> {
    vec![
        "run".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        "--admin-listen=127.0.0.1:0".to_owned(),
        "--drain-time=100ms".to_owned(),
        format!("--kubeconfig={}", plane.kubeconfig("admin").display()),
        format!("--own-namespace={OWN}"),
        "--registration=promsidecar-run".to_owned(),
    ]
}

fn start(plane: &ControlPlane, more: &[&str]) -> Program {
    let arguments = arguments(plane);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Program::start(&mut program(&arguments))
}

fn template() -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": "one", "annotations": {(names::CONTROLLER_ID): "promsidecar"}},
        "spec": {"remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]},
    })
}

async fn metrics(program: &Program) -> String {
    get(program.admin, "/metrics").await.1
}

/// Every family once, in an exposition that ends as it must.
fn assert_well_formed(text: &str) {
    let mut families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let count = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), count, "a family comes twice:\n{text}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_makes_its_certificate_injects_delivers_and_ends_in_order() {
    let plane = ControlPlane::shared().await;
    // Without the definitions and without its namespace there is no certificate, and it is not ready.
    let first = start(plane, &[]);
    until("it says what it lacks", || async {
        let (status, text) = get(first.admin, "/readyz").await;
        status == 503
            && text.contains("no certificate is loaded")
            && text.contains("templates not known: the API server does not know this kind")
            && text.matches("templates not known").count() == 1
    })
    .await;
    define(plane).await;
    for namespace in [OWN, "run"] {
        plane.api.create_namespace(&json!({"metadata": {"name": namespace}})).await;
    }
    until("it is ready", || async { get(first.admin, "/readyz").await.0 == 200 }).await;
    // A follower serves the same.
    let second = start(plane, &["--pod-name=second"]);
    until("the follower is ready", || async { get(second.admin, "/readyz").await.0 == 200 }).await;
    assert!(metrics(&first).await.contains("promsidecar_leader 1\n"));
    assert!(metrics(&second).await.contains("promsidecar_leader 0\n"));

    // The API server calls the follower.
    let mut registration = shipped(&["run"]);
    for entry in registration["webhooks"].as_array_mut().unwrap() {
        let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
        entry["clientConfig"] = json!({"url": format!("https://{}{path}", second.webhook)});
    }
    plane.api.create(CONFIGURATIONS, &registration).await;
    plane.api.create(&agents("run"), &template()).await;
    let injected = |pod: &Value| pod["metadata"]["labels"][names::INJECTED] == "true";
    until("pods are injected", || async {
        let path = format!("{}?dryRun=All", pods("run"));
        injected(&plane.api.send("POST", &path, &asking_pod("web")).await.body)
    })
    .await;
    let pod = plane.api.create(&pods("run"), &asking_pod("web")).await;
    assert!(injected(&pod), "{pod:#}");
    let id = TemplateId { namespace: "run".to_owned(), name: "one".to_owned() };
    let config_map = format!("/api/v1/namespaces/run/configmaps/{}", config_map_name(&id));
    until("its configuration is delivered", || async {
        plane.api.send("GET", &config_map, &Value::Null).await.status == 200
    })
    .await;
    for program in [&first, &second] {
        until("the pod is counted by both", || async {
            metrics(program).await.contains("promsidecar_injected_pods{state=\"all\"} 1\n")
        })
        .await;
        let text = metrics(program).await;
        assert_well_formed(&text);
        for name in ["promsidecar_admission_in_flight 0", "promsidecar_templates{state=\"valid\"} 1"] {
            assert!(text.lines().any(|line| line == name), "{name} is missing in:\n{text}");
        }
        for source in ["templates", "pods that asked", "lease", "registration", "version of the cluster"] {
            let line = format!("promsidecar_source_staleness_seconds{{source=\"{source}\"}} 0.0");
            assert_eq!(text.matches(&line).count(), 1, "{source}:\n{text}");
        }
    }

    // The leader goes in order, and the other one leads at once, not when the lease has run out.
    first.signal("TERM");
    let (code, lines) = first.ended();
    assert_eq!(code, Some(0), "{lines:?}");
    let said = |message: &str| lines.iter().any(|line| line["message"] == message);
    assert!(said("lease handed over") && said("stopped"), "{lines:?}");
    until("the follower leads", || async { metrics(&second).await.contains("promsidecar_leader 1\n") }).await;
    second.signal("TERM");
    let (code, lines) = second.ended();
    assert_eq!(code, Some(0), "{lines:?}");
}
