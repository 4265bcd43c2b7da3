//! What several tests share.
#![allow(dead_code, unused_imports, clippy::allow_attributes, reason = "each test binary uses its own part")]

pub(crate) mod additive;
pub(crate) mod cases;
pub(crate) mod contract;
pub(crate) mod documents;
pub(crate) mod fuzz_logic;
pub(crate) mod golden;
pub(crate) mod input;
pub(crate) mod judge;
pub(crate) mod monitors;
pub(crate) mod objects;
pub(crate) mod oracle;
pub(crate) mod pods;
pub(crate) mod reviews;
pub(crate) mod strict;
pub(crate) mod template;
pub(crate) mod templates;

pub(crate) use objects::{apply, catalog, patch, patched, template_id};
