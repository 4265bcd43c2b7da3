//! Tells monitors what templates make of them. IO: writes through [`Writer`].
//!
//! Input: a template that was looked at. Output: the status of the monitors that do not say so yet.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::apply::{WriteError, Writer};
use super::observe::Observer;
use crate::monitors::podmonitor::MonitorId;
use crate::template::agent::TemplateId;

/// Statuses that are written at once.
const AT_ONCE: usize = 8;
/// A status that says nothing new is written no more often than this: a definition that has no place for it drops it.
const AGAIN_AFTER: Duration = Duration::from_mins(10);

/// What was written last, and when.
#[derive(Debug, Default)]
pub struct Binder {
    written: HashMap<MonitorId, (Value, Instant)>,
}

impl Binder {
    /// Writes what the monitors do not say yet of a template; the first failure counts.
    pub async fn bind(
        &mut self,
        id: &TemplateId,
        observer: &Observer,
        writer: &Writer,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        self.written.retain(|_, (_, at)| at.elapsed() < AGAIN_AFTER);
        let untold = observer.world().bindings(id, now).into_iter();
        let untold = untold.filter(|(monitor, status)| {
            self.written.get(monitor).is_none_or(|(said, _)| *said != timeless(status))
        });
        let sent = untold.map(|(monitor, status)| async move {
            let written = writer.monitor_status(&monitor, &status).await;
            (monitor, status, written)
        });
        let written: Vec<_> =
            futures_util::stream::iter(sent.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        let mut failure = None;
        for (monitor, status, written) in written {
            match written {
                Ok(_) => drop(self.written.insert(monitor, (timeless(&status), Instant::now()))),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            None => Ok(()),
            Some(WriteError::NotLeader) => Err(WriteError::NotLeader),
            Some(error) => {
                tracing::warn!(template = %id, %error, "status of a PodMonitor not written; trying again");
                Err(error)
            }
        }
    }
}

/// The status without the times of its conditions.
fn timeless(status: &Value) -> Value {
    let mut status = status.clone();
    let bindings = status["bindings"].as_array_mut().into_iter().flatten();
    for condition in bindings.filter_map(|binding| binding["conditions"].as_array_mut()).flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("lastTransitionTime");
        }
    }
    status
}
