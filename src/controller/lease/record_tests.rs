//! What is done about a Lease, by table.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Moment, Observed, Spec, Step, Terms, next};

fn at(seconds: u64) -> Moment {
    Moment::new(Duration::from_secs(seconds))
}

fn spec(json: Value) -> Spec {
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_lease_is_renewed_if_ours_taken_if_free_or_over_and_waited_for_otherwise() {
    let held = |seconds: Value| json!({"holderIdentity": "other", "leaseDurationSeconds": seconds});
    // Read at second 100, by one whose own leases last 15 s.
    for (record, now, step) in [
        (json!({"holderIdentity": "me", "leaseDurationSeconds": 15}), 100, Step::Renew),
        // Even if it is over: nobody else took it.
        (json!({"holderIdentity": "me", "leaseDurationSeconds": 15}), 999, Step::Renew),
        (json!({}), 100, Step::Acquire),
        (json!({"holderIdentity": null, "leaseDurationSeconds": 15}), 100, Step::Acquire),
        (json!({"holderIdentity": "", "leaseDurationSeconds": 1}), 100, Step::Acquire),
        (held(json!(20)), 100, Step::Wait(at(120))),
        (held(json!(20)), 119, Step::Wait(at(120))),
        (held(json!(20)), 120, Step::Acquire),
        (held(json!(2)), 101, Step::Wait(at(102))),
        (held(json!(2)), 102, Step::Acquire),
        // One that does not say for how long is given as long as we would take.
        (held(json!(null)), 114, Step::Wait(at(115))),
        (held(json!(0)), 114, Step::Wait(at(115))),
        (held(json!(i32::MIN)), 114, Step::Wait(at(115))),
        (held(json!(-1)), 115, Step::Acquire),
        (held(json!(i32::MAX)), 999, Step::Wait(at(100 + 2_147_483_647))),
    ] {
        let observed = Observed::after(None, spec(record.clone()), at(100));
        assert_eq!(next(Some(&observed), "me", &Terms::default(), at(now)), step, "{record} at {now}");
    }
    assert_eq!(next(None, "me", &Terms::default(), at(100)), Step::Acquire);
}

#[test]
fn a_record_counts_from_when_it_changed_under_our_eyes_whatever_its_times_say() {
    let renewed =
        |time: &str| spec(json!({"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": time}));
    let seen = |before, time: &str, seconds| Some(Observed::after(before, renewed(time), at(seconds)));
    let wait = |observed: &Option<Observed>, now| next(observed.as_ref(), "me", &Terms::default(), at(now));
    // Long ago by the clock of its holder, and in the far future.
    for (first, second) in [
        ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:02.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999998Z"),
        ("next week", ""),
    ] {
        let mut observed = seen(None, first, 50);
        observed = seen(observed, first, 64);
        assert_eq!(wait(&observed, 64), Step::Wait(at(65)));
        observed = seen(observed, second, 64);
        assert_eq!(wait(&observed, 64), Step::Wait(at(79)));
        observed = seen(observed, second, 79);
        assert_eq!(wait(&observed, 79), Step::Acquire);
    }
}

#[test]
fn a_record_says_who_holds_it_since_when_and_after_how_many_others() {
    let written = |before: &Spec, time: &str| before.held("me", &Terms::default(), time.to_owned());
    let record = |acquired: &str, renewed: &str, transitions: i32| {
        spec(json!({
            "holderIdentity": "me", "leaseDurationSeconds": 15, "acquireTime": acquired, "renewTime": renewed,
            "leaseTransitions": transitions,
        }))
    };
    let first = written(&Spec::default(), "one");
    assert_eq!(first, record("one", "one", 0));
    let renewed = written(&first, "two");
    assert_eq!(renewed, record("one", "two", 0));
    let released = renewed.released("three".to_owned());
    assert_eq!(
        serde_json::to_value(&released).unwrap(),
        json!({
            "holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": "three", "renewTime": "three",
            "leaseTransitions": 0,
        })
    );
    assert_eq!(written(&released, "four"), record("four", "four", 1));
    // Of another, and with numbers that no one of ours writes.
    for (transitions, after) in [(7, 8), (i32::MAX, i32::MAX), (-5, 1)] {
        let others =
            json!({"holderIdentity": "other", "acquireTime": "zero", "leaseTransitions": transitions});
        assert_eq!(written(&spec(others), "five"), record("five", "five", after));
    }
    let newer = spec(json!({"holderIdentity": "other", "strategy": "OldestEmulationVersion"}));
    for kept in [written(&newer, "six"), newer.released("six".to_owned())] {
        assert_eq!(serde_json::to_value(kept).unwrap()["strategy"], "OldestEmulationVersion");
    }
}

#[test]
fn terms_leave_time_to_try_again_and_to_finish() {
    let terms = |seconds, deadline, retry| {
        Terms::new(seconds, Duration::from_millis(deadline), Duration::from_millis(retry))
    };
    assert_eq!(terms(15, 10_000, 2_000), Ok(Terms::default()));
    assert_eq!(Terms::default().margin(), Duration::from_secs(5));
    let deadline = "renew deadline 10s: must be shorter than the lease, which lasts 10 s: what was begun in time has the \
                    difference to end";
    assert_eq!(terms(10, 10_000, 2_000), Err(deadline.to_owned()));
    assert!(terms(0, 0, 0).is_err());
    for retry in [0, 10_000, 11_000] {
        let error = format!(
            "retry interval {:?}: must be more than zero, and shorter than the renew deadline 10s",
            Duration::from_millis(retry)
        );
        assert_eq!(terms(15, 10_000, retry), Err(error));
    }
}
