//! The companion of the webhook: keeps templates judged, their configuration delivered, and tells how they are.
//!
//! Input: what the API server says of templates, namespaces, our ConfigMaps and the pods that asked. Output: ConfigMaps, the
//! status of templates, and Events. [`world`] is what is known, [`plan`] and [`condition`] say what follows from it;
//! [`reconcile`] does it. Beside that, [`certificate`] makes the webhook's certificate and tells the API server whom to trust.

pub mod admin;
pub mod apply;
pub mod backoff;
pub mod bind;
pub mod bindings;
pub mod certificate;
pub mod condition;
pub mod demand;
pub mod events;
pub mod fleet;
pub mod lease;
pub mod observe;
pub mod plan;
pub mod queue;
pub mod reconcile;
pub mod refused;
pub mod rendered;
pub mod run;
pub mod shared;
pub mod world;
