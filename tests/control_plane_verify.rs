//! `promsidecar verify` where there is no node: pods as a kubelet would tell of them, a receiver that has nothing, and everything
//! else that answers in place of one.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/agent.rs"]
mod agent;
#[path = "support/asked.rs"]
mod asked;
#[path = "support/control_plane.rs"]
mod control_plane;
mod support;

use std::fs;

use agent::receiver::Receiver;
use asked::{ask, is_golden};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use control_plane::ControlPlane;
use control_plane::injector::{asking_pod, pods};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use promsidecar::names;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A pod of `shop` with an agent of `shop/shop`, in this state, and with one target.
async fn injected(plane: &ControlPlane, name: &str, phase: &str, state: &Value) {
    injected_with(plane, name, phase, state, "localhost:8080").await;
}

async fn injected_with(plane: &ControlPlane, name: &str, phase: &str, state: &Value, target: &str) {
    let targets = json!([{"targets": [target], "labels": {"__meta_kubernetes_namespace": "shop"}}]);
    let status = json!({
        "version": 1, "template": "shop/shop", "generation": 1, "hash": "h", "injector": "0", "mode": "container",
        "added": {"containers": [], "volumes": [], "annotations": [], "labels": []}, "created": {},
    });
    let container = |name: &str| json!({"name": name, "image": "registry.example.com/web:1"});
    let pod = json!({
        "metadata": {
            "name": name,
            "labels": {(names::INJECTED): "true"},
            "annotations": {(names::STATUS): status.to_string(), (names::TARGETS): targets.to_string()},
        },
        "spec": {"containers": [container("web"), container(names::CONTAINER)]},
    });
    plane.api.create(&pods("shop"), &pod).await;
    let containers = json!([{
        "name": names::CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state,
    }]);
    let status = json!({"status": {"phase": phase, "containerStatuses": containers}});
    let path = format!("{}/{name}/status", pods("shop"));
    assert_eq!(plane.api.send("PATCH", &path, &status).await.status, 200);
}

/// Whoever answers queries with this.
async fn answering(status: StatusCode, body: &'static str) -> String {
    answering_by(status, body, NOTHING).await
}

/// What a receiver answers that has nothing.
const NOTHING: &str = r#"{"status": "success", "data": {"result": []}}"#;

/// The same; with the other body whoever asks for any series.
async fn answering_by(status: StatusCode, up: &'static str, any: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let answer = move |headers: HeaderMap, query: String| async move {
        let body = if query.starts_with("query=group+by") { any } else { up };
        let told = [("authorization", "Bearer secret"), ("x-scope-orgid", "team-a")];
        let known = told.iter().all(|(name, value)| headers.get(*name).is_some_and(|found| found == value));
        if known { (status, body) } else { (StatusCode::UNAUTHORIZED, "<html>who are you?</html>") }
    };
    let router = Router::new().route("/base/api/v1/query", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_told_by_how_they_do_and_a_receiver_by_what_it_answers() {
    let plane = ControlPlane::start(None).await;
    plane.api.create_namespace(&json!({"metadata": {"name": "shop"}})).await;
    let verify = |more: &[&str]| ask(&plane, "admin", &[&["verify", "-n", "shop"], more].concat());
    let directory = plane.directory("receiver");
    let receiver = Receiver::start(&directory);
    let asked = receiver.url().replace("/api/v1/write", "");
    let none = verify(&["--query-url", &asked]);
    let nothing = "note: there are no injected pods here; -n names another namespace, -A all\n\
                0 missing, 0 down, 0 failing, 0 no-target, 0 starting, 0 ended, 0 delivering\n";
    assert_eq!((none.code, &*none.stdout, &*none.stderr), (0, nothing, ""));

    let since = Timestamp::now() - SignedDuration::from_secs(14 * 60 + 5);
    let running = json!({"running": {"startedAt": since.strftime("%FT%TZ").to_string()}});
    injected(&plane, "web-1", "Running", &running).await;
    // No container declares a port.
    injected_with(&plane, "queue", "Running", &running, "localhost").await;
    injected(&plane, "web-2", "Running", &json!({"waiting": {"reason": "CrashLoopBackOff"}})).await;
    injected(&plane, "web-3", "Pending", &json!({"waiting": {"reason": "PodInitializing"}})).await;
    let completed = json!({"terminated": {"reason": "Completed", "exitCode": 0}});
    injected(&plane, "report-28x7k", "Succeeded", &completed).await;
    // No node runs them.
    let bad = verify(&["--query-url", &asked]);
    is_golden("verify.txt", &bad, 1);
    let without_logs = verify(&["--query-url", &asked, "--log-lines=0"]);
    let unlogged = bad.stdout.lines().filter(|line| !line.starts_with(' ')).map(|line| format!("{line}\n"));
    assert_eq!((without_logs.code, without_logs.stdout), (1, unlogged.collect()));
    let json: Value = serde_json::from_str(&verify(&["--query-url", &asked, "-o", "json"]).stdout).unwrap();
    assert_eq!(
        json["counts"],
        json!({"missing": 1, "down": 1, "failing": 0, "no-target": 1, "starting": 1, "ended": 1, "delivering": 0})
    );
    assert_eq!(
        json["asked"],
        json!({"shop/shop": [
            r#"max by (namespace, pod) ({__name__="up",prometheus="shop/shop",namespace="shop"})"#,
            r#"group by (namespace, pod) ({pod=~"web-1",prometheus="shop/shop",namespace="shop"})"#,
        ]})
    );
    // As far back as the flag says, in the words of Prometheus itself.
    let back = verify(&["--query-url", &asked, "--lookback=20m", "--log-lines=0"]);
    assert!(
        back.stdout.contains("({pod=~\"web-1\",prometheus=\"shop/shop\",namespace=\"shop\"}[1200s]))\n"),
        "{back:?}"
    );

    let token = directory.join("token");
    fs::write(&token, "secret\n").unwrap();
    let known = ["--query-token-file", token.to_str().unwrap(), "--query-header", "X-Scope-OrgID: team-a"];
    let delivered = r#"{"status": "success", "data": {"result": [
        {"metric": {"namespace": "shop", "pod": "web-1"}, "value": [0, "1"]}, {"metric": {}, "value": [0, "1"]}]}}"#;
    let url = answering(StatusCode::OK, delivered).await;
    let found = verify(&[&["--query-url", &url, "--log-lines=0"], &known[..]].concat());
    assert!(
        found.stdout.contains("note: 1 series of template shop/shop have no labels namespace and pod"),
        "{found:?}"
    );
    let delivering = "0 missing, 1 down, 0 failing, 1 no-target, 1 starting, 1 ended, 1 delivering\n";
    assert!(found.stdout.ends_with(delivering), "{found:?}");

    // Its template drops `up`.
    let other = r#"{"status": "success", "data": {"result": [
        {"metric": {"namespace": "shop", "pod": "web-1"}, "value": [0, "1"]}]}}"#;
    let url = answering_by(StatusCode::OK, NOTHING, other).await;
    let found = verify(&[&["--query-url", &url, "--log-lines=0"], &known[..]].concat());
    let told = "note: of 1 pods of template shop/shop series arrive and no up, so whether their scrapes succeed cannot be told\n";
    assert!(found.stdout.contains(told) && found.stdout.ends_with(delivering), "{found:?}");
    // A receiver that does not want to look that far is none that has nothing.
    let url = answering_by(StatusCode::OK, NOTHING, r#"{"status":"error","error":"too many series"}"#).await;
    let found = verify(&[&["--query-url", &url, "--log-lines=0"], &known[..]].concat());
    let told = "note: whether other series than up arrive of 1 pods of template shop/shop cannot be told: too many series\n";
    assert!(found.code == 1 && found.stdout.contains(told), "{found:?}");

    let strange = answering(StatusCode::OK, "<html>").await;
    let refusing =
        answering(StatusCode::UNPROCESSABLE_ENTITY, r#"{"status":"error","error":"too many"}"#).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let absent = directory.join("absent");
    for (flags, why) in [
        (vec!["--query-url", &*url], "answers 401 Unauthorized"),
        (
            [&["--query-url", &*strange], &known[..]].concat(),
            "does not answer as the query API of Prometheus does",
        ),
        ([&["--query-url", &*refusing], &known[..]].concat(), "too many"),
        (vec!["--query-url", &*dead], "cannot be asked"),
        (vec!["--query-url", &*url, "--query-token-file", absent.to_str().unwrap()], "No such file"),
        (
            vec!["--query-url", &*url, "--query-ca-file", token.to_str().unwrap()],
            "no certificate in PEM format",
        ),
    ] {
        let failed = verify(&flags);
        assert!(failed.code == 3 && failed.stderr.contains(why), "{flags:?}: {failed:?}");
        assert!(failed.stderr.contains("--query-"), "{failed:?}");
    }
}

/// Clears a terminal that obeys it.
const ESC: &str = "\u{1b}[2J";

#[tokio::test(flavor = "multi_thread")]
async fn no_escape_leaves_the_program_whoever_wrote_it() {
    let plane = ControlPlane::start(None).await;
    plane.api.create_namespace(&json!({"metadata": {"name": "shop"}})).await;
    let reason = format!("Crash{ESC}LoopBackOff");
    injected(&plane, "web", "Running", &json!({"waiting": {"reason": reason}})).await;
    let mut skipped = asking_pod("skipped");
    skipped["metadata"]["labels"] = json!({(names::INJECTED): "false"});
    skipped["metadata"]["annotations"] = json!({(names::SKIPPED): format!("{ESC}: {ESC}")});
    plane.api.create(&pods("shop"), &skipped).await;

    let directory = plane.directory("escapes");
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let token = file("token", "secret\n");
    let answers = answering(StatusCode::OK, r#"{"status": "success", "data": {"result": []}}"#).await;
    let refuses =
        answering(StatusCode::UNPROCESSABLE_ENTITY, r#"{"status": "error", "error": "\u001b[2J too many"}"#)
            .await;
    let verify = |url: &str| {
        let asked = ["verify", "-n", "shop", "--query-url", url, "--query-token-file", &token];
        [&asked[..], &["--query-header", "X-Scope-OrgID: team-a"]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let pod = |annotations: &Value| {
        let metadata = json!({"name": format!("web{ESC}"), "annotations": annotations});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})
            .to_string()
    };
    let no_text = file("no-text.json", &pod(&json!({format!("{}{ESC}", names::PREFIX): 7})));
    let nobody = file("nobody.json", &pod(&json!({(names::INJECT): format!("one{ESC}")})));
    let broken = file("broken.yaml", &format!("kind: [Pod{ESC}\n"));
    let of = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
    for (arguments, code, part) in [
        (verify(&answers), 1, "web: its agent does not run: Crash [2JLoopBackOff; template shop/shop\n"),
        (verify(&refuses), 3, ":  [2J too many\n"),
        (of(&["status", "-n", "shop"]), 1, "shop: 1 pod that asks has no agent:  [2J\n"),
        (
            of(&["inject", "-t", "examples", "-f", &no_text]),
            1,
            "/ [2J is 7, which is no text; put it in quotes\n",
        ),
        (
            of(&["diff", "-t", "examples", "-f", &no_text]),
            1,
            "/ [2J is 7, which is no text; put it in quotes\n",
        ),
        (of(&["inject", "-t", "examples", "-f", &nobody]), 1, "invalid-annotation: "),
        (of(&["explain", "-t", "examples", "-f", &nobody]), 1, "Pod/web [2J in default\n"),
        (of(&["lint", "-t", "examples", "-f", &nobody]), 1, "Pod web [2J"),
        (of(&["explain", "-t", "examples", "-f", &broken]), 3, "broken.yaml: document 1: "),
        (of(&["explain", "-f", &format!("{ESC}.yaml")]), 3, "promsidecar:  [2J.yaml: no such file"),
        (of(&["explain", &format!("windows{ESC}")]), 2, "did you mean windows?"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let printed = ask(&plane, "admin", &arguments);
        let all = format!("{}{}", printed.stdout, printed.stderr);
        assert!(!all.contains('\u{1b}'), "{arguments:?}: {all:?}");
        assert!(printed.code == code && all.contains(part), "{arguments:?}: {printed:?}");
    }
}
