//! The webhook over real sockets: TLS, HTTP, limits, drain and the process itself.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/program.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod program;
#[path = "support/https.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use program::{Program, webhook};
use promsidecar::admission::Answer;
use promsidecar::shutdown::Phase;
use promsidecar::store::Store;
use promsidecar::store::files::FileStore;
use promsidecar::template::Settings;
use promsidecar::webhook::config::Limits;
use promsidecar::webhook::router::PATHS;
use support::{Client, Server, get, head, patient, read_all, reviewed, soon, status, tls, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn echo(body: &[u8]) -> Answer {
    reviewed(body)
}

#[tokio::test]
async fn reviews_are_answered_over_http_1_on_one_kept_connection() {
    let server = Server::start(echo, Limits::default());
    let stream = server.connect().await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = Client::new(stream).await;
    for body in [&b"{}"[..], " ".repeat(100_000).as_bytes()] {
        let response = client.post(body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers().get("connection"), None);
        assert_eq!(response.body(), body);
    }
    for path in PATHS {
        let response =
            client.send("POST", path, &["content-type: application/json; charset=utf-8"], b"{}").await;
        assert_eq!(response.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn each_kind_of_answer_has_its_status() {
    let server = Server::start(
        |body: &[u8]| match body {
            b"unreadable" => Answer::Unreadable { message: "no review".to_owned() },
            b"failed" => {
                let Answer::Reviewed { outcome, .. } = reviewed("") else { unreachable!() };
                Answer::Failed { message: "no proof".to_owned(), outcome }
            }
            _ => reviewed("{}"),
        },
        Limits::default(),
    );
    let mut client = server.client().await;
    for (body, status, text) in
        [("unreadable", 400, "no review"), ("failed", 500, "no proof"), ("other", 200, "{}")]
    {
        let response = client.post(body.as_bytes()).await;
        assert_eq!((response.status().as_u16(), &response.body()[..]), (status, text.as_bytes()), "{body}");
    }
    let json = "content-type: application/json";
    for (method, path, headers, status) in [
        ("GET", "/mutate", &[json][..], 405),
        ("PUT", "/mutate/pod/no", &[json], 405),
        ("POST", "/", &[json], 404),
        ("POST", "/mutate/pod", &[json], 404),
        ("POST", "/mutate/pod/no/more", &[json], 404),
        ("POST", "/metrics", &[json], 404),
        ("POST", "/mutate", &[], 415),
        ("POST", "/mutate", &["content-type: application/yaml"], 415),
    ] {
        let response = client.send(method, path, headers, b"{}").await;
        assert_eq!(response.status(), status, "{method} {path} {headers:?}");
    }
}

#[tokio::test]
async fn bodies_above_the_cap_are_refused_declared_or_not() {
    let limits = Limits { max_body: 1000, ..Limits::default() };
    let server = Server::start(echo, limits);
    assert_eq!(server.client().await.post(&[b' '; 1000]).await.status(), 200);

    // Declared: answered from the head alone.
    let mut stream = server.connect().await;
    stream.write_all(&head(1001)).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 413);

    // Undeclared: answered when the cap is passed, without waiting for the end.
    let mut stream = server.connect().await;
    let chunked = "POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{chunked}3e9\r\n{}\r\n", " ".repeat(1001));
    stream.write_all(chunk.as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 413);
    server.metric("promsidecar_admission_rejected_total{limit=\"body-size\"} 2").await;
    assert_eq!(Limits::default().max_body, 7 * 1024 * 1024);
}

#[tokio::test]
async fn a_panic_costs_one_answer_and_nothing_else() {
    let server = Server::start(
        |body: &[u8]| if body == b"bug" { panic!("a bug") } else { reviewed(body) },
        Limits { max_in_flight: 1, ..Limits::default() },
    );
    let mut client = server.client().await;
    for _ in 0..3 {
        assert_eq!(client.post(b"bug").await.status(), 500);
        assert_eq!(client.post(b"{}").await.status(), 200);
    }
    server
        .metric("promsidecar_admission_reviews_total{outcome=\"failed\",reason=\"internal-error\"} 3")
        .await;
    server.metric("promsidecar_admission_in_flight 0").await;
}

#[tokio::test]
async fn above_the_in_flight_bound_the_answer_is_503_at_once_without_retry_after() {
    let limits = Limits { max_in_flight: 1, ..patient() };
    let server = Server::start(echo, limits);
    let mut first = server.connect().await;
    first.write_all(&head(4)).await.unwrap();
    first.write_all(b"ab").await.unwrap();
    server.metric("promsidecar_admission_in_flight 1").await;

    let response = server.client().await.post(b"{}").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers().get("retry-after"), None);
    server.metric("promsidecar_admission_rejected_total{limit=\"in-flight\"} 1").await;

    server.shutdown.drain();
    first.write_all(b"cd").await.unwrap();
    let answered = read_all(&mut first).await;
    assert_eq!(status(&answered), 200);
    assert!(answered.ends_with("\r\n\r\nabcd"), "{answered}");
    assert_eq!(server.client().await.post(b"{}").await.status(), 200);
}

#[tokio::test]
async fn above_the_bound_on_connections_one_is_closed_at_once_and_permits_come_back() {
    let limits = Limits { max_connections: 1, ..patient() };
    let server = Server::start(echo, limits);
    // Not even a handshake: the socket counts.
    let held = TcpStream::connect(server.webhook).await.unwrap();
    until("a connection above the bound is closed", || async {
        tls(server.webhook, "localhost", &server.ca).await.is_err()
    })
    .await;
    drop(held);
    until("the permit comes back", || async { tls(server.webhook, "localhost", &server.ca).await.is_ok() })
        .await;
}

#[tokio::test]
async fn slow_clients_are_cut_in_every_phase() {
    // One short deadline a server: what a slow machine does in the other phases is no part of this.
    let short = Duration::from_millis(200);
    let server = Server::start(echo, Limits { handshake: short, ..patient() });
    let mut silent = TcpStream::connect(server.webhook).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");

    let server = Server::start(echo, Limits { header: short, ..patient() });
    let mut without_head = server.connect().await;
    without_head.write_all(b"POST /mutate HTTP/1.1\r\nHost: ").await.unwrap();
    assert_eq!(read_all(&mut without_head).await, "");

    let server = Server::start(echo, Limits { body: short, ..patient() });
    let mut without_body = server.connect().await;
    without_body.write_all(&head(100)).await.unwrap();
    assert_eq!(status(&read_all(&mut without_body).await), 408);
    server.metric("promsidecar_admission_rejected_total{limit=\"body-time\"} 1").await;
    server.metric("promsidecar_admission_in_flight 0").await;
}

#[tokio::test]
async fn a_connection_is_kept_longer_than_the_api_server_keeps_it() {
    assert!(Limits::default().idle > Duration::from_secs(90));
    // The deadline of the first head must not end a connection that idles afterwards.
    let header = Duration::from_secs(2);
    let server = Server::start(echo, Limits { header, ..patient() });
    let mut client = server.client().await;
    assert_eq!(client.post(b"{}").await.status(), 200);
    tokio::time::sleep(header * 3 / 2).await;
    assert_eq!(client.post(b"{}").await.status(), 200);
}

#[tokio::test]
async fn a_drain_is_seen_on_readyz_and_in_every_response_and_finishes_what_is_in_flight() {
    let limits = Limits { stop: support::PATIENCE, ..patient() };
    let server = Server::start(echo, limits);
    assert_eq!(server.admin("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(server.admin("/readyz").await, (200, "ok\n".to_owned()));
    let mut kept = server.client().await;
    assert_eq!(kept.post(b"{}").await.headers().get("connection"), None);
    let mut in_flight = server.connect().await;
    in_flight.write_all(&head(2)).await.unwrap();
    server.metric("promsidecar_admission_in_flight 1").await;

    server.shutdown.drain();
    assert_eq!(server.admin("/readyz").await, (503, "not ready: draining\n".to_owned()));
    assert_eq!(server.admin("/livez").await, (200, "ok\n".to_owned()));
    // Connections from before and new ones are still served, and told to go elsewhere.
    for mut client in [kept, server.client().await] {
        let response = client.post(b"{}").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["connection"]),
            (200, &"close".parse().unwrap())
        );
    }
    let refused = server.client().await.send("GET", "/", &[], b"").await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["connection"]),
        (404, &"close".parse().unwrap())
    );

    server.shutdown.stop();
    until("new connections are refused", || async { TcpStream::connect(server.webhook).await.is_err() })
        .await;
    assert_eq!(server.admin("/readyz").await.0, 503);
    in_flight.write_all(b"{}").await.unwrap();
    assert_eq!(status(&read_all(&mut in_flight).await), 200);
    soon(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_never_ends_is_cut_at_the_deadline_and_an_abort_waits_for_nothing() {
    for phase in [Phase::Stopping, Phase::Aborting] {
        let stop = if phase == Phase::Stopping { Duration::from_millis(100) } else { support::PATIENCE * 2 };
        let server = Server::start(echo, Limits { body: support::PATIENCE * 2, stop, ..Limits::default() });
        let mut in_flight = server.connect().await;
        in_flight.write_all(&head(2)).await.unwrap();
        server.metric("promsidecar_admission_in_flight 1").await;
        if phase == Phase::Stopping {
            server.shutdown.stop();
        } else {
            server.shutdown.abort();
        }
        soon(server.task).await.unwrap().unwrap();
        assert_eq!(read_all(&mut in_flight).await, "");
    }
}

#[tokio::test]
async fn the_admin_port_has_the_metrics_and_nothing_of_admission() {
    let server = Server::start(echo, Limits::default());
    server.client().await.post(b"{}").await;
    let (status, text) = server.admin("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "promsidecar_admission_reviews_total{outcome=\"injected\",reason=\"none\"} 1",
        "promsidecar_admission_duration_seconds_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
    let expiry =
        text.lines().find_map(|line| line.strip_prefix("promsidecar_certificate_expiry_timestamp_seconds "));
    assert!(expiry.unwrap().parse::<i64>().unwrap() > 1_700_000_000);
    assert_eq!(server.admin("/mutate").await.0, 404);
}

#[tokio::test]
async fn the_certificate_is_for_the_names_asked_for_and_no_other() {
    let server = Server::start(echo, Limits::default());
    for name in ["localhost", "127.0.0.1"] {
        tls(server.webhook, name, &server.ca).await.unwrap();
    }
    let error = tls(server.webhook, "example.test", &server.ca).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let other = Server::start(echo, Limits::default());
    let error = tls(server.webhook, "localhost", &other.ca).await.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_watched_directory_is_followed_and_a_broken_file_keeps_its_last_good_version() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let namespace = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let store = Arc::new(FileStore::new(directory.path().to_path_buf(), Settings::default()));
    let watch = tokio::spawn(Arc::clone(&store).watch(Duration::from_millis(5)));
    let knows = |name: &'static str| store.catalog().namespace(name).is_some();

    std::fs::write(&file, namespace("one")).unwrap();
    until("one is read", || async { knows("one") }).await;
    std::fs::write(&file, "kind: [").unwrap();
    until("the broken file is noticed", || async { !store.problems().is_empty() }).await;
    assert!(knows("one"));
    std::fs::write(&file, namespace("two")).unwrap();
    until("two is read", || async { knows("two") && !knows("one") }).await;
    assert_eq!(store.problems(), []);
    watch.abort();
}

#[tokio::test]
async fn the_program_writes_its_ca_serves_drains_on_sigterm_and_exits_0() {
    let directory = tempfile::tempdir().unwrap();
    let ca_out = directory.path().join("ca.crt");
    let flags = ["--dns-name=webhook.test", "--drain-time=100ms", "--ca-out", ca_out.to_str().unwrap()];
    let program = Program::start(&mut webhook(directory.path(), &flags));

    let ca = std::fs::read_to_string(&ca_out).unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----\n") && !ca.contains("KEY"), "{ca}");
    let files: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files, ["ca.crt"]);
    let mut client = Client::new(tls(program.webhook, "webhook.test", &ca).await.unwrap()).await;
    assert_eq!(client.post(b"no review").await.status(), 400);
    assert!(tls(program.webhook, "localhost", &ca).await.is_err());
    assert_eq!(get(program.admin, "/readyz").await, (200, "ok\n".to_owned()));

    program.signal("TERM");
    assert_eq!(program.ended().0, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once_whatever_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let ca_out = directory.path().join("ca.crt");
    let flags = ["--drain-time=60m", "--ca-out", ca_out.to_str().unwrap()];
    let program = Program::start(&mut webhook(directory.path(), &flags));
    let ca = std::fs::read_to_string(&ca_out).unwrap();
    let mut in_flight = tls(program.webhook, "localhost", &ca).await.unwrap();
    in_flight.write_all(&head(100)).await.unwrap();
    program.signal("INT");
    until("readyz is red", || async { get(program.admin, "/readyz").await.0 == 503 }).await;
    program.signal("TERM");
    let (code, log) = program.ended();
    assert_eq!(code, Some(1));
    assert!(log.iter().any(|line| line["message"] == "exiting at once"), "{log:?}");
    assert_eq!(read_all(&mut in_flight).await, "");
}
