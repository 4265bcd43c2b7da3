//! Rendering: from a validated [`Agent`] to the text of `prometheus.yml`. PURE.
//!
//! Input: the agent, the namespace of the pods, and the monitors that apply there. Output: YAML, equal bytes for equal input. It holds no secret: credentials
//! are paths relative to the file's own directory.

use serde::Serialize;

use super::agent::Agent;
use super::prometheus::{Config, Global, Relabel, RemoteWrite, ScrapeConfig};
use crate::monitors::selection::Selection;
use crate::names;
use crate::release;

mod digits;
pub(crate) mod identity;
pub(crate) mod jobs;

/// Most bytes of a configuration: the API server takes objects of 1 MiB (`MaxSecretSize`), and a ConfigMap has metadata.
pub const MAX_BYTES: usize = 1024 * 1024 - 16 * 1024;

/// The configuration of the template's agents in one namespace.
pub fn config(agent: &Agent, namespace: &str, monitors: &Selection) -> Config {
    let mut scrape_configs = jobs::jobs(agent, namespace, &monitors.hinted);
    scrape_configs.extend_from_slice(&monitors.jobs);
    let identity = identity::write_rules(&scrape_configs);
    let mut global: Global = agent.config.global.clone();
    // Environment is expanded in external labels and nowhere else; write rules move the values and drop these labels.
    for fact in names::RUNTIME_FACTS {
        global.external_labels.insert(fact.external_label.to_owned(), format!("${{{}}}", fact.env));
    }
    Config {
        global,
        runtime: agent.config.runtime.clone(),
        storage: agent.config.storage.clone(),
        remote_write: agent.config.remote_write.iter().map(|write| with_identity(write, &identity)).collect(),
        scrape_configs,
        otlp: agent.config.otlp.clone(),
        tracing: agent.config.tracing.clone(),
    }
}

/// Our rules come first: the template's then see the series as upstream would have sent them.
fn with_identity(write: &RemoteWrite, identity: &[Relabel]) -> RemoteWrite {
    let mut write = write.clone();
    write.write_relabel_configs = identity.iter().cloned().chain(write.write_relabel_configs).collect();
    write
}

/// The text of the configuration.
pub fn render(agent: &Agent, namespace: &str, monitors: &Selection) -> String {
    let mut text = to_yaml(&config(agent, namespace, monitors));
    text.insert_str(0, release::CONFIGURATION_HEAD);
    text
}

/// Bytes of jobs in the text of a configuration.
pub fn size(jobs: &[ScrapeConfig]) -> usize {
    to_yaml(&jobs).len()
}

fn to_yaml(config: &impl Serialize) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false, compact_list_indent: true };
    serde_saphyr::to_string_with_options(config, options)
        .expect("invariant: maps with text keys and scalars are YAML")
}

/// What the template leaves open and memory decides, a line each.
pub fn derived_lines(agent: &Agent) -> Vec<String> {
    let derived = &agent.config.derived;
    let why = format!("from a memory limit of {}", agent.memory_limit());
    let samples = derived.sample_limit.map(|limit| format!("derived: sample_limit {limit}, {why}"));
    let body =
        derived.body_size_limit.as_ref().map(|limit| format!("derived: body_size_limit {limit}, {why}"));
    samples.into_iter().chain(body).collect()
}

/// One source of targets.
type Job = ScrapeConfig;
