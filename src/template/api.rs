//! Serde model of the upstream `PrometheusAgent` (monitoring.coreos.com/v1alpha1). PURE.

use serde::Deserialize;

/// `spec` of a `PrometheusAgent`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrometheusAgentSpec {}
