//! Flags that decide what a template means, shared by every command that reads templates.

use super::values;
use crate::names;
use crate::template::Settings;
use crate::template::version::Version;

/// Input: flags and their variables. Output: [`Settings`].
#[derive(Debug, Clone, clap::Args)]
pub struct SettingsArgs {
    /// Value of operator.prometheus.io/controller-id that makes a `PrometheusAgent` a template.
    #[arg(long, env = "PROMSIDECAR_CONTROLLER_ID", default_value = names::DEFAULT_CONTROLLER_ID, value_name = "ID", value_parser = values::controller_id)]
    pub controller_id: String,
    /// Image repository of agents whose template names no image.
    #[arg(
        long,
        env = "PROMSIDECAR_AGENT_IMAGE",
        default_value = "quay.io/prometheus/prometheus",
        value_name = "REPOSITORY",
        value_parser = values::repository
    )]
    pub agent_image: String,
    /// Prometheus version of agents whose template names none.
    #[arg(long, env = "PROMSIDECAR_AGENT_VERSION", default_value = "v3.13.5", value_name = "VERSION", value_parser = values::prometheus_version)]
    pub agent_version: Version,
    /// Repositories whose images have a shell; their agents are supervised. [default: the agent image and the official ones]
    #[arg(long, env = "PROMSIDECAR_SUPERVISABLE_IMAGES", value_delimiter = ',', value_name = "REPOSITORY,…", value_parser = values::repository)]
    pub supervisable_images: Option<Vec<String>>,
}

impl SettingsArgs {
    /// The settings that these flags mean.
    pub fn to_settings(&self) -> Settings {
        let supervisable_images = self.supervisable_images.clone().unwrap_or_else(|| {
            let mut images = Settings::default().supervisable_images;
            if !images.contains(&self.agent_image) {
                images.insert(0, self.agent_image.clone());
            }
            images
        });
        Settings {
            controller_id: self.controller_id.clone(),
            agent_image: self.agent_image.clone(),
            agent_version: self.agent_version,
            supervisable_images,
        }
    }
}
