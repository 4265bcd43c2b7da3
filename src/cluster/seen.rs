//! What a user may see of the cluster, and what not. PURE.
//!
//! Input: answers of the API server. Output: what was asked for, or what the user may not do, in words.

use std::fmt;

use serde_json::Value;

use crate::names;

/// What was asked for, if the user may see it.
pub type Seen<T> = Result<T, Forbidden>;

/// Something that the user may not do: `list pods in every namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden(pub String);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forbidden: you may not {}", self.0)
    }
}

/// A kind of object, as the API server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Group and version: `apps/v1`, `v1`.
    pub api_version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// Whether its objects have no namespace.
    pub of_cluster: bool,
}

impl Resource {
    /// A kind whose objects have namespaces.
    pub const fn new(api_version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { api_version, kind, plural, of_cluster: false }
    }

    /// A kind whose objects have none.
    pub const fn of_cluster(api_version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { of_cluster: true, ..Self::new(api_version, kind, plural) }
    }

    /// Path of all objects, or of those of a namespace.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let scope = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
        format!("{root}/{}{scope}/{}", self.api_version, self.plural)
    }

    /// `deployments.apps`.
    pub fn full_name(&self) -> String {
        match self.api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.plural),
            None => self.plural.to_owned(),
        }
    }
}

/// Whether an object is labelled as a part of promsidecar.
pub fn is_ours(object: &Value) -> bool {
    label(object, "app.kubernetes.io/name") == Some(names::MANAGER)
}

/// The text of a value; nothing where it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list; none where it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

/// Namespace of an object.
pub fn namespace(object: &Value) -> &str {
    text(&object["metadata"]["namespace"])
}

/// A label of an object.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// An annotation of an object.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// What a kubelet says of a container of a pod, whichever list it stands in; null where it says nothing.
pub fn container_status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|key| list(&pod["status"][key]));
    statuses.into_iter().flatten().find(|status| status["name"] == name).unwrap_or(&Value::Null)
}

/// `namespace/name`, or the name of what has no namespace.
pub fn identity(object: &Value) -> String {
    match namespace(object) {
        "" => name(object).to_owned(),
        namespace => format!("{namespace}/{}", name(object)),
    }
}

/// Some of many names: the first of them, and how many more there are.
pub fn some(names: &[String]) -> String {
    /// Most that are named.
    const MOST: usize = 5;
    let first = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Resource, some};

    #[test]
    fn a_kind_has_its_path_and_its_name() {
        let (pods, deployments) =
            (Resource::new("v1", "Pod", "pods"), Resource::new("apps/v1", "Deployment", "deployments"));
        assert_eq!(pods.path(None), "/api/v1/pods");
        assert_eq!(deployments.path(Some("a")), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!((&*pods.full_name(), &*deployments.full_name()), ("pods", "deployments.apps"));
    }

    #[test]
    fn of_many_names_the_first_are_told_and_the_others_counted() {
        let names = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(some(&names(5)), "0, 1, 2, 3, 4");
        assert_eq!(some(&names(7)), "0, 1, 2, 3, 4 and 2 more");
    }
}
