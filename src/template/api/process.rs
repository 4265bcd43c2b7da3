//! What an agent does besides scraping and sending, as upstream spells it: OTLP, tracing, storage, web. PURE.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::http::TlsConfig;
use super::pod::QuantityText;

/// `otlp`. Its presence alone switches the receiver on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct OtlpConfig {
    pub promote_all_resource_attributes: Option<bool>,
    pub ignore_resource_attributes: Vec<String>,
    pub promote_resource_attributes: Vec<String>,
    pub translation_strategy: Option<String>,
    pub keep_identifying_resource_attributes: Option<bool>,
    #[serde(rename = "convertHistogramsToNHCB")]
    pub convert_histograms_to_nhcb: Option<bool>,
    pub promote_scope_metadata: Option<bool>,
    pub label_name_underscore_sanitization: Option<bool>,
    pub label_name_preserve_multiple_underscores: Option<bool>,
}

/// `tracingConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct TracingConfig {
    pub client_type: Option<String>,
    pub endpoint: Option<String>,
    pub sampling_fraction: Option<QuantityText>,
    pub insecure: Option<bool>,
    pub headers: BTreeMap<String, String>,
    pub compression: Option<String>,
    pub timeout: Option<String>,
    pub tls_config: Option<TlsConfig>,
}

/// `tsdb`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TsdbSpec {
    /// How late a sample may be.
    pub out_of_order_time_window: Option<String>,
    /// Of blocks, which agents do not have.
    pub stale_series_compaction_threshold: Option<QuantityText>,
    /// Of blocks, which agents do not have.
    pub chunk_encoding: Option<ChunkEncoding>,
}

/// `tsdb.chunkEncoding`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChunkEncoding {
    /// `Xor` or `Xor2`.
    pub floats: Option<String>,
}

/// `web`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Web {
    /// Title of pages that nobody but the pod sees.
    pub page_title: Option<String>,
    /// Most connections at once.
    pub max_connections: Option<i32>,
    /// Of a server that others reach.
    pub tls_config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Of a server that others reach.
    pub http_config: Option<serde_json::Map<String, serde_json::Value>>,
}
