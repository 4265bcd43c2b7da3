//! What a kubelet does for the agent's container: volumes on disk, kept up to date, and the environment.
//!
//! Input: the JSON of a patched pod with the facts that its node adds, and the objects of its namespace. Output: directories
//! laid out and swapped as the kubelet's atomic writer does, and variables with their values.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::container::text;
use super::volume::Volume;

/// Keys and contents of the `ConfigMap`s or Secrets of a namespace, by name.
pub(crate) type Objects = BTreeMap<String, BTreeMap<String, String>>;

/// A pod on its node.
pub(crate) struct Kubelet {
    /// As the API server stored it, with what scheduler and kubelet wrote: name, uid, node, addresses.
    pub(crate) pod: Value,
    pub(crate) config_maps: Objects,
    pub(crate) secrets: Objects,
    /// Volumes with files, by name.
    written: BTreeMap<String, Volume>,
}

impl Kubelet {
    pub(crate) fn new(pod: Value, config_maps: Objects) -> Self {
        Self { pod, config_maps, secrets: Objects::new(), written: BTreeMap::new() }
    }

    /// Lays the volumes of a container out below `root`. Gives each mount path its directory.
    pub(crate) fn mount(&mut self, container: &Value, root: &Path) -> Vec<(String, PathBuf)> {
        let mounts = container["volumeMounts"].as_array().expect("volumeMounts");
        let mut paths = Vec::new();
        for mount in mounts {
            assert_eq!(mount.get("subPath"), None, "no updates reach a subPath");
            let name = text(&mount["name"]);
            let directory = root.join(name);
            // Volumes may be mounted twice.
            if !directory.exists() {
                fs::create_dir(&directory).unwrap();
                let volume = self.volume(name);
                if volume.get("emptyDir").is_none() {
                    self.written.insert(name.to_owned(), Volume::new(&directory));
                }
            }
            paths.push((text(&mount["mountPath"]).to_owned(), directory));
        }
        self.sync();
        paths
    }

    /// Brings what the pod and the objects say now into the volumes. A volume whose content is the same stays untouched.
    pub(crate) fn sync(&mut self) {
        let mut volumes = std::mem::take(&mut self.written);
        for (name, volume) in &mut volumes {
            let files = self.files_of(self.volume(name));
            let files: Vec<_> =
                files.iter().map(|(path, content)| (path.as_str(), content.as_bytes())).collect();
            volume.update(&files);
        }
        self.written = volumes;
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

    fn volume(&self, name: &str) -> &Value {
        let volumes = self.pod["spec"]["volumes"].as_array().expect("volumes");
        volumes.iter().find(|volume| volume["name"] == name).expect("a volume")
    }

    /// Value of a downward API field.
    fn field(&self, path: &str) -> String {
        let value = match path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"))
        {
            Some(annotation) => &self.pod["metadata"]["annotations"][annotation],
            None => path.split('.').fold(&self.pod, |value, key| &value[key]),
        };
        assert!(value.is_string(), "the pod has no {path}");
        text(value).to_owned()
    }

    /// Paths and contents of a volume: a projected one, or one with every key of an object.
    fn files_of(&self, volume: &Value) -> BTreeMap<String, String> {
        let (source, name, objects) = match (volume.get("secret"), volume.get("configMap")) {
            (Some(source), None) => (source, "secretName", &self.secrets),
            (None, Some(source)) => (source, "name", &self.config_maps),
            _ => {
                let sources = volume["projected"]["sources"].as_array().expect("sources");
                return sources.iter().flat_map(|source| self.files(source)).collect();
            }
        };
        let object = objects.get(text(&source[name]));
        assert!(object.is_some() || source["optional"] == true, "the pod would wait for {source}");
        object.cloned().unwrap_or_default()
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
