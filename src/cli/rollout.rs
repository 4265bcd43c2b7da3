//! `promsidecar rollout`: bringing running pods up to date.
//!
//! Input: a cluster. Output: whose pods are not as they would be created now, and, where that is asked for, their restart: one
//! owner after another, each by its own rolling update.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use kube::Client;
use serde_json::{Value, json};

use super::in_force::{self, InForce, seen};
use super::installed::Flags;
use super::kubernetes::{ContextArgs, block_on};
use super::output::{self, Format, OutputArgs};
use super::policy::{PolicyArgs, template_id};
use super::settings::SettingsArgs;
use super::style::Style;
use super::values;
use crate::admission::review::one_line;
use crate::cluster::kinds;
use crate::cluster::kubeconfig::Target;
use crate::cluster::reader::{Reader, Which};
use crate::cluster::seen::Resource;
use crate::rollout::plan::{self, Action, Cluster, Owner};
use crate::template::agent::TemplateId;

mod restart;
mod run;

/// Arguments of `rollout`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show whose pods have an outdated agent, or none, and what becomes of them; nothing is restarted.
    Plan(PlanArgs),
    /// Restart them, one owner after another, each by its own rolling update.
    Run(RunArgs),
}

/// Arguments of `rollout plan`.
#[derive(Debug, clap::Args)]
struct PlanArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    scope: Scope,
}

/// Arguments of `rollout run`.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Restart nobody; ask the API server whether it would take every change.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait between two owners.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = values::duration)]
    pause: Duration,
    /// How long the rolling update of one owner may take; after that nobody else is restarted.
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = values::duration)]
    timeout: Duration,
    #[command(flatten)]
    scope: Scope,
}

/// Which pods, and by which cluster.
#[derive(Debug, clap::Args)]
struct Scope {
    /// Every namespace.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Namespace. [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = values::namespace)]
    namespace: Option<String>,
    /// Only pods with an agent of this template, or that would get one now.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = template_id)]
    template: Option<TemplateId>,
    /// An owner to leave alone, as the plan names it, such as Deployment/web; repeatable.
    #[arg(long, value_name = "KIND/NAME", value_parser = object)]
    except: Vec<String>,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// `KIND/NAME`.
fn object(text: &str) -> Result<String, String> {
    let is_object =
        text.split_once('/').is_some_and(|(kind, name)| !kind.is_empty() && values::object(name).is_ok());
    if is_object { Ok(text.to_owned()) } else { Err("expected KIND/NAME, such as Deployment/web".to_owned()) }
}

impl Scope {
    fn place(&self, client: &Client) -> Option<String> {
        let named = || self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        (!self.all_namespaces).then(named)
    }

    /// Whether an owner is meant.
    fn includes(&self, owner: &Owner) -> bool {
        let of_template = |wanted: &TemplateId| {
            owner.templates.contains(wanted) || owner.now.as_ref().is_some_and(|(now, _)| now == wanted)
        };
        let object = owner.id.object();
        self.template.as_ref().is_none_or(of_template)
            && !self.except.iter().any(|except| except.eq_ignore_ascii_case(&object))
    }
}

/// What is to be done at one moment.
struct Plan {
    owners: Vec<Owner>,
    notes: Vec<String>,
}

impl Plan {
    /// Makes it for a namespace, or for all.
    async fn make(client: &Client, scope: &Scope, place: Option<&str>) -> anyhow::Result<Self> {
        let reader = Reader::new(client.clone());
        let which = Which { namespace: place, ..Which::default() };
        let pods = reader.list(&kinds::PODS, which).await?.map_err(|forbidden| anyhow!("{forbidden}"))?;
        let flags = Flags { policy: scope.policy.clone(), settings: scope.settings.clone() };
        let InForce { inventory, policy, gaps, mut notes } = in_force::gather(client, place, flags).await?;
        let (mut owners, mut between, mut hidden) = (Vec::new(), Vec::new(), BTreeMap::new());
        for kind in ROLLING {
            owners.extend(seen(reader.list(&kind, which).await?, &mut notes));
        }
        for kind in [kinds::REPLICA_SETS, kinds::JOBS] {
            match reader.list(&kind, Which { metadata: true, ..which }).await? {
                Ok(found) => between.extend(found),
                Err(forbidden) => {
                    notes.push(forbidden.to_string());
                    hidden.insert(kind.kind, forbidden);
                }
            }
        }
        let mut owners = plan::plan(Cluster {
            pods: &pods,
            owners: &owners,
            between: &between,
            hidden: &hidden,
            inventory: &inventory,
            gaps: &gaps,
            policy: &policy,
        });
        owners.retain(|owner| scope.includes(owner));
        let newer: usize = owners.iter().map(|owner| owner.newer).sum();
        if newer > 0 {
            notes.push(format!(
                "a newer promsidecar injected {newer} of the outdated pods: where its webhook is installed, use its program; after \
                 a downgrade their owners are restarted as others are"
            ));
        }
        Ok(Self { owners, notes })
    }

    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let count = |word| self.owners.iter().filter(|owner| owner.action.word() == word).count();
        let why = String::new;
        let words = [
            Action::Restart,
            Action::Wait(why()),
            Action::NextRun,
            Action::ByHand(why()),
            Action::CannotTell(why()),
        ];
        words.iter().map(|action| (action.word(), count(action.word()))).collect()
    }

    fn json(&self, target: &Target) -> Value {
        let owners = self.owners.iter().map(|owner| {
            let Owner { id, pods, outdated, newer, without, now, templates, action } = owner;
            let why = match action {
                Action::Wait(why) | Action::ByHand(why) | Action::CannotTell(why) => Some(why),
                Action::Restart | Action::NextRun => None,
            };
            let is_told = !matches!(action, Action::CannotTell(_));
            json!({
                "namespace": id.namespace, "kind": id.kind, "name": id.name,
                "pods": pods, "outdated": is_told.then_some(outdated), "newer": is_told.then_some(newer),
                "withoutAgent": is_told.then_some(without),
                "template": now.as_ref().map(|(template, _)| template.to_string()),
                "templates": templates.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "action": action.word(), "why": why,
            })
        });
        json!({"cluster": target.to_string(), "owners": owners.collect::<Vec<_>>(), "counts": self.counts(), "notes": self.notes})
    }

    fn print(&self, target: &Target, out: &mut impl Write) -> anyhow::Result<()> {
        // Names come from the cluster, and none may forge another line.
        let clean = |text: &str| one_line(&text, usize::MAX);
        writeln!(out, "cluster: {}", clean(&target.to_string()))?;
        if !self.owners.is_empty() {
            let rows = self.owners.iter().map(|owner| {
                let count = |count: usize| match owner.action {
                    Action::CannotTell(_) => "?".to_owned(),
                    _ => count.to_string(),
                };
                [
                    clean(&owner.id.namespace),
                    clean(&owner.id.object()),
                    owner.pods.to_string(),
                    count(owner.outdated),
                    count(owner.without),
                    clean(&owner.action.line()),
                ]
            });
            let rows: Vec<_> = std::iter::once(HEADING.map(str::to_owned)).chain(rows).collect();
            Style::stdout().table(&rows, out)?;
        }
        for note in &self.notes {
            writeln!(out, "note: {}", clean(note))?;
        }
        let counts = self.counts();
        let untold = match counts["cannot-tell"] {
            0 => String::new(),
            count => format!(", {count} that cannot be told"),
        };
        writeln!(
            out,
            "{} to restart, {} to restart once they are complete, {} with the next run, {} by hand{untold}",
            counts["restart"], counts["wait"], counts["next-run"], counts["by-hand"]
        )?;
        Ok(())
    }
}

/// The first line of a plan.
const HEADING: [&str; 6] = ["NAMESPACE", "OWNER", "PODS", "OUTDATED", "WITHOUT-AGENT", "WHAT"];
/// Kinds that update their pods by themselves.
const ROLLING: [Resource; 4] =
    [kinds::DEPLOYMENTS, kinds::STATEFUL_SETS, kinds::DAEMON_SETS, kinds::ROLLOUTS];

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Plan(args) => {
            let (plan, target) = block_on(async {
                let (client, target) = args.scope.context.connect_to().await?;
                let plan = Plan::make(&client, &args.scope, args.scope.place(&client).as_deref()).await?;
                Ok((plan, target))
            })?;
            match args.output.output {
                Format::Json => output::json(out, &plan.json(&target))?,
                Format::Text => plan.print(&target, out)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(args) => block_on(run::run(args, out)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::Scope;
    use crate::rollout::plan::{Action, Id, Owner};
    use crate::template::agent::TemplateId;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        scope: Scope,
    }

    fn scope(flags: &[&str]) -> Result<Scope, String> {
        let line = Line::try_parse_from([&["rollout"], flags].concat());
        line.map(|line| line.scope).map_err(|error| error.to_string())
    }

    #[test]
    fn an_owner_is_meant_by_the_templates_of_its_pods_and_not_where_it_is_left_out() {
        let template = |name: &str| TemplateId { namespace: "a".to_owned(), name: name.to_owned() };
        let owner = Owner {
            id: Id { namespace: "a".to_owned(), kind: "Deployment".to_owned(), name: "web".to_owned() },
            pods: 1,
            outdated: 1,
            newer: 0,
            without: 0,
            now: Some((template("new"), "h".to_owned())),
            templates: BTreeSet::from([template("old")]),
            action: Action::Restart,
        };
        for (flags, is_meant) in [
            (&[][..], true),
            (&["--template=a/new"], true),
            (&["--template=a/old"], true),
            (&["--template=a/other"], false),
            (&["--except=deployment/web"], false),
            (&["--except=Deployment/api", "--except=StatefulSet/web"], true),
        ] {
            assert_eq!(scope(flags).unwrap().includes(&owner), is_meant, "{flags:?}");
        }
        for bad in ["web", "/web", "Deployment/", "Deployment/a b"] {
            let error = scope(&["--except", bad]).unwrap_err();
            assert!(error.contains("expected KIND/NAME, such as Deployment/web"), "{bad}: {error}");
        }
    }
}
