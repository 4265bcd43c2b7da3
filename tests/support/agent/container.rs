//! The agent's container as a kubelet would start it, with the container's paths replaced by ones of the test.
//!
//! Input: the JSON of a patched pod. Output: the whole command line.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::path::Path;

use promsidecar::names;
use serde_json::Value;

/// The agent's container of a pod, whichever list it stands in.
pub(crate) fn agent(pod: &Value) -> &Value {
    ["/spec/initContainers", "/spec/containers"]
        .iter()
        .filter_map(|list| pod.pointer(list)?.as_array())
        .flatten()
        .find(|container| container["name"] == names::CONTAINER)
        .unwrap_or_else(|| panic!("no container {} in {pod:#}", names::CONTAINER))
}

/// `command` and `args`, with `shell` in place of the container's `/bin/sh` and every path of `paths` replaced.
pub(crate) fn command_line(container: &Value, shell: &[&str], paths: &[(&str, &Path)]) -> Vec<String> {
    let words = |field: &str| container[field].as_array().expect(field).iter().map(text).collect::<Vec<_>>();
    let command = words("command");
    let (interpreter, parameters) = command.split_first().expect("command is not empty");
    assert_eq!(*interpreter, "/bin/sh", "the agent is supervised");
    let rest = parameters.iter().copied().chain(words("args")).map(|word| {
        paths.iter().fold(word.to_owned(), |word, (path, replacement)| {
            word.replace(path, replacement.to_str().expect("paths of the test are UTF-8"))
        })
    });
    shell.iter().map(|&word| word.to_owned()).chain(rest).collect()
}

/// The value of the flag `--name=value` among the arguments.
pub(crate) fn flag<'a>(container: &'a Value, name: &str) -> &'a str {
    let mut args = container["args"].as_array().expect("args").iter().map(text);
    let value = args.find_map(|arg| arg.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no --{name} in {container:#}"))
}

/// A JSON string.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}
