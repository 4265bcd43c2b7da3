//! What becomes of every field of upstream's `PrometheusAgentSpec`. PURE: one table.
//!
//! Input: nothing. Output: a verdict a field, from which `status`, `validate` and the documentation speak.

use serde_json::Value;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it does upstream, in the form that an agent beside an application needs.
    Honoured,
    /// It does most of that, with this difference.
    Modified(&'static str),
    /// It has no effect, for this reason.
    Ignored(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name below `spec`.
    pub name: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
}

use Verdict::{Honoured, Ignored, Modified};

const WORKLOAD: &str = "there is no workload of the agent's own: it runs in the application's pods";
const PODS_OWN: &str = "belongs to the application's pod";
const SECURITY: &str =
    "the agent's container has a fixed security context that satisfies Pod Security restricted";
const SHARDING: &str = "one agent scrapes one pod: there is nothing to shard";
const NOT_ABOUT_PODS: &str = "selects targets that are not the agent's own pod";
const MOUNTED: &str =
    "from the pod's own namespace, and optional: an absent object would hold back the application";

/// Every field, in upstream's documentation order of meaning: deployment, pod, Prometheus, selection.
pub const FIELDS: [Field; 104] = [
    field("mode", Ignored(WORKLOAD)),
    field("paused", Honoured),
    field("replicas", Ignored(WORKLOAD)),
    field("shards", Ignored(SHARDING)),
    field("shardingStrategy", Ignored(SHARDING)),
    field("podManagementPolicy", Ignored(WORKLOAD)),
    field("updateStrategy", Ignored(WORKLOAD)),
    field("serviceName", Ignored(WORKLOAD)),
    field("minReadySeconds", Ignored(WORKLOAD)),
    field("persistentVolumeClaimRetentionPolicy", Ignored(WORKLOAD)),
    field("storage", Honoured),
    field("portName", Ignored("no port of that name is added to the application's pod")),
    field("listenLocal", Honoured),
    field("reloadStrategy", Ignored("the agent reloads its configuration by itself")),
    field("maximumStartupDurationSeconds", Ignored("a startup probe could hold back the application")),
    field("version", Honoured),
    field("image", Honoured),
    field("imagePullPolicy", Honoured),
    field("resources", Honoured),
    field("containers", Honoured),
    field("initContainers", Ignored("foreign containers are not added to the application's pod")),
    field("volumes", Honoured),
    field("volumeMounts", Honoured),
    field("secrets", Modified(MOUNTED)),
    field("configMaps", Modified(MOUNTED)),
    field("securityContext", Ignored(SECURITY)),
    field("imagePullSecrets", Ignored("pull secrets belong to the application's pod or its service account")),
    field("additionalArgs", Honoured),
    field("podMetadata", Ignored(PODS_OWN)),
    field("nodeSelector", Ignored(PODS_OWN)),
    field("affinity", Ignored(PODS_OWN)),
    field("tolerations", Ignored(PODS_OWN)),
    field("topologySpreadConstraints", Ignored(PODS_OWN)),
    field("schedulerName", Ignored(PODS_OWN)),
    field("priorityClassName", Ignored(PODS_OWN)),
    field("serviceAccountName", Ignored(PODS_OWN)),
    field("automountServiceAccountToken", Ignored("the agent never sees a service account token")),
    field("dnsPolicy", Ignored(PODS_OWN)),
    field("dnsConfig", Ignored(PODS_OWN)),
    field("hostAliases", Ignored(PODS_OWN)),
    field("enableServiceLinks", Ignored(PODS_OWN)),
    field("hostNetwork", Ignored(PODS_OWN)),
    field("hostUsers", Ignored(PODS_OWN)),
    field("terminationGracePeriodSeconds", Ignored(PODS_OWN)),
    field("scrapeInterval", Honoured),
    field("scrapeTimeout", Honoured),
    field("scrapeProtocols", Honoured),
    field("externalLabels", Honoured),
    field("prometheusExternalLabelName", Honoured),
    field("replicaExternalLabelName", Honoured),
    field("enableFeatures", Honoured),
    field("enableRemoteWriteReceiver", Honoured),
    field("remoteWriteReceiverMessageVersions", Honoured),
    field("enableOTLPReceiver", Honoured),
    field("otlp", Honoured),
    field("externalUrl", Honoured),
    field("routePrefix", Honoured),
    field("logLevel", Honoured),
    field("logFormat", Honoured),
    field(
        "web",
        Modified("pageTitle and maxConnections; TLS and HTTP settings are for servers that others reach"),
    ),
    field("walCompression", Honoured),
    field(
        "tsdb",
        Modified(
            "outOfOrderTimeWindow, from the agent's next start; the rest shapes blocks, of which agents keep none",
        ),
    ),
    field("runtime", Honoured),
    field("tracingConfig", Modified("TLS files come from Secrets and ConfigMaps, not from paths")),
    field(
        "scrapeFailureLogFile",
        Modified(
            "to standard output, where the kubelet rotates it, or to another stream of /dev; a file may not be there to be written",
        ),
    ),
    field("nameValidationScheme", Honoured),
    field("nameEscapingScheme", Honoured),
    field("convertClassicHistogramsToNHCB", Honoured),
    field("scrapeClassicHistograms", Honoured),
    field("scrapeNativeHistograms", Honoured),
    field("sampleLimit", Honoured),
    field("targetLimit", Honoured),
    field("labelLimit", Honoured),
    field("labelNameLengthLimit", Honoured),
    field("labelValueLengthLimit", Honoured),
    field("keepDroppedTargets", Honoured),
    field("bodySizeLimit", Honoured),
    field("enforcedSampleLimit", Honoured),
    field("enforcedTargetLimit", Honoured),
    field("enforcedLabelLimit", Honoured),
    field("enforcedLabelNameLengthLimit", Honoured),
    field("enforcedLabelValueLengthLimit", Honoured),
    field("enforcedKeepDroppedTargets", Honoured),
    field("enforcedBodySizeLimit", Honoured),
    field("enforcedNamespaceLabel", Honoured),
    field("excludedFromEnforcement", Honoured),
    field("overrideHonorLabels", Honoured),
    field("overrideHonorTimestamps", Honoured),
    field("ignoreNamespaceSelectors", Honoured),
    field("podTargetLabels", Honoured),
    field("arbitraryFSAccessThroughSMs", Ignored("scrape jobs never read files that a monitor names")),
    field("scrapeClasses", Honoured),
    field("apiserverConfig", Ignored("the agent does not talk to the API server")),
    field("serviceDiscoveryRole", Honoured),
    field("podMonitorSelector", Honoured),
    field("podMonitorNamespaceSelector", Honoured),
    field("serviceMonitorSelector", Honoured),
    field("serviceMonitorNamespaceSelector", Honoured),
    field("probeSelector", Ignored(NOT_ABOUT_PODS)),
    field("probeNamespaceSelector", Ignored(NOT_ABOUT_PODS)),
    field("scrapeConfigSelector", Ignored(NOT_ABOUT_PODS)),
    field("scrapeConfigNamespaceSelector", Ignored(NOT_ABOUT_PODS)),
    field("additionalScrapeConfigs", Ignored(NOT_ABOUT_PODS)),
    field("remoteWrite", Honoured),
];

const fn field(name: &'static str, verdict: Verdict) -> Field {
    Field { name, verdict }
}

impl Field {
    /// The row of a field.
    pub fn find(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Why this value of the field has no effect, where that is worth saying. Upstream's definition fills in some fields by
    /// itself, so their presence says nothing about anyone's intent.
    pub fn why_ignored(&self, value: &Value) -> Option<&'static str> {
        let filled_in = match self.name {
            "shards" | "replicas" => value.as_u64() == Some(1),
            "portName" => value == "web",
            "mode" => value == "StatefulSet",
            "reloadStrategy" => value == "HTTP",
            _ => false,
        };
        match self.verdict {
            Honoured | Modified(_) => None,
            Ignored(why) => (!filled_in && !value.is_null()).then_some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FIELDS, Field, Verdict};
    use crate::template::api::PrometheusAgentSpec;
    use serde::Deserialize as _;
    use serde_json::json;

    /// Names that the model deserializes, asked from serde itself.
    fn modelled() -> BTreeSet<&'static str> {
        struct Names(BTreeSet<&'static str>);
        #[derive(Debug, thiserror::Error)]
        #[error("stop")]
        struct Stop;
        impl serde::de::Error for Stop {
            fn custom<T: std::fmt::Display>(_: T) -> Self {
                Self
            }
        }
        impl<'de> serde::Deserializer<'de> for &mut Names {
            type Error = Stop;

            fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
                Err(Stop)
            }

            fn deserialize_struct<V: serde::de::Visitor<'de>>(
                self,
                _: &'static str,
                fields: &'static [&'static str],
                _: V,
            ) -> Result<V::Value, Stop> {
                self.0.extend(fields);
                Err(Stop)
            }

            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
                unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
            }
        }
        let mut names = Names(BTreeSet::new());
        assert!(PrometheusAgentSpec::deserialize(&mut names).is_err());
        names.0
    }

    #[test]
    fn every_field_of_the_specification_has_one_verdict_and_every_honoured_one_is_modelled() {
        let names: BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), FIELDS.len(), "a field is listed twice");
        let modelled = modelled();
        assert!(modelled.is_subset(&names), "without a verdict: {:?}", modelled.difference(&names));
        let honoured = FIELDS
            .iter()
            .filter(|field| matches!(field.verdict, Verdict::Honoured | Verdict::Modified(_)))
            .map(|field| field.name)
            .collect::<BTreeSet<_>>();
        assert!(honoured.is_subset(&modelled), "not modelled: {:?}", honoured.difference(&modelled));
    }

    #[test]
    fn defaults_of_the_definition_are_no_intent() {
        let why = |name, value| Field::find(name).unwrap().why_ignored(&value);
        assert_eq!(why("shards", json!(1)), None);
        assert!(why("shards", json!(2)).is_some());
        assert_eq!(why("portName", json!("web")), None);
        assert!(why("portName", json!("metrics")).is_some());
    }
}
