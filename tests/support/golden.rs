//! Goldens: expected output as files beside its input.

use std::fs;
use std::path::{Path, PathBuf};

use promsidecar::manifest;
use promsidecar::monitors::collect::Collector;
use promsidecar::monitors::selection::Selection;
use promsidecar::template::agent::Agent;
use serde_json::Value;

/// The folders below `root`, by name.
pub(crate) fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).expect("the folder of cases can be listed");
    let mut folders: Vec<_> = entries
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} has no cases", root.display());
    folders
}

/// What the monitors of a case, if it has any, give its template in a namespace: those of `monitors.yaml` beside it.
pub(crate) fn monitored(folder: &Path, agent: &Agent, namespace: &str) -> Selection {
    let Ok(text) = fs::read_to_string(folder.join("monitors.yaml")) else { return Selection::default() };
    let mut monitors = Collector::default();
    for document in manifest::read(&text).expect("monitors.yaml is YAML") {
        monitors.note(&document.object, namespace).expect("monitors.yaml has monitors with names, each once");
    }
    monitors.into_monitors().select(agent, namespace)
}

/// A value as YAML.
pub(crate) fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("a JSON value is YAML")
}

/// Compares output with its golden, `None` meaning that there is none; what differs is added to `wrong`. With `UPDATE_GOLDEN`
/// in the environment the golden is written instead.
pub(crate) fn compare(path: &Path, actual: Option<&str>, wrong: &mut Vec<String>) {
    let expected = fs::read_to_string(path).ok();
    if expected.as_deref() == actual {
        return;
    }
    // Only what differs is written: other tests read the same files meanwhile.
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        match actual {
            Some(actual) => fs::write(path, actual).expect("a golden can be written"),
            None => drop(fs::remove_file(path)),
        }
        return;
    }
    let (expected, actual) = (expected.unwrap_or_default(), actual.unwrap_or_default());
    let diff = similar::TextDiff::from_lines(&*expected, actual);
    wrong.push(diff.unified_diff().header(&path.display().to_string(), "actual").to_string());
}
