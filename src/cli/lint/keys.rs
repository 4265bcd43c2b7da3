//! Our keys, where each belongs, and which of them a misspelt one means. PURE.
//!
//! Input: a key as written and where it stands. Output: where it belongs, or the nearest key that may stand there.

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
    /// A Secret.
    Secret,
    /// A registration of mutating webhooks.
    Registration,
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
    /// Whether promsidecar alone writes it.
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
                Holder::Secret => "the certificate's Secret",
                Holder::Registration => "the webhook's registration",
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
const CONFIG_MAP: &[(Holder, Map)] = &[(Holder::ConfigMap, Map::Annotation)];
const CONFIG_MAP_LABEL: &[(Holder, Map)] = &[(Holder::ConfigMap, Map::Label)];
const SECRET: &[(Holder, Map)] = &[(Holder::Secret, Map::Annotation)];
const REGISTRATION: &[(Holder, Map)] = &[(Holder::Registration, Map::Annotation)];
const TEMPLATE: &[(Holder, Map)] = &[(Holder::Template, Map::Annotation)];

/// Every key of ours, as `docs/annotations.md` has them.
pub(super) const KEYS: [Key; 22] = [
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
    Key::read(names::ROTATE, SECRET),
    Key::written(names::STATUS, POD),
    Key::written(names::TARGETS, POD),
    Key::written(names::SKIPPED, POD),
    Key::written(names::INJECTED, POD_LABEL),
    Key::written(names::UNUSED_SINCE, CONFIG_MAP),
    Key::written(names::LAST_GOOD, CONFIG_MAP_LABEL),
    Key::written(names::ROTATED, SECRET),
    Key::written(names::CERTIFICATE, REGISTRATION),
];

/// Names of the community's that are read, beside `param_…`.
const HINTS: [&str; 4] = ["scrape", "port", "path", "scheme"];

/// Most edits between what is written and what is meant.
const NEAR: usize = 2;

/// The key, if it is one of ours.
pub(super) fn find(key: &str) -> Option<&'static Key> {
    KEYS.iter().find(|known| known.name == key)
}

/// The keys that a manifest may have there; what promsidecar writes itself is not among them.
pub(super) fn readable(holder: Holder, map: Map) -> impl Iterator<Item = &'static str> {
    let own = KEYS.iter().filter(move |known| !known.is_written && known.homes.contains(&(holder, map)));
    let claims = (holder, map) == (Holder::Template, Map::Annotation);
    own.map(|known| known.name).chain(claims.then_some(names::CONTROLLER_ID))
}

/// The key that is meant there by a name behind our prefix, if one comes near.
pub(super) fn nearest(name: &str, holder: Holder, map: Map) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let near = NEAR.max(name.len() / 3);
    readable(holder, map)
        .map(|key| (strsim::damerau_levenshtein(name_of(key), &name), key))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// The name in a key whose prefix is nearly ours.
pub(super) fn name_behind_near_prefix(key: &str) -> Option<String> {
    let own = names::PREFIX.trim_end_matches('/');
    let lower = key.to_ascii_lowercase();
    if let Some((prefix, name)) = lower.split_once('/') {
        let near = strsim::damerau_levenshtein(prefix, own) <= NEAR || words(prefix) == words(own);
        return near.then(|| name.to_owned());
    }
    // No slash at all: `sidecar.prometheus.io.inject`.
    let whole = KEYS.iter().find(|known| strsim::damerau_levenshtein(known.name, &lower) <= NEAR);
    whole.map(|known| name_of(known.name).to_owned())
}

/// The key of the community's that a key with its prefix is meant to be.
pub(super) fn meant_hint(key: &str) -> Option<String> {
    let name = key.strip_prefix(names::COMMUNITY_PREFIX)?;
    let near = |known: &str, name: &str| {
        let edits = strsim::damerau_levenshtein(known, &name.to_ascii_lowercase());
        // Names are short, and others have theirs behind this prefix: `host` is not meant to be `port`.
        name != known && edits <= 1.max(name.len() / 4)
    };
    if HINTS.contains(&name) || name.starts_with("param_") {
        return None;
    }
    if let Some((head, parameter)) = name.split_once('_') {
        return near("param", head).then(|| format!("{}param_{parameter}", names::COMMUNITY_PREFIX));
    }
    let meant = HINTS.into_iter().find(|known| near(known, name))?;
    Some(format!("{}{meant}", names::COMMUNITY_PREFIX))
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

    use super::{
        Holder, KEYS, Map, find, is_nearly, is_nearly_controller_id, meant_hint, name_behind_near_prefix,
        nearest,
    };
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
        for (written, name) in [
            ("sidecars.prometheus.io/inject", "inject"),
            ("sidecar.prometheus.io.inject", "inject"),
            ("sidecar.promtheus.io/port", "port"),
            ("sidecar-prometheus.io/prot", "prot"),
            ("prometheus-sidecar.io/inject", "inject"),
            ("Sidecar.Prometheus.io/Inject", "inject"),
        ] {
            assert_eq!(name_behind_near_prefix(written).as_deref(), Some(name), "{written}");
        }
        for written in [
            "sidecar.istio.io/inject",
            "sidecar.opentelemetry.io/inject",
            "prometheus.io/scrape",
            "operator.prometheus.io/controller-id",
            "app",
            "",
        ] {
            assert_eq!(name_behind_near_prefix(written), None, "{written}");
        }
    }

    #[test]
    fn the_nearest_name_is_one_that_may_stand_there_and_comes_near() {
        for (written, holder, map, meant) in [
            ("injct", Holder::Pod, Map::Annotation, Some(names::INJECT)),
            ("injct", Holder::Namespace, Map::Label, Some(names::INJECT)),
            ("allowed-namespace", Holder::Template, Map::Annotation, Some(names::ALLOWED_NAMESPACES)),
            ("allow-secrets", Holder::Namespace, Map::Annotation, Some(names::ALLOWED_SECRETS)),
            ("controller-id", Holder::Template, Map::Annotation, Some(names::CONTROLLER_ID)),
            // Read elsewhere, or written by promsidecar alone.
            ("injct", Holder::Pod, Map::Label, None),
            ("allowed-namespace", Holder::Pod, Map::Annotation, None),
            ("controller-id", Holder::Pod, Map::Annotation, None),
            ("injcted", Holder::Pod, Map::Label, None),
            ("target", Holder::Pod, Map::Annotation, None),
            // Far from all.
            ("skip", Holder::Pod, Map::Annotation, None),
            ("enabled", Holder::Pod, Map::Annotation, None),
            ("foo", Holder::Pod, Map::Annotation, None),
            ("", Holder::Pod, Map::Annotation, None),
        ] {
            assert_eq!(nearest(written, holder, map), meant, "{written} {holder:?} {map:?}");
        }
    }

    #[test]
    fn a_key_of_the_community_is_meant_where_one_letter_is_wrong() {
        for (written, meant) in [
            ("prot", Some("port")),
            ("ports", Some("port")),
            ("Scrape", Some("scrape")),
            ("schema", Some("scheme")),
            ("params_job", Some("param_job")),
            ("port", None),
            ("param_job", None),
            ("interval", None),
            ("host", None),
            ("job", None),
            ("", None),
        ] {
            let meant = meant.map(|meant| format!("prometheus.io/{meant}"));
            assert_eq!(meant_hint(&format!("prometheus.io/{written}")), meant, "{written}");
        }
        assert_eq!(meant_hint("example.com/prot"), None);
    }

    #[test]
    fn controller_ids_are_compared_whatever_their_case() {
        assert_eq!(find("sidecar.prometheus.io/injct").map(|key| key.name), None);
        assert!(is_nearly_controller_id("operator.prometheus.io/controllerid"));
        assert!(!is_nearly_controller_id(names::CONTROLLER_ID));
        assert!(is_nearly("Promsidecar ", "promsidecar") && is_nearly("promsidcar", "promsidecar"));
        assert!(!is_nearly("prometheus-operator", "promsidecar"));
    }
}
