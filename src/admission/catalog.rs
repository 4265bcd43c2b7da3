//! What admission knows about templates and namespaces. PURE.
//!
//! Input: compiled templates and namespace metadata, put in by a store. Output: look-ups by name on an immutable snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::sidecar::Sidecar;
use crate::names;
use crate::template::agent::TemplateId;

/// An immutable snapshot; stores swap whole snapshots, so a request sees one consistent state. A clone shares what is not
/// changed afterwards.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Templates by namespace, then name.
    templates: Arc<BTreeMap<String, BTreeMap<String, Arc<TemplateEntry>>>>,
    /// Metadata by namespace name.
    namespaces: Arc<HashMap<String, Arc<NamespaceMeta>>>,
}

/// One `PrometheusAgent`, claimed or not.
#[derive(Debug, Clone)]
pub struct TemplateEntry {
    /// Namespace and name.
    pub id: TemplateId,
    /// `metadata.uid`; empty for objects in files.
    pub uid: String,
    /// Whether the object carries our controller id.
    pub claimed: bool,
    /// Whether the object has a deletion timestamp.
    pub deleting: bool,
    /// Which other namespaces may use it.
    pub allowed_namespaces: AllowedNamespaces,
    /// The newest good version, compiled; absent if there never was one.
    pub sidecar: Option<Arc<Sidecar>>,
    /// First violation of the current version, where it is not good: `spec.version: …`.
    pub violation: Option<String>,
}

/// Value of a template's `allowed-namespaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedNamespaces {
    /// `*`.
    All,
    /// The listed ones; its own is always allowed.
    Only(BTreeSet<String>),
}

impl AllowedNamespaces {
    /// Reads the annotation: `*` or names separated by commas. Absent means none but the template's own.
    pub fn parse(value: Option<&str>) -> Self {
        let names: BTreeSet<String> = split_list(value.unwrap_or_default()).map(str::to_owned).collect();
        if names.contains("*") { Self::All } else { Self::Only(names) }
    }
}

impl TemplateEntry {
    /// Whether the template's owner lets pods of `namespace` use it.
    pub fn permits(&self, namespace: &str) -> bool {
        self.id.namespace == namespace
            || match &self.allowed_namespaces {
                AllowedNamespaces::All => true,
                AllowedNamespaces::Only(names) => names.contains(namespace),
            }
    }
}

/// The metadata of a namespace that admission reads, as written; decisions interpret it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceMeta {
    /// Label `inject`.
    pub inject: Option<String>,
    /// Label `required`.
    pub required: Option<String>,
    /// Annotation `template`.
    pub template: Option<String>,
    /// Annotation `allowed-secrets`, split.
    pub allowed_secrets: BTreeSet<String>,
    /// First user id of `openshift.io/sa.scc.uid-range`.
    pub first_uid: Option<i64>,
}

impl NamespaceMeta {
    /// Reads labels and annotations of a Namespace by look-up functions, so that any representation serves.
    pub fn new<'a>(
        label: impl Fn(&str) -> Option<&'a str>,
        annotation: impl Fn(&str) -> Option<&'a str>,
    ) -> Self {
        Self {
            inject: label(names::INJECT).map(str::to_owned),
            required: label(names::REQUIRED).map(str::to_owned),
            template: annotation(names::TEMPLATE).map(str::to_owned),
            allowed_secrets: split_list(annotation(names::ALLOWED_SECRETS).unwrap_or_default())
                .map(str::to_owned)
                .collect(),
            first_uid: annotation(names::OPENSHIFT_UID_RANGE).and_then(first_uid),
        }
    }
}

/// First user id of a range: `1000650000/10000`, or the older `1000650000-1000659999`. Root, which our container must not
/// be, and ids that the API server would refuse count as none.
fn first_uid(range: &str) -> Option<i64> {
    let first: i32 = range.split(['/', '-']).next()?.trim().parse().ok()?;
    (first > 0).then_some(first.into())
}

/// A namespace that says nothing, or that is not known.
pub static UNKNOWN_NAMESPACE: NamespaceMeta = NamespaceMeta {
    inject: None,
    required: None,
    template: None,
    allowed_secrets: BTreeSet::new(),
    first_uid: None,
};

/// Items of a comma list, trimmed, empty ones left out.
pub(crate) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

impl Catalog {
    /// Adds or replaces a template.
    pub fn insert_template(&mut self, entry: TemplateEntry) {
        let by_namespace = Arc::make_mut(&mut self.templates);
        let by_name = by_namespace.entry(entry.id.namespace.clone()).or_default();
        by_name.insert(entry.id.name.clone(), Arc::new(entry));
    }

    /// Removes a template, if it is there.
    pub fn remove_template(&mut self, id: &TemplateId) {
        let by_namespace = Arc::make_mut(&mut self.templates);
        if let Some(by_name) = by_namespace.get_mut(&id.namespace) {
            by_name.remove(&id.name);
            if by_name.is_empty() {
                by_namespace.remove(&id.namespace);
            }
        }
    }

    /// Adds or replaces a namespace.
    pub fn insert_namespace(&mut self, name: String, meta: NamespaceMeta) {
        Arc::make_mut(&mut self.namespaces).insert(name, Arc::new(meta));
    }

    /// Removes a namespace, if it is there. Its templates are removed one by one, as they are deleted.
    pub fn remove_namespace(&mut self, name: &str) {
        Arc::make_mut(&mut self.namespaces).remove(name);
    }

    /// The same templates without a namespace, to be filled anew.
    #[must_use]
    pub fn without_namespaces(&self) -> Self {
        Self { templates: Arc::clone(&self.templates), namespaces: Arc::default() }
    }

    /// The template of that name.
    pub fn template(&self, namespace: &str, name: &str) -> Option<&Arc<TemplateEntry>> {
        self.templates.get(namespace)?.get(name)
    }

    /// The templates of one namespace, by name.
    pub fn templates_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<TemplateEntry>> {
        self.templates.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// Every template.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<TemplateEntry>> {
        self.templates.values().flat_map(BTreeMap::values)
    }

    /// Names of all namespaces, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// Metadata of a namespace, if known.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceMeta> {
        self.namespaces.get(name).map(AsRef::as_ref)
    }
}
