//! A `Service` as far as monitors need it. PURE.
//!
//! Input: one object as JSON. Output: a [`Service`], or why agents cannot know its endpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::api::IntOrString;
use super::object::MonitorId;
use crate::admission::targets::{LAST_APPLIED, MAX_VALUE};
use crate::template::api::read;
use crate::template::identity;
use crate::template::violation::{Findings, Path};

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub id: MonitorId,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// What it says of its endpoints, or why that is not enough.
    pub spec: Result<Endpoints, Refusal>,
}

/// Which ports of which pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// Labels of the pods, at least one.
    pub selector: BTreeMap<String, String>,
    /// At least one, with different names.
    pub ports: Vec<Port>,
}

/// One of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Empty where there is but one.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
    /// Port of the pods.
    pub target: Target,
}

/// A port of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This one, declared or not.
    Number(u16),
    /// The one that a container declares by this name, with the protocol of the Service's port.
    Name(String),
}

/// Why agents cannot know the endpoints of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no selector.
    NoSelector,
    /// It is another name for a host.
    ExternalName,
    /// A headless one without ports.
    NoPorts,
    /// Something of it could not be read.
    Misread(String),
}

impl Refusal {
    /// What is wrong, as the end of a sentence that begins with the Service.
    pub fn what(&self) -> String {
        match self {
            Self::NoSelector => {
                "has no selector: whoever writes its endpoints decides where they are, and an agent scrapes \
                                 its own pod alone"
                    .to_owned()
            }
            Self::ExternalName => "is of type ExternalName, which has no endpoints in the cluster".to_owned(),
            Self::NoPorts => "has no ports, and endpoints without a port are no targets".to_owned(),
            Self::Misread(what) => format!("cannot be read: {what}"),
        }
    }

    /// What to do.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::NoSelector => "give it a selector, or write a PodMonitor for the pods",
            Self::ExternalName => "leave it out of the ServiceMonitor's selector",
            Self::NoPorts => "give it one",
            Self::Misread(_) => "write it as the API server takes it",
        }
    }
}

/// One line.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.fix())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    selector: BTreeMap<String, String>,
    ports: Vec<ServicePort>,
    r#type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    name: Option<String>,
    port: Option<i64>,
    target_port: Option<IntOrString>,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

impl Service {
    /// Whether an object is one.
    pub fn is_service(object: &Value) -> bool {
        object["apiVersion"] == "v1" && object["kind"] == "Service"
    }

    /// Reads one object; the field of its metadata that is no name where it has no identity.
    pub fn read(object: &Value) -> Result<Self, &'static str> {
        let metadata = &object["metadata"];
        let (namespace, name) = identity(metadata)?;
        Ok(Self {
            id: MonitorId { namespace: namespace.to_owned(), name: name.to_owned() },
            labels: texts(&metadata["labels"]),
            annotations: annotations(&metadata["annotations"]),
            spec: spec(&object["spec"]),
        })
    }
}

/// Annotations that a relabeling may want: every Service of the cluster is kept, and what kubectl keeps there is the whole object
/// once more. The targets of pods leave out the same.
fn annotations(map: &Value) -> BTreeMap<String, String> {
    let mut annotations = texts(map);
    annotations.retain(|key, value| key != LAST_APPLIED && value.len() <= MAX_VALUE);
    annotations
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn spec(value: &Value) -> Result<Endpoints, Refusal> {
    let mut findings = Findings::default();
    let spec: ServiceSpec = if value.is_null() {
        ServiceSpec::default()
    } else {
        read::lenient(value, &Path::root("spec"), &mut findings, &mut Vec::new())
    };
    if let Some(violation) = findings.violations.first() {
        return Err(Refusal::Misread(format!("{} {}", violation.path, violation.rule.text())));
    }
    if spec.r#type.as_deref() == Some("ExternalName") {
        return Err(Refusal::ExternalName);
    }
    if spec.selector.is_empty() {
        return Err(Refusal::NoSelector);
    }
    if spec.ports.is_empty() {
        return Err(Refusal::NoPorts);
    }
    let ports = spec.ports.into_iter().enumerate();
    let ports: Vec<Port> = ports.map(|(index, port)| read_port(port, index)).collect::<Result<_, _>>()?;
    let twice =
        ports.iter().enumerate().find(|(index, port)| ports[..*index].iter().any(|it| it.name == port.name));
    if let Some((index, port)) = twice {
        let name = &port.name;
        return Err(Refusal::Misread(format!("spec.ports[{index}].name {name:?} is that of another port")));
    }
    Ok(Endpoints { selector: spec.selector, ports })
}

/// With what the API server fills in.
fn read_port(port: ServicePort, index: usize) -> Result<Port, Refusal> {
    let number = |number: i64, field: &str| {
        let read = u16::try_from(number).ok().filter(|number| *number != 0);
        let wrong = || {
            Refusal::Misread(format!("spec.ports[{index}].{field} is not the number of a port, 1 to 65535"))
        };
        read.map(Target::Number).ok_or_else(wrong)
    };
    let target = match port.target_port {
        Some(IntOrString::Text(name)) if !name.is_empty() => Target::Name(name),
        Some(IntOrString::Int(target)) if target != 0 => number(target, "targetPort")?,
        _ => number(port.port.unwrap_or_default(), "port")?,
    };
    Ok(Port {
        name: port.name.unwrap_or_default(),
        protocol: port.protocol.filter(|protocol| !protocol.is_empty()).unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol,
        target,
    })
}

/// Services by namespace.
#[derive(Debug, Clone, Default)]
pub struct Services(BTreeMap<String, BTreeMap<String, Arc<Service>>>);

impl Services {
    /// Adds or replaces a Service; gives the one of that name that was there.
    pub fn insert(&mut self, service: Service) -> Option<Arc<Service>> {
        let MonitorId { namespace, name } = service.id.clone();
        self.0.entry(namespace).or_default().insert(name, Arc::new(service))
    }

    /// Removes a Service, if it is there.
    pub fn remove(&mut self, id: &MonitorId) -> Option<Arc<Service>> {
        let own = self.0.get_mut(&id.namespace)?;
        let gone = own.remove(&id.name);
        if own.is_empty() {
            self.0.remove(&id.namespace);
        }
        gone
    }

    /// Every Service.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// A Service, if it is there.
    pub fn get(&self, id: &MonitorId) -> Option<&Arc<Service>> {
        self.0.get(&id.namespace)?.get(&id.name)
    }

    /// The Services of a namespace, by name.
    pub fn of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// Namespaces that have Services.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoints, Port, Refusal, Service, Target};
    use serde_json::{Value, json};

    fn read(spec: Value) -> Result<Endpoints, Refusal> {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}});
        object["spec"] = spec;
        Service::read(&object).unwrap().spec
    }

    #[test]
    fn annotations_that_hold_whole_objects_are_not_kept() {
        let service = Service::read(
            &json!({"metadata": {"name": "web", "namespace": "shop", "annotations": {
                "team": "a", "long": "x".repeat(1025), "kubectl.kubernetes.io/last-applied-configuration": "{}",
            }}}),
        );
        assert_eq!(service.unwrap().annotations, [("team".to_owned(), "a".to_owned())].into());
    }

    #[test]
    fn ports_are_read_with_what_the_api_server_fills_in() {
        let spec = json!({"selector": {"app": "web"}, "clusterIP": "None", "ports": [
            {"name": "http", "port": 80, "targetPort": "web"}, {"name": "a", "port": 81, "targetPort": 8081},
            {"name": "b", "port": 82, "targetPort": 0, "protocol": "UDP", "appProtocol": "dns"},
            {"port": 83},
        ]});
        let port = |name: &str, protocol: &str, target: Target| Port {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            app_protocol: (name == "b").then(|| "dns".to_owned()),
            target,
        };
        let expected = vec![
            port("http", "TCP", Target::Name("web".to_owned())),
            port("a", "TCP", Target::Number(8081)),
            port("b", "UDP", Target::Number(82)),
            port("", "TCP", Target::Number(83)),
        ];
        assert_eq!(read(spec).unwrap().ports, expected);
    }

    #[test]
    fn services_whose_endpoints_nobody_can_tell_are_refused_with_the_reason() {
        let ports = json!([{"port": 80}]);
        for (spec, expected) in [
            (json!({"ports": ports}), Refusal::NoSelector),
            (json!({"selector": {}, "ports": ports}), Refusal::NoSelector),
            (json!(null), Refusal::NoSelector),
            (json!({"type": "ExternalName", "externalName": "a.example"}), Refusal::ExternalName),
            (json!({"selector": {"a": "b"}, "clusterIP": "None"}), Refusal::NoPorts),
        ] {
            assert_eq!(read(spec.clone()), Err(expected), "{spec}");
        }
        for (ports, field) in [
            (json!([{"port": 80}, {"port": 81}]), "spec.ports[1].name"),
            (json!([{"port": 0}]), "spec.ports[0].port"),
            (json!([{"port": 80, "targetPort": 70000}]), "spec.ports[0].targetPort"),
            (json!([{"port": "http"}]), "spec.ports[0].port"),
        ] {
            let Err(Refusal::Misread(what)) = read(json!({"selector": {"a": "b"}, "ports": ports})) else {
                panic!("{ports} was read")
            };
            assert!(what.starts_with(field), "{what}");
        }
    }
}
