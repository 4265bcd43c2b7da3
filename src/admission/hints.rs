//! Hints: what to scrape, said by annotations on the pod. PURE.
//!
//! Input: a [`PodView`]. Output: ports, path, scheme, parameters, interval and timeout; or the key that cannot be read.
//! Our keys win over the community's `prometheus.io/…` one by one. A bad value of ours is refused; a bad community value is
//! not ours to judge: it gives no hint, and a note says so.

use std::fmt;
use std::time::Duration;

use super::catalog::split_list;
use super::pod::{ContainerPort, PodView};
use crate::names;
use crate::template::duration::PromDuration;

/// What the pod's annotations ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints<'a> {
    /// Ports in the order in which they were named, without repetitions, at most [`MAX_PORTS`]. Empty: nothing is hinted.
    pub ports: Vec<HintedPort<'a>>,
    /// `__metrics_path__`.
    pub path: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: Option<&'a str>,
    /// URL parameters by name.
    pub params: Vec<(&'a str, &'a str)>,
    /// Interval, as asked for.
    pub interval: Option<Duration>,
    /// Timeout, as asked for.
    pub timeout: Option<Duration>,
    /// Community annotations that could not be used, the first few.
    pub notes: Vec<String>,
}

/// Most ports that hints may name: each costs a group of targets, and looking one up takes a walk over all of them.
pub const MAX_PORTS: usize = 128;
/// Longest hinted interval or timeout, a year; the scrape job knows milliseconds of up to 12 digits.
const MAX_DURATION: Duration = Duration::from_hours(365 * 24);
/// Most notes about community annotations; a pod may carry thousands of bad ones.
const MAX_NOTES: usize = 3;

/// A port to scrape, with the container that declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintedPort<'a> {
    /// Port number.
    pub number: u16,
    /// Index among all containers of the pod, ordinary ones first; the pod's only container for an undeclared number.
    pub container: Option<usize>,
    /// Name of the declared port, if it has one.
    pub name: &'a str,
    /// Protocol of the declared port, `TCP` where it states none; empty for an undeclared number.
    pub protocol: &'a str,
}

/// A value of one of our keys that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidValue<'a> {
    /// The key.
    pub key: &'static str,
    /// Whether it stands on the namespace rather than on the pod.
    pub on_namespace: bool,
    /// The value as written.
    pub value: &'a str,
    /// What is understood instead.
    pub grammar: &'static str,
}

impl<'a> InvalidValue<'a> {
    /// A bad value on the pod.
    pub const fn on_pod(key: &'static str, value: &'a str, grammar: &'static str) -> Self {
        Self { key, on_namespace: false, value, grammar }
    }
}

impl fmt::Display for InvalidValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.strip_prefix(names::PREFIX).unwrap_or(self.key);
        let place = if self.on_namespace { "namespace " } else { "" };
        // Long values are cut so that the grammar still fits into a warning.
        let mut value: String = self.value.chars().take(24).collect();
        if value.len() < self.value.len() {
            value.push('…');
        }
        write!(f, "{place}{key} {value:?}: {}", self.grammar)
    }
}

/// Longest path or parameter that is accepted, in bytes.
const MAX_TEXT: usize = 1024;

const PORT_GRAMMAR: &str = "want port numbers or names of declared ports";
const PATH_GRAMMAR: &str = "want a path like /metrics, no ? # or blanks";
const SCHEME_GRAMMAR: &str = "want http or https";
const DURATION_GRAMMAR: &str = "want a duration such as 30s or 1m30s, at most 1y";
const MANY_PORTS_GRAMMAR: &str = "want at most 128 ports";

/// Reads all hints of a pod.
pub fn read<'a>(pod: &'a PodView<'a>) -> Result<Hints<'a>, InvalidValue<'a>> {
    let mut hints = Hints::default();
    if let Some(value) = pod.annotation(names::PORT) {
        for (index, item) in value.split(',').map(str::trim).enumerate() {
            if index == MAX_PORTS {
                return Err(InvalidValue::on_pod(names::PORT, value, MANY_PORTS_GRAMMAR));
            }
            let added = !item.is_empty() && hints.add_port(pod, item);
            if !added {
                return Err(InvalidValue::on_pod(names::PORT, value, PORT_GRAMMAR));
            }
        }
    } else {
        hints.community_ports(pod);
    }
    if let Some(value) = pod.annotation(names::PATH) {
        if !is_path(value) {
            return Err(InvalidValue::on_pod(names::PATH, value, PATH_GRAMMAR));
        }
        hints.path = Some(value);
    }
    if let Some(value) = pod.annotation(names::SCHEME) {
        if !is_scheme(value) {
            return Err(InvalidValue::on_pod(names::SCHEME, value, SCHEME_GRAMMAR));
        }
        hints.scheme = Some(value);
    }
    hints.interval = read_duration(pod, names::INTERVAL)?;
    hints.timeout = read_duration(pod, names::TIMEOUT)?;
    if let (Some(interval), Some(timeout)) = (hints.interval, hints.timeout)
        && timeout > interval
    {
        let value = pod.annotation(names::TIMEOUT).unwrap_or_default();
        return Err(InvalidValue::on_pod(
            names::TIMEOUT,
            value,
            "want a timeout not longer than the interval",
        ));
    }
    hints.community_rest(pod);
    Ok(hints)
}

fn read_duration<'a>(pod: &'a PodView<'a>, key: &'static str) -> Result<Option<Duration>, InvalidValue<'a>> {
    let Some(value) = pod.annotation(key) else { return Ok(None) };
    match value.parse::<PromDuration>() {
        Ok(duration) if !duration.is_zero() && duration.get() <= MAX_DURATION => Ok(Some(duration.get())),
        _ => Err(InvalidValue::on_pod(key, value, DURATION_GRAMMAR)),
    }
}

fn is_path(value: &str) -> bool {
    value.starts_with('/')
        && value.len() <= MAX_TEXT
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

fn is_scheme(value: &str) -> bool {
    matches!(value, "http" | "https")
}

impl<'a> Hints<'a> {
    /// Adds a port by number or name; false where it names nothing.
    fn add_port(&mut self, pod: &'a PodView<'a>, item: &str) -> bool {
        if item.bytes().all(|byte| byte.is_ascii_digit()) {
            let Some(number) = item.parse::<u16>().ok().filter(|number| *number > 0) else { return false };
            self.push(number_in(pod, number));
            return true;
        }
        let mut found = false;
        for (number, container, port) in scrapable_ports(pod) {
            if port.name.text() == item {
                self.push(declared(number, container, port));
                found = true;
            }
        }
        found
    }

    /// Adds a port unless it is known. Beyond [`MAX_PORTS`], which only names of many ports and community annotations
    /// reach, it is left out and noted.
    fn push(&mut self, port: HintedPort<'a>) {
        if self.ports.iter().any(|known| known.number == port.number) {
            return;
        }
        if self.ports.len() < MAX_PORTS {
            self.ports.push(port);
        } else {
            self.note(format_args!("only the first {MAX_PORTS} hinted ports are scraped"));
        }
    }

    fn note(&mut self, note: fmt::Arguments<'_>) {
        if self.notes.len() < MAX_NOTES {
            let note = note.to_string();
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// `prometheus.io/scrape` and `prometheus.io/port`.
    fn community_ports(&mut self, pod: &'a PodView<'a>) {
        let scrape = pod.annotation("prometheus.io/scrape");
        if scrape.is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return;
        }
        if let Some(value) = pod.annotation("prometheus.io/port") {
            for item in split_list(value).take(MAX_PORTS) {
                if !self.add_port(pod, item) {
                    let item: String = item.chars().take(24).collect();
                    self.note(format_args!(
                        "prometheus.io/port {item:?} is neither a port number nor a declared port's name"
                    ));
                }
            }
        } else if scrape.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            for (number, container, port) in scrapable_ports(pod) {
                if port.protocol() == "TCP" {
                    self.push(declared(number, container, port));
                }
            }
        }
    }

    /// `prometheus.io/path`, `scheme` and `param_<name>`, where ours are silent.
    fn community_rest(&mut self, pod: &'a PodView<'a>) {
        if self.ports.is_empty() {
            return;
        }
        for (key, value) in pod.annotations() {
            let Some(name) = key.strip_prefix(names::COMMUNITY_PREFIX) else { continue };
            let usable = match name {
                "path" if self.path.is_none() => {
                    self.path = is_path(value).then_some(value);
                    self.path.is_some()
                }
                "scheme" if self.scheme.is_none() => {
                    self.scheme = is_scheme(value).then_some(value);
                    self.scheme.is_some()
                }
                _ => match name.strip_prefix("param_") {
                    Some(param)
                        if !param.is_empty() && param.bytes().all(is_label_byte) && is_param(value) =>
                    {
                        self.params.push((param, value));
                        true
                    }
                    Some(_) => false,
                    None => true,
                },
            };
            if !usable {
                self.note(format_args!("{key} has a value that cannot be used and is ignored"));
            }
        }
        // Of parameters that repeat the last one counts, like everywhere; a label must not be written twice.
        self.params.reverse();
        self.params.sort_by_key(|(name, _)| *name);
        self.params.dedup_by_key(|(name, _)| *name);
    }
}

const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_param(value: &str) -> bool {
    value.len() <= MAX_TEXT && !value.chars().any(char::is_control)
}

/// Declared ports of ordinary containers and native sidecars, each with its container's index among all containers.
fn scrapable_ports<'a>(pod: &'a PodView<'a>) -> impl Iterator<Item = (u16, usize, &'a ContainerPort<'a>)> {
    pod.all_containers()
        .enumerate()
        .filter(|(_, (container, init))| !init || container.is_native_sidecar())
        .flat_map(|(index, (container, _))| {
            container.ports().map(move |(number, port)| (number, index, port))
        })
}

/// A port by number: the container that declares it, or the pod's only ordinary container.
fn number_in<'a>(pod: &'a PodView<'a>, number: u16) -> HintedPort<'a> {
    if let Some((_, container, port)) = scrapable_ports(pod).find(|(found, ..)| *found == number) {
        return declared(number, container, port);
    }
    let only = pod.containers().count() == 1;
    HintedPort { number, container: only.then_some(0), name: "", protocol: "" }
}

fn declared<'a>(number: u16, container: usize, port: &'a ContainerPort<'a>) -> HintedPort<'a> {
    HintedPort { number, container: Some(container), name: port.name.text(), protocol: port.protocol() }
}
