//! The workload behind a pod, without an API call. PURE.
//!
//! Input: owner references, labels and names of the pod. Output: kind and name as a user knows them (`Deployment/web`).

use std::fmt;

use super::pod::PodView;

/// Kind and name of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload<'a> {
    /// Such as `Deployment`, or `Pod` for a pod of its own.
    pub kind: &'a str,
    /// Its name; the prefix of the pod's name where that is all there is.
    pub name: &'a str,
}

impl fmt::Display for Workload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl<'a> Workload<'a> {
    /// Derives the workload: a `ReplicaSet` named after its `pod-template-hash` belongs to a Deployment (or to a Rollout,
    /// which labels its pods with `rollouts-pod-template-hash`), a Job with a schedule's timestamp to a `CronJob`.
    pub fn of(pod: &'a PodView<'a>) -> Self {
        let Some(owner) = pod.controller() else {
            let name = pod.metadata.value().map_or("", |metadata| match metadata.name.text() {
                "" => metadata.generate_name.text().trim_end_matches('-'),
                name => name,
            });
            return Self { kind: "Pod", name };
        };
        let name = owner.name.text();
        let without_hash = |label: &str| {
            let hash = pod.label(label).filter(|hash| !hash.is_empty())?;
            name.strip_suffix(hash)?.strip_suffix('-').filter(|name| !name.is_empty())
        };
        match owner.kind.text() {
            "ReplicaSet" => {
                if let Some(name) = without_hash("rollouts-pod-template-hash") {
                    Self { kind: "Rollout", name }
                } else if let Some(name) = without_hash("pod-template-hash") {
                    Self { kind: "Deployment", name }
                } else {
                    Self { kind: "ReplicaSet", name }
                }
            }
            "Job" => match name.rsplit_once('-') {
                // The CronJob controller appends the scheduled minute since the epoch: eight digits from 1989 to 2160.
                Some((cron_job, minute))
                    if minute.len() == 8 && minute.bytes().all(|digit| digit.is_ascii_digit()) =>
                {
                    Self { kind: "CronJob", name: cron_job }
                }
                _ => Self { kind: "Job", name },
            },
            kind => Self { kind, name },
        }
    }
}
