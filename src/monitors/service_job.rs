//! From a `ServiceMonitor` to jobs for the endpoints of Services, or every violation at once. PURE.
//!
//! Input: a monitor and the agent that would run it; then one Service after another. Output: upstream's job for each endpoint
//! over the targets of the pod; one for each port of the Service where relabelings tell one port from another. What discovery
//! of endpoints would add stands in constants. Rules: prometheus-operator `generateServiceMonitorConfig`, prometheus `discovery/kubernetes/endpoints.go` and
//! `endpointslice.go`.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::api::{IntOrString, PodMetricsEndpoint, PodMonitorSpec};
use super::job::{self, Checked, Common, Draft, Subject};
use super::object::Kind;
use super::selector;
use super::service::{Endpoints, Port, Service, Target};
use super::service_labels::{self, Looks, Role, Tells};
use super::servicemonitor::{Endpoint, ServiceMonitor};
use crate::names::{META_PORTS, META_SOURCE, POD_NAME, SOURCE_ANCHOR};
use crate::template::agent::Agent;
use crate::template::api::LabelSelector;
use crate::template::prometheus::{Flow, Relabel, ScrapeConfig};
use crate::template::validate::http::no_path;
use crate::template::validate::{DISCOVERY_ROLES, text};
use crate::template::violation::{Findings, Path, Violation};

const PORT_NAME: &str = "__meta_kubernetes_pod_container_port_name";
const PORT_NUMBER: &str = "__meta_kubernetes_pod_container_port_number";
const PORT_PROTOCOL: &str = "__meta_kubernetes_pod_container_port_protocol";

/// A monitor that passed, for Services to come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drafts {
    /// Without jobs: they are those of Services.
    pub(super) checked: Checked,
    selector: LabelSelector,
    role: Role,
    endpoints: Vec<Drafted>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq)]
struct Drafted {
    draft: Draft,
    /// Upstream's name of the job.
    job_name: String,
    wanted: Wanted,
    /// What its relabelings look into.
    looks: Looks,
    /// What the class or the author can tell from one another.
    tells: Tells,
}

/// Which targets an endpoint means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Ports of the Service whose name matches.
    Port(String),
    /// Ports that the container declares with this name.
    PodPort(String),
    /// The same by number.
    PodNumber(u16),
    /// All.
    Every,
}

/// Jobs of one Service.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) jobs: Vec<ScrapeConfig>,
    /// Rules by which the pods' hints are left to these jobs.
    pub(super) hinted: Vec<Relabel>,
}

/// Checks a monitor for an agent, whatever the namespace of its pods.
pub(super) fn check(agent: &Agent, monitor: &ServiceMonitor) -> Result<Drafts, Vec<Violation>> {
    let ServiceMonitor { id, spec, misread, ignored, .. } = monitor;
    let mut own = Findings { violations: misread.clone(), ignored: ignored.clone(), warnings: Vec::new() };
    let root = Path::root("spec");
    let stated = spec.service_discovery_role.as_deref();
    let path = root.key("serviceDiscoveryRole");
    let stated = text::choice(stated, DISCOVERY_ROLES, DISCOVERY_ROLES, &path, &mut own);
    let role = Role::of(stated.or(agent.spec.service_discovery_role.as_deref()));
    let labels = job::target_labels(agent, &spec.target_labels, &root.key("targetLabels"), &mut own);
    let endpoints = root.key("endpoints");
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        own_fields(endpoint, &endpoints.index(index), role, &mut own);
    }
    let shared = PodMonitorSpec::from(spec);
    let subject =
        Subject { kind: Kind::Service, id, spec: &shared, misread: &own.violations, ignored: &own.ignored };
    let (mut checked, drafts) = job::drafts(agent, &subject, |common, (endpoint, path), findings| {
        let (keep, label) = job::port(endpoint, path, findings);
        relabelings(role, common, endpoint, &labels, keep, label)
    })?;
    checked.warnings.extend(own.warnings);
    checked.warnings.sort();
    let endpoints = drafts.into_iter().zip(&spec.endpoints).enumerate();
    let endpoints = endpoints.map(|(index, (draft, endpoint))| Drafted {
        looks: Looks::of(draft.rules()),
        tells: Looks::of(draft.authored.iter()).tell(role),
        job_name: job::job_name(&subject, index),
        wanted: Wanted::of(endpoint),
        draft,
    });
    let selector = shared.selector.clone().unwrap_or_default();
    Ok(Drafts { checked, selector, role, endpoints: endpoints.collect() })
}

/// Fields that `PodMonitor`s do not have, and labels that nobody beside the application knows.
fn own_fields(endpoint: &Endpoint, path: &Path, role: Role, findings: &mut Findings) {
    no_path(endpoint.bearer_token_file.as_deref(), &path.key("bearerTokenFile"), findings);
    for (index, rule) in endpoint.relabelings.iter().enumerate() {
        for label in rule.source_labels.iter().filter(|label| service_labels::is_unknown(label, role)) {
            let text = format!("looks into {label}, which an agent does not know: it is empty");
            findings.warning(&path.key("relabelings").index(index), text);
        }
    }
}

/// Upstream's relabelings before the class's and the author's. Its rules over what an endpoint belongs to are left out: here it
/// is always a pod, and the label `pod` is the pod's name.
fn relabelings(
    role: Role,
    common: &Common,
    endpoint: &PodMetricsEndpoint,
    target_labels: &[String],
    keep: Option<Relabel>,
    label: Option<String>,
) -> Vec<Relabel> {
    let by_service = endpoint.port.as_deref().filter(|port| !port.is_empty());
    let mut rules: Vec<Relabel> = match by_service {
        Some(port) => vec![Relabel::keep(role.port_name(), port)],
        None => keep.into_iter().collect(),
    };
    rules.push(Relabel::copy("__meta_kubernetes_namespace", "namespace"));
    rules.push(Relabel::copy("__meta_kubernetes_service_name", "service"));
    rules.push(Relabel::copy(POD_NAME.meta_label, "pod"));
    rules.push(Relabel::copy("__meta_kubernetes_pod_container_name", "container"));
    rules.extend(job::running(endpoint));
    rules.extend(target_labels.iter().map(|label| job::object_label("service", label, label)));
    rules.extend(common.pod_labels.iter().cloned());
    let name = Relabel::copy("__meta_kubernetes_service_name", "job");
    rules.push(Relabel { replacement: Some("${1}".to_owned()), ..name });
    let job_label = common.job_label.as_deref().map(selector::sanitise);
    rules.extend(job_label.map(|label| job::object_label("service", &label, "job")));
    rules.extend(label.map(|label| Relabel::set("endpoint", label)));
    rules
}

impl Wanted {
    fn of(endpoint: &Endpoint) -> Self {
        match (endpoint.port.as_deref(), &endpoint.target_port) {
            (Some(port), _) if !port.is_empty() => Self::Port(port.to_owned()),
            (_, Some(IntOrString::Text(name))) if !name.is_empty() => Self::PodPort(name.clone()),
            // Upstream's rule keeps what no port can be.
            (_, Some(IntOrString::Int(number))) if *number != 0 => {
                Self::PodNumber(u16::try_from(*number).unwrap_or_default())
            }
            _ => Self::Every,
        }
    }

    /// Whether a port of the Service may be meant; a port without a name is an empty one.
    fn may_be(&self, port: &Port) -> bool {
        match self {
            Self::Port(expression) => matches(expression, &port.name),
            Self::PodNumber(number) => !matches!(port.target, Target::Number(other) if other != *number),
            Self::PodPort(_) | Self::Every => true,
        }
    }

    /// Whether a declared port that is none of the Service's may be meant: upstream finds those as well.
    fn may_be_other(&self, ports: &[Port]) -> bool {
        match self {
            Self::Port(expression) => matches(expression, ""),
            Self::PodNumber(number) => ports.iter().all(|port| port.target != Target::Number(*number)),
            Self::PodPort(_) | Self::Every => true,
        }
    }

    /// The rule over what the container declares.
    fn declared(&self) -> Option<Relabel> {
        match self {
            Self::PodPort(name) => Some(Relabel::keep(PORT_NAME, name)),
            Self::PodNumber(number) => Some(Relabel::keep(PORT_NUMBER, number.to_string())),
            Self::Port(_) | Self::Every => None,
        }
    }
}

/// Whether Prometheus' expression matches the text. One that cannot be read here may: the job has the rule as well.
fn matches(expression: &str, text: &str) -> bool {
    Regex::new(&format!("^(?s:{expression})$")).map_or(true, |regex| regex.is_match(text))
}

/// Jobs of a monitor for the pods of a namespace beyond which no more are made: these are more than a `ConfigMap` holds, and have
/// to be so before they fill the memory.
pub(super) const MOST_JOBS: usize = 10_000;

impl Drafts {
    /// Whether the monitor selects a Service.
    pub(super) fn selects(&self, service: &Service) -> bool {
        selector::matches(&self.selector, &service.labels)
    }

    /// The jobs of a Service that it selects.
    pub(super) fn jobs(&self, service: &Service, endpoints: &Endpoints) -> Jobs {
        let mut jobs = Jobs::default();
        for drafted in &self.endpoints {
            if jobs.jobs.len() > MOST_JOBS {
                break;
            }
            let place = Place { role: self.role, drafted, service, endpoints };
            match drafted.tells {
                Tells::Nothing => place.together(drafted.wanted.may_be_other(&endpoints.ports), &mut jobs),
                Tells::Endpoints => {
                    place.together(false, &mut jobs);
                    place.others(&mut jobs);
                }
                Tells::Ports => {
                    place.one_a_port(&mut jobs);
                    place.others(&mut jobs);
                }
            }
        }
        jobs
    }
}

/// One endpoint of the monitor and one Service.
struct Place<'a> {
    role: Role,
    drafted: &'a Drafted,
    service: &'a Service,
    endpoints: &'a Endpoints,
}

impl Place<'_> {
    /// All ports in one job, so that targets which relabelings make the same are one, as upstream. The anchor has one address:
    /// each further number that nobody may declare takes a job of its own. `all` takes declared ports that are none of the
    /// Service's as well.
    fn together(&self, all: bool, jobs: &mut Jobs) {
        let wanted = &self.drafted.wanted;
        let (meant, others): (Vec<&Port>, Vec<&Port>) =
            self.endpoints.ports.iter().partition(|port| wanted.may_be(port));
        let mut alternatives: Vec<String> = meant.iter().map(|port| declared(port)).collect();
        if all {
            alternatives = vec!["[0-9]+;[^;]*;[^;]+".to_owned()];
        }
        if alternatives.is_empty() {
            return;
        }
        let by_name = all && matches!(wanted, Wanted::Port(_));
        let drops = if by_name { without(others.into_iter()) } else { Vec::new() };
        let mut hint = vec![keep(&DECLARED, alternatives.join("|"))];
        hint.extend(wanted.declared().into_iter().chain(drops.iter().cloned()));
        self.leave(hint, jobs);
        let numbers = self.numbers(&meant);
        for (number, _) in &numbers {
            self.leave(vec![Relabel::keep(PORT_NUMBER, number.to_string())], jobs);
        }
        let mut numbers = numbers.into_iter();
        let anchored = numbers.next();
        let alternatives = alternatives.into_iter().map(|alternative| format!(";{alternative}"));
        let alternatives = alternatives.chain(anchored.map(|_| format!("{SOURCE_ANCHOR};;;")));
        let mut targets = vec![of_groups(alternatives.collect::<Vec<_>>().join("|"))];
        targets.extend(anchored.into_iter().flat_map(|(number, _)| anchor(number)));
        targets.extend(drops);
        self.add("", meant.first().copied(), targets, jobs);
        for (number, port) in numbers {
            let targets = [Relabel::keep(META_SOURCE, SOURCE_ANCHOR)].into_iter().chain(anchor(number));
            self.add(&format!(":{}", port.name), Some(port), targets.collect(), jobs);
        }
    }

    /// Numbers that need not be declared, each with the first port that has it; none where what the container declares is asked
    /// for.
    fn numbers<'a>(&self, meant: &[&'a Port]) -> Vec<(u16, &'a Port)> {
        let mut numbers: Vec<(u16, &Port)> = Vec::new();
        if self.drafted.wanted.declared().is_some() {
            return numbers;
        }
        for port in meant {
            if let Target::Number(number) = port.target
                && numbers.iter().all(|(other, _)| *other != number)
            {
                numbers.push((number, port));
            }
        }
        numbers
    }

    /// A job for each port.
    fn one_a_port(&self, jobs: &mut Jobs) {
        let wanted = &self.drafted.wanted;
        for port in self.endpoints.ports.iter().filter(|port| wanted.may_be(port)) {
            let mut groups = format!(";{}", declared(port));
            let mut hint = vec![keep(&DECLARED, declared(port))];
            let mut anchored = Vec::new();
            match port.target {
                Target::Number(number) if wanted.declared().is_none() => {
                    groups = format!("{groups}|{SOURCE_ANCHOR};;;");
                    hint = vec![Relabel::keep(PORT_NUMBER, number.to_string())];
                    anchored.extend(anchor(number));
                }
                _ => hint.extend(wanted.declared()),
            }
            self.leave(hint, jobs);
            let targets = [of_groups(groups)].into_iter().chain(anchored).collect();
            let suffix = if port.name.is_empty() { String::new() } else { format!(":{}", port.name) };
            self.add(&suffix, Some(port), targets, jobs);
        }
    }

    /// A job for declared ports that are none of the Service's.
    fn others(&self, jobs: &mut Jobs) {
        let (wanted, all_ports) = (&self.drafted.wanted, &self.endpoints.ports);
        if wanted.may_be_other(all_ports) {
            let mut targets = vec![keep(&[META_SOURCE, PORT_NUMBER], ";[0-9]+".to_owned())];
            let drops = without(all_ports.iter());
            let hint =
                [selector::declared()].into_iter().chain(wanted.declared()).chain(drops.iter().cloned());
            self.leave(hint.collect(), jobs);
            targets.extend(drops);
            self.add(":*", None, targets, jobs);
        }
    }

    /// Leaves to the job the hints on ports that these rules take.
    fn leave(&self, hint: Vec<Relabel>, jobs: &mut Jobs) {
        jobs.hinted.extend(selector::drops(pods(self.endpoints).into_iter().chain(hint)));
    }

    fn add(&self, suffix: &str, port: Option<&Port>, targets: Vec<Relabel>, jobs: &mut Jobs) {
        let drafted = self.drafted;
        let mut first = targets;
        first.extend(pods(self.endpoints));
        first.push(Relabel::set(job::JOB_NAME, drafted.job_name.clone()));
        first.extend(service_labels::constants(self.role, self.service, port, &drafted.looks));
        let job_name = format!("{}/{}{suffix}", drafted.job_name, self.service.id.name);
        jobs.jobs.push(drafted.draft.framed(job_name, first));
    }
}

/// The Service's selector over labels of pods.
fn pods(endpoints: &Endpoints) -> Vec<Relabel> {
    let match_labels: BTreeMap<_, _> = endpoints.selector.clone();
    selector::rules(&LabelSelector { match_labels, match_expressions: Vec::new() })
}

/// Labels of what a container declares.
const DECLARED: [&str; 3] = [PORT_NUMBER, PORT_NAME, PORT_PROTOCOL];

fn keep(sources: &[&str], regex: String) -> Relabel {
    let source_labels = Flow(sources.iter().map(|&source| source.to_owned()).collect());
    Relabel { source_labels, ..Relabel::keep("", regex) }
}

/// The rule over where a group comes from and [`DECLARED`].
fn of_groups(regex: String) -> Relabel {
    keep(&[META_SOURCE, DECLARED[0], DECLARED[1], DECLARED[2]], regex)
}

/// An expression over [`DECLARED`] for a port of the Service that a container declares. A number counts with every protocol, as
/// upstream.
fn declared(port: &Port) -> String {
    match &port.target {
        Target::Number(number) => format!("{number};[^;]*;[^;]+"),
        Target::Name(name) => format!("[0-9]+;{};{}", literal(name), literal(&port.protocol)),
    }
}

/// Rules that make the anchor the target of a number, in pods where no container declares it.
fn anchor(number: u16) -> [Relabel; 2] {
    let declared = keep(&[META_SOURCE, META_PORTS], format!("{SOURCE_ANCHOR};.*,{number},.*"));
    [
        Relabel { action: Some("drop"), ..declared },
        Relabel::replace(["__address__"], "localhost", "__address__", &format!("localhost:{number}")),
    ]
}

/// Rules that drop the targets of these ports.
fn without<'a>(ports: impl Iterator<Item = &'a Port>) -> Vec<Relabel> {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for port in ports {
        let _new = match &port.target {
            Target::Number(number) => numbers.insert(number.to_string()),
            Target::Name(name) => names.insert(format!("{};{}", literal(name), literal(&port.protocol))),
        };
    }
    let joined = |texts: BTreeSet<String>| {
        (!texts.is_empty()).then(|| texts.into_iter().collect::<Vec<_>>().join("|"))
    };
    let by_number = joined(numbers).map(|regex| Relabel::drop(PORT_NUMBER, regex));
    let by_name = joined(names).map(|regex| Relabel {
        source_labels: Flow(vec![PORT_NAME.to_owned(), PORT_PROTOCOL.to_owned()]),
        ..Relabel::drop("", regex)
    });
    by_number.into_iter().chain(by_name).collect()
}

/// An expression that matches this text alone.
fn literal(text: &str) -> String {
    let mut expression = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '-' && c != '_' {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}
