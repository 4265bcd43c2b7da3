//! Certificates that are over, foreign or gone, on a real API server: each ends by itself, without a restart and without
//! anybody's help. The API server calls two replicas before and after, one by the entries of pods that ask, one by those of pods
//! that require their agent. Prints how long it took. Who is in the way again and again is told of.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::print_stderr, reason = "how long it took is for whoever runs it")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/installation.rs"]
mod installation;
#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
#[path = "support/rotation/replicas.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod replicas;
mod support;
#[path = "support/volume.rs"]
mod volume;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use control_plane::controller::template;
use control_plane::definitions::{agents, define};
use control_plane::https::{get, tls, until};
use control_plane::injector::{CONFIGURATIONS, asking_pod, pods};
use installation::{Installation, called, data};
use k8s_openapi::jiff::Timestamp;
use program::{Program, program};
use promsidecar::webhook::certificate::Authority;
use promsidecar::{names, x509};
use replicas::Replica;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const DAY: Duration = Duration::from_hours(24);
const FLAGS: [&str; 2] = ["--rotation-wait=1s", "--rotation-overlap=10s"];

/// Two replicas of `promsidecar run`, one of which leads, and the API server calls both.
struct Installed {
    installation: Installation,
    replicas: [Program; 2],
}

impl Installed {
    async fn new(name: &str) -> Self {
        let installation = installation(name).await;
        let replicas = ["first", "second"].map(|pod| {
            let mut command = program(&["run", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
            command
                .arg(format!("--kubeconfig={}", installation.plane.kubeconfig("admin").display()))
                .arg(format!("--own-namespace={}", installation.own))
                .arg(format!("--registration=promsidecar-{name}"))
                .arg(format!("--pod-name={pod}"))
                .args(FLAGS);
            Program::start(&mut command)
        });
        for replica in &replicas {
            until("it is ready", || async { get(replica.admin, "/readyz").await.0 == 200 }).await;
        }
        let addresses = [replicas[0].webhook, replicas[1].webhook];
        let mut manifest = installation.manifest();
        lead(&mut manifest, addresses, None);
        installation.plane.api.create(CONFIGURATIONS, &manifest).await;
        claim(&installation).await;
        recovered("installed", &installation, addresses).await;
        Self { installation, replicas }
    }

    async fn recovers(&self, what: &str) {
        recovered(what, &self.installation, [self.replicas[0].webhook, self.replicas[1].webhook]).await;
    }
}

/// One in a cluster that knows templates.
async fn installation(name: &str) -> Installation {
    static DEFINED: OnceCell<()> = OnceCell::const_new();
    let installation = Installation::new(name).await;
    DEFINED.get_or_init(|| define(installation.plane)).await;
    installation
}

/// Leads entries that may fail to the first address, and those that may not to the second one.
fn lead(registration: &mut Value, addresses: [SocketAddr; 2], bundle: Option<&str>) {
    for entry in registration["webhooks"].as_array_mut().unwrap() {
        let path = entry["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
        let address = addresses[usize::from(entry["failurePolicy"] == "Fail")];
        entry["clientConfig"] = json!({"url": format!("https://{address}{path}")});
        if let Some(bundle) = bundle {
            entry["clientConfig"]["caBundle"] = json!(encoded(bundle));
        }
    }
}

async fn claim(installation: &Installation) {
    installation.plane.api.create(&agents(&installation.app), &template("one")).await;
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Waits until both replicas serve what the Secret holds, and the API server accepts that of each.
async fn recovered(what: &str, installation: &Installation, replicas: [SocketAddr; 2]) {
    let began = Instant::now();
    until(&format!("{what}: it is well"), || is_well(installation, replicas)).await;
    eprintln!("recovery: {what}: {:.1} s", began.elapsed().as_secs_f64());
}

async fn is_well(installation: &Installation, replicas: [SocketAddr; 2]) -> bool {
    let reply = installation.plane.api.send("GET", &installation.secret_path(), &Value::Null).await;
    let secret = reply.body;
    let [trusted, chain] = ["ca.crt", "tls.crt"].map(|key| x509::certificates(&data(&secret, key)));
    let (200, Ok(trusted), Ok(chain)) = (reply.status, trusted, chain) else { return false };
    let can_be_served = x509::accepted(&chain, &trusted[0], Timestamp::now()).is_ok()
        && x509::fits(&chain[0], &data(&secret, "tls.key")) == Ok(true)
        && x509::fits(&trusted[0], &data(&secret, "ca.key")) == Ok(true)
        && called(&secret) == ["127.0.0.1"]
        && data(&secret, "ca-next.key").is_empty();
    let registration = installation.registration().await;
    let is_trusted = registration["webhooks"].as_array().unwrap().iter().all(|entry| {
        let bundle = BASE64_STANDARD.decode(entry["clientConfig"]["caBundle"].as_str().unwrap_or_default());
        x509::certificates(&bundle.unwrap()).is_ok_and(|bundle| bundle.contains(&trusted[0]))
    });
    if !can_be_served || !is_trusted {
        return false;
    }
    for replica in replicas {
        let Ok(stream) = tls(replica, "127.0.0.1", &x509::pem([&trusted[0]])).await else { return false };
        if stream.get_ref().1.peer_certificates().unwrap() != chain {
            return false;
        }
    }
    injects(installation, false).await && injects(installation, true).await
}

/// Whether the API server has a pod injected that asks, or requires its agent.
async fn injects(installation: &Installation, required: bool) -> bool {
    let reply = tried(installation, required).await;
    reply["metadata"]["labels"][names::INJECTED] == "true"
}

/// What the API server makes of a pod, or why not.
async fn tried(installation: &Installation, required: bool) -> Value {
    let mut pod = asking_pod("web");
    if required {
        pod["metadata"]["annotations"][names::REQUIRED] = json!("true");
    }
    let path = format!("{}?dryRun=All", pods(&installation.app));
    installation.plane.api.send("POST", &path, &pod).await.body
}

/// The authority of a Secret.
fn authority(secret: &Value) -> Authority {
    let [certificate, key] = ["ca.crt", "ca.key"].map(|key| String::from_utf8(data(secret, key)).unwrap());
    Authority::restored(&certificate, &key).unwrap()
}

/// A certificate and its key, as the Secret holds them.
fn pair(authority: &Authority, name: &str, life: [SystemTime; 2]) -> Value {
    let pair = authority.pem_pair_lasting(&[name.to_owned()], life).unwrap();
    json!({"tls.crt": encoded(&pair.certificate), "tls.key": encoded(&pair.key)})
}

/// The same with their authority.
fn everything(authority: &Authority, life: [SystemTime; 2]) -> Value {
    let mut all = pair(authority, "127.0.0.1", life);
    all["ca.crt"] = json!(encoded(authority.pem()));
    all["ca.key"] = json!(encoded(&authority.key_pem()));
    all
}

/// From now on, so many seconds.
fn lasting(seconds: u64) -> [SystemTime; 2] {
    [SystemTime::now() - DAY, SystemTime::now() + Duration::from_secs(seconds)]
}

/// What becomes of the Secret of this authority.
type Damage = fn(&Authority, SystemTime) -> Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_served_is_made_anew_and_both_replicas_serve_it() {
    let now = SystemTime::now();
    let other = Authority::new(now).unwrap();
    let foreign = pair(&other, "127.0.0.1", lasting(86_400 * 60));
    let over: Damage = |ours, now| pair(ours, "127.0.0.1", [now - 9 * DAY, now - DAY]);
    let to_come: Damage = |ours, now| pair(ours, "127.0.0.1", [now + DAY, now + 60 * DAY]);
    let elsewhere: Damage = |ours, now| pair(ours, "elsewhere.svc", [now - DAY, now + 60 * DAY]);
    for (name, what, damage) in [
        ("over", "a certificate that is over", Some(over)),
        ("to-come", "one that begins tomorrow", Some(to_come)),
        ("elsewhere", "one for other names", Some(elsewhere)),
        ("foreign", "one of another authority, as people and cert-manager put it there", None),
    ] {
        let installed = Installed::new(name).await;
        let ours = authority(&installed.installation.secret().await);
        let damage = damage.map_or_else(|| foreign.clone(), |damage| damage(&ours, now));
        installed.installation.edit_secret(&damage).await;
        installed.recovers(what).await;
    }
    let installed = Installed::new("mismatch").await;
    installed.installation.edit_secret(&json!({"tls.key": foreign["tls.key"]})).await;
    installed.recovers("a key of another certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_in_the_secret_is_used_or_replaced_and_both_replicas_serve_what_it_signs() {
    let now = SystemTime::now();
    let other = Authority::new(now).unwrap();
    let past = [now - 9 * DAY, now - DAY];
    let over = Authority::lasting(past).unwrap();
    for (name, what, damage) in [
        ("whole", "everything of another authority", everything(&other, lasting(86_400 * 60))),
        ("authority-over", "an authority that is over, and its certificate", everything(&over, past)),
        ("key-lost", "the key of the authority is lost", json!({"ca.key": null})),
    ] {
        let installed = Installed::new(name).await;
        installed.installation.edit_secret(&damage).await;
        installed.recovers(what).await;
        let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", installed.installation.own);
        let told = || async {
            let events = installed.installation.plane.api.list(&events).await;
            events.iter().any(|event| event["reason"] == "CertificateUnusable")
        };
        if name == "whole" {
            let secret = installed.installation.secret().await;
            assert_eq!(
                data(&secret, "tls.crt"),
                BASE64_STANDARD.decode(damage["tls.crt"].as_str().unwrap()).unwrap()
            );
        } else {
            until("it is told", told).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_replaced_comes_back_and_both_replicas_serve_it() {
    for (name, what) in [
        ("deleted", "the Secret is deleted"),
        ("emptied", "the Secret is deleted, and the bundles with it"),
        ("bundles", "every bundle is somebody else's"),
    ] {
        let installed = Installed::new(name).await;
        let Installation { plane, .. } = &installed.installation;
        let path = installed.installation.registration_path();
        let mut registration = installed.installation.registration().await;
        let foreign = Authority::new(SystemTime::now()).unwrap();
        for entry in registration["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["caBundle"] = match name {
                "bundles" => json!(encoded(foreign.pem())),
                _ => Value::Null,
            };
        }
        if name != "bundles" {
            let deleted = plane.api.send("DELETE", &installed.installation.secret_path(), &Value::Null).await;
            assert_eq!(deleted.status, 200);
        }
        if name != "deleted" {
            // Whoever was faster wrote it in between.
            until("the registration is replaced", || async {
                let now = installed.installation.registration().await;
                let mut put = registration.clone();
                put["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
                plane.api.send("PUT", &path, &put).await.status == 200
            })
            .await;
        }
        installed.recovers(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_no_controller_ran_is_made_anew_once_one_does() {
    tokio::join!(
        ended("ended", "the certificate ended without a controller", false),
        ended("all-ended", "the authority ended as well", true),
    );
}

/// Replicas that mount the Secret, and nobody who renews it until it is too late.
async fn ended(name: &str, what: &str, with_authority: bool) {
    let installation = installation(name).await;
    let plane = installation.plane;
    let controller = installation.controller(&FLAGS);
    let made = installation.secret_that("the Secret is made", |_| true).await;
    drop(controller);
    // Long enough for replicas to start with it.
    let life = lasting(15);
    let signs = if with_authority { Authority::lasting(life).unwrap() } else { authority(&made) };
    installation.edit_secret(&everything(&signs, life)).await;
    let secret = installation.secret().await;
    let replicas = [(), ()].map(|()| Replica::start(&installation, &secret, Duration::ZERO));
    let addresses = [replicas[0].program.webhook, replicas[1].program.webhook];
    let mut manifest = installation.manifest();
    lead(&mut manifest, addresses, Some(signs.pem()));
    plane.api.create(CONFIGURATIONS, &manifest).await;
    claim(&installation).await;
    until("it has ended", || async { SystemTime::now() > life[1] + Duration::from_secs(1) }).await;
    // The first calls of all: one that is open goes on.
    until("no call succeeds", || async {
        let required = tried(&installation, true).await;
        required["message"].as_str().is_some_and(|why| why.contains("certificate has expired"))
    })
    .await;
    assert!(!injects(&installation, false).await);
    let _controller = installation.controller(&FLAGS);
    recovered(what, &installation, addresses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sets_the_secret_back_again_and_again_is_told_of_by_name() {
    let installation = Installation::new("set-back").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let controller = installation.controller(&[]);
    let pem = |secret: &Value| x509::certificates(&data(secret, "tls.crt")).is_ok();
    let path = format!("{}?fieldManager=gitops", installation.secret_path());
    let broken = json!({"data": {"tls.crt": encoded("broken")}});
    for _ in 0..4 {
        installation.secret_that("the certificate is made", pem).await;
        assert_eq!(installation.plane.api.send("PATCH", &path, &broken).await.status, 200);
    }
    controller.has("secret-contested").await;
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", installation.own);
    until("the Secret has an Event that names him", || async {
        let events = installation.plane.api.list(&events).await;
        events.iter().any(|event| {
            event["reason"] == "CertificateContested"
                && event["note"].as_str().unwrap().starts_with("gitops writes")
        })
    })
    .await;
    // It is not given up.
    installation.secret_that("the certificate is made all the same", pem).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_somebody_else_that_goes_on_to_trust_another_authority_is_told_of() {
    let installation = Installation::new("beyond").await;
    installation.kubectl(&["apply", "-f", "-"], &installation.manifest()).await;
    let controller = installation.controller(&[]);
    let secret = installation.secret_that("the Secret is made", |_| true).await;
    let ours = data(&secret, "ca.crt");
    installation.published(&ours).await;
    let retired = Authority::new(SystemTime::now()).unwrap();
    let put = async |bundle: &[u8]| {
        let mut edited = installation.registration().await;
        edited["webhooks"][2]["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(bundle));
        let reply = installation.plane.api.send("PUT", &installation.registration_path(), &edited).await;
        assert_eq!(reply.status, 200, "{}", reply.body["message"]);
    };
    put(&[&ours[..], retired.pem().as_bytes()].concat()).await;
    controller.has("bundle-trusts-others").await;
    put(&ours).await;
    until("it is over", || async {
        controller.metric("promsidecar_managed_certificate_problem{problem=\"bundle-trusts-others\"}").await
            == "0"
    })
    .await;
    installation.published(&ours).await;
}
