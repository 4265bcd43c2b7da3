//! The `targets` annotation: pod service discovery without the API. PURE.
//!
//! Input: the pod and its hints. Output: file-based service discovery JSON (`[{"targets":[…],"labels":{…}},…]`) with what
//! `kubernetes_sd role: pod` would have found for this pod, at `localhost`: one group per container port, init containers
//! and port-less containers as upstream does (prometheus `discovery/kubernetes/pod.go`), the same `__meta_kubernetes_*`
//! labels, then marked groups for hints, for jobs that bring their own port, and for the agent itself.

use std::borrow::Cow;
use std::time::Duration;

use super::hints::Hints;
use super::patch::EscapedJson;
use super::pod::{Container, PodView};
use crate::names::{self, RuntimeFact};
use crate::release;

/// Values beyond this are left out of labels; nobody relabels by them and they would crowd out the others.
pub(crate) const MAX_VALUE: usize = 1024;
/// What `kubectl apply` keeps of the last manifest.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the groups are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Discovery<'a> {
    /// The pod.
    pub(super) pod: &'a PodView<'a>,
    /// Namespace of the request.
    pub(super) namespace: &'a str,
    /// What its annotations ask for.
    pub(super) hints: &'a Hints<'a>,
    /// Interval and timeout that the hints mean, after the template's lower bounds.
    pub(super) timing: Timing,
    /// Port of the agent, where its own metrics are scraped.
    pub(super) agent_port: Option<u16>,
}

/// Interval and timeout of the annotation groups; absent where the template's apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Timing {
    /// Scrape interval.
    pub(super) interval: Option<Duration>,
    /// Scrape timeout.
    pub(super) timeout: Option<Duration>,
}

impl Timing {
    /// Hints are never shorter than the template's interval and timeout, and a timeout never longer than its interval.
    pub(super) fn within(hints: &Hints<'_>, interval: Duration, timeout: Duration) -> Self {
        let hinted_interval = hints.interval.map(|hint| hint.max(interval));
        let longest = hinted_interval.unwrap_or(interval);
        let hinted_timeout = hints.timeout.map(|hint| hint.max(timeout).min(longest));
        Self { interval: hinted_interval, timeout: hinted_timeout }
    }
}

/// The annotation's value in at most `budget` bytes; pod annotations are left out of the labels where the rest would not
/// fit with them. `None`: it does not fit at all.
pub(super) fn build(discovery: &Discovery<'_>, budget: usize) -> Option<EscapedJson> {
    build_with(discovery, budget, true).or_else(|| build_with(discovery, budget, false))
}

fn build_with(discovery: &Discovery<'_>, budget: usize, annotations: bool) -> Option<EscapedJson> {
    let common = common_labels(discovery, annotations, budget)?;
    let out = EscapedJson::with_capacity(1024 + common.len().saturating_mul(4).min(budget.saturating_mul(2)));
    let mut groups = Groups { out, common: &common, budget };
    groups.out.plain("[");
    for (container, init) in discovery.pod.all_containers() {
        let mut portless = true;
        for (number, port) in container.ports() {
            portless = false;
            groups.group(Some(number), |out| {
                container_labels(container, init, out);
                label("__meta_kubernetes_pod_container_port_name", port.name.text(), out);
                number_label("__meta_kubernetes_pod_container_port_number", number.into(), out);
                label("__meta_kubernetes_pod_container_port_protocol", port.protocol(), out);
            })?;
        }
        if portless {
            groups.group(None, |out| container_labels(container, init, out))?;
        }
    }
    hinted(discovery, &mut groups)?;
    groups.group(None, |out| {
        label(names::META_SOURCE, names::SOURCE_ANCHOR, out);
        declared(discovery.pod, out);
    })?;
    if let Some(port) = discovery.agent_port {
        groups.group(Some(port), |out| {
            label(names::META_SOURCE, names::SOURCE_AGENT, out);
            label("__meta_kubernetes_pod_container_name", names::CONTAINER, out);
        })?;
    }
    groups.out.plain("]");
    Some(groups.out)
}

/// Numbers of the ports that containers declare, each between commas, so that a job that brings its own port does not scrape
/// one twice.
fn declared(pod: &PodView<'_>, out: &mut EscapedJson) {
    let mut text = String::new();
    for (number, _) in pod.all_containers().flat_map(|(container, _)| container.ports()) {
        if text.is_empty() {
            text.push(',');
        }
        text.push_str(itoa::Buffer::new().format(number));
        text.push(',');
    }
    if !text.is_empty() {
        label(names::META_PORTS, &text, out);
    }
}

struct Groups<'a> {
    out: EscapedJson,
    common: &'a EscapedJson,
    budget: usize,
}

impl Groups<'_> {
    /// Appends a group; `None` once the budget is exceeded.
    fn group(&mut self, port: Option<u16>, labels: impl FnOnce(&mut EscapedJson)) -> Option<()> {
        let out = &mut self.out;
        if out.len() > 1 {
            out.plain(",");
        }
        out.json("{\"targets\":[\"localhost");
        if let Some(port) = port {
            out.plain(":");
            out.plain(itoa::Buffer::new().format(port));
        }
        out.json("\"],\"labels\":{");
        out.append(self.common);
        labels(out);
        out.plain("}}");
        // The closing bracket belongs to the value as well.
        (out.len() < self.budget).then_some(())
    }
}

/// One marked group per hinted port.
fn hinted(discovery: &Discovery<'_>, groups: &mut Groups<'_>) -> Option<()> {
    let hints = discovery.hints;
    for port in &hints.ports {
        groups.group(Some(port.number), |out| {
            label(names::META_SOURCE, names::SOURCE_ANNOTATION, out);
            if let Some((container, init)) =
                port.container.and_then(|index| discovery.pod.all_containers().nth(index))
            {
                container_labels(container, init, out);
            }
            if !port.name.is_empty() {
                label("__meta_kubernetes_pod_container_port_name", port.name, out);
            }
            number_label("__meta_kubernetes_pod_container_port_number", port.number.into(), out);
            if !port.protocol.is_empty() {
                label("__meta_kubernetes_pod_container_port_protocol", port.protocol, out);
            }
            if let Some(path) = hints.path {
                label("__metrics_path__", path, out);
            }
            if let Some(scheme) = hints.scheme {
                label("__scheme__", scheme, out);
            }
            for (name, value) in &hints.params {
                key("__param_", name, out);
                out.string(value);
            }
            if let Some(interval) = discovery.timing.interval {
                number_label(names::META_INTERVAL_MS, millis(interval), out);
            }
            if let Some(timeout) = discovery.timing.timeout {
                number_label(names::META_TIMEOUT_MS, millis(timeout), out);
            }
        })?;
    }
    Some(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Labels that every group carries: the pod's. The first one is written without a comma before it. `None`: they alone are
/// more than `budget` bytes.
fn common_labels(discovery: &Discovery<'_>, annotations: bool, budget: usize) -> Option<EscapedJson> {
    let pod = discovery.pod;
    let mut out = EscapedJson::with_capacity(2048);
    out.json("\"__meta_kubernetes_namespace\":");
    out.string(discovery.namespace);
    for fact in &names::RUNTIME_FACTS {
        label(fact.meta_label, known_value(fact, pod), &mut out);
    }
    // Whoever runs beside the agent is running; readiness changes and is not followed.
    label("__meta_kubernetes_pod_phase", "Running", &mut out);
    label("__meta_kubernetes_pod_ready", "true", &mut out);
    if let Some((name, value)) = release::TARGET_LABEL {
        label(name, value, &mut out);
    }
    if let Some(owner) = pod.controller() {
        label("__meta_kubernetes_pod_controller_kind", owner.kind.text(), &mut out);
        label("__meta_kubernetes_pod_controller_name", owner.name.text(), &mut out);
    }
    let mut present = |prefix: &str, present_prefix: &str, pairs: Vec<(Cow<'_, str>, &str)>| {
        for (name, value) in pairs {
            key(prefix, &name, &mut out);
            out.string(value);
            key(present_prefix, &name, &mut out);
            out.string("true");
        }
    };
    let pairs = sanitised(pod.labels(), budget)?;
    present("__meta_kubernetes_pod_label_", "__meta_kubernetes_pod_labelpresent_", pairs);
    if annotations {
        let pairs = sanitised(pod.annotations(), budget)?;
        present("__meta_kubernetes_pod_annotation_", "__meta_kubernetes_pod_annotationpresent_", pairs);
    }
    (out.len() <= budget).then_some(out)
}

/// What admission knows of a fact: the name of a pod that brings one; else the placeholder that remote write replaces.
fn known_value<'a>(fact: &RuntimeFact, pod: &'a PodView<'a>) -> &'a str {
    if *fact == names::POD_NAME {
        match pod.metadata.value().map_or("", |metadata| metadata.name.text()) {
            "" => {}
            name => return name,
        }
    }
    fact.placeholder
}

/// Bytes that each label or annotation takes beside its value and twice its name, at least: prefixes and punctuation.
const PAIR: usize = 64;

/// Label-safe names (prometheus `util/strutil` `SanitizeLabelName`), sorted; the last of equal ones wins, as in a map.
/// `None`: they take more than `budget` bytes. This is found out before much is kept of them: labels are not counted by
/// anybody before admission, nor annotations. Those whose names become equal count each.
fn sanitised<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    budget: usize,
) -> Option<Vec<(Cow<'a, str>, &'a str)>> {
    let usable = |(key, value): &(&str, &str)| {
        value.len() <= MAX_VALUE && *key != LAST_APPLIED && !key.starts_with(names::PREFIX)
    };
    let mut left = budget;
    let fitting = pairs.filter(usable).map(|(key, value)| {
        let name = sanitise(key);
        left = left.checked_sub(PAIR + 2 * name.len() + value.len())?;
        Some((name, value))
    });
    let mut pairs = fitting.collect::<Option<Vec<_>>>()?;
    pairs.reverse();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    pairs.dedup_by(|(later, _), (kept, _)| later == kept);
    Some(pairs)
}

fn sanitise(name: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(safe) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().map(|c| if safe(c) { c } else { '_' }).collect())
}

fn container_labels(container: &Container<'_>, init: bool, out: &mut EscapedJson) {
    label("__meta_kubernetes_pod_container_name", container.name.text(), out);
    label("__meta_kubernetes_pod_container_image", container.image.text(), out);
    label("__meta_kubernetes_pod_container_init", if init { "true" } else { "false" }, out);
}

fn label(name: &str, value: &str, out: &mut EscapedJson) {
    key("", name, out);
    out.string(value);
}

fn number_label(name: &str, value: u64, out: &mut EscapedJson) {
    key("", name, out);
    out.string(itoa::Buffer::new().format(value));
}

/// `,"<prefix><name>":`. Names are label-safe: no character needs escapes.
fn key(prefix: &str, name: &str, out: &mut EscapedJson) {
    out.plain(",");
    out.quote();
    out.plain(prefix);
    out.plain(name);
    out.quote();
    out.plain(":");
}
