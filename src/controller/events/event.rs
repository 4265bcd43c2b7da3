//! Events as Kubernetes has them (`events.k8s.io/v1`). PURE.
//!
//! Input: what an Event is about, a reason and a note. Output: the object. Equal Events have equal names, so that another
//! process, or the same after a restart, does not tell them anew.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::admission::sidecar::hex;

/// Most bytes of a note (apimachinery `NoteLengthLimit`).
pub const MAX_NOTE: usize = 1024;
/// Most bytes of the name of what it is about in the Event's own: a dot and 16 digits follow.
const MAX_NAME: usize = 253 - 17;
/// Most bytes of `reportingInstance`.
const MAX_INSTANCE: usize = 128;
/// `reportingController`, which `kubectl describe` shows.
const CONTROLLER: &str = "promsidecar-controller";

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regarding {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its namespace, which is the Event's too.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, without which nobody finds the Event.
    pub uid: String,
}

/// What makes two Events the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sameness {
    /// The same object, reason and note: it is told once, and saying it again says nothing.
    Note,
    /// The same object and reason, and this: repetitions are counted.
    Subject(String),
    /// The same namespace and reason, whatever object stands for the others: repetitions are counted.
    Namespace,
}

/// A warning about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub regarding: Regarding,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// What was to be done: `Inject`, `Publish`.
    pub action: &'static str,
    /// For humans.
    pub note: String,
    /// When another one counts as this one.
    pub sameness: Sameness,
}

/// Identity of an Event.
pub type EventId = [u8; 8];

impl Event {
    /// Equal for Events that are the same one.
    pub fn id(&self) -> EventId {
        let Regarding { namespace, uid, .. } = &self.regarding;
        let (object, more) = match &self.sameness {
            Sameness::Note => (uid, &*self.note),
            Sameness::Subject(more) => (uid, &**more),
            Sameness::Namespace => (namespace, "combined"),
        };
        digest(&[object, self.reason, more])
    }

    /// Whether repetitions are counted.
    pub const fn is_counted(&self) -> bool {
        !matches!(self.sameness, Sameness::Note)
    }

    /// Name of the object.
    pub fn name(&self) -> String {
        let name = &self.regarding.name;
        let head = &name[..name.floor_char_boundary(MAX_NAME)];
        format!("{}.{}", head.trim_end_matches(['.', '-']), hex(&self.id(), 8))
    }

    /// The object.
    pub fn object(&self, times: Times, instance: &str) -> Value {
        let Self { regarding, reason, action, note, .. } = self;
        let mut object = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": self.name(), "namespace": regarding.namespace},
            "type": "Warning",
            "eventTime": micros(times.first),
            "reportingController": CONTROLLER,
            "reportingInstance": &instance[..instance.floor_char_boundary(MAX_INSTANCE)],
            "action": action,
            "reason": reason,
            "note": cut(note),
            "regarding": {
                "apiVersion": regarding.api_version,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
        });
        if times.count > 1 {
            object["series"] = times.series();
        }
        object
    }
}

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How often.
    pub count: u32,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

impl Times {
    /// Repetitions as an Event has them.
    pub fn series(&self) -> Value {
        json!({"count": self.count, "lastObservedTime": micros(self.last)})
    }
}

/// What stands for these texts.
pub fn digest(texts: &[&str]) -> EventId {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text);
        hasher.update([0]);
    }
    std::array::from_fn({
        let digest = hasher.finalize();
        move |at| digest[at]
    })
}

/// As the API has times in micros.
fn micros(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// At most [`MAX_NOTE`] bytes.
fn cut(note: &str) -> String {
    if note.len() <= MAX_NOTE {
        return note.to_owned();
    }
    format!("{}…", &note[..note.floor_char_boundary(MAX_NOTE - '…'.len_utf8())])
}

/// As many of the items as a note holds after this beginning, and how many are left out.
pub fn listed(beginning: &str, items: &[String]) -> String {
    // Room for the number of those that are left out.
    let room = MAX_NOTE - "; and 4294967295 more".len();
    let mut note = beginning.to_owned();
    for (at, item) in items.iter().enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        if at > 0 && note.len() + separator.len() + item.len() > room {
            return format!("{}; and {} more", note, items.len() - at);
        }
        note.push_str(separator);
        note.push_str(item);
    }
    note
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Event, MAX_NOTE, Regarding, Sameness, Times, listed};

    fn event(uid: &str, note: &str, sameness: Sameness) -> Event {
        let regarding = Regarding {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            namespace: "a".to_owned(),
            name: "web-1".to_owned(),
            uid: uid.to_owned(),
        };
        Event { regarding, reason: "TemplateNotFound", action: "Inject", note: note.to_owned(), sameness }
    }

    #[test]
    fn an_event_is_an_object_of_events_v1() {
        let event = event("u", "no template", Sameness::Subject(String::new()));
        let first = "2026-11-25T12:00:00.123456Z".parse().unwrap();
        let times = Times { count: 1, first, last: "2026-11-25T12:01:00Z".parse().unwrap() };
        let expected = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event.name(), "namespace": "a"},
            "type": "Warning",
            "eventTime": "2026-11-25T12:00:00.123456Z",
            "reportingController": "promsidecar-controller",
            "reportingInstance": "one",
            "action": "Inject",
            "reason": "TemplateNotFound",
            "note": "no template",
            "regarding": {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": "a", "name": "web-1", "uid": "u",
            },
        });
        assert_eq!(event.object(times, "one"), expected);
        let repeated = event.object(Times { count: 3, ..times }, "one");
        assert_eq!(
            repeated["series"],
            json!({"count": 3, "lastObservedTime": "2026-11-25T12:01:00.000000Z"})
        );
    }

    #[test]
    fn events_are_the_same_by_what_is_said_of_them() {
        let subject = || Sameness::Subject(String::new());
        assert_eq!(event("u", "one", subject()).name(), event("u", "two", subject()).name());
        assert_ne!(event("u", "one", subject()).id(), event("v", "one", subject()).id());
        assert_ne!(event("u", "one", Sameness::Note).id(), event("u", "two", Sameness::Note).id());
        let combined = |uid| event(uid, "x", Sameness::Namespace).id();
        assert_eq!(combined("u"), combined("v"));
    }

    #[test]
    fn names_and_notes_are_never_too_long() {
        let mut long = event("u", &"é".repeat(600), Sameness::Note);
        long.regarding.name = format!("{}-{}", "x".repeat(235), "y".repeat(17));
        assert_eq!(long.name().len(), 252, "the hyphen before the cut goes as well");
        let times = Times {
            count: 1,
            first: "2026-11-25T12:00:00Z".parse().unwrap(),
            last: "2026-11-25T12:00:00Z".parse().unwrap(),
        };
        let object = long.object(times, &"i".repeat(300));
        let length = |key: &str| object[key].as_str().unwrap().len();
        assert!(length("note") <= MAX_NOTE && object["note"].as_str().unwrap().ends_with("é…"));
        assert_eq!(length("reportingInstance"), 128);
    }

    #[test]
    fn a_list_ends_with_what_it_leaves_out() {
        let items = |count| vec!["x".repeat(100); count];
        assert_eq!(listed("bad: ", &items(1)), format!("bad: {}", "x".repeat(100)));
        let note = listed("bad: ", &items(50));
        assert!(note.len() <= MAX_NOTE && note.ends_with("x; and 41 more"), "{note}");
    }
}
