//! What a kubelet does for the agent's container: volumes on disk and the environment.
//!
//! Input: the JSON of a patched pod, the facts that its node adds, and the objects of its namespace. Output: directories
//! laid out as the kubelet's atomic writer leaves them, and variables with their values.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::container::text;

/// Keys and contents of the `ConfigMap`s or Secrets of a namespace, by name.
pub(crate) type Objects<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

/// A pod on its node.
pub(crate) struct Kubelet<'a> {
    /// As the API server stored it, with what scheduler and kubelet wrote: name, uid, node, addresses.
    pub(crate) pod: &'a Value,
    pub(crate) config_maps: Objects<'a>,
    pub(crate) secrets: Objects<'a>,
}

impl Kubelet<'_> {
    /// Lays the volumes of a container out below `root`. Gives each mount path its directory.
    pub(crate) fn mount(&self, container: &Value, root: &Path) -> Vec<(String, PathBuf)> {
        let mounts = container["volumeMounts"].as_array().expect("volumeMounts");
        let volumes = self.pod["spec"]["volumes"].as_array().expect("volumes");
        mounts
            .iter()
            .map(|mount| {
                assert_eq!(mount.get("subPath"), None, "no updates reach a subPath");
                let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("a volume");
                let directory = root.join(text(&volume["name"]));
                // Volumes may be mounted twice.
                if !directory.exists() {
                    fs::create_dir(&directory).unwrap();
                    if let Some(projected) = volume.get("projected") {
                        self.project(projected, &directory);
                    } else {
                        assert!(volume["emptyDir"].is_object(), "volume {volume}");
                    }
                }
                (text(&mount["mountPath"]).to_owned(), directory)
            })
            .collect()
    }

    /// Names and values of `env`.
    pub(crate) fn environment(&self, container: &Value) -> Vec<(String, String)> {
        let value = |variable: &Value| match variable.get("value") {
            Some(value) => Some(text(value).to_owned()),
            None => {
                let from = &variable["valueFrom"];
                match from.get("secretKeyRef") {
                    Some(reference) => {
                        self.secrets.get(text(&reference["name"]))?.get(text(&reference["key"])).cloned()
                    }
                    None => Some(self.field(text(&from["fieldRef"]["fieldPath"]))),
                }
            }
        };
        let variables = container["env"].as_array().expect("env");
        variables
            .iter()
            .filter_map(|variable| Some((text(&variable["name"]).to_owned(), value(variable)?)))
            .collect()
    }

    /// Value of a downward API field.
    fn field(&self, path: &str) -> String {
        let value = match path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"))
        {
            Some(annotation) => &self.pod["metadata"]["annotations"][annotation],
            None => path.split('.').fold(self.pod, |value, key| &value[key]),
        };
        assert!(value.is_string(), "the pod has no {path}");
        text(value).to_owned()
    }

    /// Writes a projected volume: a directory with a time stamp, `..data` pointing at it, and per first path element a
    /// link through `..data` (`k8s.io/kubernetes/pkg/volume/util/atomic_writer.go`).
    fn project(&self, projected: &Value, directory: &Path) {
        let stamp = "..2026_11_24_08_00_00.0123456789";
        let sources = projected["sources"].as_array().expect("sources");
        let files: BTreeMap<String, String> = sources.iter().flat_map(|source| self.files(source)).collect();
        for (path, content) in &files {
            let file = directory.join(stamp).join(path);
            fs::create_dir_all(file.parent().expect("below the volume")).unwrap();
            fs::write(file, content).unwrap();
            let first = path.split('/').next().expect("a path");
            let link = directory.join(first);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(first), link).unwrap();
            }
        }
        symlink(stamp, directory.join("..data")).unwrap();
    }

    /// Paths and contents of one source of a projected volume.
    fn files(&self, source: &Value) -> Vec<(String, String)> {
        if let Some(downward) = source.get("downwardAPI") {
            let items = downward["items"].as_array().expect("items");
            let file = |item: &Value| {
                (text(&item["path"]).to_owned(), self.field(text(&item["fieldRef"]["fieldPath"])))
            };
            return items.iter().map(file).collect();
        }
        let (source, objects) = match (source.get("configMap"), source.get("secret")) {
            (Some(source), None) => (source, &self.config_maps),
            (None, Some(source)) => (source, &self.secrets),
            _ => panic!("source {source}"),
        };
        let name = text(&source["name"]);
        let optional = source["optional"] == true;
        let Some(object) = objects.get(name) else {
            assert!(optional, "the pod would wait for {name}");
            return Vec::new();
        };
        let items = source["items"].as_array().expect("items");
        let file = |item: &Value| {
            let content = object.get(text(&item["key"]));
            assert!(optional || content.is_some(), "the pod would wait for {name}: {item}");
            Some((text(&item["path"]).to_owned(), content?.clone()))
        };
        items.iter().filter_map(file).collect()
    }
}
