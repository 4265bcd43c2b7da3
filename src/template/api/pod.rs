//! Parts of a pod that a template may shape: resources, storage, the agent's container, extra volumes. PURE.
//!
//! Input: JSON. Output: loose maps where validation names every field that it accepts; anything else would reach the API
//! server, which refuses the whole pod for one wrong type.

use std::collections::BTreeMap;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A quantity: text or a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuantityText(pub String);

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = QuantityText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity (text or a number)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<QuantityText, E> {
                Ok(QuantityText(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// `resources`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "Kubernetes' names")]
pub struct Resources {
    pub requests: BTreeMap<String, QuantityText>,
    pub limits: BTreeMap<String, QuantityText>,
}

/// `storage`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// The only kind of storage that an agent beside an application uses.
    pub empty_dir: Option<EmptyDir>,
}

/// `storage.emptyDir`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "Kubernetes' names")]
pub struct EmptyDir {
    pub medium: Option<String>,
    pub size_limit: Option<QuantityText>,
}

/// One of `containers`.
pub type Container = Map<String, Value>;
/// One of `volumes`.
pub type Volume = Map<String, Value>;
/// One of `volumeMounts`.
pub type VolumeMount = Map<String, Value>;
