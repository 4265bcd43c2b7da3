//! Parts of an HTTP client as upstream spells them: credentials, TLS, proxies, relabelings. PURE.
//!
//! Input: JSON. Output: references only; the Secrets themselves are never read.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A key of a Secret or `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeySelector {
    /// Name of the object.
    pub name: Option<String>,
    /// Key within it.
    pub key: Option<String>,
    /// Kubernetes' hint that the object may be absent; projections of the agent have a rule of their own.
    pub optional: Option<bool>,
}

/// Either a Secret or a `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "two alternatives of one type")]
pub struct SecretOrConfigMap {
    pub secret: Option<KeySelector>,
    pub config_map: Option<KeySelector>,
}

/// `basicAuth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct BasicAuth {
    pub username: Option<KeySelector>,
    pub password: Option<KeySelector>,
}

/// `authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    /// Scheme, `Bearer` where absent.
    #[serde(rename = "type")]
    pub scheme: Option<String>,
    /// The rest of the header.
    pub credentials: Option<KeySelector>,
    /// A path, which is refused.
    pub credentials_file: Option<String>,
}

/// `oauth2`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct OAuth2 {
    pub client_id: Option<SecretOrConfigMap>,
    pub client_secret: Option<KeySelector>,
    pub token_url: Option<String>,
    pub scopes: Vec<String>,
    pub endpoint_params: BTreeMap<String, String>,
    pub tls_config: Option<TlsConfig>,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, serde_json::Value>>,
}

/// `tlsConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct TlsConfig {
    pub ca: Option<SecretOrConfigMap>,
    pub cert: Option<SecretOrConfigMap>,
    pub key_secret: Option<KeySelector>,
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: Option<bool>,
    pub min_version: Option<String>,
    pub max_version: Option<String>,
}

impl TlsConfig {
    /// Whether anything is stated, references to nothing aside.
    pub fn is_stated(&self) -> bool {
        let refers = |either: &SecretOrConfigMap| either.secret.is_some() || either.config_map.is_some();
        let ca = self.ca.clone().filter(refers);
        let cert = self.cert.clone().filter(refers);
        Self { ca, cert, ..self.clone() } != Self::default()
    }
}

/// One of `relabelings`, `metricRelabelings` or `writeRelabelConfigs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct RelabelConfig {
    pub source_labels: Vec<String>,
    pub separator: Option<String>,
    pub target_label: Option<String>,
    pub regex: Option<String>,
    pub modulus: Option<u64>,
    pub replacement: Option<String>,
    pub action: Option<String>,
}
