//! What becomes of every field of upstream's `PodMonitorSpec` and `PodMetricsEndpoint`, `ServiceMonitorSpec` and `Endpoint`. PURE:
//! four tables.
//!
//! Input: nothing. Output: a verdict a field, from which the documentation speaks.

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it does upstream, but for this; empty where nothing differs.
    Honoured(&'static str),
    /// It has no effect, for this reason, and is reported.
    Ignored(&'static str),
    /// The monitor is not used, for this reason.
    Rejected(&'static str),
}

use Verdict::{Honoured, Ignored, Rejected};

/// One row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub name: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Fields below `spec`.
pub const SPEC: [Field; 22] = [
    plain("jobLabel"),
    plain("podTargetLabels"),
    plain("podMetricsEndpoints"),
    honoured("selector", "values match exactly; upstream writes them into expressions unescaped"),
    honoured(
        "selectorMechanism",
        "both mechanisms are relabel rules: there is no service discovery to put a selector into",
    ),
    honoured("namespaceSelector", "decides for which namespaces' agents the monitor is rendered"),
    plain("sampleLimit"),
    plain("targetLimit"),
    plain("scrapeProtocols"),
    plain("fallbackScrapeProtocol"),
    plain("labelLimit"),
    plain("labelNameLengthLimit"),
    plain("labelValueLengthLimit"),
    plain("scrapeNativeHistograms"),
    plain("scrapeClassicHistograms"),
    plain("nativeHistogramBucketLimit"),
    plain("nativeHistogramMinBucketFactor"),
    plain("convertClassicHistogramsToNHCB"),
    plain("keepDroppedTargets"),
    field("attachMetadata", Ignored(NODE)),
    honoured("scrapeClass", "files of a class are the template's, in the pods' namespace"),
    plain("bodySizeLimit"),
];

/// Fields of one of `podMetricsEndpoints`.
pub const ENDPOINT: [Field; 25] = [
    plain("port"),
    plain("portNumber"),
    plain("targetPort"),
    plain("path"),
    plain("scheme"),
    plain("params"),
    plain("interval"),
    plain("scrapeTimeout"),
    plain("honorLabels"),
    plain("honorTimestamps"),
    plain("trackTimestampsStaleness"),
    honoured("metricRelabelings", DOUBTS),
    honoured("relabelings", DOUBTS),
    plain("filterRunning"),
    honoured("authorization", FILES),
    honoured("basicAuth", FILES),
    honoured("oauth2", "the client id comes from `endpointParams.client_id`, the client secret as a file"),
    honoured("bearerTokenSecret", FILES),
    plain("followRedirects"),
    plain("enableHttp2"),
    honoured("tlsConfig", FILES),
    field("proxyUrl", Rejected(PROXY)),
    field("noProxy", Rejected(PROXY)),
    field("proxyFromEnvironment", Ignored(NO_PROXY)),
    field("proxyConnectHeader", Rejected(PROXY)),
];

/// Fields below `spec` of a `ServiceMonitor`.
pub const SERVICE_SPEC: [Field; 24] = [
    plain("jobLabel"),
    plain("targetLabels"),
    plain("podTargetLabels"),
    plain("endpoints"),
    honoured("selector", "decides for which Services there are jobs; values match exactly"),
    honoured("selectorMechanism", "both mechanisms choose Services before there are jobs"),
    honoured("namespaceSelector", "decides for which namespaces' agents the monitor is rendered"),
    plain("sampleLimit"),
    plain("scrapeProtocols"),
    plain("fallbackScrapeProtocol"),
    plain("targetLimit"),
    plain("labelLimit"),
    plain("labelNameLengthLimit"),
    plain("labelValueLengthLimit"),
    plain("scrapeNativeHistograms"),
    plain("scrapeClassicHistograms"),
    plain("nativeHistogramBucketLimit"),
    plain("nativeHistogramMinBucketFactor"),
    plain("convertClassicHistogramsToNHCB"),
    plain("keepDroppedTargets"),
    field("attachMetadata", Ignored(NODE)),
    honoured("scrapeClass", "files of a class are the template's, in the pods' namespace"),
    plain("bodySizeLimit"),
    honoured("serviceDiscoveryRole", "decides how labels of endpoints are named; there is no discovery"),
];

/// Fields of one of its `endpoints`.
pub const SERVICE_ENDPOINT: [Field; 25] = [
    plain("port"),
    plain("targetPort"),
    plain("path"),
    plain("scheme"),
    plain("params"),
    plain("interval"),
    plain("scrapeTimeout"),
    plain("honorLabels"),
    plain("honorTimestamps"),
    plain("trackTimestampsStaleness"),
    honoured("metricRelabelings", DOUBTS),
    honoured("relabelings", DOUBTS),
    plain("filterRunning"),
    field(
        "bearerTokenFile",
        Rejected("a path into a container whose files the monitor's author does not know"),
    ),
    honoured("authorization", FILES),
    honoured("basicAuth", FILES),
    honoured("oauth2", "the client id comes from `endpointParams.client_id`, the client secret as a file"),
    honoured("bearerTokenSecret", FILES),
    plain("followRedirects"),
    plain("enableHttp2"),
    honoured(
        "tlsConfig",
        "files, and only for pods of the monitor's own namespace; `caFile`, `certFile` and `keyFile` reject the monitor",
    ),
    field("proxyUrl", Rejected(PROXY)),
    field("noProxy", Rejected(PROXY)),
    field("proxyFromEnvironment", Ignored(NO_PROXY)),
    field("proxyConnectHeader", Rejected(PROXY)),
];

/// Why labels of the node are not there.
pub(super) const NODE: &str = "labels of the node are not known: the agent does not talk to the API server";
/// Why a proxy from the environment changes nothing.
pub(super) const NO_PROXY: &str = "an agent scrapes loopback addresses, for which Prometheus uses no proxy";
const PROXY: &str = "a scrape through a proxy leaves the pod";
const FILES: &str = "files, and only for pods of the monitor's own namespace";
const DOUBTS: &str = "what begins with `__promsidecar_` or leads out of the pod is refused; use of values that are not known yet is reported";

const fn plain(name: &'static str) -> Field {
    field(name, Honoured(""))
}

const fn honoured(name: &'static str, note: &'static str) -> Field {
    field(name, Honoured(note))
}

const fn field(name: &'static str, verdict: Verdict) -> Field {
    Field { name, verdict }
}
