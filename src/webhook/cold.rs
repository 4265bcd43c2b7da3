//! Reviews that come before what they need: a folder applied at once brings namespace, template and Deployment within
//! milliseconds, and the watches bring them here a little later. IO: waits.
//!
//! Input: an answer that was made for the lack of something, and word of every new snapshot. Output: the answer that stands in
//! the end. Few may wait, not for long, and nobody again for what did not come.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::admission::Answer;
use crate::admission::decision::Missing;
use crate::metrics::{Metrics, Wait};

/// How long a review waits: a third of the API server's timeout.
const PATIENCE: Duration = Duration::from_secs(1);
/// Reviews that wait at once; one more is answered as it is.
const WAITING: usize = 16;
/// For how long nobody waits again for what did not come.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Most things that are remembered; while there are so many, nobody waits.
const MOST_REMEMBERED: usize = 1024;

/// Who waits, and what did not come.
#[derive(Debug)]
pub(super) struct ColdCache {
    waiting: Semaphore,
    in_vain: Mutex<HashMap<Missing, Instant>>,
}

impl Default for ColdCache {
    fn default() -> Self {
        Self { waiting: Semaphore::new(WAITING), in_vain: Mutex::default() }
    }
}

impl ColdCache {
    /// Waits for what `answer` was made without, and lets `decide` answer again with each new snapshot.
    pub(super) async fn wait(
        &self,
        answer: Answer,
        mut changes: watch::Receiver<()>,
        metrics: &Metrics,
        decide: impl Fn() -> Answer,
    ) -> Answer {
        let Some(missing) = answer.missing() else { return answer };
        if self.was_in_vain(missing) {
            return answer;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            metrics.waited(Wait::Full);
            return answer;
        };
        let end = Instant::now() + PATIENCE;
        // Once before the first wait: the snapshot may be newer than the one of this answer.
        let mut answer = decide();
        while let Some(missing) = answer.missing().cloned() {
            match tokio::time::timeout_at(end, changes.changed()).await {
                Ok(Ok(())) => answer = decide(),
                _ => {
                    metrics.waited(Wait::InVain);
                    self.remember(missing);
                    return answer;
                }
            }
        }
        metrics.waited(Wait::Found);
        answer
    }

    fn was_in_vain(&self, missing: &Missing) -> bool {
        let now = Instant::now();
        let mut in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        if in_vain.len() >= MOST_REMEMBERED {
            in_vain.retain(|_, at| now < *at + REMEMBERED);
        }
        in_vain.len() >= MOST_REMEMBERED || in_vain.get(missing).is_some_and(|at| now < *at + REMEMBERED)
    }

    fn remember(&self, missing: Missing) {
        let mut in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        in_vain.insert(missing, Instant::now());
    }
}

#[cfg(test)]
#[path = "cold_tests.rs"]
mod tests;
