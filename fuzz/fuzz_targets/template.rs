//! Bytes as the JSON of a template.

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

use libfuzzer_sys::fuzz_target;
use objects::patched;

fuzz_target!(|bytes: &[u8]| {
    fuzz_logic::template(bytes);
});
