//! The definitions of templates and monitors for clusters without prometheus-operator, made from the structs that read them.
//!
//! Serde itself is asked what each struct reads: [`Probe`] answers every question with an empty value and writes down what
//! was asked. `make golden` writes the file.

mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use promsidecar::monitors::api::PodMonitorSpec;
use promsidecar::monitors::object::{self, Kind, Spec};
use promsidecar::monitors::servicemonitor::ServiceMonitorSpec;
use promsidecar::template::api::PrometheusAgentSpec;
use promsidecar::template::{API_VERSION, KIND};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Value, json};
use support::golden::{compare, yaml};
use support::template::fields;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Where a schema is written.
type Slot = RefCell<Value>;

/// A deserializer that writes down what it is asked for.
#[derive(Clone, Copy)]
struct Probe<'a>(&'a Slot);

/// The schema of what a type reads.
fn schema<T: for<'de> Deserialize<'de>>() -> Value {
    let slot = Slot::default();
    assert!(T::deserialize(Probe(&slot)).is_ok(), "every field is read leniently");
    slot.into_inner()
}

/// An object with these fields. Unknown ones are kept in each, since the API server goes back to removing them wherever
/// fields are listed: what prometheus-operator knows and we do not must outlive its installation.
fn object(properties: &Map<String, Value>) -> Value {
    json!({"type": "object", "properties": properties, (PRESERVE): true})
}

/// An object of anything.
fn opaque() -> Value {
    json!({"type": "object", (PRESERVE): true})
}

/// A visitor that says what it expects.
struct Expectation<V>(V);

impl<'de, V: Visitor<'de>> fmt::Display for Expectation<&V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Expected::fmt(self.0, f)
    }
}

macro_rules! scalars {
    ($($method:ident, $visit:ident, $empty:expr, $schema:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.0.replace($schema);
            visitor.$visit($empty)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    scalars! {
        deserialize_bool, visit_bool, false, json!({"type": "boolean"});
        deserialize_i64, visit_i64, 0, json!({"type": "integer", "format": "int64"});
        deserialize_i32, visit_i32, 0, json!({"type": "integer", "format": "int32"});
        deserialize_u32, visit_u32, 0, json!({"type": "integer", "format": "int64"});
        deserialize_u64, visit_u64, 0, json!({"type": "integer", "format": "int64"});
        deserialize_str, visit_str, "", json!({"type": "string"});
        deserialize_string, visit_str, "", json!({"type": "string"});
    }

    /// Types that take several kinds of values are told apart by what they say that they expect.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let expected = format!("{}", Expectation(&visitor));
        self.0.replace(match &*expected {
            "a quantity (text or a number)" | "a whole number or text" => json!({
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "x-kubernetes-int-or-string": true,
            }),
            "any valid JSON value" => json!({(PRESERVE): true}),
            other => unreachable!("{other} has a schema of its own"),
        });
        visitor.visit_str("")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = Slot::default();
        let read = visitor.visit_seq(One { item: &items, left: true })?;
        self.0.replace(json!({"type": "array", "items": items.into_inner()}));
        Ok(read)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = Slot::default();
        let read = visitor.visit_map(One { item: &value, left: true })?;
        let value = value.into_inner();
        let of_anything = value == json!({(PRESERVE): true});
        self.0.replace(if of_anything {
            opaque()
        } else {
            json!({"type": "object", "additionalProperties": value})
        });
        Ok(read)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let properties = RefCell::default();
        let value = Slot::default();
        let read = visitor.visit_map(Fields { left: fields, properties: &properties, value: &value })?;
        self.0.replace(object(&properties.into_inner()));
        Ok(read)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

/// A list of one item, or a map of one entry.
struct One<'a> {
    item: &'a Slot,
    left: bool,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let first = std::mem::take(&mut self.left);
        first.then(|| seed.deserialize(Probe(self.item))).transpose()
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let first = std::mem::take(&mut self.left);
        let key: StrDeserializer<'_, Error> = "key".into_deserializer();
        first.then(|| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Probe(self.item))
    }
}

/// Every field of a struct.
struct Fields<'a> {
    left: &'static [&'static str],
    properties: &'a RefCell<Map<String, Value>>,
    value: &'a Slot,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while let [name, rest @ ..] = self.left {
            self.left = rest;
            // Another spelling of a field that was there already; serde takes the two for the same.
            let mut known = self.properties.borrow_mut();
            if known.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            known.insert((*name).to_owned(), Value::Null);
            let key: StrDeserializer<'_, Error> = (*name).into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let read = seed.deserialize(Probe(self.value))?;
        let mut properties = self.properties.borrow_mut();
        let last = properties.values_mut().find(|schema| schema.is_null()).expect("a key came first");
        *last = self.value.take();
        Ok(read)
    }
}

/// Conditions, in upstream's types.
fn conditions() -> Value {
    let text = || json!({"type": "string"});
    let condition = json!({
        "type": "object",
        "required": ["lastTransitionTime", "status", "type"],
        "properties": {
            "type": {"type": "string", "minLength": 1},
            "status": {"type": "string", "minLength": 1},
            "reason": text(),
            "message": text(),
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
        (PRESERVE): true,
    });
    json!({
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// What the controller writes into templates.
fn status() -> Value {
    let number = |format: &str| json!({"type": "integer", "format": format});
    let counts = ["replicas", "updatedReplicas", "availableReplicas", "unavailableReplicas"];
    let mut properties: Map<String, Value> =
        counts.map(|name| (name.to_owned(), number("int32"))).into_iter().collect();
    properties.insert("paused".to_owned(), json!({"type": "boolean"}));
    properties.insert("conditions".to_owned(), conditions());
    object(&properties)
}

/// The columns of `kubectl get`, upstream's.
fn columns() -> Value {
    let condition = |name: &str| {
        let path = format!(".status.conditions[?(@.type == '{name}')].status");
        json!({"name": name, "type": "string", "jsonPath": path})
    };
    json!([
        {"name": "Version", "type": "string", "jsonPath": ".spec.version",
            "description": "The version of Prometheus agent"},
        {"name": "Desired", "type": "integer", "jsonPath": ".spec.replicas",
            "description": "The number of desired replicas"},
        {"name": "Ready", "type": "integer", "jsonPath": ".status.availableReplicas",
            "description": "The number of ready replicas"},
        condition("Reconciled"),
        condition("Available"),
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Paused", "type": "boolean", "jsonPath": ".status.paused", "priority": 1,
            "description": "Whether the resource reconciliation is paused or not"},
    ])
}

/// What the controller writes into monitors, in upstream's types.
fn bindings() -> Value {
    let text = || json!({"type": "string", "minLength": 1});
    let binding = json!({
        "type": "object",
        "required": ["group", "name", "namespace", "resource"],
        "properties": {
            "group": text(),
            "resource": text(),
            "name": text(),
            "namespace": text(),
            "conditions": conditions(),
        },
        (PRESERVE): true,
    });
    let bindings = json!({
        "type": "array",
        "items": binding,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["group", "resource", "name", "namespace"],
    });
    object(&[("bindings".to_owned(), bindings)].into_iter().collect())
}

/// The definition of templates.
fn templates() -> Value {
    let mut spec = schema::<PrometheusAgentSpec>();
    spec["description"] = json!(
        "What agents are like, as prometheus-operator defines it. Fields that are not listed are kept; \
         docs/template-fields.md says what becomes of each."
    );
    let mut definition = definition(
        (API_VERSION, KIND),
        ["prometheusagents", "prometheusagent", "promagent"],
        "A template of the agents that promsidecar puts beside applications.",
        (&spec, &status()),
    );
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = columns();
    definition
}

/// The definition of a kind of monitors.
fn monitors<S: Spec>() -> Value {
    let mut spec = schema::<S>();
    let (what, description, names) = match S::KIND {
        Kind::Pod => (
            "What is scraped of pods",
            "What agents scrape of the pods that they are beside.",
            ["podmonitors", "podmonitor", "pmon"],
        ),
        Kind::Service => (
            "What is scraped of the pods of Services",
            "What agents scrape of the pods that they are beside, by their Services.",
            ["servicemonitors", "servicemonitor", "smon"],
        ),
    };
    spec["description"] = json!(format!(
        "{what}, as prometheus-operator defines it. Fields that are not listed are kept; docs/monitors.md says what \
         becomes of each."
    ));
    definition((object::API_VERSION, S::KIND.word()), names, description, (&spec, &bindings()))
}

/// A definition; `names` are plural, singular and short.
fn definition(
    (api_version, kind): (&str, &str),
    [plural, singular, short]: [&str; 3],
    description: &str,
    (spec, status): (&Value, &Value),
) -> Value {
    let (group, version) = api_version.split_once('/').expect("a group has versions");
    let text = |description: &str| json!({"type": "string", "description": description});
    let schema = json!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": text("Version of this representation of the object."),
            "kind": text("Kind of the object."),
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "labels": {"app.kubernetes.io/name": "promsidecar"},
        },
        "spec": {
            "group": group,
            "names": {
                "categories": ["prometheus-operator"],
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "shortNames": [short],
                "singular": singular,
            },
            "scope": "Namespaced",
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
            }],
        },
    })
}

/// Where every object is, with the schema.
fn objects<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    if schema["type"] == "object" {
        found.push((path.to_owned(), schema));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        objects(&format!("{path}.{name}"), property, found);
    }
    for (suffix, key) in [("[]", "items"), (".*", "additionalProperties")] {
        if let Some(inner) = schema.get(key) {
            objects(&format!("{path}{suffix}"), inner, found);
        }
    }
}

#[test]
fn the_definitions_are_what_the_structs_read() {
    let mut wrong = Vec::new();
    for (name, source, definition) in [
        ("prometheusagents", "src/template/api", templates()),
        ("podmonitors", "src/monitors/api.rs", monitors::<PodMonitorSpec>()),
        ("servicemonitors", "src/monitors/servicemonitor.rs", monitors::<ServiceMonitorSpec>()),
    ] {
        let text = format!(
            "# For clusters without prometheus-operator, whose own definition of the kind is never replaced by this one: see\n\
             # webhook-config/README.md. Made from the structs in {source} by tests/crds.rs; `make golden` writes it.\n{}",
            yaml(&definition)
        );
        let path = format!("webhook-config/crds/{name}.yaml");
        compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), Some(&text), &mut wrong);
    }
    assert!(wrong.is_empty(), "write them with UPDATE_GOLDEN=1 cargo test --test crds\n{}", wrong.join("\n"));
}

#[test]
fn every_object_below_spec_and_status_keeps_what_it_does_not_know() {
    let names = |definition: &Value| -> BTreeSet<String> {
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"].as_object().expect("an object has properties").keys().cloned().collect()
    };
    for (definition, looked_at) in [
        (templates(), ["spec.remoteWrite[].oauth2.tlsConfig.ca.secret", "status.conditions[]"]),
        (
            monitors::<PodMonitorSpec>(),
            ["spec.podMetricsEndpoints[].oauth2.clientId", "status.bindings[].conditions[]"],
        ),
        (
            monitors::<ServiceMonitorSpec>(),
            ["spec.endpoints[].oauth2.clientId", "status.bindings[].conditions[]"],
        ),
    ] {
        let properties = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            objects(part, &properties[part], &mut found);
        }
        let keeps = |schema: &Value| schema[PRESERVE] == true || schema.get("additionalProperties").is_some();
        let forgetful: Vec<_> =
            found.iter().filter(|(_, schema)| !keeps(schema)).map(|(path, _)| path).collect();
        assert_eq!(forgetful, [""; 0]);
        for path in looked_at {
            assert!(found.iter().any(|(found, _)| found == path), "{path} is looked at");
        }
    }
    let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(&templates()), owned(fields::<PrometheusAgentSpec>()));
    assert_eq!(names(&monitors::<PodMonitorSpec>()), owned(fields::<PodMonitorSpec>()));
    assert_eq!(names(&monitors::<ServiceMonitorSpec>()), owned(fields::<ServiceMonitorSpec>()));
}
