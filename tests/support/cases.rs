//! The admission cases: every folder of `tests/golden/admission`.

use std::fs;
use std::path::{Path, PathBuf};

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::{Answer, Policy, admit};
use serde_json::{Value, json};

use super::{catalog, reviews, template_id};

/// The folder of all cases.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/admission")
}

/// One case, read from its folder.
pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) review: Value,
    pub(crate) catalog: Catalog,
    pub(crate) policy: Policy,
}

impl Case {
    /// Reads the input of a case.
    pub(crate) fn read(folder: &Path) -> Self {
        let read = |path: PathBuf| fs::read_to_string(&path).ok();
        let settings: Value = read(folder.join("case.yaml"))
            .map_or(Value::Null, |text| serde_saphyr::from_str(&text).expect("case.yaml is YAML"));
        let text = |key: &str| settings.get(key).and_then(Value::as_str);
        let review = match read(folder.join("review.json")) {
            Some(review) => serde_json::from_str(&review).expect("review.json is JSON"),
            None => {
                let pod = read(folder.join("pod.yaml")).expect("a case has a pod.yaml or a review.json");
                let pod = serde_saphyr::from_str(&pod).expect("pod.yaml is YAML");
                reviews::creation(&pod, text("namespace").unwrap_or("team-a"))
            }
        };
        let objects = read(folder.join("objects.yaml"))
            .or_else(|| read(root().join("objects.yaml")))
            .expect("objects.yaml can be read");
        let excluded = settings.get("excludedNamespaces").and_then(Value::as_array);
        let policy = Policy {
            excluded_namespaces: excluded
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            default_template: text("defaultTemplate").map(template_id),
            native_sidecars: settings.get("nativeSidecars").is_none_or(|value| value == &json!(true)),
        };
        Self { folder: folder.to_owned(), review, catalog: catalog(&objects), policy }
    }

    /// Admits a review in the place of the case's own.
    pub(crate) fn admit(&self, review: &Value) -> Answer {
        admit(&serde_json::to_vec(review).expect("a value serialises"), &self.catalog, &self.policy)
    }
}
