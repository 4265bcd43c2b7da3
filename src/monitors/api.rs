//! Serde model of the upstream `PodMonitor` (monitoring.coreos.com/v1). PURE.
//!
//! Input: the object's `spec` as JSON. Output: [`PodMonitorSpec`], lenient: nothing is required, closed lists stay text until
//! validation. [`super::fields`] says of every field what becomes of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::template::api::http::{
    Authorization, BasicAuth, KeySelector, OAuth2, RelabelConfig, SecretOrConfigMap, TlsConfig,
};
use crate::template::api::pod::QuantityText;
use crate::template::api::{AttachMetadata, LabelSelector};

/// `spec` of a `PodMonitor`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names; each field is described by its row in fields::SPEC")]
pub struct PodMonitorSpec {
    pub job_label: Option<String>,
    pub pod_target_labels: Vec<String>,
    pub pod_metrics_endpoints: Vec<PodMetricsEndpoint>,
    pub selector: Option<LabelSelector>,
    pub selector_mechanism: Option<String>,
    pub namespace_selector: NamespaceSelector,
    pub sample_limit: Option<u64>,
    pub target_limit: Option<u64>,
    pub scrape_protocols: Vec<String>,
    pub fallback_scrape_protocol: Option<String>,
    pub label_limit: Option<u64>,
    pub label_name_length_limit: Option<u64>,
    pub label_value_length_limit: Option<u64>,
    pub scrape_native_histograms: Option<bool>,
    pub scrape_classic_histograms: Option<bool>,
    pub native_histogram_bucket_limit: Option<u64>,
    pub native_histogram_min_bucket_factor: Option<QuantityText>,
    #[serde(rename = "convertClassicHistogramsToNHCB")]
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    pub keep_dropped_targets: Option<u64>,
    pub attach_metadata: Option<AttachMetadata>,
    pub scrape_class: Option<String>,
    pub body_size_limit: Option<String>,
}

/// One of `podMetricsEndpoints`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names; each field is described by its row in fields::ENDPOINT")]
pub struct PodMetricsEndpoint {
    pub port: Option<String>,
    pub port_number: Option<i64>,
    pub target_port: Option<IntOrString>,
    pub path: Option<String>,
    pub scheme: Option<String>,
    pub params: BTreeMap<String, Vec<String>>,
    pub interval: Option<String>,
    pub scrape_timeout: Option<String>,
    pub honor_labels: Option<bool>,
    pub honor_timestamps: Option<bool>,
    pub track_timestamps_staleness: Option<bool>,
    pub metric_relabelings: Vec<RelabelConfig>,
    pub relabelings: Vec<RelabelConfig>,
    pub filter_running: Option<bool>,
    pub authorization: Option<Authorization>,
    pub basic_auth: Option<BasicAuth>,
    pub oauth2: Option<OAuth2>,
    pub bearer_token_secret: Option<KeySelector>,
    pub follow_redirects: Option<bool>,
    #[serde(alias = "enableHTTP2")]
    pub enable_http2: Option<bool>,
    pub tls_config: Option<TlsConfig>,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, Value>>,
}

/// `namespaceSelector`. Empty means the monitor's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceSelector {
    /// Every namespace, whatever the names say.
    pub any: bool,
    /// These namespaces.
    pub match_names: Vec<String>,
}

/// A port by number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntOrString {
    /// A number; 0 means none, as upstream.
    Int(i64),
    /// A name; empty means none, as upstream.
    Text(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::Text(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<IntOrString, E> {
                i64::try_from(number)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(number))
            }
        }
        deserializer.deserialize_any(PortVisitor)
    }
}

impl PodMetricsEndpoint {
    /// Every object that the endpoint's credentials refer to, with the name of its field.
    pub(crate) fn references(&self) -> Vec<&'static str> {
        let tls = |tls: &TlsConfig| {
            let given = |either: &Option<SecretOrConfigMap>| {
                either.as_ref().is_some_and(|either| either.secret.is_some() || either.config_map.is_some())
            };
            given(&tls.ca) || given(&tls.cert) || tls.key_secret.is_some()
        };
        let named = |selector: &KeySelector| selector.name.as_deref().is_some_and(|name| !name.is_empty());
        [
            ("authorization", self.authorization.is_some()),
            ("basicAuth", self.basic_auth.is_some()),
            ("bearerTokenSecret", self.bearer_token_secret.as_ref().is_some_and(named)),
            ("oauth2", self.oauth2.is_some()),
            ("tlsConfig", self.tls_config.as_ref().is_some_and(tls)),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }
}
