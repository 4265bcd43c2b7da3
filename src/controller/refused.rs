//! Namespaces of a template where a write was refused, each with when it is tried again, whatever happens until then. IO: waits
//! have a random part.
//!
//! Input: how writes ended, and the time. Output: which may be tried, when the next may, and what there is to tell.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::backoff;
use super::condition::Undelivered;

/// What was refused of one template.
#[derive(Debug, Default)]
pub struct Refused {
    /// Rounds in a row in which something was.
    rounds: u32,
    /// By namespace.
    holds: BTreeMap<String, Hold>,
}

#[derive(Debug)]
struct Hold {
    until: Instant,
    /// Nothing where a newer version came first, which needs no telling.
    why: Option<Undelivered>,
}

impl Refused {
    /// Whether a write to this namespace may be tried.
    pub fn allows(&self, namespace: &str, now: Instant) -> bool {
        self.holds.get(namespace).is_none_or(|hold| hold.until <= now)
    }

    /// Takes in how the writes of one round ended; what was not tried stays as it was.
    pub fn note(
        &mut self,
        done: impl IntoIterator<Item = String>,
        refused: impl IntoIterator<Item = (String, Option<Undelivered>)>,
        now: Instant,
    ) {
        for namespace in done {
            self.holds.remove(&namespace);
        }
        let mut refused = refused.into_iter().peekable();
        if refused.peek().is_some() {
            let until = now + backoff::delay(self.rounds);
            self.rounds = self.rounds.saturating_add(1);
            self.holds.extend(refused.map(|(namespace, why)| (namespace, Hold { until, why })));
        }
        if self.holds.is_empty() {
            self.rounds = 0;
        }
    }

    /// Forgets every namespace where there is nothing to do any more.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.holds.retain(|namespace, _| wanted(namespace));
    }

    /// What there is to tell: of the first namespace.
    pub fn why(&self) -> Option<&Undelivered> {
        self.holds.values().find_map(|hold| hold.why.as_ref())
    }

    /// When the next may be tried again; nothing where nothing was refused.
    pub fn next(&self) -> Option<Instant> {
        self.holds.values().map(|hold| hold.until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Refused;
    use crate::controller::condition::Undelivered;

    fn failed(why: &str) -> Undelivered {
        Undelivered::Failed(why.to_owned())
    }

    #[test]
    fn one_that_was_refused_waits_and_others_do_not() {
        let (mut refused, began) = (Refused::default(), Instant::now());
        let later = |seconds| began + Duration::from_secs(seconds);
        refused.note(
            ["a".to_owned()],
            [("b".to_owned(), Some(failed("quota"))), ("c".to_owned(), None)],
            began,
        );
        assert_eq!(["a", "b", "c", "d"].map(|of| refused.allows(of, began)), [true, false, false, true]);
        assert_eq!(refused.why(), Some(&failed("quota")));
        let next = refused.next().unwrap();
        assert!((later(1)..=began + Duration::from_millis(1500)).contains(&next), "{:?}", next - began);
        assert!(refused.allows("b", next));

        // Another waits for longer and leaves the first as it is.
        refused.note([], [("d".to_owned(), Some(failed("late")))], began);
        assert_eq!(refused.next(), Some(next));
        assert!(!refused.allows("d", began + Duration::from_millis(1900)) && refused.allows("d", later(3)));

        // What is done, or not to be done any more, is forgotten.
        refused.note(["b".to_owned()], [], later(2));
        assert_eq!(refused.why(), Some(&failed("late")));
        refused.keep(|namespace| namespace == "c");
        assert_eq!((refused.why(), refused.next().is_some()), (None, true));
        refused.note(["c".to_owned()], [], later(2));
        assert_eq!((refused.next(), refused.rounds), (None, 0));
    }
}
