//! The agent's container and volumes. PURE.
//!
//! Input: a validated [`Agent`], once per template change; then a pod. Output: a [`Sidecar`] whose JSON fragments are
//! serialised beforehand, and the few bytes that differ from pod to pod ([`SidecarFor`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::catalog::NamespaceMeta;
use super::fragment::{Fragment, Hole};
use super::pod::PodView;
use super::resources::SidecarResources;
use crate::names;
use crate::template::agent::{Agent, FileReference, ModePreference, Resources, TemplateId};
use crate::template::quantity::Quantity;

mod fragments;

use fragments::{container, file_sources, volumes};

/// The supervision loop, as it stands in `command`. ARCHITECTURE.md explains it; the pod carries only the code.
pub const SUPERVISOR: &str = include_str!("supervisor.sh");

/// What an agent's data segment holds beyond its anonymous memory: 72 to 79 MiB in every version, static or (with the small
/// stacks that the loop gives its threads) linked to a C library.
const DATA_SEGMENT_HEADROOM: Quantity = Quantity::from_mebibytes(80);
const DEFAULT_UID: i64 = 65534;
/// The default of 60 s blocks shutdown and reload while a receiver is dead; a native sidecar may get only 2 s.
const MAX_FLUSH_MILLIS: u64 = 2000;

/// How the agent's container is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Init container with `restartPolicy: Always` (KEP-753).
    Native,
    /// Ordinary container.
    Container,
}

impl Mode {
    /// As written in `status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Container => "container",
        }
    }
}

/// A template compiled to JSON fragments: a request only splices.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one template, not states")]
pub struct Sidecar {
    /// The template.
    pub id: TemplateId,
    /// Its generation.
    pub generation: i64,
    /// First 16 hexadecimal digits of the SHA-256 of the pod-level part.
    pub hash: String,
    /// Whether a pod without hints may still be scraped.
    pub selects_monitors: bool,
    /// Names of all Secrets and `ConfigMap`s that the pod mounts or reads by environment.
    pub objects: BTreeSet<String>,
    /// Global scrape interval of the template.
    pub scrape_interval: Duration,
    /// Global scrape timeout of the template.
    pub scrape_timeout: Duration,
    /// Whether a target for the agent's own metrics is written.
    pub self_monitor: bool,
    mode: ModePreference,
    supervised: bool,
    fixed_port: bool,
    resources: Resources,
    memory_limit: Quantity,
    wal_limit: Quantity,
    container: Fragment,
    volumes: Vec<(String, Fragment)>,
    /// What monitors add, by namespace of the pods.
    monitored: BTreeMap<String, Monitored>,
}

/// What the monitors of a namespace add to its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Monitored {
    /// Sources of the projected volume, each with a comma before it.
    sources: String,
    /// Hash of the pod-level part with them.
    hash: String,
}

/// The per-pod choices of one sidecar.
#[derive(Debug, Clone)]
pub struct SidecarFor<'a> {
    sidecar: &'a Sidecar,
    mode: Mode,
    required: bool,
    monitor_files: &'a str,
    flush_millis: u64,
    port: Option<u16>,
    uid: i64,
    resources: SidecarResources,
}

impl Sidecar {
    /// Compiles a template.
    pub fn compile(agent: &Agent) -> Self {
        let memory_limit = agent.memory_limit();
        let container = container(agent);
        let volumes = volumes(agent, agent.wal_size());
        Self {
            id: agent.id.clone(),
            generation: agent.generation,
            hash: hash(agent, &container, &volumes),
            selects_monitors: agent.selects_monitors,
            objects: agent.objects().into_iter().map(|(_, name)| name.to_owned()).collect(),
            scrape_interval: agent.scrape_interval,
            scrape_timeout: agent.scrape_timeout,
            self_monitor: agent.self_monitor,
            mode: agent.mode,
            supervised: agent.supervised,
            fixed_port: agent.fixed_port,
            resources: agent.resources.clone(),
            memory_limit,
            wal_limit: agent.wal_size(),
            container,
            volumes,
            monitored: BTreeMap::new(),
        }
    }

    /// Adds the files that monitors of a namespace refer to; they are mounted in that namespace's pods alone.
    pub fn set_monitor_files(&mut self, namespace: &str, files: &BTreeSet<FileReference>) {
        let mut sources = Fragment::default();
        file_sources(files, &mut sources);
        let mut text = Vec::new();
        sources.write(&mut text, |_, _| {});
        let sources = String::from_utf8_lossy(&text).into_owned();
        if sources.is_empty() {
            self.monitored.remove(namespace);
        } else {
            let hash = hex(&Sha256::digest(format!("{}{sources}", self.hash)), 8);
            self.monitored.insert(namespace.to_owned(), Monitored { sources, hash });
        }
    }

    /// Forgets all files of monitors.
    pub fn forget_monitor_files(&mut self) {
        self.monitored.clear();
    }

    /// The same files of monitors as another has.
    pub fn take_monitor_files(&mut self, from: &Self) {
        self.monitored.clone_from(&from.monitored);
    }

    /// Whether both have the same files of monitors in every namespace.
    pub fn has_monitor_files_of(&self, other: &Self) -> bool {
        self.monitored == other.monitored
    }

    /// Hash of the pod-level part for pods of a namespace.
    pub fn hash_in(&self, namespace: &str) -> &str {
        self.monitored.get(namespace).map_or(&self.hash, |monitored| &monitored.hash)
    }

    /// The mode on a cluster that runs native sidecars, or does not.
    pub const fn mode(&self, native_sidecars: bool) -> Mode {
        match self.mode {
            ModePreference::Native => Mode::Native,
            ModePreference::Container => Mode::Container,
            ModePreference::Auto => {
                if native_sidecars {
                    Mode::Native
                } else {
                    Mode::Container
                }
            }
        }
    }

    /// Names of the volumes that are added.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().map(|(name, _)| &**name)
    }

    /// Whether Secrets or `ConfigMap`s are mounted or read by pods of a namespace.
    pub fn has_credentials(&self, namespace: &str) -> bool {
        !self.objects.is_empty() || self.monitored.contains_key(namespace)
    }

    /// Makes the choices for one pod of a namespace.
    pub fn for_pod<'a>(
        &'a self,
        pod: &PodView<'_>,
        (name, namespace): (&str, &NamespaceMeta),
        mode: Mode,
        required: bool,
    ) -> SidecarFor<'a> {
        SidecarFor {
            sidecar: self,
            mode,
            required,
            monitor_files: self.monitored.get(name).map_or("", |monitored| &monitored.sources),
            flush_millis: (pod.grace_period_seconds().saturating_mul(1000) / 3).min(MAX_FLUSH_MILLIS),
            port: self.fixed_port.then(|| free_port(pod)),
            uid: namespace.first_uid.unwrap_or(DEFAULT_UID),
            resources: SidecarResources::for_pod(&self.resources, self.memory_limit, self.wal_limit, pod),
        }
    }
}

impl SidecarFor<'_> {
    /// The fixed port, if the agent listens on one.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Writes the container.
    pub fn write_container(&self, out: &mut Vec<u8>) {
        self.sidecar.container.write(out, |hole, out| self.fill(hole, out));
    }

    /// Names and writers of the volumes.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, impl Fn(&mut Vec<u8>))> {
        self.sidecar.volumes.iter().map(move |(name, fragment)| {
            (&**name, move |out: &mut Vec<u8>| fragment.write(out, |hole, out| self.fill(hole, out)))
        })
    }

    fn fill(&self, hole: Hole, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        match hole {
            Hole::FlushDeadline => out.extend_from_slice(number.format(self.flush_millis).as_bytes()),
            Hole::ListenPort => out.extend_from_slice(number.format(self.port.unwrap_or(0)).as_bytes()),
            Hole::Ports => {
                if let Some(port) = self.port {
                    let name = names::PORT_NAME;
                    write!(
                        out,
                        "\"ports\":[{{\"name\":\"{name}\",\"containerPort\":{port},\"protocol\":\"TCP\"}}],"
                    )
                    .expect("invariant: memory takes every write");
                }
            }
            Hole::DataLimit => {
                let kibibytes = data_limit(self.resources.memory_limit).units() / 1024;
                out.extend_from_slice(number.format(kibibytes).as_bytes());
            }
            Hole::Resources => {
                if !self.resources.unstated {
                    out.extend_from_slice(b"\"resources\":");
                    self.resources.write(out);
                    out.push(b',');
                }
            }
            Hole::RunAsUser => out.extend_from_slice(number.format(self.uid).as_bytes()),
            Hole::RestartPolicy => {
                if self.mode == Mode::Native {
                    out.extend_from_slice(b"\"restartPolicy\":\"Always\",");
                }
            }
            Hole::Optional => {
                if self.sidecar.supervised && !self.required {
                    out.extend_from_slice(b",\"optional\":true");
                }
            }
            Hole::MonitorFiles => out.extend_from_slice(self.monitor_files.as_bytes()),
        }
    }
}

/// Name of the `ConfigMap` with a template's configuration, the same in every namespace:
/// `promsidecar-<template>-<8 hexadecimal digits of the SHA-256 of namespace/name>`.
pub fn config_map_name(template: &TemplateId) -> String {
    // 253 bytes for a name, less prefix, digits and the dashes between.
    const ROOM: usize = 253 - "promsidecar-".len() - 1 - 8;
    let name = template.name.get(..ROOM).unwrap_or(&template.name).trim_end_matches(['-', '.']);
    let digits = hex(&Sha256::digest(template.to_string()), 4);
    format!("promsidecar-{name}-{digits}")
}

/// Hash of all that pods of this template get and that no other choice of a pod decides. It stands on pods for years, so
/// it is made from written-out text, not from what a type happens to print.
fn hash(agent: &Agent, container: &Fragment, volumes: &[(String, Fragment)]) -> String {
    let amounts = |amounts: &BTreeMap<String, Quantity>| -> BTreeMap<String, String> {
        amounts.iter().map(|(resource, amount)| (resource.clone(), amount.to_string())).collect()
    };
    let pod_level = json!({
        "container": container.fingerprint(),
        "volumes": volumes.iter().map(|(_, volume)| volume.fingerprint()).collect::<Vec<_>>(),
        "mode": agent.mode.word(),
        "supervised": agent.supervised,
        "fixedPort": agent.fixed_port,
        "selfMonitor": agent.self_monitor,
        "requests": amounts(&agent.resources.requests),
        "limits": amounts(&agent.resources.limits),
        "memoryLimit": agent.memory_limit().to_string(),
    });
    hex(&Sha256::digest(pod_level.to_string()), 8)
}

/// The first bytes of a digest as hexadecimal digits.
pub fn hex(digest: &[u8], bytes: usize) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let nibbles = digest.iter().take(bytes).flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| DIGITS.get(usize::from(nibble))).collect()
}

/// The first port from [`names::PORT_NUMBER`] on that no container declares.
fn free_port(pod: &PodView<'_>) -> u16 {
    let declared: BTreeSet<u16> =
        pod.all_containers().flat_map(|(container, _)| container.ports().map(|(number, _)| number)).collect();
    (names::PORT_NUMBER..=u16::MAX).find(|port| !declared.contains(port)).unwrap_or(names::PORT_NUMBER)
}

/// Limit on the agent's data segment: with three quarters of its memory for itself it gives up before the kernel acts, which
/// counts what belongs to nobody (sockets, page tables) on top.
fn data_limit(memory: Quantity) -> Quantity {
    let bytes = memory.units();
    Quantity::from_units(bytes - bytes / 4).plus(DATA_SEGMENT_HEADROOM)
}
