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
    let (client, target) = args.scope.context.connect_to().await?;
    let place = args.scope.place(&client);
    let plan = Plan::make(&client, &args.scope, place.as_deref()).await?;
    plan.print(&target, out)?;
    out.flush()?;
    let shutdown = Shutdown::default();
    tokio::spawn(Signals::install()?.follow(shutdown.clone()));
    let places: BTreeSet<String> = plan
        .owners
        .iter()
        .filter(|owner| owner.action.is_restart() || matches!(owner.action, Action::CannotTell(_)))
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
            while let Some(owner) = self.next(&plan)? {
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

    /// Whoever is next; those of whom it cannot be told whether they should be are left alone.
    fn next(&mut self, plan: &Plan) -> anyhow::Result<Option<Owner>> {
        for owner in &plan.owners {
            if self.done.contains(&owner.id) {
                continue;
            }
            if owner.action.is_restart() {
                return Ok(Some(owner.clone()));
            }
            if let Action::CannotTell(_) = &owner.action {
                self.done.insert(owner.id.clone());
                self.leave(&owner.id, &owner.action.line())?;
            }
        }
        Ok(None)
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
        let due = match &owner.action {
            Action::Wait(why) => self.first(&restart, &owner.id, why).await?,
            _ => Ok(owner.clone()),
        };
        let ended = match due {
            Ok(owner) => self.restart(&restart, &owner).await?,
            Err(ended) => ended,
        };
        match ended {
            Ended::Stop { why, restarted } => self.stopped(&owner.id, &why, restarted),
            Ended::Left(why) => self.leave(&owner.id, &why),
            Ended::Complete | Ended::Tried => Ok(None),
        }
    }

    /// Waits for the rolling update that an owner is in; gives the owner if it is to be restarted after that, else how its turn
    /// ended. What somebody else began, and does not come up, is left alone.
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
        let ended = match self.wait(restart).await? {
            Ended::Stop { why, .. } => Ended::Left(why),
            ended => ended,
        };
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
        let begun = restart.begin(owner, |what| self.say_of(id, what)).await?;
        match begun {
            Ended::Stop { .. } | Ended::Left(_) => return Ok(begun),
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
        let why = format!(
            "of its {pods} new pods {outdated} have an outdated agent and {without} have none: the webhook did not answer, or the \
             template was edited meanwhile; see promsidecar check, then run the same command again"
        );
        Ok(Ended::Stop { why, restarted: true })
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

    fn stopped(&mut self, id: &Id, why: &str, restarted: bool) -> anyhow::Result<Option<String>> {
        self.say_of(id, why)?;
        let Id { namespace, kind, name } = id;
        // Of an owner that is as it was, the way back would lead to the release before.
        let back = match &**kind {
            _ if !restarted => String::new(),
            "Rollout" => {
                format!("or take its restart back: kubectl argo rollouts -n {namespace} abort {name}; ")
            }
            kind => {
                let kind = kind.to_ascii_lowercase();
                format!("or take its restart back: kubectl -n {namespace} rollout undo {kind}/{name}; ")
            }
        };
        Ok(Some(format!(
            "nobody else is restarted. Mend it and run the same command again; {back}or go on without it: --except {}",
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
