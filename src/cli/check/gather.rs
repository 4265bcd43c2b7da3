//! What `check` asks the API server. IO.
//!
//! Input: a reader. Output: [`Facts`], or what may be [`Left`]; what the user may not see is among them, and an error is an API
//! server that does not answer.

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::admission::Policy;
use crate::check::cluster::definition_names;
use crate::check::facts::{Facts, Names};
use crate::check::leftovers::{INSTALLED, Left, is_shared};
use crate::check::parts::POLICY_NAME;
use crate::check::permissions::{Access, CREATED, makes_certificate, wanted};
use crate::check::probe::{self, Outcome, Tried};
use crate::cli::in_force;
use crate::cluster::kinds;
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::{Resource, Seen, namespace};
use crate::names;
use crate::template::Settings;

/// By which a server selects monitors.
const SELECTORS: [&str; 4] = [
    "/spec/podMonitorSelector",
    "/spec/podMonitorNamespaceSelector",
    "/spec/serviceMonitorSelector",
    "/spec/serviceMonitorNamespaceSelector",
];
/// Reviews at once.
const AT_ONCE: usize = 8;

/// Everything that the checks look at.
pub(super) async fn facts(
    reader: &Reader,
    names: Names,
    mut settings: Settings,
    now: Timestamp,
    is_installed: bool,
) -> anyhow::Result<Facts> {
    // The first one tells whether anybody answers.
    let version = reader.version().await?;
    let own = names.own_namespace.as_str();
    // Of all that a cluster has, what is looked at.
    let all = |resource: &'static Resource, only: &'static [&'static str]| {
        reader.list(resource, Which { only, ..Which::default() })
    };
    let deployments = deployments(reader, own).await?;
    let (mut admission, mut unseen_flags) = (Policy::default(), Vec::new());
    if is_installed
        && let Some((flags, _)) = in_force::flags(reader, own, &deployments, &mut unseen_flags).await?
    {
        settings = flags.settings.to_settings();
        admission = flags.policy.to_policy();
    }
    let (mut permissions, mut installer) = (Vec::new(), Vec::new());
    if is_installed {
        permissions = permitted(reader, own, &deployments).await?;
    } else {
        for created in CREATED {
            installer.push((created, reader.may_i(&created.review(own)).await?));
        }
    }
    let (registrations, nodes, namespaces, limit_ranges, quotas, agents, prometheuses) = tokio::try_join!(
        all(&kinds::REGISTRATIONS, &["/webhooks"]),
        all(&kinds::NODES, &["/status/nodeInfo/kubeletVersion"]),
        reader.list(&kinds::NAMESPACES, Which { metadata: true, ..Which::default() }),
        all(&kinds::LIMIT_RANGES, &["/spec"]),
        all(&kinds::QUOTAS, &["/spec", "/status"]),
        all(&kinds::AGENTS, &["/spec"]),
        all(&kinds::PROMETHEUSES, &SELECTORS),
    )?;
    let (injected, pod_monitors, service_monitors, services) = tokio::try_join!(
        injected(reader),
        all(&kinds::POD_MONITORS, &["/spec"]),
        all(&kinds::SERVICE_MONITORS, &["/spec"]),
        all(&kinds::SERVICES, &["/spec/selector"]),
    )?;
    let (secret, lease, policy, binding) = tokio::try_join!(
        reader.get(&kinds::SECRETS, Some(own), &names.secret),
        reader.get(&kinds::LEASES, Some(own), names::LEASE),
        reader.get(&kinds::POLICIES, None, POLICY_NAME),
        reader.get(&kinds::BINDINGS, None, POLICY_NAME),
    )?;
    let mut definitions = std::collections::BTreeMap::new();
    for name in definition_names() {
        definitions.insert(name, reader.get(&kinds::DEFINITIONS, None, name).await?);
    }
    let tried = if is_installed { tried(reader, &names.namespace).await? } else { Tried::default() };
    Ok(Facts {
        now,
        names,
        settings,
        admission,
        unseen_flags,
        version,
        definitions,
        registrations,
        secret,
        deployments,
        lease,
        permissions,
        installer,
        tried,
        nodes,
        namespaces,
        injected,
        limit_ranges,
        quotas,
        agents,
        prometheuses,
        pod_monitors,
        service_monitors,
        services,
        policy,
        binding,
    })
}

/// Those of all namespaces or, where these may not be seen, at least ours.
async fn deployments(reader: &Reader, own: &str) -> anyhow::Result<Seen<Vec<Value>>> {
    let only = &["/spec/replicas", "/spec/template/spec/containers", "/status/readyReplicas"];
    let all = reader.list(&kinds::DEPLOYMENTS, Which { only, ..Which::default() }).await?;
    match all {
        Ok(all) => Ok(Ok(all)),
        Err(_) => reader.list(&kinds::DEPLOYMENTS, Which::of(own)).await,
    }
}

async fn injected(reader: &Reader) -> anyhow::Result<Seen<Vec<Value>>> {
    let label = format!("{}=true", names::INJECTED);
    let which = Which { label: Some(&label), metadata: true, ..Which::default() };
    reader.list(&kinds::PODS, which).await
}

/// What the API server says of everything that our accounts have to be allowed.
async fn permitted(
    reader: &Reader,
    own: &str,
    deployments: &Seen<Vec<Value>>,
) -> anyhow::Result<Vec<(Access, Seen<bool>)>> {
    let ours: Vec<&Value> = deployments.iter().flatten().filter(|object| namespace(object) == own).collect();
    let wanted = wanted(own, makes_certificate(&ours));
    let asked = stream::iter(wanted).map(|access| async move {
        let allowed = reader.may(&access.review(own)).await?;
        anyhow::Ok((access, allowed))
    });
    asked.buffered(AT_ONCE).try_collect().await
}

async fn tried(reader: &Reader, namespace: &str) -> anyhow::Result<Tried> {
    let attempt = |required| async move {
        let answer = reader.try_pod(namespace, &probe::pod(required)).await?;
        anyhow::Ok(Outcome { code: answer.code, body: answer.body })
    };
    Ok(Tried { asking: attempt(false).await?, requiring: attempt(true).await? })
}

/// Kinds without a namespace that the overlays install.
const INSTALLED_KINDS: [Resource; 5] = [
    kinds::CLUSTER_ROLE_BINDINGS,
    kinds::CLUSTER_ROLES,
    kinds::BINDINGS,
    kinds::POLICIES,
    kinds::PRIORITY_CLASSES,
];

/// Everything that may be left.
pub(super) async fn left(
    reader: &Reader,
    own_namespace: String,
    controller_id: String,
) -> anyhow::Result<Left> {
    reader.version().await?;
    let metadata = |label| Which { label, metadata: true, ..Which::default() };
    let mut installed = Vec::new();
    for kind in INSTALLED_KINDS {
        installed.push((kind, reader.list(&kind, metadata(Some(INSTALLED))).await?));
    }
    let managed = format!("{}={}", names::MANAGED_BY, names::MANAGER);
    let namespaces = reader.list(&kinds::NAMESPACES, metadata(None)).await?;
    let mut shared = Vec::new();
    if is_shared(&own_namespace, &namespaces) {
        let own = Some(own_namespace.as_str());
        let installed = Which { namespace: own, ..metadata(Some(INSTALLED)) };
        for kind in [kinds::DEPLOYMENTS, kinds::SERVICES] {
            shared.push((kind, reader.list(&kind, installed).await?));
        }
        for (kind, name) in [(kinds::SECRETS, names::TLS_SECRET), (kinds::LEASES, names::LEASE)] {
            let found = reader.get(&kind, own, name).await?;
            shared.push((kind, found.map(|object| object.into_iter().collect())));
        }
    }
    Ok(Left {
        own_namespace,
        shared,
        controller_id,
        registrations: reader.list(&kinds::REGISTRATIONS, Which::default()).await?,
        injected: injected(reader).await?,
        namespaces,
        installed,
        config_maps: reader.list(&kinds::CONFIG_MAPS, metadata(Some(&managed))).await?,
        agents: reader.list(&kinds::AGENTS, metadata(None)).await?,
        definitions: reader.list(&kinds::DEFINITIONS, metadata(Some(INSTALLED))).await?,
    })
}
