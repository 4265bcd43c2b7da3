//! Templates of a manifest, judged.
//!
//! Input: a file, a folder or standard input. Output: every `PrometheusAgent` in it with its agent or its violations, and the
//! monitors and namespaces that count for them.

use std::path::Path;

use anyhow::{Context, bail};

use super::input;
use crate::manifest::Document;
use crate::monitors::podmonitor::PodMonitor;
use crate::monitors::selection::Monitors;
use crate::store::documents::namespace_labels;
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

/// Judges every template below `path`, and reads its monitors; an error where there is no template.
pub fn judge(path: &Path, settings: &Settings) -> anyhow::Result<(Vec<Judged>, Monitors)> {
    let mut judged = Vec::new();
    let mut monitors = Monitors::default();
    let mut others = 0;
    for file in input::manifests(path)? {
        let name = input::shown(&file);
        for document in input::documents(&file)? {
            let place = || format!("{name}: document {}", document.number);
            if document.kind() != crate::template::KIND {
                others += 1;
                note(&document, &mut monitors).with_context(place)?;
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
    Ok((judged, monitors))
}

/// A monitor, or a namespace that may be selected by its labels.
fn note(document: &Document, monitors: &mut Monitors) -> anyhow::Result<()> {
    if PodMonitor::is_monitor(&document.object) {
        let monitor = PodMonitor::read(&document.object)?;
        let id = monitor.id.clone();
        if monitors.insert(monitor).is_some() {
            bail!("PodMonitor {id} was already defined above or in an earlier file; remove one");
        }
    } else if (document.kind(), document.api_version()) == ("Namespace", "v1") {
        let metadata = &document.object["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        monitors.insert_namespace(name.to_owned(), namespace_labels(metadata));
    }
    Ok(())
}
