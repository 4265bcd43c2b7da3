//! Templates of a manifest, judged.
//!
//! Input: a file, a folder or standard input. Output: every `PrometheusAgent` in it with its agent or its violations.

use std::path::Path;

use anyhow::{Context, bail};

use super::input;
use crate::template::agent::Agent;
use crate::template::violation::Violation;
use crate::template::{Settings, Template, validate};

/// A template and what validation says.
#[derive(Debug)]
pub struct Judged {
    /// Name of its file.
    pub file: String,
    /// Number of its document, from 1.
    pub document: usize,
    /// The template.
    pub template: Template,
    /// The agent, or every violation.
    pub outcome: Result<Box<Agent>, Vec<Violation>>,
}

/// Judges every template below `path`; an error where there is none.
pub fn judge(path: &Path, settings: &Settings) -> anyhow::Result<Vec<Judged>> {
    let mut judged = Vec::new();
    let mut others = 0;
    for file in input::manifests(path)? {
        let name = input::shown(&file);
        for document in input::documents(&file)? {
            if document.kind() != crate::template::KIND {
                others += 1;
                continue;
            }
            let template = Template::read(&document.object, settings)
                .with_context(|| format!("{name}: document {}", document.number))?;
            let outcome = validate::validate(&template, settings).map(Box::new);
            judged.push(Judged { file: name.clone(), document: document.number, template, outcome });
        }
    }
    if judged.is_empty() {
        let others = match others {
            1 => "1 object of another kind".to_owned(),
            others => format!("{others} objects of other kinds"),
        };
        bail!("{}: no PrometheusAgent in it ({others})", input::shown(path));
    }
    Ok(judged)
}
