//! From one `PrometheusAgent` to what admission needs of it. PURE.
//!
//! Input: the object, the operator's settings, and what was known of the object before. Output: a [`TemplateEntry`] that
//! keeps the last good sidecar where the new version is not good.

use serde_json::Value;

use std::sync::Arc;

use crate::admission::catalog::{AllowedNamespaces, TemplateEntry};
use crate::admission::sidecar::Sidecar;
use crate::template::agent::TemplateId;
use crate::template::violation::Violation;
use crate::template::{ReadError, Settings, Template, validate};

/// Compiles a template; the object has a name, and is in `default` where it names no namespace. One that nobody claimed
/// for us is not judged.
pub fn compile(
    object: &Value,
    settings: &Settings,
    previous: Option<&TemplateEntry>,
) -> Result<Compiled, ReadError> {
    let template = Template::read(object, settings)?;
    let (sidecar, violations) = match template.claimed.then(|| validate::validate(&template, settings)) {
        None => (None, Vec::new()),
        Some(Ok(agent)) => (Some(Arc::new(Sidecar::compile(&agent))), Vec::new()),
        Some(Err(violations)) => (previous.and_then(|previous| previous.sidecar.clone()), violations),
    };
    let entry = TemplateEntry {
        id: template.id,
        claimed: template.claimed,
        deleting: template.deleting,
        allowed_namespaces: AllowedNamespaces::parse(template.allowed_namespaces.as_deref()),
        sidecar,
        violation: violations.first().map(ToString::to_string),
    };
    Ok(Compiled { entry, violations })
}

/// A compiled template with every violation of its newest version.
#[derive(Debug)]
pub struct Compiled {
    /// For the catalog.
    pub entry: TemplateEntry,
    /// Empty where the newest version is good.
    pub violations: Vec<Violation>,
}

/// Namespace and name of an object's metadata.
pub fn template_id(metadata: &Value) -> TemplateId {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    TemplateId {
        namespace: text("namespace").unwrap_or(super::documents::DEFAULT_NAMESPACE).to_owned(),
        name: text("name").unwrap_or_default().to_owned(),
    }
}
