//! `PodMonitor`s and `ServiceMonitor`s: from upstream's objects to scrape jobs over the agent's own pod. PURE.
//!
//! Input: monitors, Services and namespace labels, as objects; a validated [`crate::template::agent::Agent`] and the namespace of its
//! pods. Output: a [`selection::Selection`]: the jobs of the monitors that the template selects, and what is wrong with those
//! that are left out. Rules: prometheus-operator `pkg/prometheus` (`generatePodMonitorConfig`,
//! `generateServiceMonitorConfig`, `checkPodMonitor`, `checkServiceMonitor`).

pub mod any;
pub mod api;
pub mod checks;
pub mod collect;
pub(crate) mod doubts;
mod endpoint;
pub mod fields;
mod job;
pub mod object;
pub mod podmonitor;
pub mod selection;
pub mod selector;
pub mod service;
mod service_job;
mod service_labels;
pub mod servicemonitor;
