//! What several tests share.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

pub(crate) mod additive;
pub(crate) mod golden;
pub(crate) mod reviews;

use promsidecar::admission::catalog::Catalog;
use promsidecar::manifest;
use promsidecar::store::documents;
use promsidecar::template::Settings;
use promsidecar::template::agent::TemplateId;

/// `namespace/name` as an id.
pub(crate) fn template_id(text: &str) -> TemplateId {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    TemplateId { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// The namespaces and templates of a manifest.
pub(crate) fn catalog(manifest: &str) -> Catalog {
    let files = [("objects.yaml".to_owned(), manifest::read(manifest).expect("the manifest is YAML"))].into();
    let built = documents::build(&files, &Settings::default(), &Catalog::default());
    assert_eq!(built.problems, []);
    built.catalog
}
