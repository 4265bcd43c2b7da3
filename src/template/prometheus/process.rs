//! Sections of the configuration about the agent's own process: `storage`, `otlp`, `tracing`. PURE.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Flow, Tls};
use crate::template::duration::PromDuration;

/// `storage`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Storage {
    pub tsdb: Tsdb,
}

/// `storage.tsdb`: what of it agents use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tsdb {
    pub out_of_order_time_window: PromDuration,
}

/// `otlp`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Otlp {
    #[serde(skip_serializing_if = "Flow::is_empty")]
    pub promote_resource_attributes: Flow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation_strategy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_identifying_resource_attributes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convert_histograms_to_nhcb: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promote_all_resource_attributes: Option<bool>,
    #[serde(skip_serializing_if = "Flow::is_empty")]
    pub ignore_resource_attributes: Flow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promote_scope_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_name_underscore_sanitization: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_name_preserve_multiple_underscores: Option<bool>,
}

/// `tracing`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Tracing {
    pub endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<Tls>,
}
