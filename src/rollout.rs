//! Bringing running pods up to date. PURE.
//!
//! Input: pods and their owners as the API server has them, and what decides about them. Output: who has to be restarted, what
//! stands against it, and how far a rolling update is. Who restarts is the cluster's own controllers.

pub mod plan;
pub mod progress;
