//! Serde model of the upstream `ServiceMonitor` (monitoring.coreos.com/v1). PURE.
//!
//! Input: one object as JSON. Output: a [`ServiceMonitor`], as lenient as a `PodMonitor`; [`super::fields`] says of every field
//! what becomes of it. Most fields are those of `PodMonitor`s, and become what they become there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::api::{IntOrString, NamespaceSelector, PodMetricsEndpoint, PodMonitorSpec};
use super::object::{Kind, Monitor, Spec};
use crate::template::api::http::{Authorization, BasicAuth, KeySelector, OAuth2, RelabelConfig, TlsConfig};
use crate::template::api::pod::QuantityText;
use crate::template::api::{AttachMetadata, LabelSelector};

/// A `ServiceMonitor`, valid or not.
pub type ServiceMonitor = Monitor<ServiceMonitorSpec>;

/// `spec` of a `ServiceMonitor`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "upstream's names; each field is described by its row in fields::SERVICE_SPEC"
)]
pub struct ServiceMonitorSpec {
    pub job_label: Option<String>,
    pub target_labels: Vec<String>,
    pub pod_target_labels: Vec<String>,
    pub endpoints: Vec<Endpoint>,
    pub selector: Option<LabelSelector>,
    pub selector_mechanism: Option<String>,
    pub namespace_selector: NamespaceSelector,
    pub sample_limit: Option<u64>,
    pub scrape_protocols: Vec<String>,
    pub fallback_scrape_protocol: Option<String>,
    pub target_limit: Option<u64>,
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
    pub service_discovery_role: Option<String>,
}

/// One of `endpoints`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "upstream's names; each field is described by its row in fields::SERVICE_ENDPOINT"
)]
pub struct Endpoint {
    pub port: Option<String>,
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
    pub bearer_token_file: Option<String>,
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

impl Spec for ServiceMonitorSpec {
    const KIND: Kind = Kind::Service;

    fn namespace_selector(&self) -> &NamespaceSelector {
        &self.namespace_selector
    }

    fn attaches_nodes(&self) -> bool {
        self.attach_metadata.as_ref().is_some_and(|attach| attach.node == Some(true))
    }
}

/// What both kinds share: a `PodMonitor` with the fields of that name.
impl From<&ServiceMonitorSpec> for PodMonitorSpec {
    fn from(spec: &ServiceMonitorSpec) -> Self {
        let spec = spec.clone();
        Self {
            job_label: spec.job_label,
            pod_target_labels: spec.pod_target_labels,
            pod_metrics_endpoints: spec.endpoints.into_iter().map(Into::into).collect(),
            selector: spec.selector,
            selector_mechanism: spec.selector_mechanism,
            namespace_selector: spec.namespace_selector,
            sample_limit: spec.sample_limit,
            target_limit: spec.target_limit,
            scrape_protocols: spec.scrape_protocols,
            fallback_scrape_protocol: spec.fallback_scrape_protocol,
            label_limit: spec.label_limit,
            label_name_length_limit: spec.label_name_length_limit,
            label_value_length_limit: spec.label_value_length_limit,
            scrape_native_histograms: spec.scrape_native_histograms,
            scrape_classic_histograms: spec.scrape_classic_histograms,
            native_histogram_bucket_limit: spec.native_histogram_bucket_limit,
            native_histogram_min_bucket_factor: spec.native_histogram_min_bucket_factor,
            convert_classic_histograms_to_nhcb: spec.convert_classic_histograms_to_nhcb,
            keep_dropped_targets: spec.keep_dropped_targets,
            attach_metadata: spec.attach_metadata,
            scrape_class: spec.scrape_class,
            body_size_limit: spec.body_size_limit,
        }
    }
}

/// The same of an endpoint.
impl From<Endpoint> for PodMetricsEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            port: endpoint.port,
            port_number: None,
            target_port: endpoint.target_port,
            path: endpoint.path,
            scheme: endpoint.scheme,
            params: endpoint.params,
            interval: endpoint.interval,
            scrape_timeout: endpoint.scrape_timeout,
            honor_labels: endpoint.honor_labels,
            honor_timestamps: endpoint.honor_timestamps,
            track_timestamps_staleness: endpoint.track_timestamps_staleness,
            metric_relabelings: endpoint.metric_relabelings,
            relabelings: endpoint.relabelings,
            filter_running: endpoint.filter_running,
            authorization: endpoint.authorization,
            basic_auth: endpoint.basic_auth,
            oauth2: endpoint.oauth2,
            bearer_token_secret: endpoint.bearer_token_secret,
            follow_redirects: endpoint.follow_redirects,
            enable_http2: endpoint.enable_http2,
            tls_config: endpoint.tls_config,
            proxy_url: endpoint.proxy_url,
            no_proxy: endpoint.no_proxy,
            proxy_from_environment: endpoint.proxy_from_environment,
            proxy_connect_header: endpoint.proxy_connect_header,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ServiceMonitor;
    use crate::monitors::object::{Kind, ReadError};
    use serde_json::json;

    #[test]
    fn wrong_types_and_unknown_fields_cost_nothing_else() {
        let mut object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
            "metadata": {"name": "web", "namespace": "shop"}});
        object["spec"] = json!({"targetLabels": "x", "future": 1, "attachMetadata": {"node": true},
            "endpoints": [{"port": "metrics", "portNumber": 1, "targetPort": 8080, "bearerTokenFile": "/t"}]});
        let read = ServiceMonitor::read(&object).unwrap();
        assert_eq!(read.spec.endpoints[0].bearer_token_file.as_deref(), Some("/t"));
        let misread: Vec<_> = read.misread.iter().map(|violation| &*violation.path).collect();
        assert_eq!(misread, ["spec.targetLabels"]);
        let ignored: Vec<_> = read.ignored.iter().map(|field| &*field.path).collect();
        assert_eq!(ignored, ["spec.attachMetadata.node", "spec.endpoints[0].portNumber", "spec.future"]);
        object["metadata"]["name"] = json!(7);
        assert_eq!(
            ServiceMonitor::read(&object),
            Err(ReadError::Name { kind: Kind::Service, field: "name" })
        );
        object["kind"] = json!("PodMonitor");
        let found = "monitoring.coreos.com/v1 PodMonitor".to_owned();
        assert_eq!(ServiceMonitor::read(&object), Err(ReadError::Kind { wanted: Kind::Service, found }));
    }
}
