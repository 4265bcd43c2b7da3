//! `promsidecar explain KIND/NAME`: a pod or workload of a cluster. IO: asks the API server.
//!
//! Input: an object, and templates, monitors and namespaces as the cluster has them. Output: what was done with its pods, and
//! the trace of `decide` for what would be done now.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use kube::Client;
use kube::discovery::Discovery;
use serde_json::{Value, json};

use super::{Args, explain_decision, json as as_json};
use crate::admission::Policy;
use crate::admission::decision::{self, Verdict};
use crate::admission::json::Field;
use crate::admission::pod::PodView;
use crate::admission::review::one_line;
use crate::cli::in_force::{self, seen};
use crate::cli::kubernetes::block_on;
use crate::cli::output::{self, Format};
use crate::cli::style::{Style, Tone};
use crate::cli::{UsageError, values};
use crate::cluster::gaps::Gaps;
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::{Resource, Seen, name, namespace, text};
use crate::cluster::state::{State, anew, state};
use crate::cluster::{kinds, owned};
use crate::store::inventory::Inventory;
use crate::template::agent::TemplateId;
use crate::workload;

/// Kinds that everybody knows: how they are called, path, kind.
const KNOWN: [(&[&str], &str, &str); 9] = [
    (&["pod", "pods", "po"], "/api/v1", "pods"),
    (&["deployment", "deployments", "deploy"], "/apis/apps/v1", "deployments"),
    (&["statefulset", "statefulsets", "sts"], "/apis/apps/v1", "statefulsets"),
    (&["daemonset", "daemonsets", "ds"], "/apis/apps/v1", "daemonsets"),
    (&["replicaset", "replicasets", "rs"], "/apis/apps/v1", "replicasets"),
    (&["replicationcontroller", "replicationcontrollers", "rc"], "/api/v1", "replicationcontrollers"),
    (&["job", "jobs"], "/apis/batch/v1", "jobs"),
    (&["cronjob", "cronjobs", "cj"], "/apis/batch/v1", "cronjobs"),
    (&["podtemplate", "podtemplates"], "/api/v1", "podtemplates"),
];

/// Everything that an answer is made of.
struct Found {
    object: Value,
    /// Its pods.
    pods: Vec<Value>,
    inventory: Inventory,
    policy: Policy,
    gaps: Gaps,
    /// `ConfigMaps` that its pods mount, and whether they are there.
    config_maps: BTreeMap<String, Seen<bool>>,
    /// What could not be seen.
    notes: Vec<String>,
}

/// Explains an object of the cluster, `KIND/NAME`. Exit code 1 where something of it is not as it asks.
pub(super) fn run(args: &Args, kind: &str, name: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    values::object(name).map_err(|why| UsageError(format!("{kind}/{name} cannot be an object: {why}")))?;
    let (place, found) = block_on(async {
        let client = args.context.connect().await?;
        let place = args.cluster.namespace.clone();
        let place = place.unwrap_or_else(|| client.default_namespace().to_owned());
        let found = find(args, client, kind, name, &place).await?;
        Ok((place, found))
    })?;
    tell(&found, &place, args.output.output, out)
}

async fn find(args: &Args, client: Client, kind: &str, named: &str, place: &str) -> anyhow::Result<Found> {
    let reader = Reader::new(client.clone());
    let path = path_of(&client, kind, place).await?;
    let object = match reader
        .get_at(&format!("{path}/{named}"), format!("get {kind} {named} in namespace {place}"))
        .await?
    {
        Err(forbidden) => bail!("{forbidden}"),
        Ok(None) => bail!("there is no {kind} {named} in namespace {place}; choose another by -n"),
        Ok(Some(object)) => object,
    };
    ensure!(workload::has_pod(&object), "{kind} {named} is no pod, and has no pod template");
    let in_force::InForce { inventory, policy, gaps, mut notes } =
        in_force::gather(&client, Some(place), args.cluster.flags()).await?;
    let pods = match text(&object["kind"]) {
        "Pod" => vec![object.clone()],
        kind => {
            let mut between = Vec::new();
            for next in between_of(kind) {
                let which = Which { metadata: true, ..Which::of(place) };
                between.extend(seen(reader.list(next, which).await?, &mut notes));
            }
            let pods = seen(reader.list(&kinds::PODS, Which::of(place)).await?, &mut notes);
            owned::pods_of(&object, &between, pods)
        }
    };
    let mut config_maps = BTreeMap::new();
    for pod in &pods {
        let State::Injected(injected) = state(pod, |_, _| Ok(None)) else { continue };
        if let Entry::Vacant(unknown) = config_maps.entry(injected.config_map()) {
            let there = reader.get(&kinds::CONFIG_MAPS, Some(place), unknown.key()).await?;
            unknown.insert(there.map(|there| there.is_some()));
        }
    }
    Ok(Found { object, pods, inventory, policy, gaps, config_maps, notes })
}

/// Kinds of what may stand between a workload of a kind and its pods.
const fn between_of(kind: &str) -> &'static [Resource] {
    match kind.as_bytes() {
        b"ReplicaSet" | b"ReplicationController" | b"StatefulSet" | b"DaemonSet" | b"Job" => &[],
        b"Deployment" | b"Rollout" => &[kinds::REPLICA_SETS],
        b"CronJob" => &[kinds::JOBS],
        _ => &[kinds::REPLICA_SETS, kinds::JOBS],
    }
}

/// Path of the objects of a kind in a namespace.
async fn path_of(client: &Client, kind: &str, place: &str) -> anyhow::Result<String> {
    let wanted = kind.to_ascii_lowercase();
    if let Some((_, root, plural)) = KNOWN.iter().find(|(names, ..)| names.contains(&&*wanted)) {
        return Ok(format!("{root}/namespaces/{place}/{plural}"));
    }
    let discovery = Discovery::new(client.clone()).run().await?;
    for group in discovery.groups() {
        for (resource, _) in group.resources_by_stability() {
            let plural = &resource.plural;
            let names =
                [plural.clone(), resource.kind.to_ascii_lowercase(), format!("{plural}.{}", resource.group)];
            if names.contains(&wanted) {
                return Ok(format!("/apis/{}/namespaces/{place}/{plural}", resource.api_version));
            }
        }
    }
    bail!(
        "the cluster knows no kind {kind:?}: write it as kubectl does, such as deploy or rollouts.argoproj.io"
    )
}

fn tell(found: &Found, place: &str, format: Format, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Found { object, pods, inventory, policy, gaps, config_maps, notes } = found;
    let hash = |id: &TemplateId, place: &str| gaps.hash(inventory, id, place);
    let states: Vec<(&str, State)> = pods.iter().map(|pod| (name(pod), state(pod, hash))).collect();
    let is_pod = object["kind"] == "Pod";
    let created = if is_pod { anew(object) } else { workload::pod(object).ok_or_else(String::new) };
    let mut notes = notes.clone();
    let created = created.unwrap_or_else(|why| {
        notes.push(format!("what follows is of the pod with the agent that it has: {why}"));
        object.clone()
    });
    let bytes = serde_json::to_vec(&created)?;
    let view: Field<PodView<'_>> = serde_json::from_slice(&bytes)?;
    let unreadable = PodView::default();
    let view = view.value().unwrap_or(&unreadable);
    let decision = decision::decide(place, view, inventory.catalog(), policy);
    if let Some(why) = gaps.decided(inventory, place, &decision) {
        notes.push(format!("cannot tell for sure what would be done now, because {why}"));
    }
    let refused = matches!(&decision.verdict, Verdict::Refuse(refusal) if !refusal.reason.is_silent());
    let skipped = states.iter().any(|(_, state)| matches!(state, State::Skipped(_)));
    let lost = config_maps.values().any(|there| there == &Ok(false));
    let code = ExitCode::from(u8::from(refused || skipped || lost));
    let told = Told { found, place, states: &states, notes: &notes };
    match format {
        Format::Json => output::json(out, &told.json(as_json::decision(place, view, &decision)))?,
        Format::Text => {
            told.text(out)?;
            explain_decision(place, view, &decision, out)?;
        }
    }
    Ok(code)
}

/// What is told of an object before the decision.
struct Told<'a> {
    found: &'a Found,
    place: &'a str,
    /// Of each pod.
    states: &'a [(&'a str, State)],
    /// What could not be seen, or not be told.
    notes: &'a [String],
}

impl Told<'_> {
    fn json(&self, now: Value) -> Value {
        let Found { object, config_maps, .. } = self.found;
        let there = |there: &Seen<bool>| there.as_ref().ok().copied();
        let config_maps: BTreeMap<_, _> =
            config_maps.iter().map(|(name, seen)| (name, there(seen))).collect();
        let pods = self.states.iter().map(|(name, state)| {
            let mut told = state.json();
            told["name"] = json!(name);
            told
        });
        let mut told = json!({
            "object": format!("{}/{}", text(&object["kind"]), name(object)),
            "namespace": namespace(object),
            "pods": pods.collect::<Vec<_>>(),
            "configMaps": config_maps,
            "notes": self.notes,
        });
        told["now"] = now;
        told
    }

    fn text(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let Found { object, config_maps, .. } = self.found;
        let is_pod = object["kind"] == "Pod";
        let style = Style::stdout();
        // Names come from the cluster, and none may forge another line.
        let clean = |text: &str| one_line(&text, usize::MAX);
        let heading = format!("{}/{} in {}", text(&object["kind"]), name(object), self.place);
        writeln!(out, "{}", style.paint(Tone::Heading, &clean(&heading)))?;
        if self.states.is_empty() {
            writeln!(out, "  it has no pods")?;
        }
        for (name, state) in self.states {
            let whose = if is_pod { String::new() } else { format!("{name}: ") };
            writeln!(out, "  {}", clean(&format!("{whose}{}", state.line())))?;
        }
        for (name, there) in config_maps {
            let there = match there {
                Ok(true) => "is there".to_owned(),
                Ok(false) => {
                    "is not there: the agent waits for it; see the status of the template".to_owned()
                }
                Err(forbidden) => forbidden.to_string(),
            };
            writeln!(out, "  {}", clean(&format!("configuration: ConfigMap {name}: {there}")))?;
        }
        for note in self.notes {
            writeln!(out, "  note: {}", clean(note))?;
        }
        writeln!(
            out,
            "{}:",
            if is_pod { "if it were created now" } else { "if one of its pods were created now" }
        )?;
        Ok(())
    }
}
