//! Templates: from an upstream `PrometheusAgent` to a validated [`agent::Agent`] and its rendered configuration. PURE.
//!
//! Input: one object as JSON and the operator's [`Settings`]. Output: a [`Template`] with all that decides who may use it,
//! and either the agent with its configuration or every violation at once.

pub mod agent;
pub mod api;
pub mod duration;
pub mod quantity;
pub mod version;

use version::Version;

/// The operator's choices that decide what a template means; the same for every template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Value of `operator.prometheus.io/controller-id` that claims a template for us.
    pub controller_id: String,
    /// Image repository used where `spec.image` is absent.
    pub agent_image: String,
    /// Prometheus version used where the template names none.
    pub agent_version: Version,
    /// Repositories whose images have a shell, so that `supervise: auto` means supervised.
    pub supervisable_images: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controller_id: crate::names::DEFAULT_CONTROLLER_ID.to_owned(),
            agent_image: "quay.io/prometheus/prometheus".to_owned(),
            agent_version: Version::new(3, 13, 5),
            supervisable_images: vec![
                "quay.io/prometheus/prometheus".to_owned(),
                "docker.io/prom/prometheus".to_owned(),
            ],
        }
    }
}
