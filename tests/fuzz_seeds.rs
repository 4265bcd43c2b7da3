//! The seeds of `fuzz/`, run through the functions that its targets call: golden reviews and templates, whole, cut short and
//! with bytes exchanged. With `SEEDS` in the environment the whole ones are written there as a corpus.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use promsidecar::manifest;
use support::cases::{Case, root};
use support::fuzz_logic;
use support::golden::folders;

/// Reviews by name.
fn reviews() -> Vec<(String, Vec<u8>)> {
    let cases = folders(&root());
    cases.iter().map(|folder| (name(folder), Case::read(folder).review.to_string().into_bytes())).collect()
}

/// Templates by name.
fn templates() -> Vec<(String, Vec<u8>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let both = ["render", "violations"].map(|below| folders(&golden.join(below)));
    let read = |folder: &PathBuf| {
        let text = fs::read_to_string(folder.join("template.yaml")).expect("a case has a template.yaml");
        let object = &manifest::read(&text).expect("template.yaml is YAML")[0].object;
        (name(folder), object.to_string().into_bytes())
    };
    both.iter().flatten().map(read).collect()
}

fn name(folder: &Path) -> String {
    folder.file_name().expect("a folder has a name").to_string_lossy().into_owned()
}

/// What is left of a seed that is cut, and seeds in which bytes that mean something took the place of others.
fn variants(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const BYTES: &[u8] = b"\"\\{}[],:0-n\x00\xff";
    BYTES.iter().enumerate().flat_map(move |(index, byte)| {
        let at = (seed.len() - 1) * index / BYTES.len();
        let mut variant = seed.to_vec();
        variant[at] = *byte;
        [variant, seed[..at].to_vec()]
    })
}

fn write(target: &str, seeds: &[(String, Vec<u8>)]) {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone, as UPDATE_GOLDEN is")]
    let Ok(corpus) = std::env::var("SEEDS") else { return };
    let folder = Path::new(&corpus).join(target);
    fs::create_dir_all(&folder).expect("the corpus can be made");
    for (name, seed) in seeds {
        fs::write(folder.join(name), seed).expect("a seed can be written");
    }
}

#[test]
fn every_golden_review_and_what_is_left_of_it_keeps_the_promises() {
    let catalog = support::catalog(include_str!("golden/admission/objects.yaml"));
    let seeds = reviews();
    write("review", &seeds);
    for (name, seed) in &seeds {
        assert!(fuzz_logic::review(seed, &catalog), "{name} is readable");
        for variant in variants(seed) {
            fuzz_logic::review(&variant, &catalog);
        }
    }
}

#[test]
fn every_golden_template_and_what_is_left_of_it_keeps_the_promises() {
    let seeds = templates();
    write("template", &seeds);
    let valid = seeds.iter().filter(|(_, seed)| fuzz_logic::template(seed)).count();
    assert!(valid > 10 && valid < seeds.len(), "{valid} of {} are valid", seeds.len());
    for (_, seed) in &seeds {
        for variant in variants(seed) {
            fuzz_logic::template(&variant);
        }
    }
}
