//! What the controller knows of one claimed template. PURE.
//!
//! Input: the object, the settings, and what was known before. Output: the version in force with its agent, and every violation
//! of a newer one that is not good.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admission::catalog::TemplateEntry;
use crate::names;
use crate::store::compile::compile;
use crate::template::agent::{Agent, TemplateId};
use crate::template::violation::Violation;
use crate::template::{API_VERSION, KIND, ReadError, Settings};

/// One claimed template.
#[derive(Debug, Clone)]
pub struct Known {
    /// As admission sees it.
    pub entry: TemplateEntry,
    /// `metadata.generation` of the object.
    pub generation: i64,
    /// `spec.paused`.
    pub paused: bool,
    /// The version in force, if there ever was one.
    pub good: Option<Good>,
    /// Whether an older version is in force than the object as it is.
    behind: bool,
    /// What is wrong with the object as it is.
    pub violations: Vec<Violation>,
    /// `status` of the object.
    pub status: Value,
}

/// A version that is, or was, good.
#[derive(Debug, Clone)]
pub struct Good {
    /// For rendering.
    pub agent: Arc<Agent>,
    /// The object, without what is of no use in another process.
    pub object: Arc<Value>,
}

/// Judges an object; `previous` is what was known of it, or its last good version that was kept.
pub fn judge(object: &Value, settings: &Settings, previous: Option<&Known>) -> Result<Known, ReadError> {
    let compiled = compile(object, settings, previous.map(|known| &known.entry))?;
    let same = previous.filter(|previous| previous.entry.uid == compiled.entry.uid);
    let good = match compiled.agent {
        Some(agent) => Some(Good { agent: Arc::new(agent), object: Arc::new(narrowed(object)) }),
        None if compiled.entry.claimed => same.and_then(|previous| previous.good.clone()),
        None => None,
    };
    Ok(Known {
        generation: object["metadata"]["generation"].as_i64().unwrap_or_default(),
        paused: object["spec"]["paused"] == true,
        status: object.get("status").cloned().unwrap_or_default(),
        behind: good.as_ref().is_some_and(|good| *good.object != narrowed(object)),
        entry: compiled.entry,
        violations: compiled.violations,
        good,
    })
}

impl Known {
    /// Whether an older version is in force than the object as it is. Annotations decide too, and have no generation.
    pub const fn is_behind(&self) -> bool {
        self.behind
    }

    /// Namespace and name.
    pub const fn id(&self) -> &TemplateId {
        &self.entry.id
    }
}

/// What decides about agents: identity, our annotations, and spec.
fn narrowed(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let annotations: serde_json::Map<_, _> = metadata["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(names::PREFIX) || *key == names::CONTROLLER_ID)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "generation": metadata["generation"],
            "annotations": annotations,
        },
        "spec": object["spec"],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Known, judge};
    use crate::names;
    use crate::template::Settings;

    fn object(generation: i64, uid: &str, version: &str) -> Value {
        json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1",
            "kind": "PrometheusAgent",
            "metadata": {
                "namespace": "a", "name": "one", "uid": uid, "generation": generation, "resourceVersion": "7",
                "annotations": {(names::CONTROLLER_ID): "promsidecar", "unrelated": "x"},
            },
            "spec": {"version": version},
            "status": {"paused": false},
        })
    }

    fn judged(object: &Value, previous: Option<&Known>) -> Known {
        judge(object, &Settings::default(), previous).unwrap()
    }

    #[test]
    fn an_older_good_version_stays_in_force_and_survives_as_an_object() {
        let good = judged(&object(1, "u", "3.13.5"), None);
        assert!(!good.is_behind() && good.violations.is_empty());
        let bad = judged(&object(2, "u", "2.0.0"), Some(&good));
        assert!(bad.is_behind());
        assert_eq!((bad.violations.len(), bad.generation), (1, 2));
        let kept = bad.good.unwrap();
        assert_eq!(kept.agent.generation, 1);

        // Another process, which knows nothing but the object that was kept.
        let restored = judged(&kept.object, None);
        let bad = judged(&object(2, "u", "2.0.0"), Some(&restored));
        assert!(bad.is_behind() && bad.entry.sidecar.is_some());
        assert_eq!(bad.good.unwrap().agent, kept.agent);
        assert_eq!(kept.object["metadata"].get("resourceVersion"), None);
        assert_eq!(kept.object["metadata"]["annotations"], json!({(names::CONTROLLER_ID): "promsidecar"}));

        // Annotations decide about agents too, and have no generation.
        let mut bad = object(1, "u", "3.13.5");
        bad["metadata"]["annotations"][names::MODE] = json!("sideways");
        let bad = judged(&bad, Some(&restored));
        assert!(bad.is_behind() && bad.violations.len() == 1);
        assert!(!judged(&object(1, "u", "3.13.5"), Some(&bad)).is_behind());

        let other = judged(&object(1, "another", "2.0.0"), Some(&restored));
        assert!(other.good.is_none() && other.entry.sidecar.is_none());
    }

    #[test]
    fn a_template_that_nobody_claims_has_no_version_in_force() {
        let good = judged(&object(1, "u", "3.13.5"), None);
        let mut released = object(1, "u", "3.13.5");
        released["metadata"]["annotations"] = json!({});
        let released = judged(&released, Some(&good));
        assert!(!released.entry.claimed && released.good.is_none() && released.violations.is_empty());
    }

    #[test]
    fn a_paused_template_keeps_the_version_in_force() {
        let good = judged(&object(1, "u", "3.13.5"), None);
        let mut paused = object(2, "u", "3.12.0");
        paused["spec"]["paused"] = json!(true);
        let paused = judged(&paused, Some(&good));
        assert!(paused.paused && paused.is_behind());
        assert_eq!(paused.good.unwrap().agent.version.to_string(), "v3.13.5");
    }
}
