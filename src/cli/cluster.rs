//! The cluster that an offline command decides for.
//!
//! Input: flags and a folder of manifests. Output: catalog and policy, as a webhook with the same flags would have them.

use std::fs;
use std::path::PathBuf;

use anyhow::bail;

use super::UsageError;
use super::input;
use super::policy::PolicyArgs;
use super::settings::SettingsArgs;
use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::manifest::Document;
use crate::store::documents;

/// Flags of the cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// Folder or file with `PrometheusAgents` and Namespaces.
    #[arg(short, long, env = "PROMSIDECAR_TEMPLATES", value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// Namespace of the pods; before the one in their metadata.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl ClusterArgs {
    /// Reads the folder. An object that cannot be read is an error here: there is no last good version to fall back to.
    pub fn load(&self) -> anyhow::Result<(Catalog, Policy)> {
        self.load_beside(Vec::new())
    }

    /// The same, where the manifests at hand may have templates and namespaces in them too.
    pub fn load_beside(&self, manifests: Vec<(String, Vec<Document>)>) -> anyhow::Result<(Catalog, Policy)> {
        let mut files = documents::Files::new();
        if let Some(templates) = &self.templates {
            for file in input::manifests(templates)? {
                files.insert(file.display().to_string(), input::documents(&file)?);
            }
        }
        let same = |file: &str| {
            let real = |file: &str| fs::canonicalize(file).ok();
            real(file).is_some_and(|real_file| files.keys().any(|key| real(key).as_ref() == Some(&real_file)))
        };
        let beside: Vec<_> = manifests.into_iter().filter(|(file, _)| !same(file)).collect();
        files.extend(beside);
        let built = documents::build(&files, &self.settings.to_settings(), &Catalog::default());
        if let Some(problem) = built.problems.first() {
            bail!("{}: document {}: {}", problem.file, problem.document, problem.message);
        }
        if self.templates.is_none() && built.catalog.templates().next().is_none() {
            let message =
                "--templates is not set: name a folder with PrometheusAgent and Namespace manifests";
            return Err(UsageError(message.to_owned()).into());
        }
        Ok((built.catalog, self.policy.to_policy()))
    }
}
