//! The parts of a template's sidecar that are the same for every pod, with holes for the rest. PURE.
//!
//! Input: a validated [`Agent`]. Output: the container and the volumes as [`Fragment`]s.

use std::collections::BTreeMap;

use serde_json::json;

use super::{SUPERVISOR, config_map_name};
use crate::admission::fragment::{Fragment, Hole};
use crate::names;
use crate::release;
use crate::template::agent::{Agent, FileReference, FileSource, SecretEnv};
use crate::template::quantity::Quantity;
use crate::template::version::reload_args;

/// The whole container object.
pub(super) fn container(agent: &Agent) -> Fragment {
    let mut out = Fragment::default();
    out.text("{\"name\":").json(names::CONTAINER).text(",\"image\":").json(&agent.image);
    if let Some(policy) = &agent.image_pull_policy {
        out.text(",\"imagePullPolicy\":").json(policy);
    }
    out.text(",\"command\":[");
    if agent.supervised {
        out.text("\"/bin/sh\",\"-c\",").json(SUPERVISOR.trim_end()).text(",\"promsidecar\",");
        out.json(names::CONFIG_FILE)
            .text(",")
            .json(names::WAL_DIR)
            .text(",\"")
            .hole(Hole::DataLimit)
            .text("\",");
    }
    out.text("\"/bin/prometheus\"],\"args\":[");
    args(agent, &mut out);
    out.text("],").hole(Hole::Ports).text("\"env\":").json(&env(agent)).text(",").hole(Hole::Resources);
    out.hole(Hole::RestartPolicy);
    out.text(concat!(
        "\"securityContext\":{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]},",
        "\"readOnlyRootFilesystem\":true,\"runAsNonRoot\":true,\"runAsUser\":"
    ));
    out.hole(Hole::RunAsUser).text(",\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},\"volumeMounts\":");
    let mut mounts = vec![
        json!({"name": names::VOLUME_CONFIG, "mountPath": names::CONFIG_DIR, "readOnly": true}),
        json!({"name": names::VOLUME_WAL, "mountPath": names::WAL_DIR}),
        // Whatever is mounted here, the API server adds no token of its own and calls us no second time for it.
        json!({"name": names::VOLUME_NO_TOKEN, "mountPath": names::TOKEN_DIR, "readOnly": true}),
    ];
    mounts.extend(agent.volume_mounts.iter().cloned());
    out.json(&mounts).text("}");
    out
}

/// The full argument list; the image's default arguments are for server mode.
fn args(agent: &Agent, out: &mut Fragment) {
    let mut fixed = vec!["--agent".to_owned(), format!("--config.file={}", names::CONFIG_FILE)];
    fixed.extend(reload_args(agent.version));
    fixed.push(format!("--storage.agent.path={}", names::WAL_DIR));
    fixed.extend(STORAGE_ARGS.map(str::to_owned));
    for arg in &fixed {
        out.json(arg).text(",");
    }
    out.text("\"--storage.remote.flush-deadline=").hole(Hole::FlushDeadline).text("ms\",");
    out.text("\"--web.listen-address=127.0.0.1:").hole(Hole::ListenPort).text("\"");
    for flag in &agent.flags {
        out.text(",").json(flag);
    }
}

/// Small segments, truncated often: a pod's log is small, and churned series stay in memory until a truncation.
const STORAGE_ARGS: [&str; 3] = [
    "--storage.agent.wal-segment-size=10MB",
    release::WAL_TRUNCATION,
    "--storage.agent.retention.max-time=1h",
];

fn env(agent: &Agent) -> Vec<serde_json::Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut env: Vec<_> = names::RUNTIME_FACTS.iter().map(|fact| field(fact.env, fact.field_path)).collect();
    env.insert(1, field("POD_NAMESPACE", "metadata.namespace"));
    env.push(json!({"name": "GOGC", "value": "50"}));
    env.push(json!({"name": "GOMAXPROCS", "value": "1"}));
    for SecretEnv { env: name, secret, key } in &agent.secret_env {
        // An absent Secret must cost metrics, not the pod's start.
        let reference = json!({"name": secret, "key": key, "optional": true});
        env.push(json!({"name": name, "valueFrom": {"secretKeyRef": reference}}));
    }
    env.extend(agent.env.iter().cloned());
    env
}

pub(super) fn volumes(agent: &Agent, wal_limit: Quantity) -> Vec<(String, Fragment)> {
    let mut wal = json!({"sizeLimit": wal_limit.to_string()});
    if let Some(medium) = &agent.wal_medium {
        wal["medium"] = json!(medium);
    }
    let plain = |value: serde_json::Value| {
        let mut fragment = Fragment::default();
        fragment.json(&value);
        fragment
    };
    let no_token =
        json!({"name": names::VOLUME_NO_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}});
    let mut volumes = vec![
        (names::VOLUME_CONFIG.to_owned(), config_volume(agent)),
        (names::VOLUME_WAL.to_owned(), plain(json!({"name": names::VOLUME_WAL, "emptyDir": wal}))),
        (names::VOLUME_NO_TOKEN.to_owned(), plain(no_token)),
    ];
    for volume in &agent.volumes {
        let name = volume["name"].as_str().unwrap_or_default().to_owned();
        volumes.push((name, plain(volume.clone())));
    }
    volumes
}

/// One projected volume: configuration, targets and credentials. Each key keeps its own path, so that kubelet updates
/// reach the files (through `subPath` they would not).
fn config_volume(agent: &Agent) -> Fragment {
    let mut out = Fragment::default();
    out.text("{\"name\":")
        .json(names::VOLUME_CONFIG)
        .text(",\"projected\":{\"sources\":[{\"configMap\":{\"name\":");
    out.json(&config_map_name(&agent.id)).text(",\"items\":");
    out.json(&[item(names::CONFIG_KEY, names::CONFIG_KEY)]).hole(Hole::Optional).text("}},");
    let targets = json!({
        "path": names::TARGETS_PATH,
        "fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{}']", names::TARGETS)},
    });
    out.text("{\"downwardAPI\":{\"items\":").json(&[targets]).text("}}");
    file_sources(&agent.files, &mut out);
    out.hole(Hole::MonitorFiles).text("]}}");
    out
}

fn item(key: &str, path: &str) -> serde_json::Value {
    json!({"key": key, "path": path})
}

/// Sources of a projected volume, one an object, each with a comma before it.
pub(super) fn file_sources<'a>(files: impl IntoIterator<Item = &'a FileReference>, out: &mut Fragment) {
    let mut sources: BTreeMap<(FileSource, &str, bool), Vec<&FileReference>> = BTreeMap::new();
    for file in files {
        sources.entry((file.source, &file.name, file.essential)).or_default().push(file);
    }
    for ((source, name, essential), files) in sources {
        let kind = match source {
            FileSource::Secret => "secret",
            FileSource::ConfigMap => "configMap",
        };
        let items: Vec<_> = files.iter().map(|file| item(&file.key, &file.path())).collect();
        out.text(",{\"").text(kind).text("\":{\"name\":").json(name).text(",\"items\":").json(&items);
        if essential {
            out.hole(Hole::Optional);
        } else {
            out.text(",\"optional\":true");
        }
        out.text("}}");
    }
}
