//! Flags that decide what a template means, shared by every command that reads templates.

use std::collections::BTreeMap;

use super::values;
use crate::names;
use crate::template::Settings;
use crate::template::duration::PromDuration;
use crate::template::guard_rails::{self, Destination, GuardRails, Images};
use crate::template::quantity::Quantity;
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
    /// What templates may do.
    #[command(flatten)]
    pub guard_rails: GuardRailArgs,
}

/// Bounds that platform owners set; what is outside is a violation of the template or monitor.
#[derive(Debug, Clone, clap::Args)]
pub struct GuardRailArgs {
    /// Where agents may send to: URLs with the beginning of a path; `*.` stands for any subdomain. [default: anywhere]
    #[arg(long, env = "PROMSIDECAR_ALLOWED_RECEIVERS", value_delimiter = ',', value_name = "URL,…")]
    pub allowed_receivers: Vec<Destination>,
    /// Images that templates may name: repositories, or the beginning of some with a slash at its end. The default one is
    /// allowed. [default: any]
    #[arg(long, env = "PROMSIDECAR_ALLOWED_IMAGES", value_delimiter = ',', value_name = "REPOSITORY,…")]
    pub allowed_images: Vec<Images>,
    /// Shortest scrape interval of templates and monitors. [default: none]
    #[arg(long, env = "PROMSIDECAR_MIN_SCRAPE_INTERVAL", value_name = "DURATION", value_parser = values::interval)]
    pub min_scrape_interval: Option<PromDuration>,
    /// Most cpu, memory and ephemeral-storage that a template may request or limit. [default: none]
    #[arg(
        long,
        env = "PROMSIDECAR_MAX_AGENT_RESOURCES",
        value_delimiter = ',',
        value_name = "RESOURCE=QUANTITY,…",
        value_parser = guard_rails::ceiling
    )]
    pub max_agent_resources: Vec<(String, Quantity)>,
    /// Most targets of a job in one pod; more fail as a whole. [default: no bound]
    #[arg(long, env = "PROMSIDECAR_MAX_TARGETS", value_name = "COUNT", value_parser = values::bound)]
    pub max_targets: Option<usize>,
}

impl GuardRailArgs {
    /// The bounds that these flags mean; of a resource that is named twice the lower one.
    fn to_guard_rails(&self) -> GuardRails {
        let mut ceilings: BTreeMap<String, Quantity> = BTreeMap::new();
        for (name, amount) in &self.max_agent_resources {
            let lowest = ceilings.entry(name.clone()).or_insert(*amount);
            *lowest = (*lowest).min(*amount);
        }
        GuardRails {
            receivers: self.allowed_receivers.clone(),
            images: self.allowed_images.clone(),
            min_scrape_interval: self.min_scrape_interval,
            ceilings,
            max_targets: self.max_targets.and_then(|most| u64::try_from(most).ok()),
        }
    }
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
            guard_rails: self.guard_rails.to_guard_rails(),
        }
    }
}
