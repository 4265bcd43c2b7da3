//! Which template applies: rows 7 to 10 of the reasons. PURE.
//!
//! Input: what is wanted, the pod's namespace and the catalog. Output: the template, or the refusal with near misses.
//! Names of other namespaces' templates do not leak: whether one is missing, not claimed or not permitted, the pod's owner
//! reads the same sentence after the same wait, and only the audit trail has the truth.

use std::sync::Arc;

use super::catalog::TemplateEntry;
use super::decision::{Missing, Refusal, Scope};
use super::reason::Reason;
use super::request::{Reference, Wanted};
use crate::template::agent::TemplateId;

/// Most near misses that are named.
const MAX_NEAR_MISSES: usize = 3;
/// Most names that are compared letter by letter, which takes time by the square of their length.
const MAX_COMPARED: usize = 50;

/// Finds the template that applies.
pub(super) fn find<'a>(scope: &Scope<'a, '_>, wanted: Wanted<'_>) -> Result<&'a TemplateEntry, Refusal> {
    match wanted {
        Wanted::Template(reference, _) => named(scope, reference),
        _ => only(scope),
    }
}

fn named<'a>(scope: &Scope<'a, '_>, reference: Reference<'_>) -> Result<&'a TemplateEntry, Refusal> {
    let namespace = scope.namespace;
    let home = reference.namespace.unwrap_or(namespace);
    let foreign = home != namespace;
    let not_found = || {
        let near = near_misses(scope, reference.name);
        if foreign {
            format!("no template {home}/{} that {namespace} may use{near}", reference.name)
        } else {
            format!("no template {} in {namespace}{near}", reference.name)
        }
    };
    let entry = scope.catalog.template(home, reference.name);
    let entry = entry.ok_or_else(|| {
        let id = TemplateId { namespace: home.to_owned(), name: reference.name.to_owned() };
        Refusal::new(Reason::TemplateNotFound, not_found()).for_lack_of(Missing::Template(id))
    })?;
    usable(scope, entry)
        .map_err(|refusal| if foreign { withhold(refusal, &entry.id, not_found()) } else { refusal })?;
    Ok(entry)
}

/// The refusal of a template that its asker must not learn of. It is waited for like one that is not there: by an answer
/// that comes at once, it would be told from that.
fn withhold(refusal: Refusal, id: &TemplateId, told: String) -> Refusal {
    let told = Some((Reason::TemplateNotFound, told));
    Refusal { told, ..refusal }.for_lack_of(Missing::Template(id.clone()))
}

/// Whether the template is one of ours, and for this namespace.
fn usable(scope: &Scope<'_, '_>, entry: &TemplateEntry) -> Result<(), Refusal> {
    if entry.claimed {
        permitted(scope, entry).map_err(|detail| Refusal::new(Reason::TemplateNotPermitted, detail))
    } else {
        let detail = format!("{} lacks our operator.prometheus.io/controller-id", entry.id);
        Err(Refusal::new(Reason::TemplateNotClaimed, detail))
    }
}

/// Both halves of the permission: the template's owner allows the namespace, the namespace allows the Secrets.
fn permitted(scope: &Scope<'_, '_>, entry: &TemplateEntry) -> Result<(), String> {
    let namespace = scope.namespace;
    if !entry.permits(namespace) {
        return Err(format!("{} does not list {namespace} in allowed-namespaces", entry.id));
    }
    if entry.id.namespace == namespace {
        return Ok(());
    }
    let objects = entry.sidecar.iter().flat_map(|sidecar| sidecar.objects.iter());
    match objects.into_iter().find(|name| !scope.meta.allowed_secrets.contains(*name)) {
        Some(name) => Err(format!(
            "namespace {namespace} does not list {name} in allowed-secrets, which {} uses",
            entry.id
        )),
        None => Ok(()),
    }
}

/// The only eligible template of the pod's namespace, else the default one.
fn only<'a>(scope: &Scope<'a, '_>) -> Result<&'a TemplateEntry, Refusal> {
    let (namespace, catalog) = (scope.namespace, scope.catalog);
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
    if let Some(id) = &scope.policy.default_template {
        return default(scope, id);
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
    let missing = Missing::AnyTemplate(namespace.to_owned());
    Err(Refusal::new(Reason::TemplateNotFound, detail).for_lack_of(missing))
}

/// The template of `--default-template`. The pod's owner did not name it, so nothing told to them does.
fn default<'a>(scope: &Scope<'a, '_>, id: &TemplateId) -> Result<&'a TemplateEntry, Refusal> {
    let namespace = scope.namespace;
    let entry = scope.catalog.template(&id.namespace, &id.name);
    let found = match entry {
        Some(entry) => usable(scope, entry).map(|()| &**entry),
        None => {
            let detail = format!("the default template {id} does not exist");
            Err(Refusal::new(Reason::TemplateNotFound, detail).for_lack_of(Missing::Template(id.clone())))
        }
    };
    found.map_err(|refusal| {
        if id.namespace == namespace {
            return refusal;
        }
        withhold(refusal, id, format!("no template in {namespace}, and no default one that it may use"))
    })
}

/// Templates of similar names that this namespace may use, as `; near: a, b`.
fn near_misses(scope: &Scope<'_, '_>, wanted: &str) -> String {
    let most = 1 + wanted.len() / 4;
    let similar = |entry: &&Arc<TemplateEntry>| {
        entry.id.name.len().abs_diff(wanted.len()) <= most && usable(scope, entry).is_ok()
    };
    let foreign = scope.catalog.templates().filter(|entry| entry.id.namespace != scope.namespace);
    let mut near: Vec<(usize, String)> = scope
        .catalog
        .templates_in(scope.namespace)
        .chain(foreign)
        .filter(similar)
        .take(MAX_COMPARED)
        .filter_map(|entry| {
            let distance = strsim::damerau_levenshtein(&entry.id.name, wanted);
            let own = entry.id.namespace == scope.namespace;
            let name = if own { entry.id.name.clone() } else { entry.id.to_string() };
            (distance <= most).then_some((distance, name))
        })
        .collect();
    near.sort();
    if near.is_empty() {
        return String::new();
    }
    let names: Vec<_> = near.into_iter().take(MAX_NEAR_MISSES).map(|(_, name)| name).collect();
    format!("; near: {}", names.join(", "))
}
