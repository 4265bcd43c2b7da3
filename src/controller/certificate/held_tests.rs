use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::super::registration::{FIELD_MANAGER, Registration};
use super::super::rotation::tests::{after, days, der, leaf, made, now, stored};
use super::super::rotation::{Judgement, MOST_OLD, Phase, Seen, Step, Times, judge};
use super::super::secret::Stored;
use crate::webhook::certificate::Authority;
use crate::x509::{self, Der};

const TIMES: Times = Times { wait: Duration::from_mins(1), overlap: Duration::from_hours(1) };
const LONG: u64 = 1_000_000;

/// Two entries with this bundle, which we wrote, or somebody else.
fn registration(bundle: &[Der], manager: &str) -> Registration {
    let bundle = base64_simd::STANDARD.encode_to_string(x509::pem(bundle));
    let entry = |name: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1/mutate", "caBundle": bundle},
        })
    };
    let has = json!({"f:clientConfig": {"f:caBundle": {}}});
    let fields = json!({"f:webhooks": {"k:{\"name\":\"a\"}": has, "k:{\"name\":\"b\"}": has}});
    let managed = json!([{"manager": manager, "operation": "Apply", "fieldsV1": fields}]);
    let object = json!({"metadata": {"name": "promsidecar", "managedFields": managed}, "webhooks": [entry("a"), entry("b")]});
    Registration::of(&serde_json::from_value(object).unwrap())
}

/// What comes of a Secret and of a bundle that have been as they are for so many seconds.
fn look(secret: &Stored, bundle: &[Der], [registered, kept]: [u64; 2], at: Timestamp) -> Judgement {
    let registration = registration(bundle, FIELD_MANAGER);
    let seen = Seen {
        stored: Some(secret),
        registration: Some(&registration),
        registered_for: Duration::from_secs(registered),
        kept_for: Duration::from_secs(kept),
        now: at,
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
    let (before, union) = (vec![two.clone()], vec![two.clone(), one.clone()]);
    let found = look(&restored, &before, [LONG, 0], now());
    assert_eq!((&found.step, found.again, found.phase), (&Step::Keep, None, Phase::Overlapping));
    assert_eq!((&found.bundle, found.needed()), (&union, &[one.clone()][..]));
    // Whoever looks next, or leads next, finds the same, and forgets it when all that is served is of this Secret.
    for (kept, again) in [(0, 3600), (3599, 1)] {
        let waits = look(&restored, &union, [LONG, kept], now());
        assert_eq!((waits.step, waits.again), (Step::Keep, Some(Duration::from_secs(again))));
        assert_eq!(waits.bundle, union);
    }
    let over = look(&restored, &union, [LONG, 3600], now());
    assert_eq!((over.step, over.bundle, over.phase), (Step::Keep, vec![one], Phase::Settled));
}

#[test]
fn what_is_taken_out_of_the_secret_while_the_same_authority_signs_is_trusted_no_longer_at_once() {
    let ((_, old), (signer, signs)) = (authority(), authority());
    let bundle = [signs.clone(), old.clone()];
    let overlapping = look(&secret(&signer, &[&old], now()), &bundle, [LONG, 0], now());
    assert_eq!((overlapping.bundle, overlapping.phase), (bundle.to_vec(), Phase::Overlapping));
    let taken = look(&secret(&signer, &[], now()), &bundle, [0, 0], now());
    assert_eq!((taken.step, taken.bundle, taken.phase), (Step::Keep, vec![signs], Phase::Settled));
}

#[test]
fn a_bundle_that_somebody_else_wrote_says_nothing_of_the_secret_before() {
    let ((first, one), (_, theirs)) = (authority(), authority());
    let registration = registration(&[theirs], "kubectl-edit");
    let stored = secret(&first, &[], now());
    let seen = Seen::at_once(Some(&stored), Some(&registration), now());
    assert_eq!(judge(&seen, TIMES).bundle, [one]);
}

#[test]
fn a_certificate_of_an_authority_that_was_put_in_place_is_made_once_every_api_server_knows_it() {
    let ((first, one), (_, two)) = (authority(), authority());
    let (before, union) = (vec![two.clone()], vec![two.clone(), one.clone()]);
    let over = secret(&first, &[], now() - days(100));
    for (bundle, registered, again) in [(&before, LONG, None), (&union, 0, Some(60)), (&union, 59, Some(1))] {
        let waits = look(&over, bundle, [registered, 0], now());
        assert_eq!((waits.step, waits.again), (Step::Keep, again.map(Duration::from_secs)));
        assert_eq!(waits.bundle, union);
    }
    let renewed = look(&over, &union, [60, 0], now());
    let Step::Renew { trusted, .. } = &renewed.step else { panic!("{renewed:?}") };
    assert_eq!(trusted, &[one.clone(), two.clone()], "from then on the Secret names it");
    let written = after(&renewed, Some(&over), now());
    assert_eq!(look(&written, &union, [LONG, 0], now()).bundle, [one.clone(), two.clone()]);
    // Replicas that refuse what is over serve what they have, for however long.
    let still = look(&over, &union, [0, 3599], now());
    assert_eq!((still.step, &still.bundle), (Step::Keep, &union));
    // Bundles that are not ours to write keep nobody from renewing for ever.
    let at_last = look(&over, &before, [0, 3600], now());
    assert_eq!((matches!(at_last.step, Step::Renew { .. }), &at_last.bundle), (true, &union));
}

#[test]
fn one_that_was_put_back_in_the_middle_of_a_rotation_signs_nothing_before_it_is_known() {
    let ((first, one), (next, two)) = (authority(), authority());
    let at = now() - days(100);
    let mut publishing = secret(&first, &[&two], at);
    publishing.data_mut().insert("ca-next.key".to_owned(), next.key_pem().into_bytes());
    // That rotation was done long ago.
    let bundle = vec![two.clone(), one.clone()];
    let found = look(&publishing, std::slice::from_ref(&two), [0, 0], now());
    assert_eq!((found.step, found.bundle, found.phase), (Step::Keep, bundle.clone(), Phase::Publishing));
    let waits = look(&publishing, &bundle, [59, 0], now());
    assert_eq!((waits.step, waits.again), (Step::Keep, Some(Duration::from_secs(1))));
    let switched = look(&publishing, &bundle, [60, 0], now());
    assert_eq!(switched.step, Step::Switch { trusted: bundle });
}

#[test]
fn no_more_authorities_are_kept_than_a_secret_holds_and_the_latest_are() {
    let ((first, one), (_, two)) = (authority(), authority());
    let many: Vec<Der> = (0..MOST_OLD + 2).map(|_| authority().1).collect();
    let restored = secret(&first, &[&many[9]], now());
    let bundle = [std::slice::from_ref(&two), &many[..8]].concat();
    let found = look(&restored, &bundle, [LONG, 0], now());
    let expected = [std::slice::from_ref(&two), &many[..7], std::slice::from_ref(&one)].concat();
    assert_eq!(found.bundle, expected);
    assert_eq!(look(&restored, &expected, [LONG, 0], now()).bundle, expected, "and it comes to rest");

    // Where there is no Secret, whoever wrote them.
    let registration = registration(&many, "kubectl");
    let lost = judge(&Seen::at_once(None, Some(&registration), now()), TIMES);
    let Step::Prepare { trusted, left_out, .. } = lost.step else { panic!("{lost:?}") };
    assert_eq!((&trusted[..], left_out), (&many[..MOST_OLD], 2));
}
