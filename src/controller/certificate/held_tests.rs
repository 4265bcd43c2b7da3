use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::super::registration::{FIELD_MANAGER, Registration};
use super::super::rotation::tests::{days, der, leaf, made, now, stored};
use super::super::rotation::{Judgement, MOST_OLD, Phase, Seen, Step, Times, judge};
use super::super::secret::Stored;
use crate::names;
use crate::webhook::certificate::Authority;
use crate::x509::{self, Der};

const TIMES: Times = Times { wait: Duration::from_mins(1), overlap: Duration::from_hours(1) };
const LONG: u64 = 1_000_000;

/// Two entries with this bundle, which we wrote for a certificate, or somebody else.
fn registration(bundle: &[Der], mark: Option<&str>, manager: &str) -> Registration {
    let bundle = base64_simd::STANDARD.encode_to_string(x509::pem(bundle));
    let entry = |name: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1/mutate", "caBundle": bundle},
        })
    };
    let has = json!({"f:clientConfig": {"f:caBundle": {}}});
    let fields = json!({"f:webhooks": {"k:{\"name\":\"a\"}": has, "k:{\"name\":\"b\"}": has}});
    let writes = json!([{"manager": manager, "operation": "Apply", "fieldsV1": fields}]);
    let mut metadata = json!({"name": "promsidecar", "managedFields": writes});
    if let Some(mark) = mark {
        metadata["annotations"] = json!({(names::CERTIFICATE): mark});
    }
    let object = json!({"metadata": metadata, "webhooks": [entry("a"), entry("b")]});
    Registration::of(&serde_json::from_value(object).unwrap())
}

/// A bundle, and of which certificate it was made.
type Bundle<'a> = (&'a [Der], Option<&'a str>);
/// One of a certificate that is not the Secret's.
const OTHER: Option<&str> = Some("other");

/// What comes of a Secret and of a bundle that have been as they are for so many seconds.
fn look(secret: &Stored, (bundle, mark): Bundle<'_>, [registered, kept]: [u64; 2]) -> Judgement {
    let registration = registration(bundle, mark, FIELD_MANAGER);
    let seen = Seen {
        stored: Some(secret),
        registration: Some(&registration),
        registered_for: Duration::from_secs(registered),
        kept_for: Duration::from_secs(kept),
        now: now(),
    };
    judge(&seen, TIMES)
}

/// A Secret of this authority, and others that it names.
fn secret(authority: &Authority, others: &[&Der], at: Timestamp) -> Stored {
    let (_, mut data) = made(at);
    let all = format!("{}{}", authority.pem(), x509::pem(others.iter().copied()));
    for (key, text) in
        [("ca.crt", all), ("ca.key", authority.key_pem())].into_iter().chain(leaf(authority, at))
    {
        data.insert(key.to_owned(), ByteString(text.into_bytes()));
    }
    let mut secret = stored(data);
    // As the registration has it.
    let pair =
        authority.pem_pair(&["127.0.0.1".to_owned()], at.into(), Duration::from_hours(90 * 24)).unwrap();
    secret.data_mut().insert("tls.crt".to_owned(), pair.certificate.into_bytes());
    secret.data_mut().insert("tls.key".to_owned(), pair.key.into_bytes());
    secret
}

fn authority() -> (Authority, Der) {
    let (authority, _) = made(now());
    let pem = der(authority.pem()).remove(0);
    (authority, pem)
}

#[test]
fn what_bundles_of_ours_trust_stays_trusted_where_another_secret_was_put_in_place_until_nobody_serves_it() {
    let ((first, one), (_, two)) = (authority(), authority());
    // A backup of before the rotation from `one` to `two`.
    let restored = secret(&first, &[], now());
    let both = vec![one.clone(), two.clone()];
    let found = look(&restored, (std::slice::from_ref(&two), OTHER), [LONG, 0]);
    assert_eq!((&found.step, found.again, found.phase), (&Step::Keep, Some(TIMES.wait), Phase::Overlapping));
    assert_eq!((&found.trusted, found.needed(), &found.mark), (&both, &both[..1], &None));
    // Whoever looks next, or leads next, finds the same, and forgets it when all that is served is of this Secret.
    for (kept, again) in [(0, 3600), (3599, 1)] {
        let waits = look(&restored, (&both, None), [LONG, kept]);
        assert_eq!((waits.step, waits.again), (Step::Keep, Some(Duration::from_secs(again))));
        assert_eq!((&waits.trusted, &waits.mark), (&both, &None));
    }
    let over = look(&restored, (&both, None), [LONG, 3600]);
    assert_eq!((&over.step, &over.trusted[..], over.phase), (&Step::Keep, &both[..1], Phase::Settled));
    assert!(over.mark.is_some());
}

#[test]
fn what_is_taken_out_of_the_secret_while_its_certificate_stays_is_trusted_no_longer_at_once() {
    let ((_, old), (signer, signs)) = (authority(), authority());
    let both = [signs.clone(), old.clone()];
    let mut secret = secret(&signer, &[&old], now());
    let overlapping = look(&secret, (&both, OTHER), [LONG, 0]);
    assert_eq!((&overlapping.trusted[..], overlapping.phase), (&both[..], Phase::Overlapping));
    let mark = overlapping.mark.as_deref();
    secret.data_mut().insert("ca.crt".to_owned(), x509::pem([&signs]).into_bytes());
    let taken = look(&secret, (&both, mark), [0, 0]);
    assert_eq!((&taken.step, &taken.trusted[..], taken.phase), (&Step::Keep, &both[..1], Phase::Settled));
    assert_eq!(taken.mark.as_deref(), mark);
}

/// Whoever put the wrong backup in place, and then the right one, or the Secret that was there.
#[test]
fn of_secrets_that_follow_each_other_what_any_of_them_named_stays_trusted() {
    let ((first, one), (second, two), (_, three)) = (authority(), authority(), authority());
    let all = [one.clone(), two.clone(), three.clone()];
    for (signer, signs) in [(&first, &one), (&second, &two)] {
        let found = look(&secret(signer, &[], now()), (&all, None), [LONG, 0]);
        let old = all.iter().filter(|der| *der != signs);
        let expected: Vec<Der> = std::iter::once(signs).chain(old).cloned().collect();
        assert_eq!((found.trusted, found.mark), (expected, None));
        // Also while a Secret names all of it: it may be replaced as well.
        let others: Vec<&Der> = all.iter().filter(|der| *der != signs).collect();
        let named = look(&secret(signer, &others, now()), (&all, None), [LONG, 0]);
        assert_eq!((named.trusted.len(), named.mark), (3, None));
    }
}

#[test]
fn a_bundle_that_somebody_else_wrote_says_nothing_of_the_secret_before() {
    let ((first, one), (_, theirs)) = (authority(), authority());
    let registration = registration(&[theirs], OTHER, "kubectl-edit");
    let stored = secret(&first, &[], now());
    let seen = Seen::at_once(Some(&stored), Some(&registration), now());
    assert_eq!(judge(&seen, TIMES).trusted, [one]);
}

#[test]
fn a_certificate_of_an_authority_that_was_put_in_place_is_made_once_every_api_server_knows_it() {
    let ((first, one), (_, two)) = (authority(), authority());
    let both = vec![one.clone(), two.clone()];
    let before = (std::slice::from_ref(&two), OTHER);
    let over = secret(&first, &[], now() - days(100));
    for (bundle, registered, again) in
        [(before, LONG, 60), ((&both[..], None), 0, 60), ((&both, None), 59, 1)]
    {
        let waits = look(&over, bundle, [registered, 0]);
        assert_eq!((waits.step, waits.again), (Step::Keep, Some(Duration::from_secs(again))));
        assert_eq!(waits.trusted, both);
    }
    let renewed = look(&over, (&both, None), [60, 0]);
    let Step::Renew { trusted, .. } = &renewed.step else { panic!("{renewed:?}") };
    assert_eq!(trusted, &both, "from then on the Secret names it");
    // Replicas that refuse what is over serve what they have, for however long.
    let still = look(&over, (&both, None), [0, 3599]);
    assert_eq!((&still.step, &still.trusted), (&Step::Keep, &both));
    // Bundles that are not ours to write keep nobody from renewing for ever.
    let at_last = look(&over, before, [0, 3600]);
    assert_eq!((matches!(at_last.step, Step::Renew { .. }), &at_last.trusted), (true, &both));
}

#[test]
fn one_that_was_put_back_in_the_middle_of_a_rotation_signs_nothing_before_it_is_known() {
    let ((first, one), (next, two)) = (authority(), authority());
    let mut publishing = secret(&first, &[&two], now() - days(100));
    publishing.data_mut().insert("ca-next.key".to_owned(), next.key_pem().into_bytes());
    // That rotation was done long ago.
    let both = vec![one.clone(), two.clone()];
    let found = look(&publishing, (std::slice::from_ref(&two), OTHER), [0, 0]);
    assert_eq!((found.step, &found.trusted, found.phase), (Step::Keep, &both, Phase::Publishing));
    let waits = look(&publishing, (&both, found.mark.as_deref()), [59, 0]);
    assert_eq!((waits.step, waits.again), (Step::Keep, Some(Duration::from_secs(1))));
    let switched = look(&publishing, (&both, found.mark.as_deref()), [60, 0]);
    assert_eq!(switched.step, Step::Switch { trusted: vec![two, one] });
}

#[test]
fn no_more_authorities_are_kept_than_a_secret_holds_and_the_latest_are() {
    let ((first, one), (_, two)) = (authority(), authority());
    let many: Vec<Der> = (0..MOST_OLD + 2).map(|_| authority().1).collect();
    let restored = secret(&first, &[&many[9]], now());
    let bundle = [std::slice::from_ref(&two), &many[..8]].concat();
    let found = look(&restored, (&bundle, OTHER), [LONG, 0]);
    let expected = [&[one, two][..], &many[..7]].concat();
    assert_eq!(found.trusted, expected);
    assert_eq!(look(&restored, (&expected, None), [LONG, 0]).trusted, expected, "and it comes to rest");

    // Where there is no Secret, whoever wrote them.
    let registration = registration(&many, None, "kubectl");
    let lost = judge(&Seen::at_once(None, Some(&registration), now()), TIMES);
    let Step::Prepare { trusted, left_out, .. } = lost.step else { panic!("{lost:?}") };
    assert_eq!((&trusted[..], left_out), (&many[..MOST_OLD], 2));
}
