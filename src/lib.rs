//! promsidecar gives every pod that asks its own Prometheus agent.
//!
//! Modules marked PURE are functions of data to data: no client, clock, environment, file or task. IO lives in the others.

pub mod admin;
pub mod admission;
pub mod all_in_one;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod manifest;
pub mod metrics;
pub mod monitors;
pub mod mounted;
pub mod names;
pub mod release;
pub mod rollout;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod verify;
pub mod webhook;
pub mod workload;
pub mod x509;
