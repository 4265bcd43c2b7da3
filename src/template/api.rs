//! Serde model of the upstream `PrometheusAgent` (monitoring.coreos.com/v1alpha1). PURE.
//!
//! Input: the object's `spec` as JSON. Output: [`PrometheusAgentSpec`], lenient: nothing is required, closed lists stay text
//! until validation, and what is not modelled is collected by [`read`]. [`fields`] says of every field of upstream's
//! definition what becomes of it.

use std::collections::BTreeMap;

use serde::Deserialize;

pub mod fields;
pub mod http;
pub mod pod;
pub mod process;
pub mod read;
pub mod remote_write;

use http::{Authorization, RelabelConfig, TlsConfig};
use pod::{Container, Resources, StorageSpec, Volume, VolumeMount};
use process::{OtlpConfig, TracingConfig, TsdbSpec, Web};
use remote_write::RemoteWriteSpec;

/// `spec` of a `PrometheusAgent`: the fields that are used. Names are upstream's.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "each field is described by its row in fields::FIELDS and by upstream's API reference"
)]
pub struct PrometheusAgentSpec {
    pub paused: Option<bool>,
    pub version: Option<String>,
    pub image: Option<String>,
    pub image_pull_policy: Option<String>,
    pub storage: Option<StorageSpec>,
    pub resources: Option<Resources>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    pub volume_mounts: Vec<VolumeMount>,
    pub secrets: Vec<String>,
    pub config_maps: Vec<String>,
    pub additional_args: Vec<Argument>,

    pub scrape_interval: Option<String>,
    pub scrape_timeout: Option<String>,
    pub scrape_protocols: Vec<String>,
    pub external_labels: BTreeMap<String, String>,
    pub prometheus_external_label_name: Option<String>,
    pub replica_external_label_name: Option<String>,
    pub enable_features: Vec<String>,
    pub enable_remote_write_receiver: Option<bool>,
    pub remote_write_receiver_message_versions: Vec<String>,
    #[serde(rename = "enableOTLPReceiver")]
    pub enable_otlp_receiver: Option<bool>,
    pub otlp: Option<OtlpConfig>,
    pub external_url: Option<String>,
    pub route_prefix: Option<String>,
    pub web: Option<Web>,
    /// Read for its type alone: the agent listens on loopback whatever the template says.
    pub listen_local: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub wal_compression: Option<bool>,
    pub tsdb: Option<TsdbSpec>,
    pub runtime: Option<Runtime>,
    pub tracing_config: Option<TracingConfig>,
    pub scrape_failure_log_file: Option<String>,
    pub name_validation_scheme: Option<String>,
    pub name_escaping_scheme: Option<String>,
    #[serde(rename = "convertClassicHistogramsToNHCB")]
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    pub scrape_classic_histograms: Option<bool>,
    pub scrape_native_histograms: Option<bool>,

    pub sample_limit: Option<u64>,
    pub target_limit: Option<u64>,
    pub label_limit: Option<u64>,
    pub label_name_length_limit: Option<u64>,
    pub label_value_length_limit: Option<u64>,
    pub keep_dropped_targets: Option<u64>,
    pub body_size_limit: Option<String>,
    pub enforced_sample_limit: Option<u64>,
    pub enforced_target_limit: Option<u64>,
    pub enforced_label_limit: Option<u64>,
    pub enforced_label_name_length_limit: Option<u64>,
    pub enforced_label_value_length_limit: Option<u64>,
    pub enforced_keep_dropped_targets: Option<u64>,
    pub enforced_body_size_limit: Option<String>,
    pub enforced_namespace_label: Option<String>,
    pub scrape_classes: Vec<ScrapeClass>,
    pub excluded_from_enforcement: Vec<ObjectReference>,
    pub override_honor_labels: Option<bool>,
    pub override_honor_timestamps: Option<bool>,
    pub ignore_namespace_selectors: Option<bool>,
    pub pod_target_labels: Vec<String>,

    pub pod_monitor_selector: Option<LabelSelector>,
    pub pod_monitor_namespace_selector: Option<LabelSelector>,
    pub service_monitor_selector: Option<LabelSelector>,
    pub service_monitor_namespace_selector: Option<LabelSelector>,
    pub service_discovery_role: Option<String>,

    pub remote_write: Vec<RemoteWriteSpec>,
}

/// `metav1.LabelSelector`. Absent selects nothing, empty selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that must all hold.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    /// Label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values of `In` and `NotIn`.
    pub values: Vec<String>,
}

/// One of `scrapeClasses`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct ScrapeClass {
    pub name: String,
    pub default: Option<bool>,
    pub fallback_scrape_protocol: Option<String>,
    pub tls_config: Option<TlsConfig>,
    pub authorization: Option<Authorization>,
    pub relabelings: Vec<RelabelConfig>,
    pub metric_relabelings: Vec<RelabelConfig>,
    pub attach_metadata: Option<AttachMetadata>,
}

/// `attachMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachMetadata {
    /// Labels of the node.
    pub node: Option<bool>,
}

/// One of `excludedFromEnforcement`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// API group; empty means upstream's.
    pub group: String,
    /// Plural name of the kind.
    pub resource: String,
    /// Namespace of the objects.
    pub namespace: String,
    /// Name of the one object; empty means all.
    pub name: String,
}

/// One of `additionalArgs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Argument {
    /// Flag without dashes.
    pub name: String,
    /// Value, if the flag takes one.
    pub value: Option<String>,
}

/// `runtime`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Runtime {
    /// Percentage of fresh over live heap at which garbage is collected.
    #[serde(rename = "goGC")]
    pub go_gc: Option<i32>,
}
