//! What the agent's container requests and is limited to in one pod. PURE.
//!
//! Input: the template's resources and what the pod's other containers state. Output: requests and limits such that the
//! pod's QoS class is never lowered and that every quota which the other containers satisfy is satisfied by ours.
//! Rules of classes: kubernetes `pkg/apis/core/v1/helper/qos`.

use std::io::Write;

use super::json::{Field, Pairs};
use super::pod::{Container, PodView};
use crate::template::agent::Resources;
use crate::template::quantity::Quantity;

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const EPHEMERAL: &str = "ephemeral-storage";

const CPU_REQUEST: Quantity = Quantity::from_millis(10);
const MEMORY_REQUEST: Quantity = Quantity::from_mebibytes(64);
/// Start-up burns 0.1 to 0.2 s of CPU; a smaller limit would stretch it over seconds.
const CPU_LIMIT: Quantity = Quantity::from_millis(500);
const GUARANTEED_CPU: Quantity = Quantity::from_millis(100);
const EPHEMERAL_REQUEST: Quantity = Quantity::from_mebibytes(64);
/// Room for the container's log beside the write-ahead log, which counts towards the same limit.
const EPHEMERAL_HEADROOM: Quantity = Quantity::from_mebibytes(128);

/// Requests and limits of our container for one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SidecarResources {
    /// Nothing is stated: the pod states resources as a whole, and the API server checks the sum.
    pub(super) unstated: bool,
    /// By resource name, in order.
    pub(super) requests: Vec<(String, Quantity)>,
    /// By resource name, in order.
    pub(super) limits: Vec<(String, Quantity)>,
    /// Memory that the agent may take: its container's limit, or the pod's where that is lower.
    pub(super) memory_limit: Quantity,
}

/// What every other container of the pod states for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stated {
    request: bool,
    limit: bool,
}

impl SidecarResources {
    /// The resources for this pod. `wal_limit` is the size limit of the write-ahead log's volume.
    pub(super) fn for_pod(
        template: &Resources,
        memory_limit: Quantity,
        wal_limit: Quantity,
        pod: &PodView<'_>,
    ) -> Self {
        let pod_level = pod.spec.value().and_then(|spec| spec.resources.value());
        if let Some(pod_level) = pod_level.filter(|resources| states_anything(resources)) {
            let pod_limit = amount(&pod_level.limits, MEMORY);
            let memory_limit = pod_limit.map_or(memory_limit, |limit| limit.min(memory_limit));
            return Self { unstated: true, memory_limit, ..Self::default() };
        }
        let mut requests = template.requests.clone();
        let mut limits = template.limits.clone();
        let stated = |resource| Stated::by_all(pod, resource);

        requests.entry(CPU.to_owned()).or_insert_with(|| {
            // A limit below the default request would be invalid.
            limits.get(CPU).copied().map_or(CPU_REQUEST, |limit| limit.min(CPU_REQUEST))
        });
        let memory_request =
            requests.entry(MEMORY.to_owned()).or_insert_with(|| memory_limit.min(MEMORY_REQUEST));
        let memory_limit = memory_limit.max(*memory_request);
        limits.entry(MEMORY.to_owned()).or_insert(memory_limit);

        if is_guaranteed(pod) {
            let cpu = requests.get(CPU).copied().unwrap_or_default().max(GUARANTEED_CPU);
            // A limit of zero is none, and would make the pod Burstable.
            let cpu = template.limits.get(CPU).copied().filter(|limit| !limit.is_zero()).unwrap_or(cpu);
            let memory = limits.get(MEMORY).copied().unwrap_or(memory_limit);
            for (resource, amount) in [(CPU, cpu), (MEMORY, memory)] {
                requests.insert(resource.to_owned(), amount);
                limits.insert(resource.to_owned(), amount);
            }
        } else if stated(CPU).limit {
            let request = requests.get(CPU).copied().unwrap_or_default();
            limits.entry(CPU.to_owned()).or_insert_with(|| request.max(CPU_LIMIT));
        }
        let ephemeral = stated(EPHEMERAL);
        if ephemeral.limit {
            let request = requests.get(EPHEMERAL).copied().unwrap_or_default();
            limits
                .entry(EPHEMERAL.to_owned())
                .or_insert_with(|| wal_limit.plus(EPHEMERAL_HEADROOM).max(request));
        }
        if ephemeral.request {
            let limit = limits.get(EPHEMERAL).copied().unwrap_or(EPHEMERAL_REQUEST);
            requests.entry(EPHEMERAL.to_owned()).or_insert_with(|| limit.min(EPHEMERAL_REQUEST));
        }
        Self {
            unstated: false,
            memory_limit: limits.get(MEMORY).copied().unwrap_or(memory_limit),
            requests: requests.into_iter().collect(),
            limits: limits.into_iter().collect(),
        }
    }

    /// Writes `{"limits":{…},"requests":{…}}`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"limits\":");
        write_amounts(&self.limits, out);
        out.extend_from_slice(b",\"requests\":");
        write_amounts(&self.requests, out);
        out.push(b'}');
    }
}

fn write_amounts(amounts: &[(String, Quantity)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (resource, amount)) in amounts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, resource).expect("invariant: a string is written to memory");
        write!(out, ":\"{amount}\"").expect("invariant: memory takes every write");
    }
    out.push(b'}');
}

impl Stated {
    /// Whether every other container states a request and a limit. A limit implies the request, by API server defaulting.
    fn by_all(pod: &PodView<'_>, resource: &str) -> Self {
        let mut all = Self { request: true, limit: true };
        for (container, _) in pod.all_containers() {
            let limit = limit(container, resource).is_some();
            all.limit &= limit;
            all.request &= limit || request(container, resource).is_some();
        }
        all
    }
}

fn limit(container: &Container<'_>, resource: &str) -> Option<Quantity> {
    amount(&container.resources.value()?.limits, resource)
}

fn request(container: &Container<'_>, resource: &str) -> Option<Quantity> {
    amount(&container.resources.value()?.requests, resource)
}

/// What is stated for a resource; zero counts as nothing, as for the API server.
fn amount(amounts: &Field<Pairs<'_, Quantity>>, resource: &str) -> Option<Quantity> {
    amounts.get(resource).copied().filter(|amount| !amount.is_zero())
}

fn states_anything(resources: &super::pod::Resources<'_>) -> bool {
    let any = |field: &Field<Pairs<'_, Quantity>>| field.value().is_some_and(|pairs| !pairs.0.is_empty());
    any(&resources.requests) || any(&resources.limits)
}

/// Every container limits CPU and memory and requests just that.
fn is_guaranteed(pod: &PodView<'_>) -> bool {
    let mut any = false;
    let all = pod.all_containers().all(|(container, _)| {
        any = true;
        [CPU, MEMORY].iter().all(|resource| {
            limit(container, resource)
                .is_some_and(|limit| request(container, resource).is_none_or(|request| request == limit))
        })
    });
    all && any
}
