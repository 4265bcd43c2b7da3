//! `remoteWrite` as upstream spells it. PURE.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::http::{Authorization, BasicAuth, KeySelector, OAuth2, RelabelConfig, TlsConfig};

/// One of `remoteWrite`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct RemoteWriteSpec {
    pub url: Option<String>,
    pub name: Option<String>,
    pub message_version: Option<String>,
    pub send_exemplars: Option<bool>,
    pub send_native_histograms: Option<bool>,
    pub remote_timeout: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub write_relabel_configs: Vec<RelabelConfig>,
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub oauth2: Option<OAuth2>,
    pub sigv4: Option<Sigv4>,
    pub azure_ad: Option<AzureAd>,
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<String>,
    pub tls_config: Option<TlsConfig>,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, serde_json::Value>>,
    pub follow_redirects: Option<bool>,
    #[serde(rename = "enableHTTP2", alias = "enableHttp2")]
    pub enable_http2: Option<bool>,
    pub queue_config: Option<QueueConfig>,
    pub metadata_config: Option<MetadataConfig>,
    #[serde(rename = "roundRobinDNS")]
    pub round_robin_dns: Option<bool>,
}

/// `sigv4`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct Sigv4 {
    pub region: Option<String>,
    pub access_key: Option<KeySelector>,
    pub secret_key: Option<KeySelector>,
    pub profile: Option<String>,
    pub role_arn: Option<String>,
    pub external_id: Option<String>,
    #[serde(rename = "useFIPSSTSEndpoint")]
    pub use_fips_sts_endpoint: Option<bool>,
}

/// `azureAd`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct AzureAd {
    pub cloud: Option<String>,
    pub managed_identity: Option<ManagedIdentity>,
    pub oauth: Option<serde_json::Map<String, serde_json::Value>>,
    pub sdk: Option<AzureSdk>,
    pub workload_identity: Option<WorkloadIdentity>,
    pub scope: Option<String>,
}

/// `azureAd.managedIdentity`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedIdentity {
    /// Client of a user-assigned identity; absent means the system-assigned one.
    pub client_id: Option<String>,
}

/// `azureAd.sdk`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AzureSdk {
    /// Tenant of the application.
    pub tenant_id: Option<String>,
}

/// `azureAd.workloadIdentity`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct WorkloadIdentity {
    pub client_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// `queueConfig`. Zero means unset, as upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct QueueConfig {
    pub capacity: Option<u32>,
    pub min_shards: Option<u32>,
    pub max_shards: Option<u32>,
    pub max_samples_per_send: Option<u32>,
    pub batch_send_deadline: Option<String>,
    pub max_retries: Option<u32>,
    pub min_backoff: Option<String>,
    pub max_backoff: Option<String>,
    pub retry_on_rate_limit: Option<bool>,
    pub sample_age_limit: Option<String>,
}

/// `metadataConfig`. Absent and empty differ: absent leaves Prometheus' default, which sends; empty does not send.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct MetadataConfig {
    pub send: Option<bool>,
    pub send_interval: Option<String>,
    pub max_samples_per_send: Option<u32>,
}
