//! What lint finds, and where. PURE.
//!
//! Input: nothing. Output: the types that rules fill and the command prints; every rule has its word.

use serde_json::Value;

use crate::admission::review::one_line;
use crate::template::violation::Path;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A key with our prefix that is none of ours.
    UnknownKey,
    /// A key whose prefix is nearly ours.
    MisspeltPrefix,
    /// A label where an annotation is read.
    LabelForAnnotation,
    /// An annotation where a label is read.
    AnnotationForLabel,
    /// A key on the workload rather than on its pods.
    WorkloadMetadata,
    /// A key on a kind of object that it means nothing to.
    WrongObject,
    /// A key that promsidecar writes, on a pod that it did not inject.
    WrittenByPromsidecar,
    /// A value that is no text, which the API server refuses.
    NotText,
    /// A value that cannot be read.
    InvalidValue,
    /// A hint of the community's that cannot be used.
    UnusableHint,
    /// A key of the community's that is misspelt.
    MisspeltHint,
    /// A label of a Namespace in a spelling that the API server does not compare.
    LabelSpelling,
    /// A request for a template that is not there.
    TemplateMissing,
    /// What to scrape is said, but nobody asks for an agent.
    HintsWithoutRequest,
    /// A template in use, or meant to be one, that is not claimed.
    TemplateNotClaimed,
    /// A controller id that is nearly ours.
    MisspeltControllerId,
    /// A monitor that a template selects and that its agents cannot run.
    MonitorRejected,
}

impl Rule {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown-key",
            Self::MisspeltPrefix => "misspelt-prefix",
            Self::LabelForAnnotation => "label-for-annotation",
            Self::AnnotationForLabel => "annotation-for-label",
            Self::WorkloadMetadata => "workload-metadata",
            Self::WrongObject => "wrong-object",
            Self::WrittenByPromsidecar => "written-by-promsidecar",
            Self::NotText => "not-text",
            Self::InvalidValue => "invalid-value",
            Self::UnusableHint => "unusable-hint",
            Self::MisspeltHint => "misspelt-hint",
            Self::LabelSpelling => "label-spelling",
            Self::TemplateMissing => "template-missing",
            Self::HintsWithoutRequest => "hints-without-request",
            Self::TemplateNotClaimed => "template-not-claimed",
            Self::MisspeltControllerId => "misspelt-controller-id",
            Self::MonitorRejected => "monitor-rejected",
        }
    }
}

/// One object and its place.
#[derive(Debug, Clone)]
pub struct Item {
    /// Name of the file.
    pub file: String,
    /// Number of the document, from 1.
    pub document: usize,
    /// The object.
    pub object: Value,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// What is wrong with one object.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The object.
    pub item: &'a Item,
    /// At least one.
    pub findings: Vec<Finding>,
}

/// `Kind namespace/name` of an object, in one line.
pub fn shown(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or("object");
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName")).unwrap_or("without a name");
    let shown = match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    };
    one_line(&shown, usize::MAX)
}

/// A path of these segments.
pub(super) fn path(segments: &[&str]) -> Path {
    let (first, rest) = segments.split_first().unwrap_or((&"metadata", &[]));
    rest.iter().fold(Path::root(first), |path, segment| path.key(segment))
}
