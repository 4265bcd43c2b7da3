//! From JSON to the model without giving up at the first wrong type. PURE.
//!
//! Input: a JSON value. Output: what could be read, a violation for every value of a wrong type, and the paths of fields that
//! the model does not have.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};
use serde_path_to_error::Segment;

use crate::template::violation::{Findings, Path, Rule};

/// Most wrong types that are reported of one object; each costs a pass.
const MAX_PASSES: usize = 100;

/// Reads `value`, found at `root`. Each pass that fails reports one value, takes it out and begins again, so that a wrong type
/// hides nothing but what is inside it.
pub fn lenient<T: DeserializeOwned + Default>(
    value: &Value,
    root: &Path,
    findings: &mut Findings,
    unknown: &mut Vec<Path>,
) -> T {
    let mut value = value.clone();
    strip_nulls(&mut value);
    for _ in 0..MAX_PASSES {
        let mut pass_unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(Strict(&value), &mut track);
        let read = serde_ignored::deserialize(tracked, |path| pass_unknown.push(of_ignored(root, &path)));
        match read {
            Ok(read) => {
                unknown.extend(pass_unknown);
                return read;
            }
            Err(error) => {
                let steps: Vec<Step> = track.path().iter().filter_map(Step::of).collect();
                let path = steps.iter().fold(root.clone(), |path, step| match step {
                    Step::Key(key) => path.key(key),
                    Step::Index(index) => path.index(*index),
                });
                findings.violation_at(&path, Rule::WrongType(format!("has the wrong type: {error}")));
                if !take_out(&mut value, &steps) {
                    return T::default();
                }
            }
        }
    }
    T::default()
}

/// Kubernetes drops nulls of fields that are not nullable, and none of these is.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } => Some(Self::Key(key.clone())),
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        }
    }
}

/// Removes the innermost field on the path. List items stay, since later indices would move; a list with a wrong item goes.
fn take_out(value: &mut Value, steps: &[Step]) -> bool {
    let Some(last_key) = steps.iter().rposition(|step| matches!(step, Step::Key(_))) else {
        return false;
    };
    let (parents, rest) = steps.split_at(last_key);
    let Some(Step::Key(key)) = rest.first() else {
        return false;
    };
    let parent = parents.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    });
    parent.and_then(Value::as_object_mut).and_then(|map| map.remove(key)).is_some()
}

fn of_ignored(root: &Path, path: &serde_ignored::Path<'_>) -> Path {
    use serde_ignored::Path as Ignored;
    match path {
        Ignored::Root => root.clone(),
        Ignored::Seq { parent, index } => of_ignored(root, parent).index(*index),
        Ignored::Map { parent, key } => of_ignored(root, parent).key(key),
        Ignored::Some { parent } | Ignored::NewtypeStruct { parent } | Ignored::NewtypeVariant { parent } => {
            of_ignored(root, parent)
        }
    }
}

/// JSON whose lists are no structs: serde would fill a struct's fields in order from a list.
#[derive(Clone, Copy)]
struct Strict<'de>(&'de Value);

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.iter().map(Strict));
                visitor.visit_seq(&mut items)
            }
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(
                map.iter().map(|(key, value)| (key.as_str(), Strict(value))),
            )),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.0.is_array() {
            return Err(Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Strict<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::lenient;
    use crate::template::api::PrometheusAgentSpec;
    use crate::template::violation::{Findings, Path};
    use serde_json::json;

    #[test]
    fn every_wrong_type_is_reported_and_hides_nothing_else() {
        let spec = json!({
            "paused": "yes",
            "sampleLimit": -1,
            "scrapeInterval": 30,
            "version": "v3.5.0",
            "remoteWrite": [{"url": 5, "name": "a", "basicAuth": []}, {"url": "http://b", "headers": {"x": 1}}],
            "scrapeProtocols": ["a", 1],
        });
        let (mut findings, mut unknown) = (Findings::default(), Vec::new());
        let read: PrometheusAgentSpec = lenient(&spec, &Path::root("spec"), &mut findings, &mut unknown);
        let mut paths: Vec<_> = findings.violations.iter().map(|violation| violation.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "spec.paused",
                "spec.remoteWrite[0].basicAuth",
                "spec.remoteWrite[0].url",
                "spec.remoteWrite[1].headers.x",
                "spec.sampleLimit",
                "spec.scrapeInterval",
                "spec.scrapeProtocols[1]",
            ]
        );
        assert_eq!(read.version.as_deref(), Some("v3.5.0"));
        assert_eq!(read.remote_write[0].name.as_deref(), Some("a"));
        assert_eq!(read.remote_write[1].url.as_deref(), Some("http://b"));
    }

    #[test]
    fn unknown_fields_are_collected_with_their_paths() {
        let spec =
            json!({"future": 1, "remoteWrite": [{"url": "http://a", "shiny": {"x": 1}}], "paused": null});
        let (mut findings, mut unknown) = (Findings::default(), Vec::new());
        let _: PrometheusAgentSpec = lenient(&spec, &Path::root("spec"), &mut findings, &mut unknown);
        assert!(findings.violations.is_empty());
        let unknown: Vec<_> = unknown.iter().map(Path::as_str).collect();
        assert_eq!(unknown, ["spec.future", "spec.remoteWrite[0].shiny"]);
    }
}
