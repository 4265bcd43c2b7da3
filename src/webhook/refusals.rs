//! One warning per (namespace, reason) of refusals in a while, so that a rollout of a thousand pods is one line.
//!
//! Input: refusals with the time. Output: whether to log, and how many were not logged since. Memory is bounded: beyond
//! [`MAX_KEYS`] pairs in one window, new pairs are not logged (metrics still count them).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::admission::Outcome;
use crate::admission::reason::Reason;

const WINDOW: Duration = Duration::from_mins(1);
const MAX_KEYS: usize = 1024;

/// What was logged lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    lately: Mutex<HashMap<(String, Option<Reason>), Entry>>,
}

#[derive(Debug)]
struct Entry {
    logged: Instant,
    suppressed: u64,
}

impl Refusals {
    /// Logs a refusal unless an equal one was logged within the window.
    pub(super) fn log(&self, outcome: &Outcome, now: Instant) {
        let Some(refusal) = &outcome.refusal else { return };
        if let Some(suppressed) = self.admit(&refusal.namespace, outcome.reason, now) {
            tracing::warn!(
                namespace = refusal.namespace,
                workload = refusal.workload,
                reason = outcome.reason.map(Reason::word),
                detail = refusal.detail,
                outcome = ?outcome.kind,
                suppressed,
                "not injected"
            );
        }
    }

    /// How many were suppressed since the last line, or `None` to suppress this one too.
    fn admit(&self, namespace: &str, reason: Option<Reason>, now: Instant) -> Option<u64> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= MAX_KEYS {
            lately.retain(|_, entry| now.duration_since(entry.logged) < WINDOW);
        }
        let full = lately.len() >= MAX_KEYS;
        let key = (namespace.to_owned(), reason);
        match lately.get_mut(&key) {
            Some(entry) if now.duration_since(entry.logged) < WINDOW => {
                entry.suppressed += 1;
                None
            }
            Some(entry) => {
                entry.logged = now;
                Some(std::mem::take(&mut entry.suppressed))
            }
            None if full => None,
            None => {
                lately.insert(key, Entry { logged: now, suppressed: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MAX_KEYS, Refusals, WINDOW};
    use crate::admission::reason::Reason;

    #[test]
    fn one_line_per_namespace_and_reason_in_a_window_with_the_count_of_the_others() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let admit = |namespace, reason, after| refusals.admit(namespace, Some(reason), start + after);
        assert_eq!(admit("a", Reason::Windows, Duration::ZERO), Some(0));
        assert_eq!(admit("a", Reason::Windows, WINDOW / 2), None);
        assert_eq!(admit("a", Reason::Windows, WINDOW / 2), None);
        assert_eq!(admit("b", Reason::Windows, WINDOW / 2), Some(0));
        assert_eq!(admit("a", Reason::HostNetwork, WINDOW / 2), Some(0));
        assert_eq!(admit("a", Reason::Windows, WINDOW), Some(2));
        assert_eq!(admit("a", Reason::Windows, WINDOW * 2), Some(0));
    }

    #[test]
    fn memory_is_bounded_and_freed_after_the_window() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        for index in 0..MAX_KEYS {
            assert_eq!(refusals.admit(&index.to_string(), None, start), Some(0));
        }
        assert_eq!(refusals.admit("one too many", None, start), None);
        assert_eq!(refusals.admit("one too many", None, start + WINDOW), Some(0));
        assert_eq!(refusals.lately.lock().unwrap().len(), 1);
    }
}
