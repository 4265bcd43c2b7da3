//! The pods of the admission goldens through a real API server: what is valid without the agent is valid with it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use control_plane::api::Reply;
use control_plane::injector::{Injector, namespaces, pods};
use promsidecar::names;
use serde_json::{Value, json};
use support::additive::losses;
use support::golden::folders;

/// The pod of a case that lives in the cluster of all, its namespace, and what the golden says becomes of it.
fn case(folder: &Path) -> Option<(Value, String, String)> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let yaml = |text: String| -> Value { serde_saphyr::from_str(&text).unwrap() };
    let mut pod = yaml(read("pod.yaml")?);
    let settings = read("case.yaml").map_or_else(|| json!({}), yaml);
    // Neither another catalog nor other flags than the program here has.
    let usual = settings.as_object().unwrap().keys().all(|key| key == "namespace");
    if !usual || folder.join("objects.yaml").exists() {
        return None;
    }
    pod["metadata"].as_object_mut()?.remove("namespace");
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            // Most goldens are about something else and have none.
            let container = container.as_object_mut()?;
            container.entry("image").or_insert_with(|| json!("registry.example.com/shop/web:1.4"));
        }
    }
    let kind = yaml(read("answer.yaml")?)["outcome"]["kind"].as_str()?.to_owned();
    Some((pod, settings["namespace"].as_str().unwrap_or("team-a").to_owned(), kind))
}

#[tokio::test]
async fn golden_pods_that_are_valid_by_themselves_are_valid_with_their_agent() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/admission");
    let objects = fs::read_to_string(goldens.join("objects.yaml")).unwrap();
    let injector = Injector::start(&objects).await;
    let known = namespaces(&objects);
    let api = &injector.plane.api;
    api.create_namespace(&json!({"metadata": {"name": "without-webhook"}})).await;
    let create = async |namespace: &str, pod: &Value| -> Reply {
        api.send("POST", &format!("{}?dryRun=All", pods(namespace)), pod).await
    };

    let mut counts = BTreeMap::<String, usize>::new();
    for folder in folders(&goldens) {
        let case = case(&folder).filter(|(_, namespace, _)| known.contains(namespace));
        let Some((pod, namespace, kind)) = case else {
            *counts.entry("another cluster".to_owned()).or_default() += 1;
            continue;
        };
        let by_itself = create("without-webhook", &pod).await;
        if by_itself.status != 201 {
            *counts.entry("invalid by itself".to_owned()).or_default() += 1;
            println!("{}: {}", folder.display(), by_itself.body["message"]);
            continue;
        }
        let before = injector.recorder.calls().len();
        let reply = create(&namespace, &pod).await;
        let called = injector.recorder.calls().split_off(before);
        let status = if kind == "denied" { 403 } else { 201 };
        assert_eq!(reply.status, status, "{}: {}", folder.display(), reply.body);
        let foreign = reply.warnings.iter().filter(|warning| !warning.starts_with("promsidecar: "));
        assert!(foreign.eq(&by_itself.warnings), "{}: {:?}", folder.display(), reply.warnings);
        if kind == "injected" {
            let [call] = &called[..] else { panic!("{}: {called:?}", folder.display()) };
            let mut patched = call.patched();
            assert_eq!(patched["metadata"]["labels"][names::INJECTED], "true", "{}", folder.display());
            patched["metadata"].as_object_mut().unwrap().remove("managedFields");
            assert_eq!(losses(&patched, &reply.body), [""; 0], "{}", folder.display());
        }
        *counts.entry(kind).or_default() += 1;
    }
    println!("{counts:?}");
    for (kind, least) in [("injected", 40), ("skipped", 30), ("denied", 2)] {
        assert!(counts[kind] >= least, "{counts:?}");
    }
}
