//! Where a template's configuration is needed. PURE.
//!
//! Input: the catalog, and what is known of the fleet. Output: for each template the namespaces whose pods need its ConfigMap:
//! its own, those that ask for it by label, and those in which its pods run.

use std::collections::BTreeMap;

use crate::admission::Policy;
use crate::admission::catalog::Catalog;
use crate::admission::decision;
use crate::template::agent::TemplateId;

/// The template that each asking namespace will get for its pods. Made whole: one more template in a namespace can make the
/// choice of another ambiguous.
pub fn asked<'a>(
    namespaces: impl Iterator<Item = &'a str>,
    catalog: &Catalog,
    policy: &Policy,
) -> BTreeMap<String, TemplateId> {
    namespaces
        .filter_map(|namespace| {
            let entry = decision::template_of_namespace(namespace, catalog, policy)?;
            Some((namespace.to_owned(), entry.id.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::asked;
    use crate::admission::Policy;
    use crate::admission::catalog::{Catalog, NamespaceMeta};
    use crate::names;
    use crate::store::compile::compile;
    use crate::template::Settings;

    #[test]
    fn namespaces_get_the_template_that_their_pods_will_get() {
        let mut catalog = Catalog::default();
        for (namespace, name, allowed) in [("a", "one", ""), ("a", "two", "c"), ("b", "one", "")] {
            let annotations =
                json!({(names::CONTROLLER_ID): "promsidecar", (names::ALLOWED_NAMESPACES): allowed});
            let object = json!({
                "apiVersion": "monitoring.coreos.com/v1alpha1",
                "kind": "PrometheusAgent",
                "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
                "spec": {},
            });
            catalog.insert_template(compile(&object, &Settings::default(), None).unwrap().entry);
        }
        let labelled = [
            // Two apply, so that none does; one applies; one is named; an annotation names one of another namespace.
            ("a", "true", None),
            ("b", "true", None),
            ("c", "true", Some("a/two")),
            // Not permitted, declined, not there.
            ("d", "true", Some("a/two")),
            ("e", "false", None),
            ("f", "one", None),
            ("kube-system", "one", None),
        ];
        for (name, inject, template) in labelled {
            let label = |key: &str| (key == names::INJECT).then_some(inject);
            let annotation = |key: &str| if key == names::TEMPLATE { template } else { None };
            catalog.insert_namespace(name.to_owned(), NamespaceMeta::new(label, annotation));
        }
        let asked = asked(labelled.iter().map(|(name, ..)| *name), &catalog, &Policy::default());
        let asked: Vec<String> = asked.iter().map(|(namespace, id)| format!("{namespace} {id}")).collect();
        assert_eq!(asked, ["b b/one", "c a/two"]);
    }
}
