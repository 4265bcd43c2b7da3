//! What a check finds. PURE.
//!
//! Input: texts. Output: findings of one check, at least one.

use serde::Serialize;

use crate::cluster::seen::Forbidden;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// The user may not see it.
    NotChecked,
    /// It works, and something should be known.
    Warning,
    /// It does not work.
    Failed,
}

impl Outcome {
    /// As it is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotChecked => "not checked",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// The findings of one check, as they come.
#[derive(Debug)]
pub struct Check {
    name: &'static str,
    findings: Vec<Finding>,
}

impl Check {
    /// A check of this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, findings: Vec::new() }
    }

    /// As it should be.
    pub fn ok(&mut self, found: impl Into<String>) {
        self.add(Outcome::Ok, found.into(), None);
    }

    /// It works, and something should be known.
    pub fn warning(&mut self, found: impl Into<String>, fix: impl Into<String>) {
        self.add(Outcome::Warning, found.into(), Some(fix.into()));
    }

    /// It does not work.
    pub fn failed(&mut self, found: impl Into<String>, fix: impl Into<String>) {
        self.add(Outcome::Failed, found.into(), Some(fix.into()));
    }

    /// The user may not see it.
    pub fn forbidden(&mut self, forbidden: &Forbidden) {
        self.add(Outcome::NotChecked, forbidden.to_string(), None);
    }

    /// It cannot be seen, for another reason.
    pub fn not_checked(&mut self, why: impl Into<String>) {
        self.add(Outcome::NotChecked, why.into(), None);
    }

    /// All that was found; where nothing was, this.
    pub fn or_ok(mut self, found: impl Into<String>) -> Vec<Finding> {
        if self.findings.is_empty() {
            self.ok(found);
        }
        self.findings
    }

    /// All that was found.
    pub fn end(self) -> Vec<Finding> {
        self.findings
    }

    /// The one finding of a check that the user may not make.
    pub fn only_forbidden(mut self, forbidden: &Forbidden) -> Vec<Finding> {
        self.forbidden(forbidden);
        self.findings
    }

    fn add(&mut self, outcome: Outcome, found: String, fix: Option<String>) {
        self.findings.push(Finding { check: self.name, outcome, found, fix });
    }
}

/// Findings as tests compare them: outcome, what was found, the fix.
#[cfg(test)]
pub(super) fn told(findings: &[Finding]) -> Vec<(Outcome, &str, &str)> {
    let fix = |finding: &'_ Finding| finding.fix.is_some();
    findings
        .iter()
        .map(|finding| {
            assert_eq!(fix(finding), finding.outcome >= Outcome::Warning, "{finding:?}");
            (finding.outcome, finding.found.as_str(), finding.fix.as_deref().unwrap_or_default())
        })
        .collect()
}
