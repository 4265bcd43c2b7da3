//! The controller: what promsidecar writes into the cluster. IO.
//!
//! Input: what the API server says. Output: writes, by one process at a time; the others stay warm and write nothing.

pub mod lease;
