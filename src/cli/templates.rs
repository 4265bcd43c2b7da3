//! Templates of a manifest, judged.
//!
//! Input: a file, a folder or standard input. Output: every `PrometheusAgent` in it with its agent or its violations, and the
//! monitors and namespaces that count for them.

use std::path::Path;

use anyhow::{Context, bail};

use super::input;
use crate::monitors::collect::Collector;
use crate::monitors::selection::Monitors;
use crate::template::agent::Agent;
use crate::template::violation::Violation;
use crate::template::{DEFAULT_NAMESPACE, Settings, Template, validate};

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

/// What is in manifests.
#[derive(Debug)]
pub struct Manifests {
    /// Every template.
    pub judged: Vec<Judged>,
    /// Monitors and namespaces.
    pub monitors: Monitors,
    /// Monitors that do not count, a line each.
    pub unusable: Vec<String>,
}

/// Judges every template below `path`, and reads its monitors; an error where there is no template.
pub fn judge(path: &Path, settings: &Settings) -> anyhow::Result<Manifests> {
    let mut judged = Vec::new();
    let mut monitors = Collector::default();
    let mut unusable = Vec::new();
    let mut others = 0;
    for file in input::manifests(path)? {
        let name = input::shown(&file);
        for document in input::documents(&file)? {
            let place = || format!("{name}: document {}", document.number);
            if document.kind() != crate::template::KIND {
                others += 1;
                let noted = monitors.note(&document.object, DEFAULT_NAMESPACE);
                unusable.extend(noted.err().map(|unusable| format!("{}: {unusable}", place())));
                continue;
            }
            let template = Template::read(&document.object, settings).with_context(place)?;
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
    Ok(Manifests { judged, monitors: monitors.into_monitors(), unusable })
}
