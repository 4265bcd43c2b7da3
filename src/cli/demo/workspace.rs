//! The files of `demo --serve`: manifests to edit, a review to post, the certificate to trust. IO.
//!
//! Input: their content. Output: a new directory, removed when the demo ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A directory of this process alone.
pub(super) struct Workspace(PathBuf);

impl Workspace {
    /// Makes the directory with manifests and the review.
    pub(super) fn create(manifests: &[(&str, &str)], review: &[u8]) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("promsidecar-demo-{}", std::process::id()));
        // Never an existing one: somebody else may own it.
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        let workspace = Self(path);
        workspace.fill(manifests, review).with_context(|| format!("writing to {}", workspace.0.display()))?;
        Ok(workspace)
    }

    fn fill(&self, manifests: &[(&str, &str)], review: &[u8]) -> io::Result<()> {
        fs::create_dir(self.templates())?;
        for (name, text) in manifests {
            fs::write(self.templates().join(name), text)?;
        }
        fs::write(self.review(), review)
    }

    /// Writes the authority's certificate.
    pub(super) fn write_ca(&self, pem: &str) -> io::Result<()> {
        fs::write(self.ca(), pem)
    }

    /// Where the manifests are.
    pub(super) fn templates(&self) -> PathBuf {
        self.0.join("templates")
    }

    /// The review to post.
    pub(super) fn review(&self) -> PathBuf {
        self.0.join("review.json")
    }

    /// The certificate to trust.
    pub(super) fn ca(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    /// All of it.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // It is temporary; a left-over harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
