//! Templates that have to be looked at, each once and each at its time. IO: waits.
//!
//! Input: templates, now or later. Output: one after another, the earliest first. A template that is added again before its
//! turn comes no later than it would have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::template::agent::TemplateId;

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    due: Mutex<HashMap<TemplateId, Instant>>,
    changed: Notify,
}

impl Queue {
    /// These have to be looked at now.
    pub fn add(&self, templates: impl IntoIterator<Item = TemplateId>) {
        for id in templates {
            self.add_after(id, Duration::ZERO);
        }
    }

    /// This one has to be looked at later.
    pub fn add_after(&self, id: TemplateId, delay: Duration) {
        let at = Instant::now() + delay;
        self.due().entry(id).and_modify(|due| *due = (*due).min(at)).or_insert(at);
        self.changed.notify_one();
    }

    /// Waits for the next one and takes it.
    pub async fn next(&self) -> TemplateId {
        loop {
            // Before the look, so that what is added after it is not missed.
            let changed = self.changed.notified();
            let earliest = self.take_due();
            match earliest {
                Ok(id) => return id,
                Err(None) => changed.await,
                Err(Some(at)) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Takes the earliest if its time has come; otherwise when it comes, if there is any.
    fn take_due(&self) -> Result<TemplateId, Option<Instant>> {
        let mut due = self.due();
        let (id, at) = due.iter().min_by_key(|(_, at)| **at).ok_or(None)?;
        if *at > Instant::now() {
            return Err(Some(*at));
        }
        let id = id.clone();
        due.remove(&id);
        Ok(id)
    }

    fn due(&self) -> MutexGuard<'_, HashMap<TemplateId, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Queue;
    use crate::template::agent::TemplateId;

    fn id(name: &str) -> TemplateId {
        TemplateId { namespace: "a".to_owned(), name: name.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_comes_once_and_at_its_time() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(id("later"), Duration::from_mins(1));
        queue.add_after(id("sooner"), Duration::from_secs(30));
        queue.add([id("now"), id("now")]);
        // Not later than before.
        queue.add_after(id("sooner"), Duration::from_secs(90));
        queue.add_after(id("later"), Duration::from_secs(40));
        for (name, seconds) in [("now", 0), ("sooner", 30), ("later", 40)] {
            assert_eq!((queue.next().await, start.elapsed().as_secs()), (id(name), seconds));
        }
        let nothing = tokio::time::timeout(Duration::from_hours(1), queue.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_while_another_is_waited_for_is_taken_at_once() {
        let queue = Queue::default();
        queue.add_after(id("later"), Duration::from_mins(1));
        let add = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            queue.add([id("now")]);
        };
        let (next, ()) = tokio::join!(queue.next(), add);
        assert_eq!(next, id("now"));
    }
}
