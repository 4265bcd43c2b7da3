//! Refused pods one after another and all at once, and what is written of them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Correlator, MOST_EVENTS, MOST_PODS, NEWS, Next, Write, Written};
use crate::admission::reason::Reason;
use crate::controller::events::event::{Event, Regarding, Sameness};
use crate::controller::events::refused::Refused;

const START: Duration = Duration::ZERO;

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn regarding(kind: &str, name: &str) -> Regarding {
    Regarding {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: "a".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
    }
}

fn refused(pod: &str, owner: Option<&str>) -> Refused {
    Refused {
        pod: regarding("Pod", pod),
        owner: owner.map(|owner| regarding("ReplicaSet", owner)),
        created: now(),
        reason: Reason::TemplateNotFound,
        detail: "no template".to_owned(),
        inject: None,
    }
}

/// Writes all that is due, as an API server takes it: kind and name of what an Event is about, and how often it happened.
fn written(correlator: &mut Correlator, at: Duration) -> BTreeMap<String, u64> {
    let mut written = BTreeMap::new();
    while let Next::Write(id, write) = correlator.next("one", at) {
        let count = correlator.count(&id);
        match write {
            Write::Create(event) => {
                let text = |key: &str| event["regarding"][key].as_str().unwrap().to_owned();
                let count = event["series"]["count"].as_u64().unwrap_or(1);
                written.insert(format!("{} {}", text("kind"), text("name")), count);
            }
            Write::Repeat { name, series, .. } => {
                written
                    .insert(format!("again {}", &name[..name.len() - 17]), series["count"].as_u64().unwrap());
            }
        }
        assert!(!correlator.written(&id, count, Written::Done, at));
    }
    written
}

fn rows(rows: &[(&str, u64)]) -> BTreeMap<String, u64> {
    rows.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
}

#[test]
fn a_pod_and_its_owner_are_told_once_however_often_the_pod_changes() {
    let mut correlator = Correlator::default();
    correlator.refused(&refused("web-1", Some("web")), None, now(), START);
    let expected = rows(&[("Pod web-1", 1), ("ReplicaSet web", 1)]);
    assert_eq!(written(&mut correlator, START), expected);
    correlator.refused(&refused("web-1", Some("web")), None, now(), START);
    assert_eq!(correlator.next("one", START), Next::Nothing);

    // Its next pod is one more for the owner, told a little later.
    correlator.refused(&refused("web-2", Some("web")), None, now(), START);
    assert_eq!(written(&mut correlator, START), rows(&[("Pod web-2", 1)]));
    let later = Duration::from_secs(10);
    assert_eq!(correlator.next("one", START), Next::At(later));
    assert_eq!(written(&mut correlator, later), rows(&[("again web", 2)]));
}

#[test]
fn old_pods_are_no_news() {
    let mut correlator = Correlator::default();
    let old = now().checked_sub(NEWS).unwrap().checked_sub(SignedDuration::from_secs(1)).unwrap();
    correlator.refused(&Refused { created: old, ..refused("web-1", None) }, None, now(), START);
    assert_eq!(correlator.next("one", START), Next::Nothing);
}

#[test]
fn a_storm_of_pods_of_one_owner_is_counted_on_the_owner() {
    let mut correlator = Correlator::default();
    for number in 0..10_000 {
        correlator.refused(&refused(&format!("web-{number}"), Some("web")), None, now(), START);
    }
    let written = written(&mut correlator, START);
    assert_eq!((written.len(), written["ReplicaSet web"]), (6, 10_000));
    assert_eq!(correlator.dropped(), 0);
}

#[test]
fn a_storm_of_pods_without_an_owner_or_of_as_many_owners_is_combined() {
    for owned in [false, true] {
        let mut correlator = Correlator::default();
        for number in 0..10_000 {
            let owner = format!("job-{number}");
            let refused = refused(&format!("web-{number}"), owned.then_some(&*owner));
            correlator.refused(&refused, None, now(), START);
        }
        let written = written(&mut correlator, START);
        // 25 pods, 25 owners where there are any, and one that stands for all others.
        assert_eq!(written.len(), if owned { 51 } else { 26 }, "{owned}");
        assert_eq!(written["Pod web-25"], 10_000 - 25);
        assert!(correlator.budgets.len() <= 30, "{}", correlator.budgets.len());
    }
}

#[test]
fn memory_is_bounded_and_what_there_is_no_room_for_is_counted() {
    let mut correlator = Correlator::default();
    let too_many = MOST_PODS + 10;
    for number in 0..too_many {
        let mut refused = refused(&format!("web-{number}"), None);
        refused.pod.namespace = format!("ns-{number}");
        correlator.refused(&refused, None, now(), START);
    }
    assert_eq!((correlator.pods.len(), correlator.events.len()), (MOST_PODS, MOST_EVENTS));
    assert_eq!(correlator.dropped(), u64::try_from(too_many - MOST_EVENTS).unwrap());

    // What nobody wrote is no news any more, and there is room again.
    let (later, at) = (now().checked_add(NEWS * 2).unwrap(), Duration::from_mins(20));
    correlator.refused(&Refused { created: later, ..refused("late", None) }, None, later, at);
    assert_eq!(written(&mut correlator, at), rows(&[("Pod late", 1)]));
    assert_eq!(correlator.pods.len(), 1);
}

#[test]
fn what_another_process_told_is_counted_on() {
    let mut correlator = Correlator::default();
    let refuse = |correlator: &mut Correlator, pod: &str| {
        correlator.refused(&refused(pod, Some("web")), None, now(), START);
    };
    refuse(&mut correlator, "web-1");
    while let Next::Write(id, _) = correlator.next("one", START) {
        correlator.written(&id, 1, Written::Already(7), START);
    }
    assert_eq!(correlator.next("one", START), Next::Nothing);
    refuse(&mut correlator, "web-2");
    let later = Duration::from_secs(10);
    assert_eq!(written(&mut correlator, later), rows(&[("Pod web-2", 1), ("again web", 8)]));

    // The API server has forgotten it: what came since is a new Event.
    refuse(&mut correlator, "web-3");
    refuse(&mut correlator, "web-4");
    let much_later = later * 2;
    loop {
        let Next::Write(id, write) = correlator.next("one", much_later) else {
            panic!("nothing is repeated")
        };
        let repeats = matches!(write, Write::Repeat { .. });
        correlator.written(&id, 1, if repeats { Written::Gone } else { Written::Done }, much_later);
        if repeats {
            break;
        }
    }
    assert_eq!(written(&mut correlator, much_later), rows(&[("ReplicaSet web", 2)]));
}

#[test]
fn a_write_that_fails_is_tried_again_and_given_up_in_the_end() {
    let mut correlator = Correlator::default();
    correlator.refused(&refused("web-1", None), None, now(), START);
    let (mut at, mut attempts) = (START, Vec::new());
    loop {
        match correlator.next("one", at) {
            Next::Write(id, _) => {
                attempts.push(at.as_secs());
                let given_up = correlator.written(&id, 1, Written::Failed, at);
                assert_eq!(given_up, attempts.len() == 5);
            }
            Next::At(moment) => at = moment,
            Next::Nothing => break,
        }
    }
    assert_eq!(attempts, [0, 2, 6, 14, 30]);
}

#[test]
fn a_template_that_is_edited_badly_again_and_again_has_few_events() {
    let mut correlator = Correlator::default();
    let event = |generation: u32| Event {
        regarding: regarding("PrometheusAgent", "shop"),
        reason: "TemplateInvalid",
        action: "Publish",
        note: format!("generation {generation} is not used"),
        sameness: Sameness::Note,
    };
    for generation in [1, 1, 2] {
        correlator.template(event(generation), now(), START);
    }
    assert_eq!(correlator.events.len(), 2, "one for each generation");
    for generation in 0..1_000 {
        correlator.template(event(generation), now(), START);
    }
    assert_eq!(correlator.events.len(), 10);
    correlator.template(event(2_000), now(), Duration::from_secs(10));
    assert_eq!(correlator.events.len(), 11, "one more after a while");
}
