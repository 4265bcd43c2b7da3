//! From one `PrometheusAgent` to what admission needs of it. PURE.
//!
//! Input: the object, the operator's settings, and what was known of the object before. Output: a [`TemplateEntry`] that
//! keeps the last good sidecar where the new version is not good.

use serde_json::Value;

use crate::admission::catalog::{AllowedNamespaces, TemplateEntry};
use crate::names;
use crate::template::Settings;
use crate::template::agent::TemplateId;

/// Compiles a template; the object has a name, and is in `default` where it names no namespace.
pub fn compile(object: &Value, settings: &Settings, previous: Option<&TemplateEntry>) -> TemplateEntry {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let annotation = |key: &str| metadata.get("annotations")?.get(key)?.as_str();
    TemplateEntry {
        id: template_id(metadata),
        claimed: annotation(names::CONTROLLER_ID) == Some(settings.controller_id.as_str()),
        deleting: metadata.get("deletionTimestamp").is_some_and(|value| !value.is_null()),
        allowed_namespaces: AllowedNamespaces::parse(annotation(names::ALLOWED_NAMESPACES)),
        sidecar: previous.and_then(|previous| previous.sidecar.clone()),
        violation: None,
    }
}

/// Namespace and name of an object's metadata.
pub fn template_id(metadata: &Value) -> TemplateId {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    TemplateId {
        namespace: text("namespace").unwrap_or(super::documents::DEFAULT_NAMESPACE).to_owned(),
        name: text("name").unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::compile;
    use crate::admission::catalog::AllowedNamespaces;
    use crate::template::Settings;
    use serde_json::json;

    #[test]
    fn who_may_use_a_template_is_read_from_its_metadata() {
        let entry = compile(
            &json!({"metadata": {
                "name": "agent",
                "deletionTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {
                    "operator.prometheus.io/controller-id": "promsidecar",
                    "sidecar.prometheus.io/allowed-namespaces": "team-b, team-c",
                },
            }}),
            &Settings::default(),
            None,
        );
        assert_eq!(entry.id.to_string(), "default/agent");
        assert!(entry.claimed && entry.deleting);
        assert_eq!(
            entry.allowed_namespaces,
            AllowedNamespaces::Only(["team-b".to_owned(), "team-c".to_owned()].into())
        );

        let foreign =
            compile(&json!({"metadata": {"name": "a", "namespace": "b"}}), &Settings::default(), None);
        assert_eq!(foreign.id.to_string(), "b/a");
        assert!(!foreign.claimed && !foreign.deleting);
    }
}
