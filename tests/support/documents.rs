//! The documents of the project, and what stands in them.

#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the project.
pub(crate) fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    assert!(found.contains(&root().join("README.md")), "{found:?}");
    found
}

/// A line of a document: its text, or the language of the fenced block that it stands in.
pub(crate) enum Line<'a> {
    Prose(&'a str),
    Code { language: &'a str, text: &'a str },
    Fence,
}

pub(crate) fn lines(document: &str) -> impl Iterator<Item = Line<'_>> {
    let mut block = None;
    document.lines().map(move |line| match (line.trim_start().strip_prefix("```"), block) {
        (Some(language), None) => {
            block = Some(language.trim());
            Line::Fence
        }
        (Some(_), Some(_)) => {
            block = None;
            Line::Fence
        }
        (None, Some(language)) => Line::Code { language, text: line },
        (None, None) => Line::Prose(line),
    })
}

/// The fenced blocks of one language.
pub(crate) fn blocks(document: &str, wanted: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in lines(document) {
        match line {
            Line::Code { language, text } if language == wanted => {
                block.push_str(text);
                block.push('\n');
            }
            Line::Fence if !block.is_empty() => blocks.push(std::mem::take(&mut block)),
            _ => {}
        }
    }
    blocks
}
