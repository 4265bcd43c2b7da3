//! What the demo tells. IO: writes to the given output.
//!
//! Input: pod and answer. Output: text for people, in colour where asked.

use std::io::{self, Write};
use std::net::SocketAddr;

use anyhow::{Context, bail};
use json_patch::Patch;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::client::Answered;
use super::workspace::Workspace;
use crate::admission::status::Status;
use crate::cli::ordered::Ordered;
use crate::cli::style::{Style, Tone};
use crate::names;

/// Longest value that is shown whole.
const LONGEST: usize = 88;

/// Where and how to write.
pub(super) struct Report<'a, W> {
    pub(super) out: &'a mut W,
    pub(super) style: Style,
    pub(super) full: bool,
}

impl<W: Write> Report<'_, W> {
    /// What goes in.
    pub(super) fn introduction(&mut self, cluster: &[&str]) -> io::Result<()> {
        writeln!(self.out, "One pod through a real admission webhook, without a cluster.\n")?;
        self.heading("What the webhook knows")?;
        for name in cluster {
            writeln!(self.out, "  examples/{name}")?;
        }
        writeln!(
            self.out,
            "\n  examples/deployment.yaml is applied, and its ReplicaSet creates the first pod.\n"
        )
    }

    /// Verdict and diff; whether the pod was injected.
    pub(super) fn answer(
        &mut self,
        address: SocketAddr,
        path: &str,
        pod: &Value,
        answer: &Answered,
    ) -> anyhow::Result<bool> {
        self.heading("The API server asks")?;
        writeln!(self.out, "  POST https://{address}{path}")?;
        writeln!(self.out, "  HTTP {}, certificate verified against the webhook's own CA\n", answer.status)?;
        if answer.status != 200 {
            bail!("the webhook answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        let review: Value = serde_json::from_slice(&answer.body).context("the answer is no JSON")?;
        let response = &review["response"];
        let patched = patched(pod, response)?;

        self.heading("Verdict")?;
        let injected = self.verdict(response, &patched)?;
        writeln!(self.out)?;
        self.heading("What changes in the pod")?;
        if !self.full {
            writeln!(self.out, "  Long values are cut (…); promsidecar demo --full shows them.\n")?;
        }
        self.diff(&self.yaml(pod)?, &self.yaml(&patched)?)?;
        writeln!(self.out)?;
        Ok(injected)
    }

    fn verdict(&mut self, response: &Value, patched: &Value) -> anyhow::Result<bool> {
        let allowed = response["allowed"] == true;
        let status = patched["metadata"]["annotations"][names::STATUS].as_str();
        match status {
            Some(status) => {
                let status: Status<'_> = serde_json::from_str(status)?;
                let mode = status.mode.word();
                writeln!(self.out, "  injected: template {}, mode {mode}", status.template)?;
            }
            None if allowed => writeln!(self.out, "  admitted without an agent")?,
            None => {
                writeln!(self.out, "  denied: {}", response["status"]["message"].as_str().unwrap_or("?"))?;
            }
        }
        for warning in response["warnings"].as_array().into_iter().flatten() {
            writeln!(self.out, "  warning: {}", warning.as_str().unwrap_or("?"))?;
        }
        Ok(allowed && status.is_some())
    }

    /// The agent's configuration.
    pub(super) fn configuration(&mut self, text: &str) -> io::Result<()> {
        self.heading("The agent's prometheus.yml")?;
        writeln!(
            self.out,
            "  It comes from a ConfigMap of the pod's namespace; identity is filled in from the pod's environment.\n"
        )?;
        for line in text.lines() {
            writeln!(self.out, "  {line}")?;
        }
        writeln!(self.out)
    }

    /// For those who want to see more.
    pub(super) fn next_steps(&mut self) -> io::Result<()> {
        self.heading("What to try next")?;
        for (command, what) in [
            ("make serve", "keep this webhook running, edit its templates, ask it with curl"),
            ("promsidecar explain template-not-found", "what a reason means and how to fix it"),
            ("promsidecar webhook --help", "serve your own templates: --templates DIR"),
        ] {
            writeln!(self.out, "  {command:<40} {what}")?;
        }
        writeln!(
            self.out,
            "\n  docs/annotations.md has every key that pods, namespaces and templates may carry."
        )
    }

    /// How to ask the webhook that stays.
    pub(super) fn serving(
        &mut self,
        workspace: &Workspace,
        address: SocketAddr,
        path: &str,
    ) -> io::Result<()> {
        self.heading("Ask it yourself")?;
        let (ca, review) = (workspace.ca(), workspace.review());
        let port = address.port();
        writeln!(
            self.out,
            "  curl --silent --show-error --cacert {} \\\n    --header 'Content-Type: application/json' --data-binary @{} \\\n    https://localhost:{port}{path}\n",
            ca.display(),
            review.display(),
        )?;
        writeln!(
            self.out,
            "  The patch in the answer is base64: append | jq -r .response.patch | base64 -d | jq"
        )?;
        writeln!(
            self.out,
            "  Edit the manifests in {}: they are read again within seconds.",
            workspace.templates().display()
        )?;
        writeln!(
            self.out,
            "\n  Serving on https://{address}. Ctrl-C stops it and removes {}.",
            workspace.path().display()
        )?;
        self.out.flush()
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        self.styled(Tone::Heading, text)?;
        writeln!(self.out, "\n")
    }

    fn styled(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        write!(self.out, "{}", self.style.paint(tone, text))
    }

    fn diff(&mut self, before: &str, after: &str) -> io::Result<()> {
        let diff = TextDiff::from_lines(before, after);
        for (index, hunk) in diff.unified_diff().context_radius(4).iter_hunks().enumerate() {
            if index > 0 {
                write!(self.out, "  ")?;
                self.styled(Tone::Place, "…")?;
                writeln!(self.out)?;
            }
            for change in hunk.iter_changes() {
                let (sign, tone) = match change.tag() {
                    ChangeTag::Equal => (' ', None),
                    ChangeTag::Insert => ('+', Some(Tone::Good)),
                    ChangeTag::Delete => ('-', Some(Tone::Bad)),
                };
                let line = format!("{sign} {}", change.value().trim_end_matches('\n'));
                write!(self.out, "  ")?;
                match tone {
                    Some(tone) => self.styled(tone, &line)?,
                    None => write!(self.out, "{line}")?,
                }
                writeln!(self.out)?;
            }
        }
        Ok(())
    }

    fn yaml(&self, value: &Value) -> anyhow::Result<String> {
        let options = serde_saphyr::ser_options! { compact_list_indent: true };
        let mut value = Ordered::arranged(value.clone(), None);
        if !self.full {
            value.edit_texts(&cut);
        }
        Ok(serde_saphyr::to_string_with_options(&value, options)?)
    }
}

/// The pod after the patch of a response, applied by an engine that is not ours.
fn patched(pod: &Value, response: &Value) -> anyhow::Result<Value> {
    let mut patched = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        let patch: Patch = serde_json::from_slice(&base64_simd::STANDARD.decode_to_vec(patch)?)?;
        json_patch::patch(&mut patched, &patch)?;
    }
    Ok(patched)
}

/// The first line of a text, and no more than fits a terminal.
fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    if short.len() == text.len() { short } else { format!("{}…", short.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, cut};

    #[test]
    fn long_texts_are_cut_at_their_first_line() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(""), "");
        assert_eq!(cut("one\ntwo"), "one…");
        assert_eq!(cut(&"ä".repeat(LONGEST)), "ä".repeat(LONGEST));
        assert_eq!(cut(&"ä".repeat(LONGEST + 1)), "ä".repeat(LONGEST) + "…");
    }
}
