//! The part of Prometheus' configuration that agents use, in the order in which it is written. PURE.
//!
//! Input: made by validation and rendering. Output: YAML by [`serde::Serialize`]; absent values are not written. Names are
//! those of Prometheus' configuration reference.
#![expect(missing_docs, reason = "fields are the keys of Prometheus' configuration reference")]

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_saphyr::{DoubleQuoted, FlowSeq};

use super::duration::PromDuration;

mod process;

pub use process::{Otlp, Storage, Tracing, Tsdb};

/// The file.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Config {
    pub global: Global,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    pub scrape_configs: Vec<ScrapeConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_write: Vec<RemoteWrite>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// `global`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Global {
    pub scrape_interval: PromDuration,
    pub scrape_timeout: PromDuration,
    #[serde(skip_serializing_if = "Flow::is_empty")]
    pub scrape_protocols: Flow,
    pub external_labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_failure_log_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_name_validation_scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_name_escaping_scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_scrape_classic_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_native_histograms: Option<bool>,
}

/// Bounds of one scrape; 0 means none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_size_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_name_length_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_value_length_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_dropped_targets: Option<u64>,
}

/// `runtime`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Runtime {
    pub gogc: i32,
}

/// One of `scrape_configs`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ScrapeConfig {
    pub job_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honor_labels: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honor_timestamps: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track_timestamps_staleness: Option<bool>,
    pub file_sd_configs: Vec<FileSd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_timeout: Option<PromDuration>,
    #[serde(skip_serializing_if = "Flow::is_empty")]
    pub scrape_protocols: Flow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_scrape_protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_path: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Flow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow_redirects: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_http2: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    #[serde(flatten)]
    pub limits: Limits,
    #[serde(flatten)]
    pub histograms: Histograms,
    pub relabel_configs: Vec<Relabel>,
    pub metric_relabel_configs: Vec<Relabel>,
}

/// What a job does with histograms.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Histograms {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_native_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_histogram_bucket_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_histogram_min_bucket_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_scrape_classic_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convert_classic_histograms_to_nhcb: Option<bool>,
}

/// One of `file_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSd {
    pub files: Flow,
}

/// A list on one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flow(pub Vec<String>);

impl Flow {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Flow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FlowSeq(self.0.iter().map(|item| FlowItem(item)).collect::<Vec<_>>()).serialize(serializer)
    }
}

/// Text in a list on one line, where Go's parser of YAML takes less without quotes than others do, such as `(?x`.
struct FlowItem<'a>(&'a str);

impl Serialize for FlowItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./*".contains(&byte);
        if self.0.bytes().all(ordinary) {
            serializer.serialize_str(self.0)
        } else {
            DoubleQuoted(self.0).serialize(serializer)
        }
    }
}

/// A relabeling; `None` is Prometheus' default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Relabel {
    #[serde(skip_serializing_if = "Flow::is_empty")]
    pub source_labels: Flow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modulus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
}

/// One of `remote_write`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RemoteWrite {
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_timeout: Option<PromDuration>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protobuf_message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_exemplars: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_native_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_robin_dns: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_relabel_configs: Vec<Relabel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<Sigv4>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azuread: Option<AzureAd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<Tls>,
    #[serde(flatten)]
    pub proxy: Proxy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow_redirects: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_http2: Option<bool>,
    pub queue_config: Queue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_config: Option<Metadata>,
}

/// `basic_auth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BasicAuth {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

/// `authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Authorization {
    #[serde(rename = "type")]
    pub scheme: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<String>,
}

/// `oauth2`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OAuth2 {
    pub client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<String>,
    pub token_url: String,
    #[serde(skip_serializing_if = "Flow::is_empty")]
    pub scopes: Flow,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<Tls>,
    #[serde(flatten)]
    pub proxy: Proxy,
}

/// `sigv4`; keys come by environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Sigv4 {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_fips_sts_endpoint: Option<bool>,
}

/// `azuread`, its forms without a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AzureAd {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<AzureIdentity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<AzureIdentity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<AzureIdentity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Ids of the forms of [`AzureAd`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AzureIdentity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

/// `tls_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<&'static str>,
}

/// Keys of a proxy, which stand beside others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Proxy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_from_environment: Option<bool>,
}

/// `queue_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Queue {
    pub capacity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_shards: Option<u32>,
    pub max_shards: u32,
    pub max_samples_per_send: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_send_deadline: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_backoff: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on_http_429: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_age_limit: Option<PromDuration>,
}

/// `metadata_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Metadata {
    pub send: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_interval: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_samples_per_send: Option<u32>,
}

impl Relabel {
    /// Writes a constant to a label.
    pub fn set(target: &str, value: impl Into<String>) -> Self {
        Self { target_label: Some(target.to_owned()), replacement: Some(value.into()), ..Self::default() }
    }

    /// Copies a label unchanged.
    pub fn copy(source: &str, target: &str) -> Self {
        Self { source_labels: flow([source]), target_label: Some(target.to_owned()), ..Self::default() }
    }

    /// Keeps what matches.
    pub fn keep(source: &str, regex: impl Into<String>) -> Self {
        let regex = Some(regex.into());
        Self { source_labels: flow([source]), regex, action: Some("keep"), ..Self::default() }
    }

    /// Drops what matches.
    pub fn drop(source: &str, regex: impl Into<String>) -> Self {
        Self { action: Some("drop"), ..Self::keep(source, regex) }
    }

    /// Drops labels by name.
    pub fn drop_labels(regex: impl Into<String>) -> Self {
        Self { regex: Some(regex.into()), action: Some("labeldrop"), ..Self::default() }
    }

    /// Replaces the target where the joined sources match.
    pub fn replace<const N: usize>(
        sources: [&str; N],
        regex: impl Into<String>,
        target: &str,
        with: &str,
    ) -> Self {
        Self {
            source_labels: flow(sources),
            regex: Some(regex.into()),
            target_label: Some(target.to_owned()),
            replacement: Some(with.to_owned()),
            ..Self::default()
        }
    }
}

/// A list on one line.
pub fn flow<const N: usize>(items: [&str; N]) -> Flow {
    Flow(items.into_iter().map(str::to_owned).collect())
}
