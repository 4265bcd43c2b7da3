//! Catalogs from manifests, and pods after patches.

use base64::Engine;
use promsidecar::admission::catalog::Catalog;
use promsidecar::manifest;
use promsidecar::store::documents;
use promsidecar::template::Settings;
use promsidecar::template::agent::TemplateId;
use serde_json::Value;

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

/// The pod after the patch in the body of an answer; `None` where there is none. Applied by an engine that others wrote.
pub(crate) fn patched(pod: &Value, answer: &[u8]) -> Option<Value> {
    patch(answer).map(|patch| apply(pod, &patch))
}

/// The patch in the body of an answer.
pub(crate) fn patch(answer: &[u8]) -> Option<Vec<u8>> {
    let answer: Value = serde_json::from_slice(answer).expect("an answer is JSON");
    let patch = answer.pointer("/response/patch")?.as_str().expect("a patch is a string");
    Some(base64::engine::general_purpose::STANDARD.decode(patch).expect("a patch is base64"))
}

/// The pod after a patch.
pub(crate) fn apply(pod: &Value, patch: &[u8]) -> Value {
    let patch: json_patch::Patch = serde_json::from_slice(patch).expect("a patch is RFC 6902");
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).expect("a patch applies");
    patched
}
