//! Which pods a real API server sends to the webhook: its own selectors and expressions, over the registration that is
//! shipped. `control_plane_pods.rs` and `control_plane_failures.rs` are about what becomes of them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/combinations.rs"]
mod combinations;
#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use combinations::{Combination, NAMESPACE_NAME, VALUES};
use control_plane::ControlPlane;
use control_plane::hook::Hook;
use control_plane::https::{PATIENCE, until};
use control_plane::injector::{
    CONFIGURATIONS, Injector, asking_pod, create_namespaces, namespaces, pods, register, registration,
    shipped,
};
use control_plane::leash::Leash;
use promsidecar::admission::decision::ALWAYS_EXCLUDED;
use serde_json::{Value, json};

/// A namespace, with its labels in YAML's flow style.
fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
}

/// A pod with these annotations.
fn pod(name: &str, annotations: Value) -> Value {
    let mut pod = asking_pod(name);
    pod["metadata"]["annotations"] = annotations;
    pod
}

#[tokio::test]
async fn a_pod_that_did_not_ask_never_reaches_the_webhook() {
    let objects = [
        namespace("quiet", ""),
        namespace("declining", "sidecar.prometheus.io/inject: \"false\""),
        namespace("asking", "sidecar.prometheus.io/inject: \"true\""),
    ];
    let injector = Injector::start_unregistered(&objects.concat()).await;
    let api = &injector.plane.api;
    // No recorder in between: what counts here is the counter of the program itself.
    let names = namespaces(&objects.concat());
    api.create(CONFIGURATIONS, &registration(&names, &injector.program.url(), &injector.program.ca)).await;
    let asking = asking_pod("asking");
    until("the registration is in force", || async {
        api.send("POST", &format!("{}?dryRun=All", pods("quiet")), &asking).await;
        !injector.program.reviews().await.is_empty()
    })
    .await;
    let before = injector.program.reviews().await;

    let silent = [
        ("quiet", json!(null)),
        ("quiet", json!({})),
        ("quiet", json!({"prometheus.io/scrape": "true", "sidecar.prometheus.io/port": "8080"})),
        ("quiet", json!({"sidecar.prometheus.io/required": "true"})),
        ("quiet", json!({"sidecar.prometheus.io/inject": "false"})),
        ("declining", json!(null)),
        ("declining", json!({"sidecar.prometheus.io/inject": "False"})),
        ("asking", json!({"sidecar.prometheus.io/inject": "false"})),
        (
            "asking",
            json!({"sidecar.prometheus.io/inject": "fALSE", "sidecar.prometheus.io/required": "true"}),
        ),
    ];
    for (index, (namespace, annotations)) in silent.iter().enumerate() {
        let stored = injector.create(namespace, &pod(&format!("silent-{index}"), annotations.clone())).await;
        assert_eq!(stored["spec"].get("initContainers"), None, "{namespace} {annotations}");
        assert_eq!(stored["metadata"].get("labels"), None, "{namespace} {annotations}");
    }
    assert_eq!(injector.program.reviews().await, before, "nobody asked");

    // The same counter moves for those that ask: by annotation, and by the namespace's label.
    injector.create("quiet", &asking).await;
    injector.create("declining", &asking).await;
    injector.create("asking", &pod("asking", json!(null))).await;
    let count = |reviews: &BTreeMap<String, u64>| reviews.values().sum::<u64>();
    assert_eq!(count(&injector.program.reviews().await), count(&before) + 3);
}

/// One namespace for every pair of label values.
fn labelled_namespaces() -> Vec<(String, Combination)> {
    let pairs =
        VALUES.into_iter().flat_map(|inject| VALUES.into_iter().map(move |required| (inject, required)));
    let namespaces = pairs.enumerate().map(|(index, (label_inject, label_required))| {
        let labels = Combination { label_inject, label_required, pod_inject: None, pod_required: None };
        (format!("labels-{index}"), labels)
    });
    namespaces.collect()
}

#[tokio::test]
async fn every_combination_of_keys_is_one_call_to_its_own_path_or_none() {
    let labelled = labelled_namespaces();
    let mut objects = String::new();
    for (name, labels) in &labelled {
        let mut labels = labels.labels("unused");
        labels.remove(NAMESPACE_NAME);
        objects += &namespace(name, &serde_json::to_string(&labels).unwrap().replace(['{', '}'], ""));
    }
    let plane = ControlPlane::shared().await;
    create_namespaces(plane, &objects).await;
    // Allows everything: after a denial nobody else would be asked, and a second call would go unseen.
    let hook = Hook::patching(|_| Vec::new());
    register(plane, &namespaces(&objects), &hook).await;

    let cases: Vec<(String, Combination)> = Combination::all()
        .map(|case| {
            let same = |(_, labels): &&(String, Combination)| {
                (labels.label_inject, labels.label_required) == (case.label_inject, case.label_required)
            };
            (labelled.iter().find(same).unwrap().0.clone(), case)
        })
        .collect();
    let cases = Arc::new(cases);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        workers.spawn(create_all(plane, Arc::clone(&cases), Arc::clone(&next)));
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }

    let mut called = BTreeMap::<String, Vec<String>>::new();
    for call in hook.calls() {
        called.entry(call.pod_name().to_owned()).or_default().push(call.path);
    }
    let (mut wrong, mut paths) = (String::new(), BTreeMap::<String, usize>::new());
    for (index, (_, case)) in cases.iter().enumerate() {
        let expected: Vec<_> = case.path(&case.decided("team-a")).into_iter().collect();
        let calls = called.remove(&format!("pod-{index}")).unwrap_or_default();
        if calls != expected {
            writeln!(wrong, "{case:?}: {calls:?}, expected {expected:?}").unwrap();
        }
        for path in expected {
            *paths.entry(path).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} combinations, calls by path: {paths:?}", cases.len());
    assert!(cases.len() > 7000 && paths.len() == 6, "{} {paths:?}", cases.len());
}

/// Takes cases until none is left.
async fn create_all(
    plane: &'static ControlPlane,
    cases: Arc<Vec<(String, Combination)>>,
    next: Arc<AtomicUsize>,
) {
    let mut connection = plane.api.connect().await;
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some((namespace, case)) = cases.get(index) else { return };
        let annotations = case.annotations();
        let annotations = if annotations.is_empty() { Value::Null } else { json!(annotations) };
        let path = format!("{}?dryRun=All", pods(namespace));
        let reply = connection.send("POST", &path, &pod(&format!("pod-{index}"), annotations)).await;
        assert_eq!(reply.status, 201, "{case:?}: {}", reply.body);
    }
}

#[tokio::test]
async fn pods_of_excluded_namespaces_are_never_sent() {
    let labels = "sidecar.prometheus.io/inject: \"true\", sidecar.prometheus.io/required: \"true\"";
    let excluded = ALWAYS_EXCLUDED.into_iter().chain(["promsidecar-system"]);
    let mut objects = namespace("not-excluded", labels);
    excluded.clone().for_each(|name| objects += &namespace(name, labels));
    let injector = Injector::start(&objects).await;
    // The control plane made its namespaces without our labels.
    let api = &injector.plane.api;
    let asks = json!({"metadata": {"labels": {
        "sidecar.prometheus.io/inject": "true", "sidecar.prometheus.io/required": "true",
    }}});
    for name in excluded {
        let labelled = api.send("PATCH", &format!("/api/v1/namespaces/{name}"), &asks).await;
        assert_eq!(labelled.status, 200, "{}", labelled.body);
        let stored = injector.create(name, &asking_pod("web")).await;
        assert_eq!(stored["metadata"].get("labels"), None, "{name}");
    }
    assert_eq!(injector.recorder.calls(), []);
    // There is no template, and an agent is required: a pod that is sent is denied.
    assert_eq!(api.send("POST", &pods("not-excluded"), &asking_pod("web")).await.status, 403);
    assert_eq!(injector.calls("web").len(), 1);
}

#[tokio::test]
async fn nothing_but_the_creation_of_a_pod_is_sent() {
    let injector = Injector::start(&namespace("later", "sidecar.prometheus.io/inject: \"true\"")).await;
    injector.create("later", &asking_pod("web")).await;
    let calls = injector.recorder.calls();
    assert_eq!(calls.len(), 1, "the creation");

    let api = &injector.plane.api;
    let web = format!("{}/web", pods("later"));
    let label = json!({"metadata": {"labels": {"tier": "front"}, "annotations": {"sidecar.prometheus.io/inject": "x"}}});
    let debugger = json!({"name": "debug", "image": "busybox"});
    let debug = json!({"spec": {"ephemeralContainers": [debugger]}});
    for (path, change) in [
        (web.clone(), &label),
        (format!("{web}/status"), &label),
        (format!("{web}/ephemeralcontainers"), &debug),
    ] {
        let changed = api.send("PATCH", &path, change).await;
        assert_eq!(changed.status, 200, "{path}: {}", changed.body);
    }
    let template = json!({"metadata": {"name": "web"}, "template": asking_pod("web")});
    api.create("/api/v1/namespaces/later/podtemplates", &template).await;
    let node = json!({"target": {"kind": "Node", "name": "node"}, "metadata": {"name": "web"}});
    api.create(&format!("{web}/binding"), &node).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}});
    api.create(&format!("{web}/eviction?dryRun=All"), &eviction).await;
    let deleted = api.send("DELETE", &web, &Value::Null).await;
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(injector.recorder.calls(), calls);
}

#[tokio::test]
async fn kubectl_applies_the_manifest_without_a_warning_and_leaves_the_ca_bundle_alone() {
    let plane = ControlPlane::shared().await;
    let shipped = shipped(&["nowhere"]);
    let name = shipped["metadata"]["name"].as_str().unwrap();
    let apply = async || plane.kubectl(&["apply", "-f", "-"], &shipped.to_string()).await;
    let configuration = format!("mutatingwebhookconfiguration.admissionregistration.k8s.io/{name}");

    let created = apply().await;
    assert_eq!((created.stderr.as_str(), created.stdout), ("", format!("{configuration} created\n")));
    let path = format!("{CONFIGURATIONS}/{name}");
    let mut stored = plane.api.get(&path).await;
    assert_eq!(support::additive::losses(&shipped, &stored), [""; 0], "the API server knows every field");

    for entry in stored["webhooks"].as_array_mut().unwrap() {
        entry["clientConfig"]["caBundle"] = json!("Y2E=");
    }
    let set = plane.api.send("PUT", &path, &stored).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let again = apply().await;
    assert_eq!((again.stderr.as_str(), again.stdout), ("", format!("{configuration} unchanged\n")));
    assert_eq!(plane.api.get(&path).await["webhooks"], set.body["webhooks"]);
}

#[test]
fn what_the_tests_start_ends_and_goes_with_its_leash() {
    let directory = tempfile::tempdir().unwrap().keep();
    let pid = directory.join("pid");
    let script = format!("echo $$ > {0}.new && mv {0}.new {0} && exec sleep 3600", pid.display());
    let files = Leash::directory(&directory);
    let program = Leash::program(Path::new("/bin/sh"), ["-c", &script], (Stdio::null(), Stdio::null()));
    let end = Instant::now() + PATIENCE;
    while !pid.exists() {
        assert!(Instant::now() < end, "the program does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    let process = Path::new("/proc").join(std::fs::read_to_string(&pid).unwrap().trim());
    assert!(process.exists());
    drop(program);
    assert!(!process.exists());
    drop(files);
    assert!(!directory.exists());
}
