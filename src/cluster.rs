//! The Kubernetes API, as far as promsidecar reads it. IO.
//!
//! Input: how to reach the API server. Output: a client, watches that go on for ever and tell how they are, and facts about
//! the nodes. What objects mean is decided elsewhere.

pub mod client;
pub mod explain;
pub mod gaps;
pub mod kinds;
pub mod kubeconfig;
pub mod native;
pub mod objects;
pub mod owned;
pub mod proxy;
pub mod reader;
pub mod seen;
pub mod snapshot;
pub mod state;
pub mod version;
pub mod watch;
