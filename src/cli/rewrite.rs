//! Manifests that are written back with some of their pods changed.
//!
//! Input: a file, a folder or standard input, and a function that changes a pod. Output: the same text, in which documents
//! without a changed pod stand byte for byte; changed ones are written anew, in the syntax and the order of members that
//! they had, but without their comments.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::input;
use super::ordered::Ordered;
use crate::admission::review::one_line;
use crate::manifest::{self, Part};
use crate::workload;

/// A syntax to write documents in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// YAML, documents divided by `---`.
    Yaml,
    /// JSON, one document after the other.
    Json,
}

/// Manifests in the order of their files.
#[derive(Debug)]
pub struct Manifests {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// Contents by part of the text; absent where there is nothing in it.
    contents: Vec<Option<Content>>,
}

#[derive(Debug)]
struct Content {
    /// Number of the document, from 1.
    number: usize,
    before: Ordered,
    /// Where a pod was changed.
    after: Option<Ordered>,
    /// JSON pointers to the objects whose pod was changed.
    changed: Vec<String>,
}

/// Where a pod stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Number of the document, from 1.
    pub document: usize,
    /// The Pod, or the workload that has it.
    pub object: &'a Value,
    /// Its namespace.
    pub namespace: &'a str,
    /// JSON pointer in the document to the pod or pod template.
    pub pointer: &'a str,
}

/// Most characters of a name that are shown, more than Kubernetes accepts.
const MAX_SHOWN: usize = 320;

impl Place<'_> {
    /// Kind of the object.
    pub fn kind(&self) -> &str {
        self.object.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// Name of the object, or the prefix that its name will have.
    pub fn name(&self) -> &str {
        let metadata = |key: &str| self.object.get("metadata")?.get(key)?.as_str();
        metadata("name").or_else(|| metadata("generateName")).unwrap_or("unnamed")
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, document, namespace, .. } = self;
        // What a manifest says must not forge lines of a log.
        let clean = |text: &str| one_line(&text, MAX_SHOWN);
        let (kind, name, namespace) = (clean(self.kind()), clean(self.name()), clean(namespace));
        write!(f, "{file}: document {document}: {kind}/{name} in {namespace}")
    }
}

impl Manifests {
    /// Reads every manifest of `path` whole, so that nothing is written where one of them is broken.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let files = input::manifests(path)?;
        Ok(Self { files: files.iter().map(|file| File::read(file)).collect::<Result<_, _>>()? })
    }

    /// The documents of each file.
    pub fn documents(&self) -> anyhow::Result<Vec<(String, Vec<manifest::Document>)>> {
        let read = |file: &File| {
            let documents = manifest::read(&file.text).with_context(|| file.name.clone())?;
            Ok((file.name.clone(), documents))
        };
        self.files.iter().map(read).collect()
    }

    /// Changes every pod with `change`, which says whether it did. Pods are in the namespace of their object, else in
    /// `namespace`.
    pub fn change(
        &mut self,
        namespace: Option<&str>,
        mut change: impl FnMut(&Place<'_>, &mut Value) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        for file in &mut self.files {
            for content in file.contents.iter_mut().flatten() {
                let mut document = content.before.to_value();
                for item in items(&document) {
                    let Some((object, below)) = document
                        .pointer(&item)
                        .and_then(|object| Some((object, workload::pod_pointer(object)?)))
                    else {
                        continue;
                    };
                    let pointer = format!("{item}{below}");
                    let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
                    let place = Place {
                        file: &file.name,
                        document: content.number,
                        object,
                        namespace: own.or(namespace).unwrap_or("default"),
                        pointer: &pointer,
                    };
                    let mut pod = document.pointer(&pointer).cloned().unwrap_or_default();
                    if change(&place, &mut pod)?
                        && let Some(place) = document.pointer_mut(&pointer)
                    {
                        *place = pod;
                        content.changed.push(item);
                    }
                }
                if !content.changed.is_empty() {
                    content.after = Some(Ordered::arranged(document, Some(&content.before)));
                }
            }
        }
        Ok(())
    }

    /// Writes everything; without a format, each document in the syntax that it has.
    pub fn write(&self, format: Option<Format>, out: &mut impl Write) -> anyhow::Result<()> {
        let mut text = String::new();
        let several = self.files.len() > 1;
        for file in &self.files {
            for (part, content) in file.parts() {
                match format {
                    None => separated(&mut text, &as_it_was(&part, content)?, several),
                    Some(Format::Yaml) => {
                        if let Some(content) = content {
                            if !text.is_empty() {
                                text.push_str("---\n");
                            }
                            text.push_str(&yaml(content.now(), true)?);
                        }
                    }
                    Some(Format::Json) => {
                        if let Some(content) = content {
                            text.push_str(&serde_json::to_string_pretty(content.now())?);
                            text.push('\n');
                        }
                    }
                }
            }
        }
        out.write_all(text.as_bytes())?;
        Ok(())
    }

    /// What the reader of a rewritten text should know: that comments are gone.
    pub fn note(&self, format: Option<Format>) -> Option<String> {
        let contents =
            || self.files.iter().flat_map(File::parts).filter_map(|(part, content)| Some((part, content?)));
        let yaml = |(part, _): &(Part<'_>, &Content)| !is_json(part);
        match format {
            Some(_) => contents().any(|content| yaml(&content)).then(|| {
                "every document was written anew, without its comments; leave -o out to keep what does not change".to_owned()
            }),
            None => match contents().filter(|(_, content)| content.after.is_some()).filter(yaml).count() {
                0 => None,
                1 => Some("1 document was written anew, without its comments; the others stand as they were".to_owned()),
                count => Some(format!(
                    "{count} documents were written anew, without their comments; the others stand as they were"
                )),
            },
        }
    }

    /// Each object with a changed pod as YAML, before and after.
    pub fn changes(&self) -> anyhow::Result<Vec<Change<'_>>> {
        let mut changes = Vec::new();
        for file in &self.files {
            for content in file.contents.iter().flatten() {
                let Some(after) = &content.after else { continue };
                for pointer in &content.changed {
                    let (Some(before), Some(after)) =
                        (content.before.pointer(pointer), after.pointer(pointer))
                    else {
                        continue;
                    };
                    let (before, after) = (yaml(before, true)?, yaml(after, true)?);
                    changes.push(Change { file: &file.name, document: content.number, before, after });
                }
            }
        }
        Ok(changes)
    }
}

/// An object with a changed pod, as YAML.
#[derive(Debug)]
pub struct Change<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Number of the document, from 1.
    pub document: usize,
    /// As it was read, without comments.
    pub before: String,
    /// As it is now.
    pub after: String,
}

impl File {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let (name, text) = (input::shown(path), input::text(path)?);
        let mut contents = Vec::new();
        for part in manifest::parts(&text) {
            let content = match part.number {
                Some(number) => Self::content(&part, number, &name)?,
                None => None,
            };
            contents.push(content);
        }
        Ok(Self { name, text, contents })
    }

    fn content(part: &Part<'_>, number: usize, file: &str) -> anyhow::Result<Option<Content>> {
        let before = part.parse().with_context(|| file.to_owned())?;
        if before == Ordered::Null {
            return Ok(None);
        }
        if !matches!(before, Ordered::Object(_)) {
            bail!("{file}: document {number}: is not an object with apiVersion and kind");
        }
        // YAML forgives what JSON does not, and would come out as YAML.
        if Path::new(file).extension().is_some_and(|extension| extension == "json")
            && let Err(error) = serde_json::from_str::<IgnoredAny>(part.split().1)
        {
            bail!(
                "{file}: document {number}: is YAML, not JSON ({error}); correct it, or name the file .yaml"
            );
        }
        Ok(Some(Content { number, before, after: None, changed: Vec::new() }))
    }

    fn parts(&self) -> impl Iterator<Item = (Part<'_>, Option<&Content>)> {
        manifest::parts(&self.text).into_iter().zip(self.contents.iter().map(Option::as_ref))
    }
}

impl Content {
    fn now(&self) -> &Ordered {
        self.after.as_ref().unwrap_or(&self.before)
    }
}

/// JSON pointers to the objects of a document: itself, or what is in a list, however deep.
fn items(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), document)];
    while let Some((pointer, object)) = pending.pop() {
        match object.get("items").and_then(Value::as_array).filter(|_| manifest::is_list(object)) {
            // The last in is the first out.
            Some(items) => pending.extend(
                items
                    .iter()
                    .enumerate()
                    .rev()
                    .map(|(index, item)| (format!("{pointer}/items/{index}"), item)),
            ),
            None => found.push(pointer),
        }
    }
    found
}

/// Appends a document; between files, one that brings no marker gets it.
fn separated(text: &mut String, document: &str, several: bool) {
    // A byte order mark is one only at the start of a text.
    let document = if several { document.trim_start_matches('\u{feff}') } else { document };
    let divides = !text.is_empty() || document.trim_start().starts_with('{');
    if several && divides && !document.starts_with("---") {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("---\n");
    }
    text.push_str(document);
}

/// The document's own bytes; or, where a pod was changed, the new content behind what stood before the old one.
fn as_it_was(part: &Part<'_>, content: Option<&Content>) -> anyhow::Result<String> {
    let Some(after) = content.and_then(|content| content.after.as_ref()) else {
        return Ok(part.text.to_owned());
    };
    let (head, old) = part.split();
    let head = if head.is_empty() && old.starts_with("---") { "---\n" } else { head };
    let new = if is_json(part) {
        let blanks = old.get(old.trim_end().len()..).unwrap_or_default();
        format!("{}{blanks}", json(after, old.trim_end())?)
    } else {
        yaml(after, has_compact_lists(old))?
    };
    // The line ends of the text, which no parser keeps.
    let new = if old.contains("\r\n") { new.replace('\n', "\r\n") } else { new };
    Ok(format!("{head}{new}"))
}

fn is_json(part: &Part<'_>) -> bool {
    let (_, content) = part.split();
    serde_json::from_str::<IgnoredAny>(content).is_ok()
}

/// A value as YAML.
pub(super) fn yaml(value: &Ordered, compact_list_indent: bool) -> anyhow::Result<String> {
    let options = serde_saphyr::ser_options! { compact_list_indent: compact_list_indent };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}

/// Whether lists stand as deep as the member that holds them.
fn has_compact_lists(text: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.windows(2).find_map(|pair| match pair {
        [above, below] if above.trim_end().ends_with(':') && below.trim_start().starts_with("- ") => {
            let item = above.trim_start().strip_prefix("- ").map_or(0, |_| 2);
            Some(indent(below) <= indent(above) + item)
        }
        _ => None,
    });
    first.unwrap_or(true)
}

/// JSON, on one line or indented like the old text.
fn json(value: &Ordered, old: &str) -> anyhow::Result<String> {
    let Some(second) = old.lines().nth(1) else { return Ok(serde_json::to_string(value)?) };
    let indent: String = second.chars().take_while(char::is_ascii_whitespace).collect();
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    String::from_utf8(out).map_err(|error| io::Error::other(error).into())
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
