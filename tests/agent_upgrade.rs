//! Real agents across releases: a pod that one release injected runs under the other one's configuration, from its start and
//! when it comes to a running agent. Every version of Prometheus that `make tools` builds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "support/agent.rs"]
mod agent;
#[path = "support/release.rs"]
mod release;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use agent::app::App;
use agent::kubelet::{Kubelet, Objects};
use agent::pods::{GENERATED, NAMESPACE, Target, pod, remote_write, stored, template};
use agent::receiver::Receiver;
use agent::sidecar::Sidecar;
use agent::tools::versions;
use promsidecar::{manifest, names};
use release::{BOTH, Release, next};
use serde_json::{Value, json};

/// What a command of a release makes of objects.
fn made(release: Release, arguments: &[&str], objects: &[&Value]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.yaml");
    let documents: Vec<String> = objects.iter().map(ToString::to_string).collect();
    fs::write(&path, documents.join("\n---\n")).unwrap();
    let output = release.command(arguments).arg("-f").arg(&path).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A pod as a release injects it, on its node.
fn injected(release: Release, pod: &Value, template: &Value) -> Value {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let text = made(release, &["inject", "-n", NAMESPACE], &[&namespace, template, pod]);
    let mut objects = manifest::read(&text).unwrap().into_iter().map(|document| document.object);
    let pod = objects.find(|object| object["kind"] == "Pod").unwrap();
    stored(GENERATED, &pod)
}

/// The ConfigMap that the controller of a release delivers.
fn delivered(release: Release, template: &Value) -> Objects {
    let text = made(release, &["render", "--configmap", NAMESPACE, "-o", "json"], &[template]);
    let map: Value = serde_json::from_str(&text).unwrap();
    let content = map["data"][names::CONFIG_KEY].as_str().unwrap().to_owned();
    assert_eq!(content.starts_with(next::CONFIGURATION_HEAD), release == Release::Next);
    let name = map["metadata"]["name"].as_str().unwrap().to_owned();
    Objects::from([(name, BTreeMap::from([(names::CONFIG_KEY.to_owned(), content)]))])
}

/// An agent that one release injected, with the other one's configuration.
fn start(injector: Release, port: u16, template: &Value, directory: &Path) -> Sidecar {
    let pod = injected(injector, &pod(GENERATED, &[port]), template);
    let targets = pod["metadata"]["annotations"][names::TARGETS].as_str().unwrap();
    assert_eq!(targets.contains(next::TARGET_LABEL.unwrap().0), injector == Release::Next);
    Sidecar::start(Kubelet::new(pod, delivered(injector.other(), template)), directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_either_release_deliver_under_the_configuration_of_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let receiver = Receiver::start(directory);
    let app = App::start("requests_total 42\n").await;
    let write = remote_write(&receiver.url(), &json!({}));
    // Which series are whose is told by the label `cluster`.
    let made = |version: &str, cluster: &str| {
        template(version, &write, &json!({"externalLabels": {"cluster": cluster}}))
    };
    let series = |cluster: &str| {
        let target = Target { who: GENERATED, port: app.port, cluster: cluster.to_owned() };
        target.with_synthetic(&[target.series("requests_total", &[])])
    };
    let (mut agents, mut expected) = (Vec::new(), BTreeSet::new());
    for (version, injector) in versions().iter().flat_map(|version| BOTH.map(|release| (version, release))) {
        let name = format!("{version}-{injector:?}");
        let agent = start(injector, app.port, &made(version, &name), &directory.join(&name));
        expected.extend(series(&name));
        agents.push((injector, version.clone(), name, agent));
    }
    let before = receiver.receives(&expected).await.len();
    let running: Vec<_> = agents.iter().map(|(.., agent)| agent.agent()).collect();

    // The leader's release changes, and with it comes an edit.
    for (injector, version, name, agent) in &mut agents {
        let cluster = format!("{name}-changed");
        let configuration = delivered(*injector, &made(version, &cluster));
        agent.change(|kubelet| kubelet.config_maps = configuration);
        expected.extend(series(&cluster));
    }
    let after = receiver.receives(&expected).await.len();
    assert_eq!(agents.iter().map(|(.., agent)| agent.agent()).collect::<Vec<_>>(), running);
    println!("{} agents, {before} series, then {after}", agents.len());
}
