//! What decides about the pods of a cluster. IO: asks the API server.
//!
//! Input: a client, and which namespace is looked at. Output: templates, monitors, namespaces and policy as the installed webhook
//! has them, as far as the user may see them; what he may not is noted.

use kube::Client;
use serde_json::Value;

use super::installed::{self, Flags};
use crate::admission::Policy;
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::{Resource, Seen};
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
    /// What could not be seen or read.
    pub notes: Vec<String>,
}

/// Looks at everything that decides about the pods of a namespace, or of all; `ours` are the flags where those of the webhook
/// cannot be had.
pub async fn gather(client: &Client, place: Option<&str>, ours: Flags) -> anyhow::Result<InForce> {
    let reader = Reader::new(client.clone());
    let own = ours.policy.namespaces.own.own_namespace.clone();
    let mut notes = Vec::new();
    let flags = flags(&reader, &own, ours, &mut notes).await?;
    let mut policy = flags.policy.to_policy();
    if flags.policy.kubernetes_version.is_none() {
        policy.native_sidecars = native::look_up(client).await?.0;
    }
    let objects = objects(&reader, place, &own, &mut notes).await?;
    let (inventory, unreadable) = objects.inventory(&flags.settings.to_settings());
    notes.extend(unreadable);
    Ok(InForce { inventory, policy, notes })
}

/// The flags of the webhook that is installed; else those of this command.
async fn flags(reader: &Reader, own: &str, ours: Flags, notes: &mut Vec<String>) -> anyhow::Result<Flags> {
    let deployments = match reader.list(&kinds::DEPLOYMENTS, Which::of(own)).await? {
        Ok(deployments) => deployments,
        Err(forbidden) => {
            notes.push(format!("{forbidden}: decided by the flags of this command"));
            return Ok(ours);
        }
    };
    match deployments.iter().find_map(installed::flags) {
        Some(Ok(flags)) => return Ok(flags),
        Some(Err(why)) => notes
            .push(format!("flags of the webhook cannot be read ({why}): decided by those of this command")),
        None => notes.push(format!("no webhook is deployed in {own}: decided by the flags of this command")),
    }
    Ok(ours)
}

/// Templates, monitors and namespaces, as far as the user may see them.
async fn objects(
    reader: &Reader,
    place: Option<&str>,
    own: &str,
    notes: &mut Vec<String>,
) -> anyhow::Result<Objects> {
    let namespaces = match (reader.list(&kinds::NAMESPACES, Which::default()).await?, place) {
        (Err(_), Some(place)) => {
            let one = reader.get(&kinds::NAMESPACES, None, place).await?;
            seen(one.map(|one| one.into_iter().collect()), notes)
        }
        (listed, _) => seen(listed, notes),
    };
    let templates = everywhere(reader, &kinds::AGENTS, place, notes).await?;
    let mut monitors = everywhere(reader, &kinds::POD_MONITORS, place, notes).await?;
    // Of both kinds: a pod mounts the Secrets of either.
    monitors.extend(everywhere(reader, &kinds::SERVICE_MONITORS, place, notes).await?);
    let label = format!("{}=true", names::LAST_GOOD);
    let kept = Which { label: Some(&label), ..Which::of(own) };
    Ok(Objects {
        templates,
        monitors,
        namespaces,
        kept: seen(reader.list(&kinds::CONFIG_MAPS, kept).await?, notes),
    })
}

/// Objects of all namespaces or, where these may not be seen, of the one that is looked at.
async fn everywhere(
    reader: &Reader,
    resource: &Resource,
    place: Option<&str>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Value>> {
    match reader.list(resource, Which::default()).await? {
        Ok(all) => Ok(all),
        Err(forbidden) => {
            notes.push(forbidden.to_string());
            let Some(place) = place else { return Ok(Vec::new()) };
            Ok(seen(reader.list(resource, Which::of(place)).await?, notes))
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
