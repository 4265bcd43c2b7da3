//! `promsidecar rollout run`: namespace by namespace, one owner at a time. IO: asks the API server, and follows signals.
//!
//! Input: a cluster. Output: a line for each step. The plan is made anew from the cluster before each owner, so that a run that
//! was ended goes on where it was. Whatever shows that the next restart could do harm ends the run.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use kube::Client;

use super::restart::{Ended, Restart};
use super::{Plan, RunArgs};
use crate::admission::review::one_line;
use crate::rollout::plan::{Action, Id, Owner};
use crate::shutdown::{Phase, Shutdown, Signals};

/// A run so far.
struct Run<'a, W> {
    client: Client,
    args: &'a RunArgs,
    shutdown: Shutdown,
    out: &'a mut W,
    /// Whoever had his turn.
    done: BTreeSet<Id>,
    restarted: usize,
    left: usize,
}

/// Why a run ends before everybody had his turn.
enum Break {
    /// The next restart could do harm.
    Harm(String),
    /// A signal.
    Signal,
}

/// Runs the command. Exit code 1 where somebody was left, or the run ended early.
pub(super) async fn run(args: &RunArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let client = args.scope.context.connect().await?;
    let place = args.scope.place(&client);
    let plan = Plan::make(&client, &args.scope, place.as_deref()).await?;
    plan.print(out)?;
    out.flush()?;
    let shutdown = Shutdown::default();
    tokio::spawn(Signals::install()?.follow(shutdown.clone()));
    let places: BTreeSet<String> = plan
        .owners
        .iter()
        .filter(|owner| owner.action.is_restart())
        .map(|owner| owner.id.namespace.clone())
        .collect();
    let mut run = Run { client, args, shutdown, out, done: BTreeSet::new(), restarted: 0, left: 0 };
    let aborted = run.shutdown.clone();
    let broken = tokio::select! {
        broken = run.every(&places) => broken?,
        () = aborted.reached(Phase::Aborting) => Some(Break::Signal),
    };
    run.end(broken)
}

impl<W: Write> Run<'_, W> {
    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        // Names come from the cluster, and none may forge another line.
        writeln!(self.out, "{}", one_line(&line, usize::MAX))?;
        // It takes a while until the next one.
        self.out.flush()?;
        Ok(())
    }

    fn say_of(&mut self, id: &Id, what: &str) -> anyhow::Result<()> {
        self.say(&format!("{} {}: {what}", id.namespace, id.object()))
    }

    async fn every(&mut self, places: &BTreeSet<String>) -> anyhow::Result<Option<Break>> {
        for place in places {
            let mut plan = Plan::make(&self.client, &self.args.scope, Some(place)).await?;
            while let Some(owner) = self.next(&plan) {
                if self.is_over().await {
                    return Ok(Some(Break::Signal));
                }
                self.done.insert(owner.id.clone());
                if let Some(why) = self.one(&owner).await? {
                    return Ok(Some(Break::Harm(why)));
                }
                plan = Plan::make(&self.client, &self.args.scope, Some(place)).await?;
            }
        }
        Ok(None)
    }

    fn next(&self, plan: &Plan) -> Option<Owner> {
        let mut open = plan.owners.iter().filter(|owner| !self.done.contains(&owner.id));
        open.find(|owner| owner.action.is_restart()).cloned()
    }

    /// Pauses after a restart; whether a signal came.
    async fn is_over(&self) -> bool {
        let pause = if self.restarted > 0 { self.args.pause } else { Duration::ZERO };
        let _ = tokio::time::timeout(pause, self.shutdown.reached(Phase::Draining)).await;
        self.shutdown.phase() > Phase::Serving
    }

    /// The turn of one owner; why nobody else may be restarted after it.
    async fn one(&mut self, owner: &Owner) -> anyhow::Result<Option<String>> {
        let client = self.client.clone();
        let Some(restart) = Restart::of(&client, self.args, &owner.id) else { return Ok(None) };
        let before = self.restarted;
        let due = match &owner.action {
            Action::Wait(why) => self.first(&restart, &owner.id, why).await?,
            _ => Ok(owner.clone()),
        };
        let ended = match due {
            Ok(owner) => self.restart(&restart, &owner).await?,
            Err(ended) => ended,
        };
        match ended {
            Ended::Stop(why) => self.stopped(&owner.id, &why, self.restarted > before),
            Ended::Left(why) => self.leave(&owner.id, &why),
            Ended::Complete | Ended::Tried => Ok(None),
        }
    }

    /// Waits for the rolling update that an owner is in; gives the owner if it is to be restarted after that, else how its turn
    /// ended.
    async fn first(
        &mut self,
        restart: &Restart<'_>,
        id: &Id,
        why: &str,
    ) -> anyhow::Result<Result<Owner, Ended>> {
        if self.args.dry_run {
            self.say_of(id, &format!("would be restarted once its rolling update is complete: {why}"))?;
            return Ok(Err(Ended::Tried));
        }
        self.say_of(id, &format!("waiting for its present rolling update: {why}"))?;
        let ended = self.wait(restart).await?;
        if !matches!(ended, Ended::Complete) {
            return Ok(Err(ended));
        }
        if self.shutdown.phase() > Phase::Serving {
            // It has not had its turn.
            self.done.remove(id);
            return Ok(Err(ended));
        }
        let rest = self.rest(id).await?;
        if rest.is_none() {
            self.say_of(id, "complete, and up to date by that")?;
        }
        Ok(rest.ok_or(ended))
    }

    /// Restarts an owner, waits for it, and looks what came out.
    async fn restart(&mut self, restart: &Restart<'_>, owner: &Owner) -> anyhow::Result<Ended> {
        let id = &owner.id;
        let begun = restart.begin(owner).await?;
        match begun {
            Ended::Stop(_) | Ended::Left(_) => return Ok(begun),
            Ended::Tried => self.say_of(id, "would be restarted")?,
            Ended::Complete => self.say_of(id, "restarted; waiting for its rolling update")?,
        }
        self.restarted += 1;
        if self.args.dry_run {
            return Ok(begun);
        }
        let ended = self.wait(restart).await?;
        if !matches!(ended, Ended::Complete) {
            return Ok(ended);
        }
        let Some(Owner { pods, outdated, without, .. }) = self.rest(id).await? else {
            self.say_of(id, "complete: its pods are up to date")?;
            return Ok(ended);
        };
        Ok(Ended::Stop(format!(
            "of its {pods} new pods {outdated} have an outdated agent and {without} have none: the webhook did not answer, or the \
             template was edited meanwhile; see promsidecar check, then run the same command again"
        )))
    }

    /// Waits for a rolling update; tells once that a signal came.
    async fn wait(&mut self, restart: &Restart<'_>) -> anyhow::Result<Ended> {
        let mut complete = std::pin::pin!(restart.complete());
        let draining = self.shutdown.clone();
        tokio::select! {
            ended = &mut complete => return ended,
            () = draining.reached(Phase::Draining) => {}
        }
        self.say("interrupted: this one is waited for; a second signal ends the run at once")?;
        complete.await
    }

    /// What is still to be done about an owner.
    async fn rest(&self, id: &Id) -> anyhow::Result<Option<Owner>> {
        let plan = Plan::make(&self.client, &self.args.scope, Some(&id.namespace)).await?;
        Ok(plan.owners.into_iter().find(|owner| owner.id == *id))
    }

    fn leave(&mut self, id: &Id, why: &str) -> anyhow::Result<Option<String>> {
        self.left += 1;
        self.say_of(id, &format!("left alone: {why}"))?;
        Ok(None)
    }

    /// What to do about one who ended the run; who was not restarted has nothing that could be taken back but his own.
    fn stopped(&mut self, id: &Id, why: &str, is_restarted: bool) -> anyhow::Result<Option<String>> {
        self.say_of(id, why)?;
        let Id { namespace, name, .. } = id;
        let back = match &*id.kind {
            "Rollout" => format!("kubectl argo rollouts -n {namespace} abort {name}"),
            kind => format!("kubectl -n {namespace} rollout undo {}/{name}", kind.to_ascii_lowercase()),
        };
        let back = if is_restarted { format!(" or take its restart back: {back};") } else { String::new() };
        Ok(Some(format!(
            "nobody else is restarted. Mend it and run the same command again;{back} or go on without it: --except {}",
            id.object()
        )))
    }

    fn end(mut self, broken: Option<Break>) -> anyhow::Result<ExitCode> {
        let is_early = broken.is_some();
        match broken {
            Some(Break::Harm(why)) => self.say(&format!("stopped: {why}"))?,
            Some(Break::Signal) if self.shutdown.phase() >= Phase::Aborting => self.say(
                "interrupted: a rolling update that has begun goes on by itself. Run the same command again to go on",
            )?,
            Some(Break::Signal) => self.say("interrupted: run the same command again to go on")?,
            None => {}
        }
        let word = if self.args.dry_run { "would be restarted" } else { "restarted" };
        self.say(&format!("{} {word}, {} left alone", self.restarted, self.left))?;
        Ok(ExitCode::from(u8::from(is_early || self.left > 0)))
    }
}
