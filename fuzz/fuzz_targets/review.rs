//! Bytes as the body of a review, against the templates of the goldens.

#![no_main]
#![allow(dead_code, reason = "each target uses its own part")]

#[path = "../../tests/support/additive.rs"]
mod additive;
#[path = "../../tests/support/contract.rs"]
mod contract;
#[path = "../../tests/support/fuzz_logic.rs"]
mod fuzz_logic;
#[path = "../../tests/support/objects.rs"]
mod objects;
#[path = "../../tests/support/strict.rs"]
mod strict;

use objects::patched;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use promsidecar::admission::catalog::Catalog;

static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| objects::catalog(include_str!("../../tests/golden/admission/objects.yaml")));

fuzz_target!(|bytes: &[u8]| {
    fuzz_logic::review(bytes, &CATALOG);
});
