//! Our keys, where each belongs, and which of them a misspelt one means. PURE.
//!
//! Input: a key as written and where it stands. Output: where it belongs, or the nearest key.

use crate::names;

/// What a metadata belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// A Pod, or the pod template of a workload.
    Pod,
    /// A workload's own metadata, or that of a `CronJob`'s Job.
    Workload,
    /// A Namespace.
    Namespace,
    /// A `PrometheusAgent`.
    Template,
    /// A `ConfigMap`.
    ConfigMap,
    /// Anything else.
    Other,
}

/// Labels or annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    Annotation,
    Label,
}

impl Map {
    /// The field of a metadata.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Annotation => "annotations",
            Self::Label => "labels",
        }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Annotation => Self::Label,
            Self::Label => Self::Annotation,
        }
    }
}

/// A key and where it is read or written.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) homes: &'static [(Holder, Map)],
    /// Whether promsidecar itself writes it on pods.
    pub(super) is_written: bool,
}

impl Key {
    const fn read(key: &'static str, homes: &'static [(Holder, Map)]) -> Self {
        Self { name: key, homes, is_written: false }
    }

    const fn written(key: &'static str, homes: &'static [(Holder, Map)]) -> Self {
        Self { name: key, homes, is_written: true }
    }

    /// Where it belongs, in words.
    pub(super) fn belongs(&self) -> String {
        let home = |(holder, map): &(Holder, Map)| {
            let holder = match holder {
                Holder::Pod => "pods",
                Holder::Workload => "workloads",
                Holder::Namespace => "Namespaces",
                Holder::Template => "templates",
                Holder::ConfigMap | Holder::Other => "ConfigMaps of ours",
            };
            format!("{} of {holder}", map.field())
        };
        self.homes.iter().map(home).collect::<Vec<_>>().join(" and ")
    }
}

const POD: &[(Holder, Map)] = &[(Holder::Pod, Map::Annotation)];
const POD_LABEL: &[(Holder, Map)] = &[(Holder::Pod, Map::Label)];
const POD_AND_NAMESPACE: &[(Holder, Map)] =
    &[(Holder::Pod, Map::Annotation), (Holder::Namespace, Map::Label)];
const NAMESPACE: &[(Holder, Map)] = &[(Holder::Namespace, Map::Annotation)];
const NAMESPACE_AND_CONFIG_MAP: &[(Holder, Map)] =
    &[(Holder::Namespace, Map::Annotation), (Holder::ConfigMap, Map::Annotation)];
const TEMPLATE: &[(Holder, Map)] = &[(Holder::Template, Map::Annotation)];

/// Every key of ours, as `docs/annotations.md` has them.
pub(super) const KEYS: [Key; 17] = [
    Key::read(names::INJECT, POD_AND_NAMESPACE),
    Key::read(names::REQUIRED, POD_AND_NAMESPACE),
    Key::read(names::PORT, POD),
    Key::read(names::PATH, POD),
    Key::read(names::SCHEME, POD),
    Key::read(names::INTERVAL, POD),
    Key::read(names::TIMEOUT, POD),
    Key::read(names::TEMPLATE, NAMESPACE_AND_CONFIG_MAP),
    Key::read(names::ALLOWED_SECRETS, NAMESPACE),
    Key::read(names::ALLOWED_NAMESPACES, TEMPLATE),
    Key::read(names::MODE, TEMPLATE),
    Key::read(names::SUPERVISE, TEMPLATE),
    Key::read(names::SELF_MONITOR, TEMPLATE),
    Key::written(names::STATUS, POD),
    Key::written(names::TARGETS, POD),
    Key::written(names::SKIPPED, POD),
    Key::written(names::INJECTED, POD_LABEL),
];

/// Most edits between what is written and what is meant.
const NEAR: usize = 2;

/// The key, if it is one of ours.
pub(super) fn find(key: &str) -> Option<&'static Key> {
    KEYS.iter().find(|known| known.name == key)
}

/// The key whose name comes nearest to a name that stands behind our prefix; it may be far.
pub(super) fn nearest(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let own = KEYS.iter().map(|known| known.name).chain([names::CONTROLLER_ID]);
    let name_of = |key: &'static str| key.rsplit('/').next().unwrap_or(key);
    own.min_by_key(|key| strsim::damerau_levenshtein(name_of(key), &name)).unwrap_or(names::INJECT)
}

/// The key that is meant where the prefix of `key` is nearly ours.
pub(super) fn meant_by_prefix(key: &str) -> Option<&'static str> {
    let own = names::PREFIX.trim_end_matches('/');
    let lower = key.to_ascii_lowercase();
    if let Some((prefix, name)) = lower.split_once('/') {
        let near = strsim::damerau_levenshtein(prefix, own) <= NEAR || words(prefix) == words(own);
        return near.then(|| nearest(name));
    }
    // No slash at all: `sidecar.prometheus.io.inject`.
    let whole = KEYS.iter().find(|known| strsim::damerau_levenshtein(known.name, &lower) <= NEAR);
    whole.map(|known| known.name)
}

/// The words of a prefix, in no order.
fn words(prefix: &str) -> Vec<&str> {
    let mut words: Vec<_> =
        prefix.split(['.', '-', '_']).map(|word| if word == "sidecars" { "sidecar" } else { word }).collect();
    words.sort_unstable();
    words
}

/// Whether a key of a `PrometheusAgent` is meant to be the controller id.
pub(super) fn is_nearly_controller_id(key: &str) -> bool {
    key != names::CONTROLLER_ID
        && strsim::damerau_levenshtein(&key.to_ascii_lowercase(), names::CONTROLLER_ID) <= NEAR
}

/// Whether a controller id is meant to be ours.
pub(super) fn is_nearly(value: &str, controller_id: &str) -> bool {
    let plain = |text: &str| text.trim().to_ascii_lowercase();
    strsim::damerau_levenshtein(&plain(value), &plain(controller_id)) <= NEAR
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{KEYS, find, is_nearly, is_nearly_controller_id, meant_by_prefix, nearest};
    use crate::names;

    #[test]
    fn the_table_has_every_key_of_the_names() {
        let source = include_str!("../../names.rs");
        let named: BTreeSet<&str> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1))
            .filter(|text| text.starts_with(names::PREFIX) && *text != names::PREFIX)
            .collect();
        assert_eq!(KEYS.iter().map(|key| key.name).collect::<BTreeSet<_>>(), named);
    }

    #[test]
    fn a_misspelt_prefix_is_taken_for_ours_and_a_foreign_one_is_not() {
        for (written, meant) in [
            ("sidecars.prometheus.io/inject", names::INJECT),
            ("sidecar.prometheus.io.inject", names::INJECT),
            ("sidecar.promtheus.io/port", names::PORT),
            ("sidecar-prometheus.io/prot", names::PORT),
            ("prometheus-sidecar.io/inject", names::INJECT),
            ("Sidecar.Prometheus.io/Inject", names::INJECT),
        ] {
            assert_eq!(meant_by_prefix(written), Some(meant), "{written}");
        }
        for written in [
            "sidecar.istio.io/inject",
            "sidecar.opentelemetry.io/inject",
            "prometheus.io/scrape",
            "operator.prometheus.io/controller-id",
            "app",
            "",
        ] {
            assert_eq!(meant_by_prefix(written), None, "{written}");
        }
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(nearest("injct"), names::INJECT);
        assert_eq!(nearest("allowed-namespace"), names::ALLOWED_NAMESPACES);
        assert_eq!(nearest("controller-id"), names::CONTROLLER_ID);
        assert_eq!(find("sidecar.prometheus.io/injct").map(|key| key.name), None);
        assert!(is_nearly_controller_id("operator.prometheus.io/controllerid"));
        assert!(!is_nearly_controller_id(names::CONTROLLER_ID));
        assert!(is_nearly("Promsidecar ", "promsidecar") && is_nearly("promsidcar", "promsidecar"));
        assert!(!is_nearly("prometheus-operator", "promsidecar"));
    }
}
