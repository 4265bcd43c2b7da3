//! The last good version of a template, kept for processes to come. PURE.
//!
//! Input: an object as it was good, or the ConfigMap that keeps one. Output: the other. Webhook and controller begin with what
//! is kept, so that an edit that was rejected before they started takes nothing away.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::admission::sidecar::hex;
use crate::names;
use crate::release;
use crate::template::agent::TemplateId;

/// Name of the ConfigMap in our own namespace: `promsidecar-last-good-<32 hexadecimal digits of the SHA-256 of
/// namespace/name>`. Its annotation names the template.
pub fn name(id: &TemplateId) -> String {
    format!("promsidecar-last-good-{}", hex(&Sha256::digest(id.to_string()), 16))
}

/// The ConfigMap that keeps an object.
pub fn keep(id: &TemplateId, object: &Value, own_namespace: &str) -> Value {
    let mut kept = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(id),
            "namespace": own_namespace,
            "labels": {(names::MANAGED_BY): names::MANAGER, (names::LAST_GOOD): "true"},
            "annotations": {(names::TEMPLATE): id.to_string()},
        },
        "data": {(names::LAST_GOOD_KEY): object.to_string()},
    });
    release::extend(&mut kept, str::to_owned);
    kept
}

/// The object that a content keeps; the error says why there is none.
pub fn restore(content: &str) -> Result<Value, String> {
    serde_json::from_str(content).map_err(|error| format!("{} is not JSON: {error}", names::LAST_GOOD_KEY))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{keep, name, restore};
    use crate::names;
    use crate::template::agent::TemplateId;

    #[test]
    fn an_object_comes_back_as_it_was_kept() {
        let id = TemplateId { namespace: "a".to_owned(), name: "one".to_owned() };
        let object = json!({"spec": {"version": "v3.5.2"}});
        let kept = keep(&id, &object, "own");
        assert_eq!(kept["metadata"]["namespace"], "own");
        assert_eq!(restore(kept["data"][names::LAST_GOOD_KEY].as_str().unwrap()), Ok(object));
        assert!(restore("{").unwrap_err().starts_with("template.json is not JSON"));
    }

    #[test]
    fn names_are_distinct_and_never_too_long() {
        let long =
            |last: char| TemplateId { namespace: "a".to_owned(), name: format!("{}{last}", "x".repeat(252)) };
        let (one, other) = (name(&long('a')), name(&long('b')));
        assert!(one.len() <= 253 && one != other, "{one} {other}");
    }
}
