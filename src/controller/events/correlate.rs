//! Which Events are written, and when: repetitions are counted instead of written, and storms are bounded. PURE.
//!
//! Input: what there is to tell, and the time. Output: one write after another, and what becomes of it. A pod that was told is
//! remembered by eight bytes, for as long as it is new.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::event::{Event, EventId, Regarding, Sameness, Times, digest};
use super::refused::Refused;

/// Pods older than this are no news: they were told when they came, or nobody asks any more.
const NEWS: SignedDuration = SignedDuration::from_mins(10);
/// Most pods that are remembered for as long as they are new.
const MOST_PODS: usize = 20_000;
/// Most Events that are remembered, written or not.
const MOST_EVENTS: usize = 2_000;
/// Repetitions of one Event are written no more often than this.
const REPEAT_EVERY: Duration = Duration::from_secs(10);
/// An Event that nothing was added to for so long is forgotten, as the API server forgets it.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// How often a write is tried.
const ATTEMPTS: u32 = 5;
/// How often old things are looked for.
const SWEEP: Duration = Duration::from_mins(1);

/// How many Events of a kind may come at once, and one more after each of these.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Pods of one owner and reason: the owner's own Event counts all of them.
const PODS_OF_OWNER: Rate = Rate { burst: 5, every: Duration::from_mins(1) };
/// Pods of one namespace and reason, and owners likewise.
const IN_NAMESPACE: Rate = Rate { burst: 25, every: Duration::from_secs(10) };
/// Events of one template.
const OF_TEMPLATE: Rate = Rate { burst: 10, every: Duration::from_secs(10) };

#[derive(Debug)]
struct Budget {
    rate: Rate,
    left: u32,
    since: Duration,
}

impl Budget {
    const fn new(rate: Rate, at: Duration) -> Self {
        Self { rate, left: rate.burst, since: at }
    }

    fn refill(&mut self, at: Duration) {
        while self.left < self.rate.burst && at >= self.since + self.rate.every {
            self.left += 1;
            self.since += self.rate.every;
        }
        if self.left == self.rate.burst {
            self.since = at;
        }
    }
}

/// What becomes of one Event.
#[derive(Debug)]
struct Told {
    event: Event,
    times: Times,
    /// How often as the API server has it; absent before it has it.
    written: Option<u32>,
    /// When it has to be written.
    due: Option<Duration>,
    /// When something was added last.
    touched: Duration,
    attempts: u32,
}

/// A write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A new Event.
    Create(Value),
    /// One that is there, again.
    Repeat {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// `series`.
        series: Value,
    },
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Done,
    /// Another process told it, or we did before a restart; so often.
    Already(u32),
    /// What was to be repeated is gone: the API server keeps Events for an hour.
    Gone,
    /// It may be tried again.
    Failed,
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// This.
    Write(EventId, Write),
    /// Nothing before this moment.
    At(Duration),
    /// Nothing.
    Nothing,
}

/// What is remembered. Moments are counted from any beginning, by a clock that does not jump.
#[derive(Debug, Default)]
pub struct Correlator {
    pods: HashMap<EventId, Timestamp>,
    budgets: HashMap<EventId, Budget>,
    events: HashMap<EventId, Told>,
    swept: Duration,
    /// What there was no room for, ever.
    dropped: u64,
}

impl Correlator {
    /// What there was no room for, ever.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A pod was refused; `truth` is an Event for the template's owner, who alone may know the true reason.
    pub fn refused(&mut self, refused: &Refused, truth: Option<Event>, now: Timestamp, at: Duration) {
        if !self.is_new(refused, now, at) {
            return;
        }
        if let Some(truth) = truth {
            self.template(truth, now, at);
        }
        let Refused { pod, owner, reason, detail, .. } = refused;
        let reason = reason.row().event;
        let event = |regarding: &Regarding, sameness| Event {
            regarding: regarding.clone(),
            reason,
            action: "Inject",
            note: detail.clone(),
            sameness,
        };
        let in_namespace = |kind| (digest(&[&pod.namespace, reason, kind]), IN_NAMESPACE);
        let mut told = false;
        if let Some(owner) = owner {
            let event = event(owner, Sameness::Subject(String::new()));
            told = self.events.contains_key(&event.id()) || self.may(&[in_namespace("owners")], at);
            if told {
                self.add(event, now, at);
            }
        }
        let budgets = match owner {
            Some(owner) => {
                vec![(digest(&[&owner.uid, reason, "pods"]), PODS_OF_OWNER), in_namespace("pods")]
            }
            None => vec![in_namespace("pods")],
        };
        if self.may(&budgets, at) {
            self.add(event(pod, Sameness::Note), now, at);
        } else if !told {
            let mut combined = event(pod, Sameness::Namespace);
            combined.note = format!("(combined from similar events): {detail}");
            self.add(combined, now, at);
        }
    }

    /// Something happened to a template.
    pub fn template(&mut self, event: Event, now: Timestamp, at: Duration) {
        let budget = (digest(&[&event.regarding.uid, "template"]), OF_TEMPLATE);
        if self.events.contains_key(&event.id()) || self.may(&[budget], at) {
            self.add(event, now, at);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether nothing was told of the pod yet; it is remembered then.
    fn is_new(&mut self, refused: &Refused, now: Timestamp, at: Duration) -> bool {
        self.sweep(now, at);
        let id = digest(&[&refused.pod.uid]);
        if now.duration_since(refused.created) > NEWS || self.pods.contains_key(&id) {
            return false;
        }
        if self.pods.len() >= MOST_PODS {
            self.dropped += 1;
            return false;
        }
        self.pods.insert(id, now.max(refused.created));
        true
    }

    /// Whether every budget has something left; it is taken then.
    fn may(&mut self, budgets: &[(EventId, Rate)], at: Duration) -> bool {
        let mut left = budgets.iter().map(|(id, rate)| match self.budgets.get_mut(id) {
            Some(budget) => {
                budget.refill(at);
                budget.left
            }
            None => rate.burst,
        });
        if left.any(|left| left == 0) {
            return false;
        }
        for (id, rate) in budgets {
            self.budgets.entry(*id).or_insert_with(|| Budget::new(*rate, at)).left -= 1;
        }
        true
    }

    fn add(&mut self, event: Event, now: Timestamp, at: Duration) {
        let id = event.id();
        if let Some(told) = self.events.get_mut(&id) {
            told.touched = at;
            if told.event.is_counted() {
                told.times.count = told.times.count.saturating_add(1);
                told.times.last = now;
                let pause = if told.written.is_some() { REPEAT_EVERY } else { Duration::ZERO };
                told.due.get_or_insert(at + pause);
            }
            return;
        }
        if self.events.len() >= MOST_EVENTS {
            let done = self.events.iter().filter(|(_, told)| told.due.is_none());
            let Some((oldest, _)) = done.min_by_key(|(_, told)| told.touched) else {
                self.dropped += 1;
                return;
            };
            let oldest = *oldest;
            self.events.remove(&oldest);
        }
        let times = Times { count: 1, first: now, last: now };
        let told = Told { event, times, written: None, due: Some(at), touched: at, attempts: 0 };
        self.events.insert(id, told);
    }

    /// What is to be done at this moment; `instance` is who does it.
    pub fn next(&self, instance: &str, at: Duration) -> Next {
        let due = self.events.iter().filter_map(|(id, told)| Some((told.due?, id, told)));
        let Some((due, id, told)) = due.min_by_key(|(due, id, _)| (*due, **id)) else { return Next::Nothing };
        if due > at {
            return Next::At(due);
        }
        let write = match told.written {
            None => Write::Create(told.event.object(told.times, instance)),
            Some(_) => Write::Repeat {
                namespace: told.event.regarding.namespace.clone(),
                name: told.event.name(),
                series: told.times.series(),
            },
        };
        Next::Write(*id, write)
    }

    /// What became of a write that was to be done next: `count` is what it said. Whether it was given up.
    pub fn written(&mut self, id: &EventId, count: u32, outcome: Written, at: Duration) -> bool {
        let Some(told) = self.events.get_mut(id) else { return false };
        match outcome {
            Written::Done => {
                told.written = Some(count);
                told.attempts = 0;
                // What came while it was written.
                told.due = (told.times.count > count).then_some(at + REPEAT_EVERY);
            }
            Written::Already(count) => {
                // Whoever told it may have counted the same pods: from here on it is counted on.
                told.written = Some(count);
                told.times.count = count;
                told.due = None;
            }
            Written::Gone => {
                told.times.count = told.times.count.saturating_sub(told.written.unwrap_or_default()).max(1);
                told.times.first = told.times.last;
                told.written = None;
                told.due = Some(at);
            }
            Written::Failed => {
                told.attempts += 1;
                if told.attempts >= ATTEMPTS {
                    self.events.remove(id);
                    return true;
                }
                told.due = Some(at + Duration::from_secs(1 << told.attempts));
            }
        }
        false
    }

    /// How often an Event happened, as its next write says.
    pub fn count(&self, id: &EventId) -> u32 {
        self.events.get(id).map_or(0, |told| told.times.count)
    }

    /// Forgets what is old. What nobody could write, or may, as long as another leads, is no news any more either.
    fn sweep(&mut self, now: Timestamp, at: Duration) {
        if at < self.swept + SWEEP {
            return;
        }
        self.swept = at;
        self.pods.retain(|_, seen| now.duration_since(*seen) <= NEWS);
        self.events.retain(|_, told| match told.due {
            Some(_) if told.written.is_none() => now.duration_since(told.times.last) <= NEWS,
            Some(_) => true,
            None => at < told.touched + FORGOTTEN,
        });
        self.budgets.retain(|_, budget| {
            budget.refill(at);
            budget.left < budget.rate.burst
        });
    }
}

#[cfg(test)]
#[path = "correlate_tests.rs"]
mod tests;
