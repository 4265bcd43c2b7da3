//! Flags that decide what a template means, shared by every command that reads templates.

use crate::names;
use crate::template::Settings;
use crate::template::version::Version;

/// Input: flags and their variables. Output: [`Settings`].
#[derive(Debug, Clone, clap::Args)]
pub struct SettingsArgs {
    /// Value of operator.prometheus.io/controller-id that makes a `PrometheusAgent` a template.
    #[arg(long, env = "PROMSIDECAR_CONTROLLER_ID", default_value = names::DEFAULT_CONTROLLER_ID, value_name = "ID")]
    pub controller_id: String,
    /// Image repository of agents whose template names no image.
    #[arg(
        long,
        env = "PROMSIDECAR_AGENT_IMAGE",
        default_value = "quay.io/prometheus/prometheus",
        value_name = "REPOSITORY"
    )]
    pub agent_image: String,
    /// Repositories whose images have a shell; their agents are supervised. [default: the agent image and the official ones]
    #[arg(long, env = "PROMSIDECAR_SUPERVISABLE_IMAGES", value_delimiter = ',', value_name = "REPOSITORY,…")]
    pub supervisable_images: Option<Vec<String>>,
}

impl SettingsArgs {
    /// The settings that these flags mean.
    pub fn to_settings(&self) -> Settings {
        let supervisable_images = self.supervisable_images.clone().unwrap_or_else(|| {
            vec![
                self.agent_image.clone(),
                "quay.io/prometheus/prometheus".to_owned(),
                "docker.io/prom/prometheus".to_owned(),
            ]
        });
        Settings {
            controller_id: self.controller_id.clone(),
            agent_image: self.agent_image.clone(),
            agent_version: Version::new(3, 13, 5),
            supervisable_images,
        }
    }
}
