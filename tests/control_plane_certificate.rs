//! The certificate that the leading controller makes, on a real API server: Secret, caBundle, and the calls that rely on them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/installation.rs"]
mod installation;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use control_plane::definitions::{agents, define};
use control_plane::https::{get, soon, until};
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods, start};
use installation::{Installation, called, data, grant, service_names};
use k8s_openapi::jiff::Timestamp;
use promsidecar::cluster::client::connect;
use promsidecar::controller::apply::{Source, WriteError, Writer};
use promsidecar::controller::certificate::registration::{FIELD_MANAGER, Publication, Registration};
use promsidecar::controller::certificate::secret::Stored;
use promsidecar::controller::lease::{Candidate, Terms};
use promsidecar::names;
use promsidecar::shutdown::Shutdown;
use promsidecar::webhook::certificate::Authority;
use promsidecar::x509::{self, Der};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_gets_its_certificate_and_every_entry_its_bundle_whatever_is_applied_first() {
    let installation = Installation::new("fresh").await;
    let first = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"], json!({(names::MANAGED_BY): names::MANAGER}));
    let keys: Vec<_> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["ca-next.key", "ca.crt", "ca.key", "tls.crt", "tls.key"]);
    assert_eq!(called(&secret), service_names(&installation.own));
    // It is waited for, not made.
    first.has("registration-missing").await;
    let none = installation.plane.api.send("GET", &installation.registration_path(), &Value::Null).await;
    assert_eq!(none.status, 404);

    let manifest = installation.manifest();
    installation.kubectl(&["apply", "-f", "-"], &manifest).await;
    installation.published(&data(&secret, "ca.crt")).await;
    let registration = installation.registration().await;
    for (stored, applied) in
        registration["webhooks"].as_array().unwrap().iter().zip(manifest["webhooks"].as_array().unwrap())
    {
        let mut without = stored.clone();
        without["clientConfig"].as_object_mut().unwrap().remove("caBundle");
        for key in ["name", "clientConfig", "failurePolicy", "matchConditions"] {
            assert_eq!(without[key], applied[key], "{key}");
        }
    }
    let managers = registration["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|entry| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply"));

    // Another leader goes on with what is there.
    drop(first);
    let second = installation.controller(&[]);
    second.leads().await;
    installation.kubectl(&["replace", "-f", "-"], &manifest).await;
    installation.published(&data(&secret, "ca.crt")).await;
    let after = installation.secret().await;
    assert_eq!(after["metadata"]["resourceVersion"], secret["metadata"]["resourceVersion"]);
    assert_eq!(second.issued().await, "0");
    assert_ne!(
        second.metric("promsidecar_managed_certificate_expiry_timestamp_seconds{certificate=\"leaf\"}").await,
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_the_manifest_again_leaves_the_bundles_and_replacing_it_is_repaired() {
    let installation = Installation::new("again").await;
    let manifest = installation.manifest();
    installation.kubectl(&["apply", "-f", "-"], &manifest).await;
    let controller = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    let bundle = data(&secret, "ca.crt");
    installation.published(&bundle).await;
    let generation = |registration: &Value| registration["metadata"]["generation"].clone();
    let before = generation(&installation.registration().await);

    for apply in [&["apply", "-f", "-"][..], &["apply", "--server-side", "--force-conflicts", "-f", "-"]] {
        let mut changed = manifest.clone();
        changed["metadata"]["labels"]["applied"] = json!(apply[1].trim_start_matches('-'));
        installation.kubectl(apply, &changed).await;
        installation.published(&bundle).await;
    }
    assert_eq!(generation(&installation.registration().await), before);
    assert_eq!(controller.metric("promsidecar_ca_bundle_publications_total").await, "1");

    installation.kubectl(&["replace", "-f", "-"], &manifest).await;
    installation.published(&bundle).await;
    // One entry more, as a new version brings it, and what somebody wrote by hand: no bundle, and one of another authority.
    let (other, _) = other_authority();
    let mut edited = installation.registration().await;
    edited["webhooks"][0]["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode("no PEM"));
    edited["webhooks"][1]["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(other));
    edited["webhooks"][5]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    let reply = installation.plane.api.send("PUT", &installation.registration_path(), &edited).await;
    assert_eq!(reply.status, 200, "{}", reply.body["message"]);
    installation.published(&bundle).await;

    // An entry that a new version lacks cannot be applied away server-side, since its bundle is ours; a replacement can.
    let mut fewer = manifest.clone();
    fewer["webhooks"].as_array_mut().unwrap().pop();
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let refused = installation.plane.kubectl(&apply, &fewer.to_string()).await;
    assert!(refused.code == 1 && refused.stderr.contains("webhooks[5].sideEffects: Required"), "{refused:?}");
    installation.kubectl(&["replace", "-f", "-"], &fewer).await;
    installation.published_to(5, &bundle).await;
}

fn other_authority() -> (String, String) {
    let made = Authority::new(SystemTime::now()).unwrap();
    (made.pem().to_owned(), made.key_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_secret_is_made_anew_and_an_authority_that_is_replaced_stays_trusted() {
    let installation = Installation::new("broken").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let controller = installation.controller(&["--rotation-wait=1s"]);
    let first = installation.secret_that("the Secret is made", |_| true).await;
    installation.published(&data(&first, "ca.crt")).await;

    // The certificate alone: the authority signs another.
    installation.edit_secret(&json!({"tls.crt": BASE64_STANDARD.encode("broken")})).await;
    let pem = |secret: &Value| x509::certificates(&data(secret, "tls.crt")).is_ok();
    let second = installation.secret_that("the certificate is made anew", pem).await;
    assert_eq!(
        (&second["data"]["ca.crt"], &second["data"]["ca.key"]),
        (&first["data"]["ca.crt"], &first["data"]["ca.key"])
    );
    assert_ne!(second["data"]["tls.crt"], first["data"]["tls.crt"]);

    // The authority's key: another authority, which signs once it is trusted beside the one whose certificates are still served.
    installation.edit_secret(&json!({"ca.key": null})).await;
    let prepared = installation.secret_that("the next authority is made", is_next).await;
    assert_eq!(prepared["data"]["tls.crt"], second["data"]["tls.crt"]);
    installation.published(&data(&prepared, "ca.crt")).await;
    let third = installation.secret_that("it signs", |secret| !is_next(secret)).await;
    assert_eq!(third["data"]["ca.key"], prepared["data"]["ca-next.key"]);
    let trusted = x509::certificates(&data(&third, "ca.crt")).unwrap();
    assert_eq!(trusted.len(), 2);
    assert_eq!(trusted[1], x509::certificates(&data(&first, "ca.crt")).unwrap()[0]);
    assert!(
        x509::accepted(&x509::certificates(&data(&third, "tls.crt")).unwrap(), &trusted[0], now()).is_ok()
    );

    // All of it.
    let deleted = installation.plane.api.send("DELETE", &installation.secret_path(), &Value::Null).await;
    assert_eq!(deleted.status, 200);
    let fourth =
        installation.secret_that("the Secret is made anew", |secret| pem(secret) && !is_next(secret)).await;
    // What it signed is still served where the Secret is mounted.
    let trusted = x509::certificates(&data(&fourth, "ca.crt")).unwrap();
    assert_eq!(set(&trusted[1..]), set(&x509::certificates(&data(&third, "ca.crt")).unwrap()));
    assert_eq!(controller.issued().await, "4");
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// Whether an authority is there that is to sign next.
fn is_next(secret: &Value) -> bool {
    !data(secret, "ca-next.key").is_empty()
}

fn set(certificates: &[Der]) -> BTreeSet<Vec<u8>> {
    certificates.iter().map(|der| der.to_vec()).collect()
}

/// Whatever is in the Secret, in the end every entry trusts what is to be served.
#[tokio::test(flavor = "multi_thread")]
async fn expired_and_foreign_certificates_are_replaced_and_told_of() {
    let installation = Installation::new("recovers").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let _controller = installation.controller(&["--rotation-wait=1s"]);
    let first = installation.secret_that("the Secret is made", |_| true).await;
    installation.published(&data(&first, "ca.crt")).await;

    let names = service_names(&installation.own);
    let day = Duration::from_hours(24);
    let past = [SystemTime::now() - 400 * day, SystemTime::now() - day];
    let ca_key = String::from_utf8(data(&first, "ca.key")).unwrap();
    let ours = Authority::restored(std::str::from_utf8(&data(&first, "ca.crt")).unwrap(), &ca_key).unwrap();
    let (over, foreign) = (Authority::lasting(past).unwrap(), Authority::new(SystemTime::now()).unwrap());
    let leaf = |authority: &Authority, life| {
        let pair = authority.pem_pair_lasting(&names, life).unwrap();
        json!({"tls.crt": encoded(&pair.certificate), "tls.key": encoded(&pair.key)})
    };
    let with = |mut data: Value, authority: &Authority| {
        data["ca.crt"] = json!(encoded(authority.pem()));
        data["ca.key"] = json!(encoded(&authority.key_pem()));
        data
    };
    let present = [SystemTime::now() - day, SystemTime::now() + 60 * day];
    let garbage = json!({"ca.crt": "AA==", "ca.key": "AA==", "tls.crt": "AA==", "tls.key": "AA==", "ca-next.key": "AA=="});
    for (what, damage) in [
        ("an expired certificate", leaf(&ours, past)),
        ("a certificate of another authority", leaf(&foreign, present)),
        ("an expired authority with its certificate", with(leaf(&over, past), &over)),
        ("garbage", garbage),
        // Whoever has the Secret may put another authority in it: it is used like ours.
        ("everything of another authority", with(leaf(&foreign, present), &foreign)),
    ] {
        installation.edit_secret(&damage).await;
        until(&format!("{what} is replaced and trusted"), || async {
            let secret = installation.secret().await;
            let (Ok(trusted), Ok(chain)) =
                (x509::certificates(&data(&secret, "ca.crt")), x509::certificates(&data(&secret, "tls.crt")))
            else {
                return false;
            };
            let registration = installation.registration().await;
            let bundles = registration["webhooks"].as_array().unwrap().iter();
            let all = bundles.map(|entry| x509::certificates(&data_of(&entry["clientConfig"]["caBundle"])));
            x509::accepted(&chain, &trusted[0], now()).is_ok()
                && !is_next(&secret)
                && all.flatten().filter(|bundle| bundle.contains(&trusted[0])).count() == 6
        })
        .await;
    }
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", installation.own);
    until("somebody is told", || async {
        let events = installation.plane.api.list(&events).await;
        events.iter().any(|event| {
            event["reason"] == "CertificateUnusable" && event["regarding"]["name"] == names::TLS_SECRET
        })
    })
    .await;
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn data_of(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap()
}

/// As `promsidecar certs` and a bundle by hand are, before a controller takes over.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_trusted_by_hand_stays_trusted_beside_the_first_authority() {
    let installation = Installation::new("by-hand").await;
    let (by_hand, _) = other_authority();
    let mut manifest = installation.manifest();
    for entry in manifest["webhooks"].as_array_mut().unwrap() {
        entry["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(&by_hand));
    }
    installation.kubectl(&["apply", "-f", "-"], &manifest).await;
    let _controller = installation.controller(&["--rotation-wait=1s"]);
    // What is called by hand is served, until its replicas have the certificate that is made once both are trusted.
    let signed = |secret: &Value| !data(secret, "tls.crt").is_empty();
    let secret = installation.secret_that("the certificate is made", signed).await;
    let trusted = x509::certificates(&data(&secret, "ca.crt")).unwrap();
    assert_eq!(trusted[1..], x509::certificates(by_hand.as_bytes()).unwrap());
    installation.published(&data(&secret, "ca.crt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_ours_is_never_touched_and_told_of() {
    let installation = Installation::new("foreign").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": names::TLS_SECRET, "labels": {"app": "theirs"}},
        "data": {"tls.crt": "", "tls.key": ""},
    });
    let secrets = format!("/api/v1/namespaces/{}/secrets", installation.own);
    let created = installation.plane.api.create(&secrets, &foreign).await;
    let controller = installation.controller(&[]);
    controller.leads().await;
    controller.has("secret-not-ours").await;
    assert_eq!(installation.secret().await, created);
    let registration = installation.registration().await;
    assert!(registration["webhooks"][0]["clientConfig"].get("caBundle").is_none(), "{registration:#}");

    // Nobody has to restart anything once it is gone.
    let deleted = installation.plane.api.send("DELETE", &installation.secret_path(), &Value::Null).await;
    assert_eq!(deleted.status, 200);
    let ours = installation.secret_that("ours is made", |_| true).await;
    installation.published(&data(&ours, "ca.crt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_cert_manager_is_told_to_write_the_bundles_they_are_left_to_it() {
    let installation = Installation::new("injected").await;
    let mut manifest = installation.manifest();
    manifest["metadata"]["annotations"] = json!({"cert-manager.io/inject-ca-from": "injected-own/webhook"});
    installation.kubectl(&["apply", "-f", "-"], &manifest).await;
    let controller = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    controller.has("bundle-not-ours").await;
    assert!(installation.registration().await["webhooks"][0]["clientConfig"].get("caBundle").is_none());
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    installation.published(&data(&secret, "ca.crt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_replaces_the_bundles_again_and_again_is_told_of_and_not_raced() {
    let installation = Installation::new("contest").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let controller = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    let (other, _) = other_authority();
    for _ in 0..4 {
        installation.published(&data(&secret, "ca.crt")).await;
        let mut edited = installation.registration().await;
        for entry in edited["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(&other));
        }
        let reply = installation.plane.api.send("PUT", &installation.registration_path(), &edited).await;
        assert_eq!(reply.status, 200, "{}", reply.body["message"]);
    }
    controller.has("bundle-contested").await;
    // It is not given up.
    installation.published(&data(&secret, "ca.crt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_everything_and_writes_nothing() {
    let installation = Installation::new("follow").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let leader = installation.controller(&[]);
    leader.leads().await;
    let follower = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    installation.published(&data(&secret, "ca.crt")).await;
    let end = "promsidecar_managed_certificate_expiry_timestamp_seconds{certificate=\"leaf\"}";
    let seen = || async { follower.metric(end).await };
    until("the follower sees the certificate", || async { seen().await != "0" }).await;

    installation.edit_secret(&json!({"tls.crt": BASE64_STANDARD.encode("broken")})).await;
    let pem = |secret: &Value| x509::certificates(&data(secret, "tls.crt")).is_ok();
    installation.secret_that("the leader makes it anew", pem).await;
    installation.kubectl(&["replace", "-f", "-"], &installation.manifest()).await;
    installation.published(&data(&secret, "ca.crt")).await;
    until("the follower sees that", || async { seen().await == leader.metric(end).await }).await;
    assert_eq!((leader.issued().await, follower.issued().await), ("2".to_owned(), "0".to_owned()));
    assert_eq!(follower.metric("promsidecar_leader").await, "0");
    assert_eq!(follower.metric("promsidecar_ca_bundle_publications_total").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_certificate_is_left_to_others() {
    let installation = Installation::new("external").await;
    define(installation.plane).await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let before = installation.registration().await;
    let controller = installation.controller(&["--certificate=external"]);
    controller.leads().await;
    // It works otherwise.
    installation.plane.api.create(&agents(&installation.app), &template()).await;
    let config_maps = format!("/api/v1/namespaces/{}/configmaps", installation.app);
    until("a configuration is delivered", || async {
        let found = installation.plane.api.list(&config_maps).await;
        found.iter().any(|object| object["metadata"]["labels"][names::MANAGED_BY] == names::MANAGER)
    })
    .await;
    assert_eq!(installation.registration().await, before);
    let secret = installation.plane.api.send("GET", &installation.secret_path(), &Value::Null).await;
    assert_eq!(secret.status, 404);
}

fn template() -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": "one", "annotations": {(names::CONTROLLER_ID): "promsidecar"}},
        "spec": {"remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_not_written_over_another_registration_nor_from_another_secret_than_was_seen() {
    let installation = Installation::new("gone").await;
    let plane = installation.plane;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let client = connect(Some(&plane.kubeconfig("admin"))).await.unwrap();
    let terms = Terms::default();
    let candidate = Candidate::new(client.clone(), &installation.own, "test".to_owned(), terms).unwrap();
    let (leadership, shutdown) = (candidate.leadership(), Shutdown::default());
    let task = tokio::spawn(candidate.follow(shutdown.clone()));
    until("the test leads", || async { leadership.is_held() }).await;
    let writer = Writer::new(client, leadership, Duration::from_secs(5));

    let (authority, _) = other_authority();
    let authorities = x509::certificates(authority.as_bytes()).unwrap();
    let before = installation.registration().await;
    let seen = serde_json::from_value(before.clone()).unwrap();
    let Publication::Apply { object, entries: 6, .. } =
        Registration::of(&seen).publish(&authorities, &authorities, None)
    else {
        panic!("every entry needs its bundle");
    };
    let made = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names::TLS_SECRET}});
    let secrets = format!("/api/v1/namespaces/{}/secrets", installation.own);
    let write = async |secret: &Value| {
        let seen = Stored::of(&serde_json::from_value(secret.clone()).unwrap());
        let of = Source { namespace: &installation.own, name: names::TLS_SECRET, seen: &seen };
        soon(writer.apply_bundles(&object, &of)).await
    };
    // What was seen of the Secret is another version, then another object, then none.
    let mut secret = plane.api.create(&secrets, &made).await;
    for change in ["data", "delete and create", "delete"] {
        if change == "data" {
            installation.edit_secret(&json!({"tls.crt": "AA=="})).await;
        } else {
            let deleted = plane.api.send("DELETE", &installation.secret_path(), &Value::Null).await;
            assert_eq!(deleted.status, 200);
        }
        let now =
            if change == "delete and create" { plane.api.create(&secrets, &made).await } else { Value::Null };
        let written = write(&secret).await;
        assert!(written.as_ref().is_err_and(WriteError::is_outdated), "{change}: {written:?}");
        secret = if now.is_null() { secret } else { now };
    }
    assert_eq!(installation.registration().await, before);
    let secret = plane.api.create(&secrets, &made).await;

    // The same of the registration.
    for change in ["label", "delete and create", "delete"] {
        let path = installation.registration_path();
        if change == "label" {
            let label = json!({"metadata": {"labels": {"changed": "true"}}});
            assert_eq!(plane.api.send("PATCH", &path, &label).await.status, 200);
        } else {
            assert_eq!(plane.api.send("DELETE", &path, &Value::Null).await.status, 200);
        }
        if change == "delete and create" {
            plane.api.create(CONFIGURATIONS, &installation.manifest()).await;
        }
        let written = write(&secret).await;
        assert!(written.as_ref().is_err_and(WriteError::is_outdated), "{change}: {written:?}");
    }
    let none = plane.api.send("GET", &installation.registration_path(), &Value::Null).await;
    assert_eq!(none.status, 404);
    shutdown.drain();
    soon(task).await.unwrap().unwrap();
}

/// Writes the pair of a Secret as the kubelet mounts it, the certificate last.
fn mount(directory: &Path, secret: &Value) {
    for key in ["tls.key", "tls.crt"] {
        fs::write(directory.join(key), data(secret, key)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_calls_a_webhook_that_serves_what_the_leader_made() {
    let installation = Installation::new("served").await;
    let plane = installation.plane;
    define(plane).await;
    plane.api.create(CONFIGURATIONS, &installation.manifest()).await;
    let _controller = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    installation.published(&data(&secret, "ca.crt")).await;

    let directory = plane.directory("served-tls");
    mount(&directory, &secret);
    let (_webhook, started) = start(
        &[
            "webhook".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!("--kubeconfig={}", plane.kubeconfig("admin").display()),
            format!("--tls-cert-file={}", directory.join("tls.crt").display()),
            format!("--tls-key-file={}", directory.join("tls.key").display()),
        ],
        "promsidecar webhook started",
    );
    let admin = started["admin"].as_str().unwrap().parse().unwrap();

    // No Service leads here, so the registration names the address instead, and so does the certificate.
    let mut manifest = installation.manifest();
    for entry in manifest["webhooks"].as_array_mut().unwrap() {
        let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
        let listen = started["listen"].as_str().unwrap();
        entry["clientConfig"] = json!({"url": format!("https://{listen}{path}")});
    }
    installation.kubectl(&["replace", "-f", "-"], &manifest).await;
    let address = |secret: &Value| called(secret) == ["127.0.0.1"];
    let renewed = installation.secret_that("the certificate is for the address", address).await;
    assert_eq!(renewed["data"]["ca.crt"], secret["data"]["ca.crt"]);
    installation.published(&data(&renewed, "ca.crt")).await;
    mount(&directory, &renewed);

    plane.api.create(&agents(&installation.app), &template()).await;
    until("the webhook is ready", || async { get(admin, "/readyz").await.0 == 200 }).await;
    // The webhook reads its files now and then, and nothing tells when the registration is in force.
    let injected = |pod: &Value| pod["metadata"]["labels"][names::INJECTED] == "true";
    until("the pod is injected", || async {
        let path = format!("{}?dryRun=All", pods(&installation.app));
        injected(&plane.api.send("POST", &path, &asking_pod("web")).await.body)
    })
    .await;
    let pod = plane.api.create(&pods(&installation.app), &asking_pod("web")).await;
    assert!(injected(&pod), "{pod:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_needs_no_other_permissions_than_the_documented_ones() {
    let installation = Installation::new("allowed").await;
    let plane = installation.plane;
    define(plane).await;
    grant(&installation, "default").await;
    let token = format!("/api/v1/namespaces/{}/serviceaccounts/default/token", installation.own);
    let token = plane.api.create(&token, &json!({"spec": {}})).await;
    let admin = fs::read_to_string(plane.kubeconfig("admin")).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&admin).unwrap();
    kubeconfig["users"][0]["user"]["token"] = token["status"]["token"].clone();
    let path = plane.directory("allowed-kubeconfig").join("config");
    fs::write(&path, kubeconfig.to_string()).unwrap();

    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let controller = installation.controller_by(&path, &[]);
    until("it is ready", || async { get(controller.admin, "/readyz").await.0 == 200 }).await;
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    installation.published(&data(&secret, "ca.crt")).await;
    installation.edit_secret(&json!({"tls.crt": BASE64_STANDARD.encode("broken")})).await;
    let pem = |secret: &Value| x509::certificates(&data(secret, "tls.crt")).is_ok();
    installation.secret_that("the certificate is made anew", pem).await;
    assert_eq!(controller.issued().await, "2");
}
