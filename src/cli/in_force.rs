//! What decides about the pods of a cluster. IO: asks the API server.
//!
//! Input: a client, and which namespace is looked at. Output: templates, monitors, namespaces and policy as the installed webhook
//! has them, as far as the user may see them; what he may not is noted.

use std::collections::BTreeMap;

use kube::Client;
use serde_json::Value;

use super::installed::{Flags, Serving, Unseen};
use crate::admission::Policy;
use crate::cluster::gaps::{Gaps, Listed};
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::{Resource, Seen, namespace};
use crate::cluster::snapshot::Objects;
use crate::cluster::{kinds, native};
use crate::names;
use crate::store::inventory::Inventory;

/// What decides.
pub struct InForce {
    /// Templates, monitors and namespaces.
    pub inventory: Inventory,
    /// What the webhook's flags say.
    pub policy: Policy,
    /// What could not be seen of templates, monitors and namespaces.
    pub gaps: Gaps,
    /// What could not be seen or read.
    pub notes: Vec<String>,
}

/// Looks at everything that decides about the pods of a namespace, or of all; `ours` are the flags where those of the webhook
/// cannot be had.
pub async fn gather(client: &Client, place: Option<&str>, ours: Flags) -> anyhow::Result<InForce> {
    let reader = Reader::new(client.clone());
    let own = ours.policy.namespaces.own.own_namespace.clone();
    let mut notes = Vec::new();
    let deployments = reader.list(&kinds::DEPLOYMENTS, Which::of(&own)).await?;
    let mut gaps = Gaps::default();
    let flags = match flags(&reader, &own, &deployments, &mut notes).await? {
        Some((flags, unseen)) => {
            gaps.flags = unseen;
            flags
        }
        None => ours,
    };
    let mut policy = flags.policy.to_policy();
    if flags.policy.kubernetes_version.is_none() {
        policy.native_sidecars = native::look_up(client).await?.0;
    }
    let objects = objects(&reader, place, &own, &mut gaps, &mut notes).await?;
    let (inventory, unreadable) = objects.inventory(&flags.settings.to_settings());
    notes.extend(unreadable);
    Ok(InForce { inventory, policy, gaps, notes })
}

/// The flags of the webhook that is installed, of the Deployments of our own namespace, and those that cannot be seen; what of them
/// cannot be had is noted.
pub async fn flags(
    reader: &Reader,
    own: &str,
    deployments: &Seen<Vec<Value>>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<(Flags, Vec<String>)>> {
    let deployments = match deployments {
        Ok(deployments) => deployments,
        Err(forbidden) => {
            notes.push(format!("{forbidden}: decided by the flags of this command"));
            return Ok(None);
        }
    };
    let mut own_deployments = deployments.iter().filter(|deployment| namespace(deployment) == own);
    let Some(serving) = own_deployments.find_map(Serving::of) else {
        notes.push(format!("no webhook is deployed in {own}: decided by the flags of this command"));
        return Ok(None);
    };
    let mut config_maps = BTreeMap::new();
    for name in serving.config_maps() {
        let config_map = reader.get(&kinds::CONFIG_MAPS, Some(own), &name).await?;
        config_maps.insert(name, config_map);
    }
    match serving.flags(&config_maps) {
        Ok((flags, Unseen { flags: unseen, sources })) => {
            let as_if = |what: &String| format!("{what}: decided as if it were not set");
            notes.extend(unseen.iter().map(as_if));
            notes.extend(sources);
            Ok(Some((flags, unseen)))
        }
        Err(why) => {
            notes.push(format!(
                "flags of the webhook cannot be read ({why}): decided by those of this command"
            ));
            Ok(None)
        }
    }
}

/// Templates, monitors and namespaces, as far as the user may see them.
async fn objects(
    reader: &Reader,
    place: Option<&str>,
    own: &str,
    gaps: &mut Gaps,
    notes: &mut Vec<String>,
) -> anyhow::Result<Objects> {
    let listed = reader.list(&kinds::NAMESPACES, Which { metadata: true, ..Which::default() }).await?;
    let namespaces = match (listed, place) {
        (Err(forbidden), Some(place)) => {
            let one = reader.get(&kinds::NAMESPACES, None, place).await?;
            gaps.namespaces =
                Listed { forbidden: Some(forbidden), only: one.is_ok().then(|| place.to_owned()) };
            seen(one.map(|one| one.into_iter().collect()), notes)
        }
        (listed, _) => {
            gaps.namespaces.forbidden = listed.as_ref().err().cloned();
            seen(listed, notes)
        }
    };
    let templates = everywhere(reader, &kinds::AGENTS, place, &mut gaps.templates, notes).await?;
    let mut monitors = everywhere(reader, &kinds::POD_MONITORS, place, &mut gaps.pod_monitors, notes).await?;
    // Of both kinds: a pod mounts the Secrets of either.
    monitors.extend(
        everywhere(reader, &kinds::SERVICE_MONITORS, place, &mut gaps.service_monitors, notes).await?,
    );
    let label = format!("{}=true", names::LAST_GOOD);
    let kept = reader.list(&kinds::CONFIG_MAPS, Which { label: Some(&label), ..Which::of(own) }).await?;
    gaps.last_good = kept.as_ref().err().cloned();
    Ok(Objects { templates, monitors, namespaces, kept: seen(kept, notes) })
}

/// Objects of all namespaces or, where these may not be seen, of the one that is looked at.
async fn everywhere(
    reader: &Reader,
    resource: &Resource,
    place: Option<&str>,
    gap: &mut Listed,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Value>> {
    match reader.list(resource, Which::default()).await? {
        Ok(all) => Ok(all),
        Err(forbidden) => {
            notes.push(forbidden.to_string());
            gap.forbidden = Some(forbidden);
            let Some(place) = place else { return Ok(Vec::new()) };
            let own = reader.list(resource, Which::of(place)).await?;
            gap.only = own.is_ok().then(|| place.to_owned());
            Ok(seen(own, notes))
        }
    }
}

/// What may be seen; what may not is noted.
pub fn seen(objects: Seen<Vec<Value>>, notes: &mut Vec<String>) -> Vec<Value> {
    objects.unwrap_or_else(|forbidden| {
        notes.push(forbidden.to_string());
        Vec::new()
    })
}
