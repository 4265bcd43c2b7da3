//! The restart of one owner. IO: asks the API server, and changes the owner.
//!
//! Input: an owner of the plan. Output: that its rolling update is complete, that it was left alone, or why nobody else may be
//! restarted. Before the restart a pod of its present template is tried: what would lose the agent is not restarted.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use super::{ROLLING, RunArgs};
use crate::cluster::reader::Reader;
use crate::cluster::seen::text;
use crate::cluster::state::{State, state};
use crate::rollout::plan::{Id, Owner};
use crate::rollout::progress::{Progress, hindrance, makes_room, progress, restart};
use crate::workload;

/// How often an owner is looked at while it is waited for.
const OFTEN: Duration = Duration::from_secs(1);
/// How often somebody else may change the owner between a look at it and its restart.
const ATTEMPTS: usize = 5;

/// What became of an owner.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its rolling update is complete.
    Complete,
    /// The API server would take the change.
    Tried,
    /// It is as it was: why.
    Left(String),
    /// Nobody else may be restarted.
    Stop {
        /// Why.
        why: String,
        /// Whether it was restarted, which can be taken back.
        restarted: bool,
    },
}

/// What the API server made of a pod that was tried.
enum Trial {
    /// It would have the agent of the plan.
    Good,
    /// No pod can be tried: why, where that is worth telling.
    Untried(Option<String>),
    /// The owner is not to be restarted.
    Bad(Ended),
}

/// The API server as one owner's restart needs it.
pub(super) struct Restart<'a> {
    reader: Reader,
    args: &'a RunArgs,
    id: &'a Id,
    path: String,
}

impl<'a> Restart<'a> {
    pub(super) fn of(client: &Client, args: &'a RunArgs, id: &'a Id) -> Option<Self> {
        let kind = ROLLING.into_iter().find(|kind| kind.kind == id.kind)?;
        let path = format!("{}/{}", kind.path(Some(&id.namespace)), id.name);
        Some(Self { reader: Reader::new(client.clone()), args, id, path })
    }

    /// The owner as it is now; the error is why there is nothing to be done about it.
    async fn look(&self) -> anyhow::Result<Result<Value, String>> {
        let what = format!("get {} in namespace {}", self.id.object(), self.id.namespace);
        Ok(match self.reader.get_at(&self.path, what).await? {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err("it was deleted meanwhile".to_owned()),
            Err(forbidden) => Err(forbidden.to_string()),
        })
    }

    /// Waits until the rolling update is complete that its restart began, or what was under way before that.
    pub(super) async fn complete(&self) -> anyhow::Result<Ended> {
        let began = tokio::time::Instant::now();
        loop {
            let object = match self.look().await {
                Ok(Ok(object)) => object,
                Ok(Err(why)) => return Ok(Ended::Left(why)),
                // An API server that is restarted comes back.
                Err(_) if began.elapsed() < self.args.timeout => {
                    tokio::time::sleep(OFTEN).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let progress = progress(&object);
            let what = match (&progress, hindrance(&object)) {
                (Progress::Complete, _) => return Ok(Ended::Complete),
                (Progress::UnderWay(what) | Progress::Failed(what), Some(why)) => format!("{what}; {why}"),
                (Progress::Failed(what), None) => what.clone(),
                (Progress::UnderWay(what), None) if began.elapsed() >= self.args.timeout => {
                    format!("{what}, after {}s", self.args.timeout.as_secs())
                }
                (Progress::UnderWay(_), None) => {
                    tokio::time::sleep(OFTEN).await;
                    continue;
                }
            };
            let why = format!("its rolling update is not complete: {what}");
            return Ok(Ended::Stop { why, restarted: true });
        }
    }

    /// Restarts it as it is now; that it is complete is waited for by [`Self::complete`]. `say` gets what is to be told before.
    pub(super) async fn begin(
        &self,
        owner: &Owner,
        mut say: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ended> {
        for _ in 0..ATTEMPTS {
            let object = match self.look().await? {
                Ok(object) => object,
                Err(why) => return Ok(Ended::Left(why)),
            };
            if let Some(why) = hindrance(&object) {
                return Ok(Ended::Left(why));
            }
            if let Progress::UnderWay(why) | Progress::Failed(why) = progress(&object) {
                return Ok(Ended::Left(format!("another rolling update of it began meanwhile: {why}")));
            }
            match self.try_pod(owner, &object).await? {
                Trial::Bad(ended) => return Ok(ended),
                Trial::Untried(Some(why)) => say(&why)?,
                Trial::Untried(None) | Trial::Good => {}
            }
            let patch = restart(&object, &Timestamp::now().strftime("%FT%TZ").to_string());
            let answer = self.reader.patch(&self.path, &patch, self.args.dry_run).await?;
            match answer.code {
                200 if self.args.dry_run => return Ok(Ended::Tried),
                200 => return Ok(Ended::Complete),
                // Its controller or somebody else wrote meanwhile.
                409 => {}
                code => {
                    let said = text(&answer.body["message"]);
                    return Ok(Ended::Left(format!(
                        "the API server does not take its restart: {said} ({code})"
                    )));
                }
            }
        }
        Ok(Ended::Left("others change it all the time".to_owned()))
    }

    /// Creates a pod of its present template, in vain: whether the webhook gives it the agent that the plan expects.
    async fn try_pod(&self, owner: &Owner, object: &Value) -> anyhow::Result<Trial> {
        let left = |why: String| Ok(Trial::Bad(Ended::Left(why)));
        let (Some(mut pod), Some((template, hash))) = (workload::pod(object), &owner.now) else {
            return left("its pod template cannot be read".to_owned());
        };
        let place = &self.id.namespace;
        let may = json!({"resourceAttributes": {"namespace": place, "verb": "create", "resource": "pods"}});
        if !self.reader.may_i(&may).await? {
            return Ok(Trial::Untried(None));
        }
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("ownerReferences");
            metadata.remove("name");
            metadata.insert("generateName".to_owned(), json!(format!("{}-", self.id.name)));
        }
        let answer = self.reader.try_pod(place, &pod).await?;
        if answer.code != 201 {
            let said = text(&answer.body["message"]);
            // It would be one pod more than there will ever be.
            if answer.code == 403 && makes_room(object, said, owner.without == 0) {
                return Ok(Trial::Untried(Some(format!("no pod of it can be tried: {said}"))));
            }
            return left(format!("a pod of it would be refused now: {said}"));
        }
        let why = match state(&answer.body, |_, _| Ok(None)) {
            State::Injected(found) if found.has(template, hash) => return Ok(Trial::Good),
            State::Injected(found) if found.newer().is_some() => format!(
                "a pod of it would be injected by {}: use the program of that version",
                found.newer().unwrap_or_default()
            ),
            State::Injected(_) => format!(
                "a pod of it would not get the agent of {template} as it is now: the webhook has another version of it, other \
                 flags, or is of another version than this command; see promsidecar check"
            ),
            State::Skipped(skipped) => format!("a pod of it would get no agent: {skipped}"),
            State::Without => {
                "a pod of it would get no agent: no webhook answers; see promsidecar check".to_owned()
            }
        };
        Ok(Trial::Bad(Ended::Stop { why, restarted: false }))
    }
}
