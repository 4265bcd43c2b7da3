use std::collections::BTreeSet;

use base64_simd::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{FIELD_MANAGER, Publication, Registration, certified, host};
use crate::names;
use crate::webhook::certificate::Authority;
use crate::x509::{self, Der};

const ONE: &str = "one.sidecar.prometheus.io";
const TWO: &str = "two.sidecar.prometheus.io";

fn authority() -> Der {
    let made = Authority::new(Timestamp::from_second(1_800_000_000).unwrap().into()).unwrap();
    x509::certificates(made.pem().as_bytes()).unwrap().remove(0)
}

fn bundle(authorities: &[Der]) -> String {
    STANDARD.encode_to_string(x509::pem(authorities))
}

/// Two entries with these bundles, each with its field manager.
fn registration(bundles: [Option<(String, &str)>; 2], annotations: &Value) -> Registration {
    let mut managed = Vec::new();
    let webhooks: Vec<_> = [ONE, TWO]
        .into_iter()
        .zip(bundles)
        .map(|(name, bundle)| {
            let service = json!({"name": "hook", "namespace": "own", "path": "/mutate"});
            let mut webhook = json!({
                "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": service},
            });
            if let Some((bundle, manager)) = bundle {
                webhook["clientConfig"]["caBundle"] = json!(bundle);
                let key = format!("k:{{\"name\":\"{name}\"}}");
                managed.push(json!({
                    "manager": manager, "operation": "Update",
                    "fieldsV1": {"f:webhooks": {(key): {"f:clientConfig": {"f:caBundle": {}}}}},
                }));
            }
            webhook
        })
        .collect();
    let object = json!({
        "metadata": {
            "name": "promsidecar", "uid": "u", "resourceVersion": "7",
            "annotations": annotations, "managedFields": managed,
        },
        "webhooks": webhooks,
    });
    Registration::of(&serde_json::from_value(object).unwrap())
}

fn entry(name: &str, authorities: &[Der]) -> Value {
    json!({"name": name, "clientConfig": {"caBundle": bundle(authorities)}})
}

fn apply(webhooks: &[Value], entries: usize, replaced: &[&str]) -> Publication {
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "promsidecar", "uid": "u", "resourceVersion": "7"},
        "webhooks": webhooks,
    });
    Publication::Apply { object, entries, replaced: replaced.iter().map(|name| (*name).to_owned()).collect() }
}

#[test]
fn every_entry_without_a_bundle_gets_ours_and_nothing_else_is_touched() {
    let ours = [authority()];
    let fresh = registration([None, None], &json!({}));
    assert_eq!(fresh.publish(&ours, &ours, None), apply(&[entry(ONE, &ours), entry(TWO, &ours)], 2, &[]));
    // Nothing is published of which nothing is served.
    assert_eq!(fresh.publish(&ours, &[], None), Publication::Current);
    let half = registration([Some((bundle(&ours), FIELD_MANAGER)), None], &json!({}));
    assert_eq!(half.publish(&ours, &ours, None), apply(&[entry(ONE, &ours), entry(TWO, &ours)], 1, &[]));
    let whole = [Some((bundle(&ours), FIELD_MANAGER)), Some((bundle(&ours), FIELD_MANAGER))];
    assert_eq!(registration(whole, &json!({})).publish(&ours, &ours, None), Publication::Current);
}

#[test]
fn a_bundle_of_somebody_else_stays_if_it_holds_our_authority_and_is_replaced_if_not() {
    let (ours, theirs) = (authority(), authority());
    let both = bundle(&[theirs.clone(), ours.clone()]);
    let enough = registration([Some((both.clone(), "kubectl")), Some((both.clone(), "kubectl"))], &json!({}));
    assert_eq!(
        enough.publish(std::slice::from_ref(&ours), std::slice::from_ref(&ours), None),
        Publication::Current
    );

    let wrong = Some((bundle(std::slice::from_ref(&theirs)), "kubectl-edit"));
    let mixed = registration([Some((both.clone(), "kubectl")), wrong], &json!({}));
    let published = mixed.publish(std::slice::from_ref(&ours), std::slice::from_ref(&ours), None);
    assert_eq!(published, apply(&[entry(TWO, std::slice::from_ref(&ours))], 1, &["kubectl-edit"]));

    // What is no bundle, and nobody says whose.
    let mut broken = registration([Some((both.clone(), "kubectl")), None], &json!({}));
    broken.entries[1].bundle = b"no PEM".to_vec();
    let published = broken.publish(std::slice::from_ref(&ours), std::slice::from_ref(&ours), None);
    assert_eq!(published, apply(&[entry(TWO, std::slice::from_ref(&ours))], 1, &["somebody"]));

    // One of ours that is out of date.
    let dated = registration([Some((both, FIELD_MANAGER)), None], &json!({}));
    let now = [ours];
    assert_eq!(
        dated.publish(&now, &now, None),
        apply(&[entry(ONE, &now), entry(TWO, &now)], 2, &[FIELD_MANAGER])
    );
    assert_eq!(dated.trusted().len(), 2);
    assert_eq!(enough.trusted().len(), 2, "whoever wrote it");
}

#[test]
fn every_entry_has_to_trust_the_next_authority_as_well() {
    let (signs, next) = (authority(), authority());
    let one = Some((bundle(std::slice::from_ref(&signs)), "kubectl"));
    let both = Some((bundle(&[next.clone(), signs.clone(), authority()]), "kubectl"));
    let half = registration([one.clone(), both.clone()], &json!({}));
    assert_eq!(half.lacking(&[signs.clone(), next.clone()]), [ONE]);
    assert_eq!(half.lacking(std::slice::from_ref(&signs)), [""; 0]);
    let wanted = [signs, next];
    let published = half.publish(&wanted, &wanted, None);
    assert_eq!(published, apply(&[entry(ONE, &wanted)], 1, &["kubectl"]));
    // One before is not for others to trust.
    assert_eq!(half.publish(&wanted, &wanted[..1], None), Publication::Current);
    assert_eq!(half.publish(&wanted, &[], None), Publication::Current);
    let whole = registration([both.clone(), both], &json!({}));
    assert_eq!(
        (whole.publish(&wanted, &wanted, None), whole.lacking(&wanted)),
        (Publication::Current, vec![])
    );
    let nothing = registration([None, one], &json!({}));
    assert_eq!(nothing.lacking(&wanted), [ONE, TWO]);
}

#[test]
fn of_which_certificate_the_bundles_were_made_is_said_beside_those_that_are_ours() {
    let trusted = [authority()];
    let one = |manager| Some((bundle(&trusted), manager));
    let published = |bundles, mark: &Value, now| registration(bundles, mark).publish(&trusted, &trusted, now);
    let ours = || [one(FIELD_MANAGER), one("kubectl")];
    let marked = json!({(names::CERTIFICATE): "a"});
    assert_eq!(published(ours(), &marked, Some("a")), Publication::Current);
    let both = [entry(ONE, &trusted), entry(TWO, &trusted)];
    let Publication::Apply { mut object, entries, replaced } = apply(&both, 0, &[]) else { panic!() };
    assert_eq!(published(ours(), &marked, None), apply(&both, 0, &[]), "what is left out of an apply goes");
    object["metadata"]["annotations"] = json!({(names::CERTIFICATE): "b"});
    assert_eq!(published(ours(), &marked, Some("b")), Publication::Apply { object, entries, replaced });
    assert_eq!(registration(ours(), &marked).mark(), Some("a"));
    // Of those of others there is nothing to say.
    assert_eq!(published([one("kubectl"), one("argocd")], &json!({}), Some("b")), Publication::Current);
}

#[test]
fn a_bundle_of_somebody_else_that_trusts_more_than_the_secret_names_is_told_of() {
    let (ours, retired) = (authority(), authority());
    let both = || Some((bundle(&[ours.clone(), retired.clone()]), "kubectl-edit"));
    let one = [ours.clone()];
    let told = |bundles: [_; 2], trusted: &[Der]| {
        let registration = registration(bundles, &json!({}));
        let beyond = registration.beyond(trusted, &one);
        beyond.into_iter().map(|(entry, by)| (entry.to_owned(), by)).collect::<Vec<_>>()
    };
    let by = BTreeSet::from(["kubectl-edit".to_owned()]);
    let mine = Some((bundle(&[ours.clone(), retired.clone()]), FIELD_MANAGER));
    assert_eq!(told([mine, both()], &one), [(TWO.to_owned(), by)], "ours is about to be written anew");
    assert_eq!(told([both(), both()], &[ours.clone(), retired.clone()]), [], "while it stays trusted");
    // What lacks ours is replaced.
    let wrong = Some((bundle(std::slice::from_ref(&retired)), "kubectl-edit"));
    assert_eq!(told([wrong, None], &one), []);
}

#[test]
fn a_state_of_the_entries_has_a_number() {
    let mut object = registration([None, None], &json!({}));
    assert_eq!(object.state(), ("u", 0));
    object.generation = 3;
    assert_eq!(object.state(), ("u", 3));
}

#[test]
fn where_somebody_else_is_told_to_write_the_bundle_it_is_left_to_him() {
    let (ours, theirs) = ([authority()], bundle(&[authority()]));
    for annotation in [
        "cert-manager.io/inject-ca-from",
        "cert-manager.io/inject-ca-from-secret",
        "cert-manager.io/inject-apiserver-ca",
        "service.beta.openshift.io/inject-cabundle",
    ] {
        for present in [None, Some((theirs.clone(), "cert-manager-cainjector"))] {
            let told = registration([present.clone(), present], &json!({(annotation): "x"}));
            let published = told.publish(&ours, &ours, None);
            assert!(
                matches!(published, Publication::Left { annotation: by, .. } if by == annotation),
                "{published:?}"
            );
        }
    }
    // It may even write ours.
    let same = Some((bundle(&ours), "cert-manager-cainjector"));
    let told = registration([same.clone(), same], &json!({"cert-manager.io/inject-ca-from": "own/hook"}));
    assert_eq!(told.publish(&ours, &ours, None), Publication::Current);
}

#[test]
fn names_are_those_of_services_and_of_hosts() {
    let service = registration([None, None], &json!({})).called();
    let names = ["hook.own.svc", "hook.own.svc.cluster.local"].map(str::to_owned);
    assert_eq!(service, Some(BTreeSet::from(names)));
    for (url, expected) in [
        ("https://127.0.0.1:8443/mutate/pod/no", Some("127.0.0.1")),
        ("https://Hooks.Example.com/mutate?x=https://other", Some("hooks.example.com")),
        ("https://[0:0:0:0:0:0:0:1]:8443/", Some("::1")),
        ("https://localhost", Some("localhost")),
        ("https://", None),
        ("http://example.com/", None),
        ("https://[::1", None),
        ("https://no name/", None),
    ] {
        assert_eq!(host(url).and_then(|host| certified(&host)).as_deref(), expected, "{url}");
    }
    let nothing = Registration { entries: vec![], ..registration([None, None], &json!({})) };
    assert_eq!(nothing.called(), None);
}
