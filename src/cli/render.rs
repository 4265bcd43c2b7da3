//! `promsidecar render`: the Prometheus configuration that a template means.
//!
//! Input: a manifest with templates. Output: one `prometheus.yml` a template; what was derived, ignored or doubtful goes to
//! its head as comments, so that the text stays a valid file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::input;
use super::settings::SettingsArgs;
use super::templates::{self, Judged};
use crate::admission::sidecar::config_map_name;
use crate::template::agent::{Agent, TemplateId};
use crate::template::render;

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest with the template; - reads standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Namespace of the pods. [default: the template's]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Which template, where the manifest has several.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = super::policy::template_id)]
    template: Option<TemplateId>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command; output goes to `out`. Exit code 1 where a template is invalid.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut judged = templates::judge(&args.filename, &args.settings.to_settings())?;
    if let Some(wanted) = &args.template {
        judged.retain(|judged| judged.template.id == *wanted);
        if judged.is_empty() {
            bail!("{}: no template {wanted} in it", input::shown(&args.filename));
        }
    }
    let several = judged.len() > 1;
    let mut invalid = false;
    for (index, Judged { template, outcome, .. }) in judged.iter().enumerate() {
        if several && index > 0 {
            writeln!(out, "---")?;
        }
        match outcome {
            Ok(agent) => {
                let namespace = args.namespace.as_deref().unwrap_or(&template.id.namespace);
                for line in head(agent, namespace) {
                    writeln!(out, "# {line}")?;
                }
                write!(out, "{}", render::render(agent, namespace))?;
            }
            Err(violations) => {
                invalid = true;
                writeln!(out, "# {} is invalid:", template.id)?;
                for violation in violations {
                    writeln!(out, "#   {violation}")?;
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(invalid)))
}

/// What a reader of the configuration should know of it.
fn head(agent: &Agent, namespace: &str) -> Vec<String> {
    let mut lines = vec![
        format!("prometheus.yml of template {} for pods of {namespace}", agent.id),
        format!("key prometheus.yml of ConfigMap {namespace}/{}", config_map_name(&agent.id)),
    ];
    lines.extend(render::derived_lines(agent));
    lines.extend(agent.ignored.iter().map(|field| format!("ignored: {}: {}", field.path, field.why)));
    let warnings = agent.config.warnings.iter();
    lines.extend(warnings.map(|warning| format!("warning: {}: {}", warning.path, warning.text)));
    lines
}
