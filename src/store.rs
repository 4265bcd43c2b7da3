//! Where templates and namespace metadata come from: one trait, and the implementation for a directory of manifests.
//!
//! Input: a source that changes over time. Output: snapshots ([`Catalog`]) that requests read without waiting. What the
//! documents mean is decided in [`documents`] (PURE); [`files`] does the reading and the watching.

use std::sync::Arc;

use crate::admission::catalog::Catalog;

pub mod compile;
pub mod documents;
pub mod files;

/// A source of templates and namespace metadata.
pub trait Store: Send + Sync {
    /// The present snapshot; never waits.
    fn catalog(&self) -> Arc<Catalog>;

    /// Whether the source was read completely at least once; otherwise why not, for `/readyz`.
    fn readiness(&self) -> Result<(), String>;
}
