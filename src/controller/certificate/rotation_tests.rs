use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Judgement, MOST_OLD, Phase, REPLACED_BEFORE, Seen, Step, Times, Why, judge};
use crate::controller::certificate::issue::content;
use crate::controller::certificate::registration::Registration;
use crate::controller::certificate::secret::{Stored, object};
use crate::names;
use crate::webhook::certificate::{AUTHORITY_LIFETIME, Authority, LEAF_LIFETIME};
use crate::x509::{self, Der};

const NAME: &str = "promsidecar-webhook.promsidecar-system.svc";
const TIMES: Times = Times { wait: Duration::from_mins(1), overlap: Duration::from_hours(1) };

/// In the middle of the leaf's life of every test.
pub(in super::super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(in super::super) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

fn called() -> Vec<String> {
    vec!["127.0.0.1".to_owned(), NAME.to_owned()]
}

type Data = BTreeMap<String, ByteString>;

/// As the controller makes it at this time.
pub(in super::super) fn made(at: Timestamp) -> (Authority, Data) {
    let authority = Authority::new(at.into()).unwrap();
    let leaf = leaf(&authority, at);
    let data = [("ca.crt", authority.pem().to_owned()), ("ca.key", authority.key_pem())];
    let data =
        data.into_iter().chain(leaf).map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    let data = data.collect();
    (authority, data)
}

pub(in super::super) fn leaf(authority: &Authority, at: Timestamp) -> [(&'static str, String); 2] {
    let pair = authority.pem_pair(&called(), at.into(), LEAF_LIFETIME).unwrap();
    [("tls.crt", pair.certificate), ("tls.key", pair.key)]
}

pub(in super::super) fn stored(data: Data) -> Stored {
    let mut secret =
        v1::Secret { data: Some(data), type_: Some("kubernetes.io/tls".to_owned()), ..v1::Secret::default() };
    secret.metadata.labels =
        Some(BTreeMap::from([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())]));
    Stored::of(&secret)
}

pub(in super::super) fn der(pem: &str) -> Vec<Der> {
    x509::certificates(pem.as_bytes()).unwrap()
}

/// Entries with these bundles, called by [`called`].
fn registration(bundles: &[&[Der]]) -> Registration {
    let entries = bundles.iter().enumerate().map(|(at, bundle)| {
        let host = &called()[at % 2];
        let mut client = json!({"url": format!("https://{host}/mutate")});
        if !bundle.is_empty() {
            client["caBundle"] = json!(base64_simd::STANDARD.encode_to_string(x509::pem(*bundle)));
        }
        json!({
            "name": format!("e{at}.sidecar.prometheus.io"), "clientConfig": client,
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        })
    });
    let object = json!({"metadata": {"name": "promsidecar"}, "webhooks": entries.collect::<Vec<_>>()});
    Registration::of(&serde_json::from_value(object).unwrap())
}

/// What one look at a Secret comes to, whose registration is not known and which has been as it is for ever.
fn looked(stored: &Stored, at: Timestamp) -> Judgement {
    let long = Duration::from_hours(24);
    let seen =
        Seen { stored: Some(stored), registration: None, registered_for: long, kept_for: long, now: at };
    judge(&seen, TIMES)
}

fn judged(data: Data) -> Judgement {
    looked(&stored(data), now())
}

/// What the Secret is after a step.
fn after(judgement: &Judgement, before: Option<&Stored>, at: Timestamp) -> Stored {
    let content = content(judgement, before, &called(), at).unwrap().unwrap();
    let mut object = object("own", "tls", &content, before);
    // What is applied leaves what others wrote.
    if before.is_some_and(Stored::was_rotation_asked) {
        object["metadata"]["annotations"][names::ROTATE] = json!("now");
    }
    Stored::of(&serde_json::from_value(object).unwrap())
}

#[test]
fn an_authority_outlasts_every_certificate_that_it_signs() {
    assert_eq!(Duration::try_from(REPLACED_BEFORE).unwrap(), LEAF_LIFETIME);
}

#[test]
fn where_nobody_is_trusted_everything_is_made_at_once_and_kept_until_it_is_renewed() {
    let seen = |stored| Seen::at_once(stored, None, now());
    let nothing = judge(&seen(None), TIMES);
    assert_eq!(nothing.step, Step::Make(Why::Missing));
    assert_eq!((nothing.trusted.len(), nothing.end), (0, None));
    let empty = registration(&[&[], &[]]);
    let unpublished = judge(&Seen { registration: Some(&empty), ..seen(None) }, TIMES);
    assert_eq!(unpublished.step, Step::Make(Why::Missing));

    let stored = after(&nothing, None, now());
    let end = now() + days(90);
    let kept = judge(&seen(Some(&stored)), TIMES);
    let authority_end = now() + SignedDuration::try_from(AUTHORITY_LIFETIME).unwrap();
    assert_eq!(
        (&kept.step, kept.needed, kept.trusted.len(), kept.phase),
        (&Step::Keep, 1, 1, Phase::Settled)
    );
    assert_eq!((kept.end, kept.authority_end, kept.again), (Some(end), Some(authority_end), None));
    for at in [now() + days(59), now() - days(300)] {
        // Whose clock is behind takes nothing for over; it may not have begun.
        let step = judge(&Seen { now: at, ..seen(Some(&stored)) }, TIMES).step;
        let begun = at > now();
        assert_eq!(matches!(step, Step::Keep), begun, "{at}: {step:?}");
    }
    let renewed = judge(&Seen { now: now() + days(60), ..seen(Some(&stored)) }, TIMES);
    assert_eq!(renewed.step, Step::Renew { why: Why::Ends(end), trusted: kept.trusted });
}

#[test]
fn a_certificate_that_cannot_be_served_is_made_anew_by_the_same_authority() {
    let (authority, good) = made(now());
    let (other, foreign) = made(now());
    let judged = |key: &str, value: Option<&[u8]>| {
        let mut data = good.clone();
        match value {
            Some(value) => data.insert(key.to_owned(), ByteString(value.to_vec())),
            None => data.remove(key),
        };
        let Judgement { step, trusted, .. } = judged(data);
        let Step::Renew { why, trusted: from_then_on } = step else { panic!("{key}: {step:?}") };
        assert_eq!((&trusted, &from_then_on), (&der(authority.pem()), &der(authority.pem())), "{key}");
        assert!(why.is_trouble());
        why
    };
    let unusable = |why: Why| match why {
        Why::Unusable { key, .. } => key,
        other => panic!("{other}"),
    };
    for value in [None, Some(&b""[..]), Some(b"no PEM"), Some(&good["tls.key"].0)] {
        assert_eq!(unusable(judged("tls.crt", value)), "tls.crt");
    }
    for value in [None, Some(&b""[..]), Some(b"no PEM"), Some(&good["tls.crt"].0)] {
        assert_eq!(unusable(judged("tls.key", value)), "tls.key");
    }
    let wrong = Why::WrongKey { key: "tls.key", certificate: "tls.crt" };
    assert_eq!(judged("tls.key", Some(&foreign["tls.key"].0)), wrong);

    // A pair that fits, of another authority, and one of ours that is over, or to come.
    let replaced = |pair: [(&str, String); 2]| {
        let mut data = good.clone();
        data.extend(pair.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))));
        looked(&stored(data), now())
    };
    for pair in [leaf(&other, now()), leaf(&authority, now() - days(91)), leaf(&authority, now() + days(1))] {
        let judgement = replaced(pair);
        let step = &judgement.step;
        assert!(matches!(step, Step::Renew { why: Why::NotAccepted(_), .. }), "{step:?}");
    }
    // Ours, made by a clock that was ahead: what replaces it ends no earlier.
    let late = replaced(leaf(&authority, now() + days(200)));
    assert_eq!(late.lasts, Some(now() + days(290)));
    let renewed = looked(&after(&late, Some(&stored(good)), now()), now());
    assert_eq!((renewed.step, renewed.end), (Step::Keep, Some(now() + days(290))));
}

#[test]
fn a_certificate_for_other_names_is_made_anew() {
    let (authority, data) = made(now());
    let stored = stored(data);
    let signs = der(authority.pem());
    let registration = registration(&[&signs]);
    let seen = Seen {
        stored: Some(&stored),
        registration: Some(&registration),
        registered_for: Duration::ZERO,
        kept_for: Duration::ZERO,
        now: now(),
    };
    let want = vec!["127.0.0.1".to_owned()];
    assert_eq!(registration.called(), Some(want.iter().cloned().collect::<BTreeSet<_>>()));
    let why = Why::Names { have: called(), want };
    assert_eq!(judge(&seen, TIMES).step, Step::Renew { why, trusted: signs });
}

#[test]
fn an_authority_that_cannot_sign_is_replaced_and_stays_trusted() {
    let (authority, good) = made(now());
    let (_, foreign) = made(now());
    let signs = der(authority.pem());
    let judged = |key: &str, value: &[u8]| {
        let mut data = good.clone();
        data.insert(key.to_owned(), ByteString(value.to_vec()));
        let Judgement { step, trusted, needed, .. } = judged(data);
        assert_eq!(needed, 0, "nothing is published of which nothing can be signed");
        match step {
            Step::Prepare { why, trusted: from_then_on, .. } => {
                assert_eq!(from_then_on, trusted);
                (why, trusted)
            }
            Step::Make(why) => (why, vec![]),
            other => panic!("{other:?}"),
        }
    };
    let (why, old) = judged("ca.key", &foreign["ca.key"].0);
    assert_eq!((why, &old), (Why::WrongKey { key: "ca.key", certificate: "ca.crt" }, &signs));
    let (why, old) = judged("ca.key", b"lost");
    assert!(matches!(why, Why::Unusable { key: "ca.key", .. }), "{why}");
    assert_eq!(old, signs);
    // Nobody trusts what cannot be read.
    let (why, old) = judged("ca.crt", b"lost");
    assert!(matches!(why, Why::Unusable { key: "ca.crt", .. }), "{why}");
    assert_eq!(old, []);
    // A certificate that is no authority's, though its key is there.
    let mut data = good.clone();
    for (from, to) in [("tls.crt", "ca.crt"), ("tls.key", "ca.key")] {
        data.insert(to.to_owned(), good[from].clone());
    }
    assert_eq!(super::tests::judged(data).step, Step::Make(Why::NotInForce));
}

#[test]
fn an_authority_is_replaced_before_it_ends_and_no_clock_takes_it_away() {
    let (authority, data) = made(now());
    let end = now() + SignedDuration::try_from(AUTHORITY_LIFETIME).unwrap();
    let stored = stored(data);
    let step = |at| looked(&stored, at).step;
    let trusted = der(authority.pem());
    let why = Why::AuthorityEnds(end);
    assert_eq!(step(end - days(90)), Step::Prepare { why, trusted: trusted.clone(), left_out: 0 });
    // Renewed before.
    assert!(matches!(step(end - days(91)), Step::Renew { .. }));
    for at in [end, end + days(10_000), now() - days(1)] {
        assert_eq!(
            step(at),
            Step::Prepare { why: Why::NotInForce, trusted: trusted.clone(), left_out: 0 },
            "{at}"
        );
    }
}

/// From one state to the next, each from the Secret alone, as after a restart.
#[test]
fn the_next_authority_signs_once_every_entry_has_trusted_it_for_a_while_and_the_one_before_goes_later() {
    let (authority, data) = made(now() - days(10));
    let signs = der(authority.pem()).remove(0);
    let mut data = stored_with(data, &[(names::ROTATE, "now")]);
    let look = |stored: &Stored, bundles: &[&[Der]], registered: u64, kept: u64| {
        let registration = registration(bundles);
        let (registered_for, kept_for) = (Duration::from_secs(registered), Duration::from_secs(kept));
        let registration = Some(&registration);
        judge(&Seen { stored: Some(stored), registration, registered_for, kept_for, now: now() }, TIMES)
    };
    let one = std::slice::from_ref(&signs);
    let begun = look(&data, &[one, one], 1000, 10_000);
    assert_eq!(begun.step, Step::Prepare { why: Why::Asked, trusted: one.to_vec(), left_out: 0 });
    data = after(&begun, Some(&data), now());

    let published = look(&data, &[one, one], 1000, 10_000);
    let [ours, next] = &published.trusted[..] else { panic!("{published:?}") };
    assert_eq!((ours, published.needed, published.phase), (&signs, 2, Phase::Publishing));
    let both = [ours.clone(), next.clone()];
    for (bundles, registered, again) in [
        (&[one, one], 1000, None),
        (&[&both[..], one], 1000, None),
        (&[&both[..], &both[..]], 0, Some(60)),
        (&[&both[..], &both[..]], 59, Some(1)),
    ] {
        let waits = look(&data, bundles, registered, 10_000);
        assert_eq!((waits.step, waits.again), (Step::Keep, again.map(Duration::from_secs)));
    }
    // What is served is renewed meanwhile.
    let mut broken = data.clone();
    broken.data_mut().insert("tls.crt".to_owned(), b"broken".to_vec());
    let renewed = look(&broken, &[&both[..], one], 1000, 0);
    assert!(matches!(&renewed.step, Step::Renew { trusted, .. } if *trusted == both), "{renewed:?}");
    assert_eq!(look(&after(&renewed, Some(&broken), now()), &[&both[..], one], 0, 0).step, Step::Keep);

    let switched = look(&data, &[&both[..], &both[..]], 60, 10_000);
    let trusted = vec![next.clone(), signs.clone()];
    assert_eq!(switched.step, Step::Switch { trusted: trusted.clone() });
    let before = data;
    let data = after(&switched, Some(&before), now());
    assert!(!data.get("ca.key").is_empty() && data.get("ca.key") == before.get("ca-next.key"));
    assert_eq!(data.get("ca-next.key"), b"", "nobody can sign as the one before");
    for (kept, step, again) in
        [(0, Step::Keep, Some(3600)), (3599, Step::Keep, Some(1)), (3600, Step::Retire, None)]
    {
        let looked = look(&data, &[&both[..], &both[..]], 1000, kept);
        assert_eq!((looked.step, looked.again), (step, again.map(Duration::from_secs)));
        assert_eq!((looked.trusted, looked.needed, looked.phase), (trusted.clone(), 1, Phase::Overlapping));
    }
    let retired = look(&data, &[&both[..], &both[..]], 1000, 3600);
    let data = after(&retired, Some(&data), now());
    let settled = look(&data, &[&both[..], &both[..]], 0, 10_000);
    assert_eq!((settled.step, settled.phase), (Step::Keep, Phase::Settled), "and it is asked for once");
    assert_eq!(settled.trusted, std::slice::from_ref(next));
}

fn stored_with(data: Data, annotations: &[(&str, &str)]) -> Stored {
    let mut secret =
        v1::Secret { data: Some(data), type_: Some("kubernetes.io/tls".to_owned()), ..v1::Secret::default() };
    secret.metadata.labels =
        Some(BTreeMap::from([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())]));
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    secret.metadata.annotations = Some(annotations.collect());
    Stored::of(&secret)
}

#[test]
fn an_old_authority_that_nobody_asked_away_is_trusted_until_the_next_certificate_is_due() {
    let (older, _) = made(now() - days(200));
    let (old, _) = made(now() - days(100));
    let (authority, mut data) = made(now());
    let all = format!("{}{}{}", old.pem(), older.pem(), authority.pem());
    data.insert("ca.crt".to_owned(), ByteString(all.into_bytes()));
    let stored = stored(data);
    let signs = der(authority.pem());
    let trusted = [signs.clone(), der(old.pem()), der(older.pem())].concat();
    let looked = |kept_for, at| {
        let seen =
            Seen { stored: Some(&stored), registration: None, registered_for: kept_for, kept_for, now: at };
        judge(&seen, TIMES)
    };
    let kept = looked(Duration::from_hours(100), now());
    assert_eq!((kept.step, kept.trusted, kept.again), (Step::Keep, trusted.clone(), None));
    let why = || Why::Ends(now() + days(90));
    let renewed = looked(Duration::from_hours(1), now() + days(60)).step;
    assert_eq!(renewed, Step::Renew { why: why(), trusted: signs });
    // A clock that jumped, or a process that has just come: a minute ago another certificate may have been served.
    let renewed = looked(Duration::from_mins(59), now() + days(60)).step;
    assert_eq!(renewed, Step::Renew { why: why(), trusted });
}

#[test]
fn what_was_published_stays_trusted_though_the_secret_is_lost_and_is_followed_in_its_time() {
    let (authority, good) = made(now());
    let (over, _) = made(now() - SignedDuration::try_from(AUTHORITY_LIFETIME).unwrap());
    let (other, _) = made(now() - days(5));
    let [over, authority, other] =
        [&over, &authority, &other].map(|authority| der(authority.pem()).remove(0));
    let published = [over, authority.clone(), other];
    let registration = registration(&[&published[..2], &published[1..]]);
    let look = |stored: Option<&Stored>| {
        let (registered_for, kept_for) = (Duration::from_hours(1), Duration::ZERO);
        let registration = Some(&registration);
        judge(&Seen { stored, registration, registered_for, kept_for, now: now() }, TIMES)
    };
    let lost = look(None);
    // Whether one is over is for whoever looks at it.
    assert_eq!(lost.step, Step::Prepare { why: Why::Missing, trusted: published.to_vec(), left_out: 0 });
    let first = after(&lost, None, now());
    let waits = look(Some(&first));
    assert_eq!((&waits.step, waits.needed, waits.phase), (&Step::Keep, 1, Phase::Publishing));
    assert_eq!(waits.trusted[1..], published);
    assert_eq!(first.get("tls.crt"), b"", "what is not trusted yet is not served");
    let (begin, _) = x509::life(&waits.trusted[0]).unwrap();
    assert_eq!(Some(begin), waits.begins);
    assert!(begin < now() - days(3000), "in force wherever the others are");

    let mut data = good;
    data.remove("ca.key");
    let broken = look(Some(&stored(data.clone()))).step;
    let trusted = vec![authority, published[0].clone(), published[2].clone()];
    assert!(matches!(&broken, Step::Prepare { trusted: found, .. } if *found == trusted), "{broken:?}");
    data.remove("ca.crt");
    let lost = look(Some(&stored(data))).step;
    assert!(matches!(&lost, Step::Prepare { trusted, .. } if *trusted == published), "{lost:?}");
}

#[test]
fn whoever_asks_again_and_again_waits_until_old_authorities_are_gone() {
    let (authority, mut data) = made(now());
    let old: Vec<_> = (0..MOST_OLD).map(|_| Authority::new(now().into()).unwrap().pem().to_owned()).collect();
    let all = format!("{}{}", authority.pem(), old.concat());
    data.insert("ca.crt".to_owned(), ByteString(all.into_bytes()));
    let stored = stored_with(data, &[(names::ROTATE, "nine"), (names::ROTATED, "eight")]);
    let look = |kept_for| {
        let seen = Seen {
            stored: Some(&stored),
            registration: None,
            registered_for: kept_for,
            kept_for,
            now: now(),
        };
        judge(&seen, TIMES)
    };
    let waits = look(Duration::from_mins(50));
    assert_eq!((waits.step, waits.again), (Step::Keep, Some(Duration::from_mins(10))));
    assert_eq!(look(TIMES.overlap).step, Step::Retire);
}

#[test]
fn a_secret_that_is_not_ours_is_refused_whatever_it_holds() {
    let mut secret = v1::Secret { data: Some(made(now()).1), ..v1::Secret::default() };
    secret.type_ = Some("kubernetes.io/tls".to_owned());
    let Judgement { step, trusted, end, .. } = looked(&Stored::of(&secret), now());
    assert!(matches!(step, Step::Refuse(why) if why.contains("lacks the label")));
    assert_eq!((trusted, end), (vec![], None));
}
