//! References to Secrets and `ConfigMap`s. PURE.
//!
//! Input: selectors. Output: paths relative to the configuration file, with every file and variable recorded; or violations
//! where Prometheus has no file form.

use std::collections::BTreeSet;

use super::text;
use crate::template::agent::{FileReference, FileSource, SecretEnv};
use crate::template::api::http::{KeySelector, SecretOrConfigMap};
use crate::template::violation::{Findings, Path, Rule};

/// What the configuration needs besides itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Files.
    pub(crate) files: BTreeSet<FileReference>,
    /// Environment.
    pub(crate) secret_env: BTreeSet<SecretEnv>,
    /// Whether it is a monitor that needs them.
    of_monitor: bool,
}

/// Name and key of a selector, checked.
fn name_and_key(selector: &KeySelector, path: &Path, findings: &mut Findings) -> Option<(String, String)> {
    let name = selector.name.clone().filter(|name| !name.is_empty());
    let key = selector.key.clone().filter(|key| !key.is_empty());
    match &name {
        None => findings.violation_at(&path.key("name"), Rule::Required),
        Some(name) if !text::is_subdomain(name) => {
            findings.violation(
                &path.key("name"),
                name,
                Rule::Text("is not the name of an object (RFC 1123)"),
            );
        }
        Some(_) => {}
    }
    match &key {
        None => findings.violation_at(&path.key("key"), Rule::Required),
        Some(key) if !text::is_data_key(key) => {
            let rule = Rule::Text("is not a key: letters, digits, -, _ and ., not beginning with ..");
            findings.violation(&path.key("key"), key, rule);
        }
        Some(_) => {}
    }
    name.filter(|name| text::is_subdomain(name)).zip(key.filter(|key| text::is_data_key(key)))
}

impl Needs {
    /// Those of a monitor.
    pub(crate) fn of_monitor() -> Self {
        Self { of_monitor: true, ..Self::default() }
    }

    /// Adds files of others as files without which an agent runs.
    pub(crate) fn add_optional(&mut self, others: &Self) {
        for file in &others.files {
            let [essential, optional] =
                [true, false].map(|essential| FileReference { essential, ..file.clone() });
            if !self.files.contains(&essential) {
                self.files.insert(optional);
            }
        }
    }

    /// A file with one key of one object.
    fn file(
        &mut self,
        source: FileSource,
        selector: &KeySelector,
        essential: bool,
        path: &Path,
        findings: &mut Findings,
    ) -> Option<String> {
        let (name, key) = name_and_key(selector, path, findings)?;
        let file = FileReference { source, name, key, essential, of_monitor: self.of_monitor };
        let relative = file.path();
        // A file is essential if any use of it is; it stands in the set once.
        let other = FileReference { essential: !essential, ..file.clone() };
        if essential {
            self.files.remove(&other);
        }
        if !self.files.contains(&other) {
            self.files.insert(file);
        }
        Some(relative)
    }

    /// A key of a Secret as a file that Prometheus reads for every request.
    pub(crate) fn secret(
        &mut self,
        selector: Option<&KeySelector>,
        path: &Path,
        findings: &mut Findings,
    ) -> Option<String> {
        self.file(FileSource::Secret, selector?, false, path, findings)
    }

    /// A key of a Secret as a file without which the client cannot be made.
    pub(crate) fn tls_secret(
        &mut self,
        selector: Option<&KeySelector>,
        path: &Path,
        findings: &mut Findings,
    ) -> Option<String> {
        self.file(FileSource::Secret, selector?, true, path, findings)
    }

    /// A key of either kind of object as a file without which the client cannot be made.
    pub(crate) fn tls_either(
        &mut self,
        either: Option<&SecretOrConfigMap>,
        path: &Path,
        findings: &mut Findings,
    ) -> Option<String> {
        match either? {
            SecretOrConfigMap { secret: Some(_), config_map: Some(_) } => {
                findings.violation_at(
                    &path.key("secret"),
                    Rule::Conflict { with: path.key("configMap").to_string() },
                );
                None
            }
            SecretOrConfigMap { secret: Some(secret), .. } => {
                self.file(FileSource::Secret, secret, true, &path.key("secret"), findings)
            }
            SecretOrConfigMap { config_map: Some(map), .. } => {
                self.file(FileSource::ConfigMap, map, true, &path.key("configMap"), findings)
            }
            SecretOrConfigMap { .. } => None,
        }
    }

    /// A key of a Secret as an environment variable, of which an agent has one by that name.
    pub(crate) fn env(&mut self, env: &str, selector: &KeySelector, path: &Path, findings: &mut Findings) {
        let Some((secret, key)) = name_and_key(selector, path, findings) else { return };
        let wanted = SecretEnv { env: env.to_owned(), secret, key };
        let taken = self.secret_env.iter().find(|other| other.env == wanted.env && **other != wanted);
        if taken.is_some() {
            let rule = Rule::Other {
                rule: "differs from the keys of another remote write, and an agent has one pair of AWS keys in its environment",
                fix: "use the same Secret for both, or a role (roleArn, IRSA, Pod Identity)",
            };
            findings.violation(path, format!("{}/{}", wanted.secret, wanted.key), rule);
        } else {
            self.secret_env.insert(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Needs;
    use crate::template::api::http::KeySelector;
    use crate::template::violation::{Findings, Path};

    #[test]
    fn a_file_stands_once_and_is_essential_if_any_use_is() {
        let selector = KeySelector { name: Some("s".into()), key: Some("k".into()), optional: None };
        let (mut needs, mut findings) = (Needs::default(), Findings::default());
        let path = Path::root("p");
        for essential in [false, true, false] {
            let read = if essential { Needs::tls_secret } else { Needs::secret };
            let relative = read(&mut needs, Some(&selector), &path, &mut findings);
            assert_eq!(relative.as_deref(), Some("secrets/s/k"));
        }
        assert_eq!(needs.files.iter().map(|file| file.essential).collect::<Vec<_>>(), [true]);
        assert!(findings.violations.is_empty());
    }
}
