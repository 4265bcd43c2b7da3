//! The cluster that an offline command decides for.
//!
//! Input: flags and a folder of manifests. Output: catalog and policy, as a webhook with the same flags would have them.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::installed::Flags;
use super::policy::PolicyArgs;
use super::settings::SettingsArgs;
use super::{UsageError, input, values};
use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::manifest::Document;
use crate::monitors::object::Kind;
use crate::store::{compile, documents};
use crate::template::agent::TemplateId;

/// Flags of the cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// Folder or file with `PrometheusAgents`, monitors, Services and Namespaces.
    #[arg(short, long, env = "PROMSIDECAR_TEMPLATES", value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// Namespace of objects that name none. [default: default]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = values::namespace)]
    pub namespace: Option<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl ClusterArgs {
    /// The flags that decide.
    pub fn flags(&self) -> Flags {
        Flags { policy: self.policy.clone(), settings: self.settings.clone() }
    }

    /// Reads the folder, and the templates and namespaces among the manifests at hand. An object that cannot be read is an
    /// error here: there is no last good version to fall back to.
    pub fn load_beside(&self, manifests: Vec<(String, Vec<Document>)>) -> anyhow::Result<(Catalog, Policy)> {
        let mut files = documents::Files::new();
        if let Some(templates) = &self.templates {
            if templates == Path::new("-") {
                let message =
                    "--templates - cannot be used: standard input is for --filename; name a folder or file";
                return Err(UsageError(message.to_owned()).into());
            }
            for file in input::manifests(templates)? {
                files.insert(file.display().to_string(), input::documents(&file)?);
            }
        }
        // What is about to be applied counts before what is there.
        let newer: HashSet<_> =
            manifests.iter().flat_map(|(_, documents)| documents).filter_map(identity).collect();
        for documents in files.values_mut() {
            documents.retain(|document| identity(document).is_none_or(|id| !newer.contains(&id)));
        }
        for (file, documents) in manifests {
            files.entry(file).or_default().extend(documents);
        }
        let built = documents::build(&files, &self.settings.to_settings(), &Catalog::default());
        if let Some(problem) = built.problems.first() {
            bail!("{}: document {}: {}", problem.file, problem.document, problem.message);
        }
        for note in &built.notes {
            writeln!(std::io::stderr(), "{note}")?;
        }
        if self.templates.is_none() && built.catalog.templates().next().is_none() {
            let message =
                "--templates is not set: name a folder with PrometheusAgent and Namespace manifests";
            return Err(UsageError(message.to_owned()).into());
        }
        Ok((built.catalog, self.policy.to_policy()))
    }
}

/// Kind, namespace and name of a template, monitor, Service or Namespace.
fn identity(document: &Document) -> Option<(String, TemplateId)> {
    let kind = document.kind();
    let mut id = compile::template_id(document.object.get("metadata")?);
    match kind {
        "Namespace" => id.namespace.clear(),
        crate::template::KIND | "Service" => {}
        monitor if [Kind::Pod, Kind::Service].iter().any(|kind| kind.word() == monitor) => {}
        _ => return None,
    }
    Some((kind.to_owned(), id))
}
