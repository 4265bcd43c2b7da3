//! The agent's container and volumes. PURE.

/// A template compiled to JSON fragments: a request only splices.
#[derive(Debug, Clone)]
pub struct Sidecar {}
