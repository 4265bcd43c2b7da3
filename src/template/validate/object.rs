//! A JSON object of which every field must be known. PURE.
//!
//! Input: an object and its path. Output: its fields by type; whatever is asked for and has another type, and whatever is
//! not asked for, becomes a violation.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::template::violation::{Findings, Path, Rule};

/// The object; call [`Object::finish`] when every known field was asked for.
pub(crate) struct Object<'a> {
    map: &'a Map<String, Value>,
    path: Path,
    asked: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    /// An object, or a violation where the value is none.
    pub(crate) fn new(value: &'a Value, path: &Path, findings: &mut Findings) -> Option<Self> {
        match value.as_object() {
            Some(map) => Some(Self::of_map(map, path)),
            None => {
                wrong_type(path, "an object", findings);
                None
            }
        }
    }

    /// An object that is known to be one.
    pub(crate) fn of_map(map: &'a Map<String, Value>, path: &Path) -> Self {
        Self { map, path: path.clone(), asked: BTreeSet::new() }
    }

    /// Where the object stands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A field; null counts as absent, as for the API server.
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
        findings: &mut Findings,
    ) -> Option<T> {
        let read = read(self.get(name)?);
        if read.is_none() {
            wrong_type(&self.path.key(name), expected, findings);
        }
        read
    }

    /// Required text.
    pub(crate) fn text(&mut self, name: &'static str, findings: &mut Findings) -> Option<String> {
        if self.get(name).is_none() {
            findings.violation_at(&self.path.key(name), Rule::Required);
        }
        self.text_or_absent(name, findings)
    }

    /// Optional text.
    pub(crate) fn text_or_absent(&mut self, name: &'static str, findings: &mut Findings) -> Option<String> {
        self.typed(name, "text", |value| value.as_str().map(str::to_owned), findings)
    }

    /// Optional boolean.
    pub(crate) fn boolean(&mut self, name: &'static str, findings: &mut Findings) -> Option<bool> {
        self.typed(name, "a boolean", Value::as_bool, findings)
    }

    /// Optional number within bounds.
    pub(crate) fn integer(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<i64>,
        findings: &mut Findings,
    ) -> Option<i64> {
        let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
        let read = |value: &Value| value.as_i64().filter(|number| bounds.contains(number));
        self.typed(name, &expected, read, findings)
    }

    /// Optional list.
    pub(crate) fn list(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'a Vec<Value>> {
        self.typed(name, "a list", Value::as_array, findings)
    }

    /// Optional object.
    pub(crate) fn object(&mut self, name: &'static str, findings: &mut Findings) -> Option<Self> {
        let path = self.path.key(name);
        self.typed(name, "an object", Value::as_object, findings).map(|map| Self::of_map(map, &path))
    }

    /// Reports every field that was not asked for.
    pub(crate) fn finish(self, findings: &mut Findings) {
        self.finish_with(
            &Rule::Other { rule: "is a field that a template may not set here", fix: "remove it" },
            findings,
        );
    }

    /// The same with a rule of its own.
    pub(crate) fn finish_with(self, rule: &Rule, findings: &mut Findings) {
        for (name, value) in self.map {
            if !self.asked.contains(name.as_str()) && !value.is_null() {
                findings.violation_at(&self.path.key(name), rule.clone());
            }
        }
    }
}

fn wrong_type(path: &Path, expected: &str, findings: &mut Findings) {
    findings.violation_at(path, Rule::WrongType(format!("has the wrong type: expected {expected}")));
}
