//! What this release writes and another may write otherwise, of all that outlives the process that wrote it. PURE.
//!
//! Input: nothing, or an object that is about to be written. Output: versions and forms. With the feature `next-version` they are
//! those of a next release that nobody ships: tests of upgrades run the two programs side by side.
//!
//! What every release has to keep, so that any two can serve one cluster: the names in [`crate::names`] and those of
//! `ConfigMap`s; of a status its `version` and its `template`; targets that older configurations read, and configurations
//! that read older targets. A further key of an object may be gone, or older than the rest: other releases write that without it.

use serde_json::{Value, json};

use crate::names::PREFIX;

#[cfg_attr(feature = "next-version", path = "release/next.rs")]
mod this;

pub use this::*;

/// Adds what this release keeps in an object beside what every release does; `encode` as the object's data wants it.
pub fn extend(object: &mut Value, encode: impl Fn(&str) -> String) {
    if let Some((key, value)) = FURTHER_KEY {
        object["data"][key] = json!(encode(value));
        object["metadata"]["annotations"][format!("{PREFIX}{key}")] = json!(value);
    }
}
