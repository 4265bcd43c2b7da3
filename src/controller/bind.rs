//! Tells monitors what templates make of them. IO: writes through [`Writer`].
//!
//! Input: templates that were looked at. Output: the status of the monitors that do not say so yet. A task of its own: nothing
//! that is told may hold up what is delivered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::apply::{WriteError, Writer};
use super::backoff;
use super::bindings;
use super::lease::Leadership;
use super::observe::Observer;
use super::world::monitors::Binding;
use crate::template::agent::TemplateId;

/// Statuses that are written at once.
const AT_ONCE: usize = 8;
/// For how long nobody tries again what a definition has no place for.
const DROPPED_FOR: Duration = Duration::from_mins(10);

/// What could not be told, and why.
#[derive(Debug, Default)]
struct Binder {
    /// Statuses that the API server took and did not keep, by template and UID of the monitor: older definitions have none.
    dropped: HashMap<(TemplateId, String), Instant>,
    /// Failures in a row, and what was logged last.
    failures: HashMap<TemplateId, (u32, String)>,
}

/// Tells monitors for ever, while the lease is held; whoever becomes the leader looks at all templates anyway.
pub async fn run(observer: Arc<Observer>, writer: Writer, leadership: Leadership) -> anyhow::Result<()> {
    let mut binder = Binder::default();
    loop {
        let id = observer.told.next().await;
        if leadership.is_held() {
            binder.bind(&id, &observer, &writer).await;
        }
    }
}

impl Binder {
    async fn bind(&mut self, id: &TemplateId, observer: &Observer, writer: &Writer) {
        self.dropped.retain(|_, at| at.elapsed() < DROPPED_FOR);
        let untold = observer.world().bindings(id, Timestamp::now());
        let key = |uid: &str| (id.clone(), uid.to_owned());
        let due = untold.into_iter().filter(|binding| !self.dropped.contains_key(&key(&binding.uid)));
        let due: Vec<Binding> = due.collect();
        // The first failure ends it: what keeps one from being written keeps them all.
        let sent = stream::iter(due).map(|binding| async move {
            let kept = writer.monitor_status(id, &binding.monitor, &binding.status).await?;
            Ok::<_, WriteError>((binding, kept))
        });
        let mut sent = sent.buffered(AT_ONCE);
        let failure = loop {
            match sent.try_next().await {
                Ok(None) => break None,
                Ok(Some((binding, Some(stored)))) if bindings::is_kept(&stored, id, &binding.status) => {}
                Ok(Some((binding, _))) => drop(self.dropped.insert(key(&binding.uid), Instant::now())),
                Err(error) => break Some(error),
            }
        };
        match failure {
            None | Some(WriteError::NotLeader) => drop(self.failures.remove(id)),
            Some(error) => observer.told.add_after(id.clone(), self.failed(id, &error.to_string())),
        }
    }

    /// When it is tried again. It is logged once for each cause.
    fn failed(&mut self, id: &TemplateId, error: &str) -> Duration {
        let (failures, complaint) = self.failures.entry(id.clone()).or_default();
        if complaint != error {
            tracing::warn!(template = %id, error, "status of a monitor not written; trying again");
            error.clone_into(complaint);
        }
        let delay = backoff::delay(*failures);
        *failures = failures.saturating_add(1);
        delay
    }
}
