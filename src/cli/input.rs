//! Manifests from files, folders or standard input.
//!
//! Input: a path, `-` meaning standard input. Output: documents in the order of file names, or an error that names file and
//! document.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::manifest::{self, Document};

/// Endings of files that a folder's manifests have.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The documents of one file, or of standard input.
pub fn documents(file: &Path) -> anyhow::Result<Vec<Document>> {
    manifest::read(&text(file)?).with_context(|| shown(file))
}

/// The text of one file, or of standard input.
pub fn text(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{}: no such file; name a manifest, or - for standard input", file.display())
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            bail!("{}: is not text in UTF-8; name a manifest in YAML or JSON", file.display())
        }
        read => read.with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// A file as messages name it.
pub fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// The manifests of a folder, by name, sub-folders left out; or the one file that is named.
pub fn manifests(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("{} cannot be listed", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| format!("{} cannot be listed", path.display()))?.path();
        let ending = file.extension().and_then(|ending| ending.to_str());
        if file.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            files.push(file);
        }
    }
    if files.is_empty() {
        bail!("{}: no *.yaml, *.yml or *.json file in it; name a folder of manifests", path.display());
    }
    files.sort();
    Ok(files)
}
