//! The manifests of `webhook-config/`, as kubectl builds them.
//!
//! Input: the folder of a kustomization. Output: its objects, found by kind and name, and the command lines of its containers.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]
#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use promsidecar::cli::Cli;
use promsidecar::manifest;
use serde_json::Value;

use crate::control_plane::tool;

/// Where everything of ours is installed.
pub(crate) const OWN_NAMESPACE: &str = "promsidecar-system";
/// The overlays, by folder.
pub(crate) const OVERLAYS: [&str; 4] = ["self-managed", "cert-manager", "strict", "high-availability"];
/// The Deployments.
pub(crate) const DEPLOYMENTS: [&str; 2] = ["promsidecar-webhook", "promsidecar-controller"];

/// Folder of an overlay.
pub(crate) fn overlay(name: &str) -> PathBuf {
    folder(&format!("overlays/{name}"))
}

/// A folder below `webhook-config`.
pub(crate) fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config").join(path)
}

/// The objects of a kustomization.
pub(crate) fn build(folder: &Path) -> Vec<Value> {
    let kubectl = tool("kubectl");
    assert!(kubectl.is_file(), "{} is missing: run `make tools` (needs Go)", kubectl.display());
    let built = Command::new(kubectl).arg("kustomize").arg(folder).output().expect("kubectl starts");
    let errors = String::from_utf8_lossy(&built.stderr);
    // A warning is about a field that will go.
    assert!(built.status.success() && errors.is_empty(), "{}: {errors}", folder.display());
    let text = String::from_utf8(built.stdout).expect("manifests are text");
    let documents = manifest::read(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    documents.into_iter().map(|document| document.object).collect()
}

/// The base, then every overlay, with what they are called.
pub(crate) fn all() -> Vec<(&'static str, Vec<Value>)> {
    let overlays = OVERLAYS.map(|name| (name, build(&overlay(name))));
    [("base", build(&folder("base")))].into_iter().chain(overlays).collect()
}

/// Kind, namespace (if it has one) and name.
pub(crate) fn identity(object: &Value) -> String {
    let metadata = &object["metadata"];
    let parts = [&object["kind"], &metadata["namespace"], &metadata["name"]];
    parts.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/")
}

/// All objects of a kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one object of this kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found: Vec<_> =
        of_kind(objects, kind).into_iter().filter(|object| object["metadata"]["name"] == name).collect();
    let [object] = found[..] else { panic!("one {kind}/{name}: {found:?}") };
    object
}

/// The pod of a Deployment.
pub(crate) fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]
}

/// The container of a Deployment, which has one.
pub(crate) fn container(deployment: &Value) -> &Value {
    let containers = pod(deployment)["spec"]["containers"].as_array().expect("a pod has containers");
    let [container] = &containers[..] else { panic!("one container: {containers:?}") };
    container
}

/// What the container of a Deployment is started with: its arguments, then its variables as the flags that read them.
pub(crate) fn command_line(deployment: &Value) -> Vec<String> {
    let container = container(deployment);
    let arguments = container["args"].as_array().expect("it has arguments").iter();
    let mut line: Vec<String> =
        arguments.map(|argument| argument.as_str().expect("it is text").to_owned()).collect();
    let program = Cli::command();
    let subcommand = program.find_subcommand(&line[0]).unwrap_or_else(|| panic!("no command {}", line[0]));
    for variable in container["env"].as_array().expect("it has variables") {
        let name = variable["name"].as_str().expect("a variable has a name");
        let flag = subcommand.get_arguments().find(|flag| flag.get_env().is_some_and(|env| env == name));
        let flag = flag.and_then(|flag| flag.get_long());
        let flag = flag.unwrap_or_else(|| panic!("no flag of {} reads {name}", line[0]));
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => OWN_NAMESPACE,
            Some("metadata.name") => "pod-1",
            Some(other) => panic!("{name} comes from {other}"),
            None => variable["value"].as_str().expect("a variable has a value"),
        };
        line.push(format!("--{flag}={value}"));
    }
    line
}

/// The value of a flag of a command line.
pub(crate) fn flag<'a>(line: &'a [String], name: &str) -> &'a str {
    let prefix = format!("{name}=");
    let found: BTreeSet<&str> = line.iter().filter_map(|argument| argument.strip_prefix(&prefix)).collect();
    let [value] = found.into_iter().collect::<Vec<_>>()[..] else { panic!("one {name} in {line:?}") };
    value
}

/// The command line with other values for some of its flags; each must be there.
pub(crate) fn with_flags(mut line: Vec<String>, flags: &[(&str, String)]) -> Vec<String> {
    for (name, value) in flags {
        let prefix = format!("{name}=");
        let argument = line.iter_mut().find(|argument| argument.starts_with(&prefix));
        *argument.unwrap_or_else(|| panic!("{name} is set")) = prefix + value;
    }
    line
}
