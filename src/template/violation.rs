//! What is wrong with a template: every finding has a path, a value, a rule and a fix. PURE.
//!
//! Input: findings in any order. Output: sorted [`Violation`]s (the template is not used), [`IgnoredField`]s and
//! [`Warning`]s (it is).

use std::borrow::Cow;
use std::fmt;

use super::agent::IgnoredField;
use super::duration::DurationError;
use super::version::Version;

/// Longest part of a value that is repeated in a message, in characters.
const SHOWN_VALUE: usize = 80;
/// Longest part of a field's name that is repeated in a path, in characters; annotations have names of up to 317.
const SHOWN_NAME: usize = 320;

/// Path of a field, such as `spec.remoteWrite[0].url`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// A path of one segment.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The path of a field of this object. Names with a dot or slash are written in brackets, and so is the beginning of
    /// one that is longer than any name that is known.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        if let Some((end, _)) = name.char_indices().nth(SHOWN_NAME) {
            return Self(format!("{}[\"{}…\"]", self.0, name[..end].escape_debug()));
        }
        let plain =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if plain { Self(format!("{}.{name}", self.0)) } else { Self(format!("{}[{name:?}]", self.0)) }
    }

    /// The path of an item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule that a value breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The JSON type is not the field's.
    WrongType(String),
    /// A field that must be set is not.
    Required,
    /// The value is not one of a closed list.
    OneOf(&'static [&'static str]),
    /// The text is not a Prometheus duration.
    Duration(DurationError),
    /// The text is not a Kubernetes quantity.
    Quantity,
    /// The text is not a size in bytes.
    ByteSize,
    /// The text is not an `http` or `https` URL without credentials.
    Url(&'static str),
    /// The text is not a regular expression of RE2.
    Regex(&'static str),
    /// The text does not fit where it is written.
    Text(&'static str),
    /// The chosen version of Prometheus cannot do this.
    NeedsVersion {
        /// First version that can.
        since: Version,
        /// Version of the template.
        have: Version,
    },
    /// A credential that Prometheus reads from neither a file nor the environment.
    NoFileForm(&'static str),
    /// A credential in clear text, in an object that is no Secret.
    ClearText(&'static str),
    /// A path inside a container that the template's author does not know.
    RawPath(&'static str),
    /// Two fields exclude each other.
    Conflict {
        /// The other field or fields.
        with: String,
    },
    /// A value must be unique in its list.
    Duplicate {
        /// Where it stands already.
        of: String,
    },
    /// A number or duration exceeds its bound.
    Exceeds {
        /// The bound, with its field.
        bound: String,
    },
    /// The value is outside what the platform's owners allow; why, and the flag that says so.
    GuardRail {
        /// What is wrong.
        rule: String,
        /// Name of the flag.
        flag: &'static str,
    },
    /// The scrape class of a monitor cannot be used; what it is and why, with the place in the template.
    ScrapeClass(String),
    /// Anything else, in words of its own.
    Other {
        /// What is wrong.
        rule: &'static str,
        /// What to do.
        fix: &'static str,
    },
}

impl Rule {
    /// What is wrong, as the end of a sentence that begins with the value.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::WrongType(message) | Self::ScrapeClass(message) => Cow::Owned(message.clone()),
            Self::Required => Cow::Borrowed("is required"),
            Self::OneOf(values) => Cow::Owned(format!("is not one of {}", values.join(", "))),
            Self::Duration(error) => Cow::Owned(error.to_string()),
            Self::Quantity => Cow::Borrowed("is not a quantity"),
            Self::ByteSize => Cow::Borrowed("is not a size in bytes"),
            Self::Url(why) | Self::Regex(why) | Self::Text(why) => Cow::Borrowed(why),
            Self::NeedsVersion { since, have } => {
                Cow::Owned(format!("needs Prometheus {since} or later, and the template's is {have}"))
            }
            Self::NoFileForm(_) => Cow::Borrowed(
                "is a reference that Prometheus can read from neither a file nor the environment",
            ),
            Self::ClearText(_) => Cow::Borrowed("is a credential in clear text"),
            Self::RawPath(_) => Cow::Borrowed("is a path inside a container that nothing is mounted at"),
            Self::Conflict { with } => Cow::Owned(format!("cannot be combined with {with}")),
            Self::Duplicate { of } => Cow::Owned(format!("is the same as {of}")),
            Self::Exceeds { bound } => Cow::Owned(format!("is more than {bound}")),
            Self::GuardRail { rule, flag } => Cow::Owned(format!("{rule} ({flag})")),
            Self::Other { rule, .. } => Cow::Borrowed(rule),
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::WrongType(_) => "correct the type",
            Self::Required => "set it",
            Self::OneOf(_) => "use one of them",
            Self::Duration(_) => "write a duration such as 30s",
            Self::Quantity => "write a quantity such as 500m, 128Mi or 1Gi",
            Self::ByteSize => "write a size such as 512KB, 10MB or 1.5GiB",
            Self::Url(_) => "write it as http://HOST[:PORT]/PATH or https://…",
            Self::Regex(_) => "correct the expression (RE2 syntax)",
            Self::Text(_) => "correct the value",
            Self::NeedsVersion { since, .. } => {
                return Cow::Owned(format!("set spec.version to {since} or later, or remove the field"));
            }
            Self::Conflict { .. } => "keep one of them",
            Self::Duplicate { .. } => "make it unique, or remove one of them",
            Self::Exceeds { .. } => "lower it, or raise the bound",
            Self::GuardRail { .. } => "stay within it, or ask whoever runs promsidecar to change it",
            Self::ScrapeClass(_) => "correct the class in the template, or name another class",
            Self::NoFileForm(fix) | Self::ClearText(fix) | Self::RawPath(fix) | Self::Other { fix, .. } => {
                fix
            }
        })
    }
}

/// One finding for which a template is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path of the field.
    pub path: String,
    /// The value, where it may be shown.
    pub value: Option<String>,
    /// The rule that it breaks.
    pub rule: Rule,
}

/// One line: `spec.x[0].y: "value": rule; fix`. Control characters of the value are escaped and its end is cut.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.without_path())
    }
}

impl Violation {
    /// The same without the path.
    pub fn without_path(&self) -> impl fmt::Display + '_ {
        WithoutPath(self)
    }
}

struct WithoutPath<'a>(&'a Violation);

impl fmt::Display for WithoutPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Violation { value, rule, .. }) = self;
        if let Some(value) = value {
            match value.char_indices().nth(SHOWN_VALUE) {
                Some((end, _)) => write!(f, "\"{}…\": ", value[..end].escape_debug())?,
                None => write!(f, "{value:?}: ")?,
            }
        }
        write!(f, "{}; {}", rule.text(), rule.fix())
    }
}

/// A field that is used as written, but should make its author think again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Path of the field.
    pub path: String,
    /// What may go wrong.
    pub text: String,
}

/// Collects findings; nothing here ends at the first.
#[derive(Debug, Default)]
pub struct Findings {
    /// The template is not used.
    pub violations: Vec<Violation>,
    /// What has no effect.
    pub ignored: Vec<IgnoredField>,
    /// What is used with a doubt.
    pub warnings: Vec<Warning>,
}

impl Findings {
    /// Records a violation with the value that causes it.
    pub fn violation(&mut self, path: &Path, value: impl Into<String>, rule: Rule) {
        self.violations.push(Violation { path: path.0.clone(), value: Some(value.into()), rule });
    }

    /// Records a violation by absence, or with a value that must not be shown.
    pub fn violation_at(&mut self, path: &Path, rule: Rule) {
        self.violations.push(Violation { path: path.0.clone(), value: None, rule });
    }

    /// Records a field without effect.
    pub fn ignored(&mut self, path: &Path, why: impl Into<String>) {
        self.ignored.push(IgnoredField { path: path.0.clone(), why: why.into() });
    }

    /// Records a field that the chosen version does not know; upstream drops these with a log line.
    pub fn too_new(&mut self, path: &Path, since: Version, have: Version) {
        self.ignored(path, format!("needs Prometheus {since} or later, and the template's is {have}"));
    }

    /// Records a doubt.
    pub fn warning(&mut self, path: &Path, text: impl Into<String>) {
        self.warnings.push(Warning { path: path.0.clone(), text: text.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, Rule, Violation};

    #[test]
    fn a_violation_is_one_line_whatever_the_value_holds() {
        let violation = Violation {
            path: Path::root("spec").key("remoteWrite").index(0).key("url").to_string(),
            value: Some(format!("a\n{}", "x".repeat(100))),
            rule: Rule::Required,
        };
        let line = violation.to_string();
        assert_eq!(
            line,
            format!("spec.remoteWrite[0].url: \"a\\n{}…\": is required; set it", "x".repeat(78))
        );
    }

    #[test]
    fn unusual_keys_are_bracketed() {
        assert_eq!(Path::root("metadata").key("a.b/c").as_str(), "metadata[\"a.b/c\"]");
    }
}
