use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Content, Judgement, REPLACED_BEFORE, Step, Stored, Why, authority, judge, object};
use crate::names;
use crate::webhook::certificate::{AUTHORITY_LIFETIME, Authority, LEAF_LIFETIME};
use crate::x509::{self, Der};

const NAME: &str = "promsidecar-webhook.promsidecar-system.svc";

/// In the middle of the leaf's life of every test.
fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

fn called() -> BTreeSet<String> {
    BTreeSet::from([NAME.to_owned(), "127.0.0.1".to_owned()])
}

/// As the controller makes it at this time.
fn made(at: Timestamp) -> (Authority, BTreeMap<String, ByteString>) {
    let authority = Authority::new(at.into()).unwrap();
    let leaf = leaf(&authority, at);
    let data = [("ca.crt", authority.pem().to_owned()), ("ca.key", authority.key_pem())];
    let data =
        data.into_iter().chain(leaf).map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    let data = data.collect();
    (authority, data)
}

fn leaf(authority: &Authority, at: Timestamp) -> [(&'static str, String); 2] {
    let names: Vec<_> = called().into_iter().collect();
    let pair = authority.pem_pair(&names, at.into(), LEAF_LIFETIME).unwrap();
    [("tls.crt", pair.certificate), ("tls.key", pair.key)]
}

fn secret(data: BTreeMap<String, ByteString>) -> v1::Secret {
    let mut secret =
        v1::Secret { data: Some(data), type_: Some("kubernetes.io/tls".to_owned()), ..v1::Secret::default() };
    secret.metadata.labels =
        Some(BTreeMap::from([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())]));
    secret
}

fn judged(data: BTreeMap<String, ByteString>) -> Judgement {
    judge(Some(&Stored::of(&secret(data))), Some(&called()), &[], now())
}

fn der(pem: &str) -> Vec<Der> {
    x509::certificates(pem.as_bytes()).unwrap()
}

#[test]
fn an_authority_outlasts_every_certificate_that_it_signs() {
    assert_eq!(Duration::try_from(REPLACED_BEFORE).unwrap(), LEAF_LIFETIME);
}

#[test]
fn without_a_secret_everything_is_made_and_what_was_made_is_kept_until_it_is_renewed() {
    let nothing = judge(None, None, &[], now());
    assert_eq!(nothing.step, Step::Make { why: Why::Missing, old: vec![] });
    assert_eq!((nothing.authorities, nothing.end), (vec![], None));

    let (authority, data) = made(now());
    let end = now() + days(90);
    let kept = Judgement { step: Step::Keep, authorities: der(authority.pem()), end: Some(end) };
    let stored = Stored::of(&secret(data));
    for (called, at) in [
        (Some(called()), now()),
        // Without a registration any names will do.
        (None, now()),
        (Some(called()), now() + days(59)),
    ] {
        assert_eq!(judge(Some(&stored), called.as_ref(), &[], at), kept, "{called:?} {at}");
    }
    assert_eq!(kept.authority_end(), Some(now() + SignedDuration::try_from(AUTHORITY_LIFETIME).unwrap()));

    let renewed = judge(Some(&stored), Some(&called()), &[], now() + days(60));
    let step = Step::Renew { why: Why::Ends(end), authorities: der(authority.pem()) };
    assert_eq!(renewed, Judgement { step, ..kept });
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
        let Judgement { step, authorities, .. } = judged(data);
        let Step::Renew { why, authorities: from_then_on } = step else { panic!("{key}: {step:?}") };
        assert_eq!((&authorities, &from_then_on), (&der(authority.pem()), &der(authority.pem())), "{key}");
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

    // A pair that fits, of another authority, and one of ours that is over.
    let replaced = |pair: [(&str, String); 2]| {
        let mut data = good.clone();
        data.extend(pair.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))));
        super::judge(Some(&Stored::of(&secret(data))), Some(&called()), &[], now()).step
    };
    for pair in [leaf(&other, now()), leaf(&authority, now() - days(91)), leaf(&authority, now() + days(1))] {
        let step = replaced(pair);
        assert!(matches!(step, Step::Renew { why: Why::NotAccepted(_), .. }), "{step:?}");
    }
}

#[test]
fn a_certificate_for_other_names_is_made_anew() {
    let (authority, data) = made(now());
    let stored = Stored::of(&secret(data));
    for want in [
        BTreeSet::from([NAME.to_owned()]),
        BTreeSet::from([NAME.to_owned(), "127.0.0.1".to_owned(), "more.example.com".to_owned()]),
    ] {
        let step = judge(Some(&stored), Some(&want), &[], now()).step;
        let have = called().into_iter().collect();
        let why = Why::Names { have, want: want.into_iter().collect() };
        assert_eq!(step, Step::Renew { why, authorities: der(authority.pem()) });
    }
}

#[test]
fn an_authority_that_cannot_sign_is_replaced_and_stays_trusted_while_it_is_in_force() {
    let (authority, good) = made(now());
    let (_, foreign) = made(now());
    let judged = |key: &str, value: &[u8]| {
        let mut data = good.clone();
        data.insert(key.to_owned(), ByteString(value.to_vec()));
        let judgement = judged(data);
        assert_eq!((judgement.authorities, judgement.end), (vec![], None));
        judgement.step
    };
    let make = |step| match step {
        Step::Make { why, old } => (why, old),
        other => panic!("{other:?}"),
    };
    let (why, old) = make(judged("ca.key", &foreign["ca.key"].0));
    assert_eq!(why, Why::WrongKey { key: "ca.key", certificate: "ca.crt" });
    assert_eq!(old, der(authority.pem()));
    let (why, old) = make(judged("ca.key", b"lost"));
    assert!(matches!(why, Why::Unusable { key: "ca.key", .. }), "{why}");
    assert_eq!(old, der(authority.pem()));
    // Nobody trusts what cannot be read.
    let (why, old) = make(judged("ca.crt", b"lost"));
    assert!(matches!(why, Why::Unusable { key: "ca.crt", .. }), "{why}");
    assert_eq!(old, []);
    // A certificate that is no authority's, though its key is there.
    let mut data = good.clone();
    for (from, to) in [("tls.crt", "ca.crt"), ("tls.key", "ca.key")] {
        data.insert(to.to_owned(), good[from].clone());
    }
    assert_eq!(
        super::judge(Some(&Stored::of(&secret(data))), None, &[], now()).step,
        Step::Make { why: Why::NotInForce, old: vec![] }
    );
}

#[test]
fn an_authority_is_replaced_before_it_ends_and_is_not_trusted_after() {
    let (authority, data) = made(now());
    let end = now() + SignedDuration::try_from(AUTHORITY_LIFETIME).unwrap();
    let stored = Stored::of(&secret(data));
    let step = |at| judge(Some(&stored), None, &[], at).step;
    let old = der(authority.pem());
    assert_eq!(step(end - days(90)), Step::Make { why: Why::AuthorityEnds(end), old });
    assert_eq!(step(end), Step::Make { why: Why::NotInForce, old: vec![] });
    assert_eq!(step(now() - days(1)), Step::Make { why: Why::NotInForce, old: vec![] });
}

#[test]
fn an_old_authority_is_trusted_until_the_next_certificate_is_due() {
    let (older, _) = made(now() - days(200));
    let (old, _) = made(now() - days(100));
    let (authority, mut data) = made(now());
    let all = format!("{}{}{}", old.pem(), older.pem(), authority.pem());
    data.insert("ca.crt".to_owned(), ByteString(all.into_bytes()));
    let stored = Stored::of(&secret(data));
    let signs = der(authority.pem());
    let trusted = [signs.clone(), der(old.pem()), der(older.pem())].concat();
    let judged = judge(Some(&stored), Some(&called()), &[], now());
    assert_eq!((judged.step, judged.authorities), (Step::Keep, trusted.clone()));
    // Other names come at any time.
    let renewed = judge(Some(&stored), Some(&BTreeSet::from([NAME.to_owned()])), &[], now()).step;
    assert!(matches!(&renewed, Step::Renew { authorities, .. } if *authorities == trusted), "{renewed:?}");
    let renewed = judge(Some(&stored), Some(&called()), &[], now() + days(60)).step;
    assert!(matches!(&renewed, Step::Renew { authorities, .. } if *authorities == signs), "{renewed:?}");
}

#[test]
fn a_secret_that_is_not_ours_is_refused_with_the_fix_whatever_it_holds() {
    let refused = |change: fn(&mut v1::Secret)| {
        let mut secret = secret(BTreeMap::new());
        change(&mut secret);
        match judge(Some(&Stored::of(&secret)), Some(&called()), &[], now()) {
            Judgement { step: Step::Refuse(why), authorities, end: None } if authorities.is_empty() => why,
            other => panic!("{other:?}"),
        }
    };
    for (change, part) in [
        ((|secret| secret.metadata.labels = None) as fn(&mut v1::Secret), "lacks the label"),
        (
            |secret| {
                secret.metadata.labels =
                    Some(BTreeMap::from([(names::MANAGED_BY.to_owned(), "Helm".to_owned())]));
            },
            "lacks the label",
        ),
        (
            |secret| {
                let key = "cert-manager.io/certificate-name".to_owned();
                secret.metadata.annotations = Some(BTreeMap::from([(key, "webhook".to_owned())]));
            },
            "is written by cert-manager: use --certificate external",
        ),
        (
            |secret| {
                let labels = secret.metadata.labels.get_or_insert_default();
                labels.insert("controller.cert-manager.io/fao".to_owned(), "true".to_owned());
            },
            "is written by cert-manager: use --certificate external",
        ),
        (|secret| secret.type_ = Some("Opaque".to_owned()), "has the type \"Opaque\""),
        (|secret| secret.immutable = Some(true), "is immutable"),
    ] {
        let why = refused(change);
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn what_is_written_is_what_is_read_and_names_the_version_that_it_replaces() {
    let (made, _) = made(now());
    let pair = leaf(&made, now()).map(|(_, text)| text);
    let [certificate, key] = pair;
    let content =
        Content { authorities: made.pem().to_owned(), authority_key: made.key_pem(), certificate, key };
    let created = object("own", "tls", &content, None);
    let metadata = json!({
        "name": "tls", "namespace": "own", "labels": {(names::MANAGED_BY): names::MANAGER},
    });
    assert_eq!(created["metadata"], metadata);
    let mut read: v1::Secret = serde_json::from_value(created).unwrap();
    read.metadata.uid = Some("u".to_owned());
    read.metadata.resource_version = Some("7".to_owned());
    let stored = Stored::of(&read);
    let judged = judge(Some(&stored), Some(&called()), &[], now());
    assert_eq!(judged.step, Step::Keep);
    let applied = object("own", "tls", &content, Some(&stored));
    assert_eq!(
        (&applied["metadata"]["uid"], &applied["metadata"]["resourceVersion"]),
        (&json!("u"), &json!("7"))
    );

    // What it signs next, clients that trust the first accept.
    let (pem, key) = authority(&stored, &judged.authorities);
    let restored = Authority::restored(&pem, key).unwrap();
    let next = restored.pem_pair(&[NAME.to_owned()], now().into(), LEAF_LIFETIME).unwrap();
    assert_eq!(x509::accepted(&der(&next.certificate), &der(made.pem())[0], now()), Ok(()));
    assert_eq!(format!("{stored:?}"), "Stored { resource_version: \"7\", .. }");
}

#[test]
fn what_was_published_stays_trusted_though_the_secret_is_lost() {
    let (authority, good) = made(now());
    let (over, _) = made(now() - SignedDuration::try_from(AUTHORITY_LIFETIME).unwrap());
    let (other, _) = made(now());
    let published = [&over, &authority, &other].map(|authority| der(authority.pem()).remove(0));
    let kept = || [&authority, &other].map(|authority| der(authority.pem()).remove(0)).to_vec();
    let nothing = judge(None, None, &published, now()).step;
    assert_eq!(nothing, Step::Make { why: Why::Missing, old: kept() });
    let mut data = good;
    data.remove("ca.key");
    let broken = judge(Some(&Stored::of(&secret(data.clone()))), None, &published, now()).step;
    assert!(matches!(&broken, Step::Make { old, .. } if *old == kept()), "{broken:?}");
    data.remove("ca.crt");
    let lost = judge(Some(&Stored::of(&secret(data))), None, &published, now()).step;
    assert!(matches!(&lost, Step::Make { old, .. } if *old == kept()), "{lost:?}");
}
