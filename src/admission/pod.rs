//! `PodView`: the few members of a Pod that admission reads. PURE.
//!
//! Input: the Pod as JSON, as the API server sent it. Output: borrowed members with absent, `null` and wrong kinds kept
//! apart, which is what the proof of a patch rests on. Unknown members are passed over, never dropped: the patch is made
//! against the raw object, not against this view.

use std::borrow::Cow;

use super::json::{List, Pairs, Shape, Strings, Text, object};
use crate::template::quantity::Quantity;

object! {
    /// A Pod.
    pub struct PodView<'a> {
        /// `metadata`.
        metadata: "metadata" => Metadata<'a>,
        /// `spec`.
        spec: "spec" => Spec<'a>,
    }
}

object! {
    /// `metadata` of a Pod.
    pub struct Metadata<'a> {
        /// Empty for pods with `generateName`.
        name: "name" => Text<'a>,
        /// Prefix of the name that the API server makes after admission.
        generate_name: "generateName" => Text<'a>,
        /// Labels.
        labels: "labels" => Strings<'a>,
        /// Annotations.
        annotations: "annotations" => Strings<'a>,
        /// Owners.
        owner_references: "ownerReferences" => List<OwnerReference<'a>>,
    }
}

object! {
    /// One owner of a Pod.
    pub struct OwnerReference<'a> {
        /// Such as `ReplicaSet`.
        kind: "kind" => Text<'a>,
        /// Name of the owner.
        name: "name" => Text<'a>,
        /// Whether this is the managing controller.
        controller: "controller" => bool,
    }
}

object! {
    /// `spec` of a Pod.
    pub struct Spec<'a> {
        /// Ordinary containers.
        containers: "containers" => List<Container<'a>>,
        /// Init containers, native sidecars among them.
        init_containers: "initContainers" => List<Container<'a>>,
        /// Containers for debugging. No pod is created with one, but a name that repeats would be one fault more.
        ephemeral_containers: "ephemeralContainers" => List<Named<'a>>,
        /// Volumes.
        volumes: "volumes" => List<Named<'a>>,
        /// Whether the pod shares the node's network.
        host_network: "hostNetwork" => bool,
        /// Whether the containers see each other's processes.
        share_process_namespace: "shareProcessNamespace" => bool,
        /// `Always` where absent.
        restart_policy: "restartPolicy" => Text<'a>,
        /// 30 where absent.
        termination_grace_period_seconds: "terminationGracePeriodSeconds" => i64,
        /// Operating system of the pod.
        os: "os" => Named<'a>,
        /// Node labels that the pod asks for.
        node_selector: "nodeSelector" => Strings<'a>,
        /// Pod-level resources (KEP-2837).
        resources: "resources" => Resources<'a>,
    }
}

object! {
    /// Anything of which only the name counts.
    pub struct Named<'a> {
        /// Its name.
        name: "name" => Text<'a>,
    }
}

object! {
    /// A container.
    pub struct Container<'a> {
        /// Unique within the pod.
        name: "name" => Text<'a>,
        /// Image reference.
        image: "image" => Text<'a>,
        /// Declared ports.
        ports: "ports" => List<ContainerPort<'a>>,
        /// Requests and limits.
        resources: "resources" => Resources<'a>,
        /// `Always` makes an init container a native sidecar.
        restart_policy: "restartPolicy" => Text<'a>,
    }
}

object! {
    /// A declared port.
    pub struct ContainerPort<'a> {
        /// Name of the port, if it has one.
        name: "name" => Text<'a>,
        /// Port number.
        container_port: "containerPort" => i64,
        /// `TCP` where absent.
        protocol: "protocol" => Text<'a>,
    }
}

object! {
    /// Requests and limits.
    pub struct Resources<'a> {
        /// Requests by resource.
        requests: "requests" => Pairs<'a, Quantity>,
        /// Limits by resource.
        limits: "limits" => Pairs<'a, Quantity>,
    }
}

impl<'de> Shape<'de> for Quantity {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Self::parse(&text)
    }

    fn from_integer(value: i64) -> Option<Self> {
        u64::try_from(value).ok().map(Self::from_units)
    }

    fn from_float(value: f64) -> Option<Self> {
        Self::parse(&value.to_string())
    }
}

impl ContainerPort<'_> {
    /// Protocol, with the default that the API server would have set.
    pub fn protocol(&self) -> &str {
        match self.protocol.text() {
            "" => "TCP",
            protocol => protocol,
        }
    }
}

impl<'a> Container<'a> {
    /// Whether an init container keeps running beside the app (KEP-753).
    pub fn is_native_sidecar(&self) -> bool {
        self.restart_policy.text() == "Always"
    }

    /// Ports with a number that fits, in order.
    pub fn ports(&self) -> impl Iterator<Item = (u16, &ContainerPort<'a>)> {
        self.ports.items().filter_map(|port| {
            let number = u16::try_from(*port.container_port.value()?).ok().filter(|number| *number > 0)?;
            Some((number, port))
        })
    }
}

impl<'a> PodView<'a> {
    /// An annotation of the pod.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.value()?.annotations.string(key)
    }

    /// A label of the pod.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.value()?.labels.string(key)
    }

    /// Annotations in order.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.value().into_iter().flat_map(|metadata| metadata.annotations.strings())
    }

    /// Labels in order.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.value().into_iter().flat_map(|metadata| metadata.labels.strings())
    }

    /// Ordinary containers.
    pub fn containers(&self) -> impl Iterator<Item = &Container<'a>> {
        self.spec.value().into_iter().flat_map(|spec| spec.containers.items())
    }

    /// Init containers.
    pub fn init_containers(&self) -> impl Iterator<Item = &Container<'a>> {
        self.spec.value().into_iter().flat_map(|spec| spec.init_containers.items())
    }

    /// All containers, ordinary ones first, as pod discovery lists them.
    pub fn all_containers(&self) -> impl Iterator<Item = (&Container<'a>, bool)> {
        let ordinary = self.containers().map(|container| (container, false));
        ordinary.chain(self.init_containers().map(|container| (container, true)))
    }

    /// Names of all containers, of whatever list.
    pub fn container_names(&self) -> impl Iterator<Item = &str> {
        let spec = self.spec.value().into_iter();
        let ephemeral =
            spec.flat_map(|spec| spec.ephemeral_containers.items()).map(|named| named.name.text());
        self.all_containers().map(|(container, _)| container.name.text()).chain(ephemeral)
    }

    /// The reference to the managing controller.
    pub fn controller(&self) -> Option<&OwnerReference<'a>> {
        let mut owners = self.metadata.value()?.owner_references.items();
        owners.find(|owner| owner.controller.value() == Some(&true))
    }

    /// Names of the pod's volumes.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        let spec = self.spec.value().into_iter();
        spec.flat_map(|spec| spec.volumes.items()).map(|volume| volume.name.text())
    }

    /// `spec.restartPolicy`, with the API server's default.
    pub fn restart_policy(&self) -> &str {
        match self.spec.value().map_or("", |spec| spec.restart_policy.text()) {
            "" => "Always",
            policy => policy,
        }
    }

    /// Seconds between TERM and KILL, with the API server's default.
    pub fn grace_period_seconds(&self) -> u64 {
        let seconds = self.spec.value().and_then(|spec| spec.termination_grace_period_seconds.value());
        seconds.map_or(30, |seconds| u64::try_from(*seconds).unwrap_or(0))
    }

    /// Path of the first member that is not what Kubernetes documents and that a patch or a decision would rest on.
    pub fn irregular_path(&self) -> Option<&'static str> {
        let (Some(metadata), Some(spec)) = (self.metadata.value(), self.spec.value()) else {
            return Some(if self.metadata.value().is_none() { "metadata" } else { "spec" });
        };
        let checks = [
            (metadata.labels.is_irregular(), "metadata.labels"),
            (metadata.annotations.is_irregular(), "metadata.annotations"),
            (metadata.name.is_wrong(), "metadata.name"),
            (metadata.generate_name.is_wrong(), "metadata.generateName"),
            (metadata.owner_references.is_irregular(), "metadata.ownerReferences"),
            (spec.containers.is_irregular() || spec.containers.value().is_none(), "spec.containers"),
            (spec.init_containers.is_irregular(), "spec.initContainers"),
            (spec.volumes.is_irregular(), "spec.volumes"),
            (spec.host_network.is_wrong(), "spec.hostNetwork"),
            (spec.restart_policy.is_wrong(), "spec.restartPolicy"),
            (spec.termination_grace_period_seconds.is_wrong(), "spec.terminationGracePeriodSeconds"),
            (spec.node_selector.is_irregular(), "spec.nodeSelector"),
            (spec.os.is_wrong(), "spec.os"),
            (spec.resources.is_wrong(), "spec.resources"),
        ];
        if let Some((_, path)) = checks.into_iter().find(|(wrong, _)| *wrong) {
            return Some(path);
        }
        self.all_containers().find_map(|(container, init)| {
            let wrong = container.name.value().is_none()
                || container.ports.is_irregular()
                || container.resources.is_wrong()
                || container.restart_policy.is_wrong();
            wrong.then_some(if init { "spec.initContainers[*]" } else { "spec.containers[*]" })
        })
    }
}
