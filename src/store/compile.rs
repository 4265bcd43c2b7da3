//! From one `PrometheusAgent` to what admission needs of it. PURE.
//!
//! Input: the object, the operator's settings, and what was known of the object before. Output: a [`TemplateEntry`] that
//! keeps the last good sidecar where the new version is not good.

use std::sync::Arc;

use serde_json::Value;

use crate::admission::catalog::{AllowedNamespaces, TemplateEntry};
use crate::admission::sidecar::Sidecar;
use crate::template::agent::{Agent, TemplateId};
use crate::template::violation::Violation;
use crate::template::{DEFAULT_NAMESPACE, ReadError, Settings, Template, validate};

/// Compiles a template; the object has a name, and is in `default` where it names no namespace. One that nobody claimed
/// for us is not judged.
pub fn compile(
    object: &Value,
    settings: &Settings,
    previous: Option<&TemplateEntry>,
) -> Result<Compiled, ReadError> {
    let template = Template::read(object, settings)?;
    // Another object of the same name is another template.
    let previous = previous.filter(|previous| previous.uid == template.uid);
    let published = previous.and_then(|previous| previous.sidecar.clone());
    let mut newest = None;
    let (sidecar, violations) = match template.claimed.then(|| validate::validate(&template, settings)) {
        None => (None, Vec::new()),
        // Paused means frozen: what was in force stays so. With nothing to freeze, the template is used as it is.
        Some(Ok(_)) if template.paused && published.is_some() => (published, Vec::new()),
        Some(Ok(agent)) => {
            let sidecar = Arc::new(Sidecar::compile(&agent));
            newest = Some(agent);
            (Some(sidecar), Vec::new())
        }
        Some(Err(violations)) => (published, violations),
    };
    let entry = TemplateEntry {
        id: template.id,
        uid: template.uid,
        claimed: template.claimed,
        deleting: template.deleting,
        allowed_namespaces: AllowedNamespaces::parse(template.allowed_namespaces.as_deref()),
        sidecar,
        violation: violations.first().map(ToString::to_string),
    };
    Ok(Compiled { entry, violations, agent: newest })
}

/// A compiled template with every violation of its newest version.
#[derive(Debug)]
pub struct Compiled {
    /// For the catalog.
    pub entry: TemplateEntry,
    /// Empty where the newest version is good.
    pub violations: Vec<Violation>,
    /// The newest version, where it comes into force.
    pub agent: Option<Agent>,
}

/// Namespace and name of an object's metadata.
pub fn template_id(metadata: &Value) -> TemplateId {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    TemplateId {
        namespace: text("namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        name: text("name").unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::compile;
    use crate::admission::catalog::{AllowedNamespaces, TemplateEntry};
    use crate::template::Settings;

    fn template(version: &str, paused: bool) -> Value {
        json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1",
            "kind": "PrometheusAgent",
            "metadata": {
                "name": "agent",
                "annotations": {
                    "operator.prometheus.io/controller-id": "promsidecar",
                    "sidecar.prometheus.io/allowed-namespaces": "team-b, team-c",
                },
            },
            "spec": {"version": version, "paused": paused, "remoteWrite": [{"url": "https://metrics.test/api/v1/write"}]},
        })
    }

    fn compiled(object: &Value, previous: Option<&TemplateEntry>) -> TemplateEntry {
        compile(object, &Settings::default(), previous).unwrap().entry
    }

    fn hash(entry: &TemplateEntry) -> Option<&str> {
        entry.sidecar.as_ref().map(|sidecar| sidecar.hash.as_str())
    }

    #[test]
    fn who_may_use_a_template_is_read_from_its_metadata() {
        let mut object = template("3.13.5", false);
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let entry = compiled(&object, None);
        assert_eq!(entry.id.to_string(), "default/agent");
        assert!(entry.claimed && entry.deleting);
        let allowed = ["team-b".to_owned(), "team-c".to_owned()];
        assert_eq!(entry.allowed_namespaces, AllowedNamespaces::Only(allowed.into()));

        object["metadata"]["annotations"] = json!(null);
        object["spec"] = json!({"version": "2.0.0"});
        let foreign = compiled(&object, Some(&entry));
        assert!(!foreign.claimed && foreign.violation.is_none() && foreign.sidecar.is_none());
    }

    #[test]
    fn the_last_good_version_stays_in_force_while_the_newest_is_invalid() {
        let good = compiled(&template("3.13.5", false), None);
        assert!(hash(&good).is_some() && good.violation.is_none());
        let bad = compiled(&template("2.55.0", false), Some(&good));
        assert_eq!(hash(&bad), hash(&good));
        assert!(bad.violation.as_ref().unwrap().starts_with("spec.version: "), "{:?}", bad.violation);
        let mended = compiled(&template("3.12.0", false), Some(&bad));
        assert!(hash(&mended).is_some() && mended.violation.is_none());
        assert_ne!(hash(&mended), hash(&good));
        assert_eq!(hash(&compiled(&template("2.55.0", false), None)), None);
    }

    #[test]
    fn nothing_of_a_template_outlives_it_in_another_of_the_same_name() {
        let with_uid = |uid: &str, version: &str| {
            let mut object = template(version, false);
            object["metadata"]["uid"] = json!(uid);
            object
        };
        let good = compiled(&with_uid("1", "3.13.5"), None);
        assert!(hash(&compiled(&with_uid("1", "2.55.0"), Some(&good))).is_some());
        assert_eq!(hash(&compiled(&with_uid("2", "2.55.0"), Some(&good))), None);
    }

    #[test]
    fn a_paused_template_keeps_what_was_in_force() {
        let good = compiled(&template("3.13.5", false), None);
        let paused = compiled(&template("3.12.0", true), Some(&good));
        assert_eq!(hash(&paused), hash(&good));
        assert!(hash(&compiled(&template("3.12.0", true), None)).is_some());
    }
}
