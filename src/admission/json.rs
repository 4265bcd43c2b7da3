//! Tolerant, borrowing JSON decoding. PURE.
//!
//! Input: any well-formed JSON. Output: only the members that are asked for, each as a [`Field`] that says whether it was
//! absent, `null`, of an unexpected kind, or a value. A wrong kind never fails the document: whether it matters is a
//! decision of its own. Members may repeat; the last wins, as in Go's decoder. Values that are not asked for may be of any
//! depth. Beyond the exponents of 64 bits, a number that is asked for is an error, in Go as well.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member of an object, exactly as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field<T> {
    /// Not there.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// Something else than was expected.
    Wrong,
    /// As expected.
    Value(T),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// Whether something of an unexpected kind stands there.
    pub const fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong)
    }
}

impl Field<Text<'_>> {
    /// The text, empty where there is none.
    pub fn text(&self) -> &str {
        self.value().map_or("", |text| &text.0)
    }
}

impl<T> Field<List<T>> {
    /// The elements of the expected kind, empty where there is no list.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.value().into_iter().flat_map(|list| list.0.iter().filter_map(Field::value))
    }

    /// Whether this is something else than a list, or holds an element of an unexpected kind (`null` included).
    pub fn is_irregular(&self) -> bool {
        match self {
            Self::Value(list) => list.0.iter().any(|item| !matches!(item, Field::Value(_))),
            Self::Wrong => true,
            Self::Absent | Self::Null => false,
        }
    }
}

/// What a Rust type is read from; each method is asked only for its own kind of JSON and defaults to "not this kind".
pub trait Shape<'de>: Sized {
    /// From a string.
    fn from_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }

    /// From a boolean.
    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// From a whole number.
    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    /// From a number with a fraction or exponent, or beyond 64 bits.
    fn from_float(_: f64) -> Option<Self> {
        None
    }

    /// From an object.
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// From an array.
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

struct FieldVisitor<T>(PhantomData<T>);

fn kind<T>(value: Option<T>) -> Field<T> {
    value.map_or(Field::Wrong, Field::Value)
}

impl<'de, T: Shape<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(kind(T::from_text(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(kind(T::from_text(Cow::Owned(text.to_owned()))))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(kind(T::from_bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(kind(T::from_integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(kind(i64::try_from(value).ok().and_then(T::from_integer)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(kind(T::from_float(value)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::from_map(map).map(kind)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::from_seq(seq).map(kind)
    }
}

impl<'de, T: Shape<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

/// A string, borrowed from the input where it holds no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de> Shape<'de> for Text<'de> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text))
    }
}

impl Shape<'_> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Shape<'_> for i64 {
    fn from_integer(value: i64) -> Option<Self> {
        Some(value)
    }
}

/// An array, element by element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<Field<T>>);

impl<'de, T: Shape<'de>> Shape<'de> for List<T> {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Field<T>>()? {
            items.push(item);
        }
        Ok(Some(Self(items)))
    }
}

/// An object whose members are all of one kind, in the order of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs<'a, T>(pub Vec<(Cow<'a, str>, Field<T>)>);

impl<'de, T: Shape<'de>> Shape<'de> for Pairs<'de, T> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut pairs = Vec::with_capacity(4);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            pairs.push((key.0, map.next_value::<Field<T>>()?));
        }
        Ok(Some(Self(pairs)))
    }
}

impl<T> Field<Pairs<'_, T>> {
    /// The value under `key`; the last one where it repeats.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.value()?.0.iter().rev().find(|(name, _)| name == key)?.1.value()
    }

    /// Whether this is something else than an object of values of the expected kind (`null` included).
    pub fn is_irregular(&self) -> bool {
        match self {
            Self::Value(pairs) => pairs.0.iter().any(|(_, value)| !matches!(value, Field::Value(_))),
            Self::Wrong => true,
            Self::Absent | Self::Null => false,
        }
    }
}

/// An object of strings: labels and annotations.
pub type Strings<'a> = Pairs<'a, Text<'a>>;

impl Field<Strings<'_>> {
    /// The string under `key`.
    pub fn string(&self, key: &str) -> Option<&str> {
        self.get(key).map(|text| &*text.0)
    }

    /// Members in order, those with a string.
    pub fn strings(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.value().into_iter().flat_map(|pairs| pairs.0.iter());
        pairs.filter_map(|(key, value)| value.value().map(|text| (&**key, &*text.0)))
    }
}

/// A member's name.
pub struct Key<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Defines a struct that reads the named members of an object and passes over all others.
macro_rules! object {
    ($(#[$meta:meta])* pub struct $name:ident<'a> { $($(#[$field_meta:meta])* $field:ident: $key:literal => $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name<'a> {
            $($(#[$field_meta])* pub $field: $crate::admission::json::Field<$type>,)*
        }

        impl<'a> $crate::admission::json::Shape<'a> for $name<'a> {
            fn from_map<A: serde::de::MapAccess<'a>>(mut map: A) -> Result<Option<Self>, A::Error> {
                let mut object = Self::default();
                while let Some(key) = map.next_key::<$crate::admission::json::Key<'a>>()? {
                    match &*key.0 {
                        $($key => object.$field = map.next_value()?,)*
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(Some(object))
            }
        }
    };
}
pub(crate) use object;
