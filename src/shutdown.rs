//! The life of the process in phases, and the tasks that must not end before it does. IO: signals and tasks.
//!
//! Input: signals, or a call of [`Shutdown::drain`] by whoever owns the process (a test, the demo). Output: a [`Phase`] that
//! everyone may watch, and the first failure of a supervised task. Phases only move forward.

use std::collections::HashMap;
use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

/// How far the process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Normal service.
    Serving,
    /// Not ready any more, still serving; every response closes its connection.
    Draining,
    /// No new connections; what is in flight is finished.
    Stopping,
    /// Leave now, whatever is in flight.
    Aborting,
}

/// Handle on the phase; clones see and move the same one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: watch::Sender<Phase>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving) }
    }
}

impl Shutdown {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Begins the way out, if it has not begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends the drain: listeners close.
    pub fn stop(&self) {
        self.advance(Phase::Stopping);
    }

    /// Ends everything at once.
    pub fn abort(&self) {
        self.advance(Phase::Aborting);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = to.max(*phase);
            later
        });
    }

    /// Waits until the phase is `at_least` this one.
    pub async fn reached(&self, at_least: Phase) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`, so the wait ends by the phase alone.
        let _ = phase.wait_for(|phase| *phase >= at_least).await;
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over; from here on they no longer end the process by themselves.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Turns signals into phases: the first drains, the second aborts.
    pub async fn follow(mut self, shutdown: Shutdown) {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            if shutdown.phase() > Phase::Serving {
                tracing::warn!(signal = name, "exiting at once");
                return shutdown.abort();
            }
            tracing::info!(signal = name, "draining; a second signal exits at once");
            shutdown.drain();
        }
    }
}

/// A supervised task did not last as long as the process.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It returned an error.
    #[error("{task}: {source:#}")]
    Failed {
        /// Name of the task.
        task: &'static str,
        /// Its error.
        source: anyhow::Error,
    },
    /// It returned although the process was still serving.
    #[error("{task} ended although the process was still serving")]
    Ended {
        /// Name of the task.
        task: &'static str,
    },
    /// It panicked.
    #[error("{task} panicked: {message}")]
    Panicked {
        /// Name of the task.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
}

/// Owns tasks that have to last; they are aborted when it is dropped.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Supervisor {
    /// A supervisor that begins the shutdown when one of its tasks ends early.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// Starts a task.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Starts a task that lasts until [`Phase::Stopping`], and is dropped then.
    pub fn spawn_until_stop(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        self.spawn(name, async move {
            tokio::select! {
                ended = task => ended,
                () = shutdown.reached(Phase::Stopping) => Ok(()),
            }
        });
    }

    /// Waits until every task has ended. The first that ends early or fails begins the shutdown, and its error is returned
    /// once the others have ended too.
    pub async fn join(mut self) -> Result<(), TaskError> {
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if let Err(error) = self.judge(ended) {
                tracing::error!(%error, "shutting down");
                self.shutdown.drain();
                first = first.and(Err(error));
            }
        }
        first
    }

    fn judge(&self, ended: Result<(Id, anyhow::Result<()>), JoinError>) -> Result<(), TaskError> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let task = self.names.get(&id).copied().unwrap_or("a task");
        match ended {
            Ok((_, Err(source))) => Err(TaskError::Failed { task, source }),
            Ok((_, Ok(()))) if self.shutdown.phase() == Phase::Serving => Err(TaskError::Ended { task }),
            Ok((_, Ok(()))) => Ok(()),
            Err(error) => match error.try_into_panic() {
                Ok(payload) => {
                    Err(TaskError::Panicked { task, message: panic_message(payload.as_ref()).to_owned() })
                }
                Err(_cancelled) => Ok(()),
            },
        }
    }
}

/// The text of a panic, where it has one.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::{Phase, Shutdown, Supervisor};

    async fn until_drain(shutdown: Shutdown) -> anyhow::Result<()> {
        shutdown.reached(Phase::Draining).await;
        Ok(())
    }

    #[tokio::test]
    async fn phases_never_move_back() {
        let shutdown = Shutdown::default();
        shutdown.stop();
        shutdown.drain();
        assert_eq!(shutdown.phase(), Phase::Stopping);
        shutdown.reached(Phase::Draining).await;
        shutdown.abort();
        assert_eq!(shutdown.clone().phase(), Phase::Aborting);
    }

    #[tokio::test]
    async fn tasks_that_end_after_the_shutdown_began_are_no_failure() {
        let shutdown = Shutdown::default();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn("one", until_drain(shutdown.clone()));
        supervisor.spawn("two", until_drain(shutdown.clone()));
        shutdown.drain();
        supervisor.join().await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_ends_early_fails_or_panics_begins_the_shutdown_and_is_named() {
        async fn outcome(task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> String {
            let shutdown = Shutdown::default();
            let mut supervisor = Supervisor::new(shutdown.clone());
            supervisor.spawn("other", until_drain(shutdown.clone()));
            supervisor.spawn("poller", task);
            let error = supervisor.join().await.unwrap_err().to_string();
            assert_eq!(shutdown.phase(), Phase::Draining);
            error
        }
        assert_eq!(outcome(async { Ok(()) }).await, "poller ended although the process was still serving");
        assert_eq!(outcome(async { anyhow::bail!("disk gone") }).await, "poller: disk gone");
        assert_eq!(outcome(async { panic!("bug {}", 7) }).await, "poller panicked: bug 7");
    }
}
