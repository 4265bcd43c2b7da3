//! JSON values that keep the order of their members, for manifests that are written back.
//!
//! Input: YAML or JSON by serde, or a plain value together with the ordered one that it came from. Output: the same by
//! serde, in order. Only the command line needs this: requests are never decoded into a tree.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Number, Value};

/// Members that a reader looks for first; members that are new stand in this order, then by name.
const FIRST_KEYS: [&str; 8] =
    ["apiVersion", "kind", "metadata", "name", "generateName", "namespace", "image", "restartPolicy"];

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Ordered {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number of 64 bits, which is all that Kubernetes has: longer ones lose digits.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(IndexMap<String, Self>),
}

impl Ordered {
    /// A value with its members in the order of `like`, which it was made from; new ones follow.
    pub fn arranged(value: Value, like: Option<&Self>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => {
                let like = if let Some(Self::List(like)) = like { &like[..] } else { &[] };
                let arrange = |(index, item): (usize, Value)| {
                    let like = counterpart(like, index, &item);
                    Self::arranged(item, like)
                };
                Self::List(items.into_iter().enumerate().map(arrange).collect())
            }
            Value::Object(members) => {
                let empty = IndexMap::new();
                let like = if let Some(Self::Object(like)) = like { like } else { &empty };
                let mut members: Vec<_> = members.into_iter().collect();
                let rank = |key: &str| match like.get_index_of(key) {
                    Some(index) => (0, index),
                    None => (1, FIRST_KEYS.iter().position(|first| *first == key).unwrap_or(usize::MAX)),
                };
                members.sort_by_key(|(key, _)| rank(key));
                let arrange = |(key, value): (String, Value)| {
                    let value = Self::arranged(value, like.get(&key));
                    (key, value)
                };
                Self::Object(members.into_iter().map(arrange).collect())
            }
        }
    }

    /// The value without its order.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Object(members) => {
                Value::Object(members.iter().map(|(key, value)| (key.clone(), value.to_value())).collect())
            }
        }
    }

    /// Changes every string in it, names of members aside.
    pub fn edit_texts(&mut self, edit: &impl Fn(&str) -> String) {
        match self {
            Self::Text(text) => *text = edit(text),
            Self::List(items) => items.iter_mut().for_each(|item| item.edit_texts(edit)),
            Self::Object(members) => members.values_mut().for_each(|value| value.edit_texts(edit)),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }

    /// What a JSON pointer (RFC 6901) without escapes leads to.
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        pointer.split('/').skip(1).try_fold(self, |value, key| match value {
            Self::Object(members) => members.get(key),
            Self::List(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }

    fn member(&self, key: &str) -> Option<&Self> {
        if let Self::Object(members) = self { members.get(key) } else { None }
    }
}

/// The element that `item` was made from: the one of its name, since elements move up where others are taken out; else the
/// one at its place.
fn counterpart<'a>(like: &'a [Ordered], index: usize, item: &Value) -> Option<&'a Ordered> {
    let Some(name) = item.get("name").and_then(Value::as_str) else { return like.get(index) };
    let named = |like: &&Ordered| like.member("name") == Some(&Ordered::Text(name.to_owned()));
    like.get(index).filter(named).or_else(|| like.iter().find(named))
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Ordered, E> {
        let number = Number::from_f64(value);
        number.map(Ordered::Number).ok_or_else(|| E::custom(format_args!("{value} is no number of JSON")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ordered, E> {
        Ok(Ordered::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Ordered, E> {
        Ok(Ordered::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut members = IndexMap::new();
        while let Some((key, value)) = map.next_entry()? {
            members.insert(key, value);
        }
        Ok(Ordered::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Ordered;

    fn read(text: &str) -> Ordered {
        serde_json::from_str(text).unwrap()
    }

    fn written(value: &Ordered) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn a_text_comes_out_in_the_order_in_which_it_was_read() {
        let text = r#"{"z":1,"a":[{"y":null,"b":true},-2,0.5,18446744073709551615,"ü\n"],"m":{}}"#;
        assert_eq!(written(&read(text)), text);
        let yaml = "z: 1\na:\n- x\nm: {}\n";
        let options = serde_saphyr::ser_options! { compact_list_indent: true };
        let value: Ordered = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(serde_saphyr::to_string_with_options(&value, options).unwrap(), yaml);
    }

    #[test]
    fn a_name_stands_first_where_there_is_no_order_to_keep_and_texts_can_be_edited() {
        let value = json!({"args": ["x", 1], "image": "i", "name": "n", "kind": null});
        let mut ordered = Ordered::arranged(value.clone(), None);
        assert_eq!(ordered.to_value(), value);
        ordered.edit_texts(&str::to_uppercase);
        assert_eq!(written(&ordered), r#"{"kind":null,"name":"N","image":"I","args":["X",1]}"#);
    }

    #[test]
    fn a_changed_value_keeps_the_order_of_the_one_it_came_from() {
        let like = read(
            r#"{"z":{"d":1,"c":2},"list":[{"v":1,"name":"x"},{"v":2,"name":"y"},{"q":1,"p":2}],"gone":1}"#,
        );
        let mut value = like.to_value();
        value.as_object_mut().unwrap().remove("gone");
        value["z"]["b"] = json!({"b": 1, "name": "n", "a": 2});
        value["list"].as_array_mut().unwrap().remove(0);
        value["list"][0]["a"] = json!(3);
        assert_eq!(
            written(&Ordered::arranged(value, Some(&like))),
            r#"{"z":{"d":1,"c":2,"b":{"name":"n","a":2,"b":1}},"list":[{"v":2,"name":"y","a":3},{"p":2,"q":1}]}"#
        );
    }
}
