//! Events for those whose pods were not injected and whose templates are not in force. IO: writes through [`Writer`].
//!
//! Input: refused pods and bad templates, as the watches and the loop tell of them. Output: Events, a few at a time. They are
//! best effort: what a restart loses of them stands on the pod, or in the template's status.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::apply::{WriteError, Writer};
use super::lease::Leadership;
use super::observe::Observer;
use crate::metrics::controller::{Metrics, Told};

pub mod correlate;
pub mod event;
pub mod refused;

use correlate::{Correlator, Next, Write, Written};
use event::Event;
use refused::Refused;

/// Between two writes: Events must not take the API server's time from what matters.
const PAUSE: Duration = Duration::from_millis(50);

/// What there is to tell. Followers collect it as well, so that whoever becomes the leader tells what is new.
#[derive(Debug)]
pub struct Events {
    correlator: Mutex<Correlator>,
    changed: Notify,
    started: Instant,
}

impl Default for Events {
    fn default() -> Self {
        Self { correlator: Mutex::default(), changed: Notify::new(), started: Instant::now() }
    }
}

impl Events {
    /// A pod was refused; `truth` is for the template's owner alone.
    pub fn refused(&self, refused: &Refused, truth: Option<Event>) {
        self.correlator().refused(refused, truth, Timestamp::now(), self.started.elapsed());
        self.changed.notify_one();
    }

    /// Something happened to a template.
    pub fn template(&self, event: Event) {
        self.correlator().template(event, Timestamp::now(), self.started.elapsed());
        self.changed.notify_one();
    }

    fn correlator(&self) -> MutexGuard<'_, Correlator> {
        // Every change of it is complete at each point where it could panic.
        self.correlator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what there is to tell, for ever; `instance` is who does.
pub async fn write(
    observer: Arc<Observer>,
    writer: Writer,
    mut leadership: Leadership,
    instance: String,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let events = &observer.events;
    let mut dropped = 0;
    loop {
        // Before the look, so that what is added after it is not missed.
        let changed = events.changed.notified();
        let (next, ever) = {
            let correlator = events.correlator();
            (correlator.next(&instance, events.started.elapsed()), correlator.dropped())
        };
        metrics.told(Told::Dropped, ever - dropped);
        dropped = ever;
        match next {
            Next::Nothing => changed.await,
            Next::At(moment) => {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(events.started + moment) => {}
                }
            }
            Next::Write(..) if !leadership.is_held() => drop(leadership.changed().await),
            Next::Write(id, write) => {
                let count = events.correlator().count(&id);
                let written = match send(&writer, &write).await {
                    Ok(written) => written,
                    Err(WriteError::NotLeader) => continue,
                    Err(error) => {
                        tracing::debug!(%error, "an Event was not written");
                        Written::Failed
                    }
                };
                let given_up = events.correlator().written(&id, count, written, events.started.elapsed());
                if given_up {
                    tracing::debug!("an Event is given up");
                }
                match written {
                    Written::Done => metrics.told(Told::Written, 1),
                    Written::Already(_) => metrics.told(Told::Known, 1),
                    Written::Failed => metrics.told(Told::Failed, 1),
                    Written::Gone => {}
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn send(writer: &Writer, write: &Write) -> Result<Written, WriteError> {
    match write {
        Write::Create(event) => writer.create_event(event).await,
        Write::Repeat { namespace, name, series } => writer.repeat_event(namespace, name, series).await,
    }
}
