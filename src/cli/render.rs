//! `promsidecar render`: the Prometheus configuration that a template means, alone or as the ConfigMap that carries it.
//!
//! Input: a manifest with templates and monitors. Output: one `prometheus.yml` or ConfigMap a template; what was derived, ignored or
//! doubtful goes to its head as comments, so that the text stays a valid file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use super::output;
use super::settings::SettingsArgs;
use super::templates::{self, Judged, Manifests};
use super::{UsageError, input, values};
use crate::admission::catalog::AllowedNamespaces;
use crate::admission::sidecar::config_map_name;
use crate::monitors::selection::Selection;
use crate::names;
use crate::template::agent::{Agent, TemplateId};
use crate::template::violation::Violation;
use crate::template::{Template, render};

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest or folder of manifests with the template, monitors, Services and Namespaces; - reads standard input.
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: PathBuf,
    /// Namespace of the pods. [default: the template's]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = values::namespace)]
    namespace: Option<String>,
    /// Print the ConfigMap of this namespace that carries the configuration, for kubectl apply.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "namespace", value_parser = values::namespace)]
    configmap: Option<String>,
    /// Which template, where the manifest has several.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = super::policy::template_id)]
    template: Option<TemplateId>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// How configurations are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One YAML document a template.
    Yaml,
    /// A `ConfigMap`, or a List of several; without --configmap one array with an object a template.
    Json,
}

/// A template that can be rendered, with what it is rendered for.
struct Rendered<'a> {
    template: &'a Template,
    agent: &'a Agent,
    namespace: &'a str,
    settings: &'a SettingsArgs,
    selection: Selection,
}

/// Runs the command; output goes to `out`. Exit code 1 where a template is invalid.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Manifests { mut judged, monitors, unusable } =
        templates::judge(&args.filename, &args.settings.to_settings())?;
    for line in &unusable {
        writeln!(std::io::stderr(), "{line}")?;
    }
    if let Some(wanted) = &args.template {
        let found: Vec<_> = judged.iter().map(|judged| judged.template.id.to_string()).collect();
        judged.retain(|judged| judged.template.id == *wanted);
        if judged.is_empty() {
            let (file, found) = (input::shown(&args.filename), found.join(", "));
            return Err(UsageError(format!("--template {wanted} is not in {file}: it has {found}")).into());
        }
    }
    let namespace = args.configmap.as_deref().or(args.namespace.as_deref());
    let outcomes = judged.iter().map(|Judged { template, outcome, .. }| {
        let namespace = namespace.unwrap_or(&template.id.namespace);
        let rendered = |agent| {
            let selection = monitors.select(agent, namespace);
            Rendered { template, agent, namespace, settings: &args.settings, selection }
        };
        (template, outcome.as_deref().map(rendered))
    });
    let outcomes: Vec<_> = outcomes.collect();
    match (args.output, args.configmap.is_some()) {
        (Format::Yaml, config_map) => write_yaml(&outcomes, config_map, out)?,
        (Format::Json, false) => output::json(out, &outcomes.iter().map(to_json).collect::<Vec<_>>())?,
        (Format::Json, true) => write_config_maps(&outcomes, out)?,
    }
    Ok(ExitCode::from(u8::from(outcomes.iter().any(|(_, outcome)| outcome.is_err()))))
}

/// A `ConfigMap`, its fields in the order in which people read them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    data: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
    namespace: String,
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
}

/// A template, and what it renders to or why it does not.
type Outcome<'a> = (&'a Template, Result<Rendered<'a>, &'a Vec<Violation>>);

fn write_yaml(outcomes: &[Outcome<'_>], config_map: bool, out: &mut impl Write) -> anyhow::Result<()> {
    for (index, (template, outcome)) in outcomes.iter().enumerate() {
        if index > 0 {
            writeln!(out, "---")?;
        }
        match outcome {
            Ok(rendered) => {
                for line in rendered.head() {
                    writeln!(out, "# {line}")?;
                }
                if config_map {
                    write!(out, "{}", serde_saphyr::to_string(&rendered.config_map())?)?;
                } else {
                    write!(out, "{}", rendered.text())?;
                }
            }
            Err(violations) => {
                writeln!(out, "# {} is invalid:", template.id)?;
                for violation in *violations {
                    writeln!(out, "#   {violation}")?;
                }
            }
        }
    }
    Ok(())
}

/// One object, or a List: both are what kubectl applies. JSON has no comments, so violations and notes go to standard
/// error.
fn write_config_maps(outcomes: &[Outcome<'_>], out: &mut impl Write) -> anyhow::Result<()> {
    let mut config_maps = Vec::new();
    for (template, outcome) in outcomes {
        match outcome {
            Ok(rendered) => {
                for note in rendered.notes() {
                    writeln!(std::io::stderr(), "{}: {note}", template.id)?;
                }
                config_maps.push(rendered.config_map());
            }
            Err(violations) => {
                for violation in *violations {
                    writeln!(std::io::stderr(), "{} is invalid: {violation}", template.id)?;
                }
            }
        }
    }
    match &config_maps[..] {
        [one] => output::json(out, one),
        several => output::json(out, &json!({"apiVersion": "v1", "kind": "List", "items": several})),
    }
}

fn to_json((template, outcome): &Outcome<'_>) -> Value {
    let rendered = outcome.as_ref().ok();
    let violations = outcome.as_ref().err().map_or(&[][..], |violations| violations.as_slice());
    json!({
        "template": template.id.to_string(),
        "configMap": config_map_name(&template.id),
        "namespace": rendered.map(|rendered| rendered.namespace),
        names::CONFIG_KEY: rendered.map(Rendered::text),
        "notes": rendered.map(Rendered::notes),
        "violations": violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

impl Rendered<'_> {
    fn text(&self) -> String {
        render::render(self.agent, self.namespace, &self.selection)
    }

    /// The object that the pods of the namespace mount.
    fn config_map(&self) -> ConfigMap {
        ConfigMap {
            api_version: "v1",
            kind: "ConfigMap",
            metadata: Metadata {
                name: config_map_name(&self.agent.id),
                namespace: self.namespace.to_owned(),
                labels: [(names::MANAGED_BY, names::MANAGER.to_owned())].into(),
                annotations: [(names::TEMPLATE, self.agent.id.to_string())].into(),
            },
            data: [(names::CONFIG_KEY, self.text())].into(),
        }
    }

    /// What a reader of the configuration should know of it.
    fn head(&self) -> Vec<String> {
        let (id, namespace) = (&self.agent.id, self.namespace);
        let mut lines = vec![
            format!("{} of template {id} for pods of {namespace}", names::CONFIG_KEY),
            format!("key {} of ConfigMap {namespace}/{}", names::CONFIG_KEY, config_map_name(id)),
        ];
        lines.extend(self.notes());
        lines
    }

    fn notes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.template.claimed {
            let (annotation, id) = (names::CONTROLLER_ID, &self.settings.controller_id);
            lines.push(format!("not claimed: it is no template without the annotation {annotation}: {id}"));
        }
        if !self.is_permitted() {
            let (annotation, namespace) = (names::ALLOWED_NAMESPACES, self.namespace);
            lines.push(format!("not permitted: the template's {annotation} does not name {namespace}"));
        }
        lines.extend(render::derived_lines(self.agent));
        let ignored = self.agent.ignored.iter();
        lines.extend(ignored.map(|field| format!("ignored: {}: {}", field.path, field.why)));
        let warnings = self.agent.config.warnings.iter();
        lines.extend(warnings.map(|warning| format!("warning: {}: {}", warning.path, warning.text)));
        lines.extend(self.selection.notes());
        lines
    }

    fn is_permitted(&self) -> bool {
        let allowed = AllowedNamespaces::parse(self.template.allowed_namespaces.as_deref());
        self.agent.id.namespace == self.namespace
            || match allowed {
                AllowedNamespaces::All => true,
                AllowedNamespaces::Only(names) => names.contains(self.namespace),
            }
    }
}
