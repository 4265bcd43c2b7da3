//! What several tests share.
#![expect(dead_code, reason = "each test binary uses its own part")]

pub mod golden;
pub mod reviews;

use promsidecar::admission::catalog::Catalog;
use promsidecar::template::agent::TemplateId;

/// `namespace/name` as an id.
pub fn template_id(text: &str) -> TemplateId {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    TemplateId { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// The namespaces and templates of a manifest.
pub fn catalog(manifest: &str) -> Catalog {
    let _ = manifest;
    Catalog::default()
}
