//! Which template applies: rows 7 to 10 of the reasons. PURE.
//!
//! Input: what is wanted, the pod's namespace and the catalog. Output: the template, or the refusal with near misses.
//! Names of other namespaces' templates do not leak: whether one is missing, not claimed or not permitted, the pod's owner
//! reads the same sentence, and only the audit trail has the truth.

use std::sync::Arc;

use super::Policy;
use super::catalog::{Catalog, NamespaceMeta, TemplateEntry};
use super::decision::Refusal;
use super::reason::Reason;
use super::request::{Reference, Wanted};

/// Most near misses that are named.
const MAX_NEAR_MISSES: usize = 3;

/// Finds the template that applies.
pub(super) fn find<'a>(
    namespace: &str,
    wanted: Wanted<'_>,
    catalog: &'a Catalog,
    policy: &Policy,
    meta: &NamespaceMeta,
) -> Result<&'a TemplateEntry, Refusal> {
    match wanted {
        Wanted::Template(reference, _) => named(namespace, reference, catalog, meta),
        _ => only(namespace, catalog, policy, meta),
    }
}

fn named<'a>(
    namespace: &str,
    reference: Reference<'_>,
    catalog: &'a Catalog,
    meta: &NamespaceMeta,
) -> Result<&'a TemplateEntry, Refusal> {
    let home = reference.namespace.unwrap_or(namespace);
    let foreign = home != namespace;
    let not_found = || {
        let near = near_misses(namespace, reference.name, catalog, meta);
        if foreign {
            format!("no template {home}/{} that {namespace} may use{near}", reference.name)
        } else {
            format!("no template {} in {namespace}{near}", reference.name)
        }
    };
    let Some(entry) = catalog.template(home, reference.name) else {
        return Err(Refusal::new(Reason::TemplateNotFound, not_found()));
    };
    let refuse = |reason, detail| {
        let mut refusal = Refusal::new(reason, detail);
        if foreign {
            refusal.told = Some((Reason::TemplateNotFound, not_found()));
        }
        refusal
    };
    if !entry.claimed {
        let detail = format!("{} lacks our operator.prometheus.io/controller-id", entry.id);
        return Err(refuse(Reason::TemplateNotClaimed, detail));
    }
    permitted(namespace, entry, meta).map_err(|detail| refuse(Reason::TemplateNotPermitted, detail))?;
    Ok(entry)
}

/// Both halves of the permission: the template's owner allows the namespace, the namespace allows the Secrets.
fn permitted(namespace: &str, entry: &TemplateEntry, meta: &NamespaceMeta) -> Result<(), String> {
    if !entry.permits(namespace) {
        return Err(format!("{} does not list {namespace} in allowed-namespaces", entry.id));
    }
    if entry.id.namespace == namespace {
        return Ok(());
    }
    let objects = entry.sidecar.iter().flat_map(|sidecar| sidecar.objects.iter());
    match objects.into_iter().find(|name| !meta.allowed_secrets.contains(*name)) {
        Some(name) => Err(format!(
            "namespace {namespace} does not list {name} in allowed-secrets, which {} uses",
            entry.id
        )),
        None => Ok(()),
    }
}

/// The only eligible template of the pod's namespace, else the default one.
fn only<'a>(
    namespace: &str,
    catalog: &'a Catalog,
    policy: &Policy,
    meta: &NamespaceMeta,
) -> Result<&'a TemplateEntry, Refusal> {
    let claimed = || catalog.templates_in(namespace).filter(|entry| entry.claimed);
    let mut eligible = claimed().filter(|entry| !entry.deleting);
    if let Some(first) = eligible.next() {
        let others: Vec<_> = eligible.map(|entry| &*entry.id.name).collect();
        if others.is_empty() {
            return Ok(first);
        }
        let names = [&[&*first.id.name], others.as_slice()].concat().join(", ");
        return Err(Refusal::new(Reason::TemplateAmbiguous, format!("{namespace} has {names}: name one")));
    }
    if let Some(default) = &policy.default_template {
        let reference = Reference { namespace: Some(&default.namespace), name: &default.name };
        return named(namespace, reference, catalog, meta);
    }
    // What is left explains best: a template on its way out, or one that nobody claimed.
    if let Some(deleting) = claimed().next() {
        return Ok(deleting);
    }
    let unclaimed: Vec<_> = catalog.templates_in(namespace).map(|entry| &*entry.id.name).collect();
    let detail = if unclaimed.is_empty() {
        format!("no template in {namespace}, and no default one")
    } else {
        format!(
            "{namespace} has no template, only PrometheusAgents that nobody claimed: {}",
            unclaimed.join(", ")
        )
    };
    Err(Refusal::new(Reason::TemplateNotFound, detail))
}

/// Templates of similar names that this namespace may use, as `; near: a, b`.
fn near_misses(namespace: &str, wanted: &str, catalog: &Catalog, meta: &NamespaceMeta) -> String {
    let usable = |entry: &&Arc<TemplateEntry>| entry.claimed && permitted(namespace, entry, meta).is_ok();
    let mut near: Vec<(usize, String)> = catalog
        .templates()
        .filter(usable)
        .filter_map(|entry| {
            let distance = strsim::damerau_levenshtein(&entry.id.name, wanted);
            let close = distance <= 1 + wanted.chars().count() / 4;
            let name =
                if entry.id.namespace == namespace { entry.id.name.clone() } else { entry.id.to_string() };
            close.then_some((distance, name))
        })
        .collect();
    near.sort();
    if near.is_empty() {
        return String::new();
    }
    let names: Vec<_> = near.into_iter().take(MAX_NEAR_MISSES).map(|(_, name)| name).collect();
    format!("; near: {}", names.join(", "))
}
