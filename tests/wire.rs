//! HTTP/1.1 as strange, slow, broken and hostile clients speak it: each gets its answer or is cut, and nobody else notices.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "support/https.rs"]
#[expect(dead_code, reason = "each test uses its own part")]
mod support;

use std::fmt::Write;
use std::time::Duration;

use promsidecar::admission::Answer;
use promsidecar::webhook::config::Limits;
use support::{Server, get, head, patient, read_all, reviewed, soon, status, tls, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn echo(body: &[u8]) -> Answer {
    reviewed(body)
}

/// A head with further lines, each ended by CRLF.
fn head_with(lines: &str) -> String {
    format!("POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n")
}

/// What comes back on a new connection until the server closes it.
async fn answer(server: &Server, request: &[u8]) -> String {
    let mut stream = server.connect().await;
    // The server may close before it has read everything.
    let _ = soon(stream.write_all(request)).await;
    read_all(&mut stream).await
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_within_the_deadlines_is_answered() {
    let server = Server::start(echo, patient());
    let mut stream = server.connect().await;
    let request = [head_with("Content-Length: 4\r\nConnection: close\r\n").as_bytes(), b"body"].concat();
    for byte in request {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let answer = read_all(&mut stream).await;
    assert_eq!((status(&answer), answer.ends_with("\r\n\r\nbody")), (200, true), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_each_answered_once_and_in_order() {
    let server = Server::start(echo, patient());
    let mut requests = String::new();
    for index in 0..1000 {
        let last = if index == 999 { "Connection: close\r\n" } else { "" };
        let head = head_with(&format!("Content-Length: 5\r\n{last}"));
        write!(requests, "{head}<{index:03}>").unwrap();
    }
    let stream = server.connect().await;
    let (mut from, mut to) = tokio::io::split(stream);
    let writing = tokio::spawn(async move { to.write_all(requests.as_bytes()).await });
    let answers = read_all(&mut from).await;
    soon(writing).await.unwrap().unwrap();
    let bodies: Vec<&str> = answers.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
    let expected: Vec<String> = (0..1000).map(|index| format!("{index:03}")).collect();
    assert_eq!(bodies, expected);
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 1000);
}

#[tokio::test]
async fn who_expects_100_gets_it_before_the_body_or_the_refusal_instead() {
    let server = Server::start(echo, Limits { max_body: 10, ..patient() });
    let mut stream = server.connect().await;
    let expecting = head_with("Content-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n");
    stream.write_all(expecting.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    soon(stream.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!((status(&answer), answer.ends_with("\r\n\r\nbody")), (200, true), "{answer}");

    let mut stream = server.connect().await;
    let expecting = head_with("Content-Length: 11\r\nExpect: 100-continue\r\n");
    stream.write_all(expecting.as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 413);
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_and_its_connection_closed() {
    let server = Server::start(echo, patient());
    let request = "POST /mutate HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let answer = answer(&server, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\n{}"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_what_is_too_much_too() {
    let server = Server::start(echo, patient());
    let many = (0..200).fold(String::new(), |mut text, index| {
        write!(text, "X-{index}: x\r\n").unwrap();
        text
    });
    let long = format!("X: {}\r\n", "x".repeat(200_000));
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n");
    let path = line(&format!("POST /{} HTTP/1.1", "x".repeat(100_000)));
    for (case, request, expected) in [
        ("many headers", head_with(&many), 431),
        ("a long header", head_with(&long), 431),
        ("a long path", path, 414),
        ("two lengths", head_with("Content-Length: 2\r\nContent-Length: 3\r\n") + "{}", 400),
        ("no length", head_with("Content-Length: two\r\n"), 400),
        ("a negative length", head_with("Content-Length: -2\r\n"), 400),
        ("a length beyond 64 bits", head_with("Content-Length: 99999999999999999999\r\n"), 400),
        ("a foreign coding", head_with("Transfer-Encoding: gzip\r\n") + "{}", 400),
        ("a chunk without size", head_with("Transfer-Encoding: chunked\r\n") + "x\r\n{}\r\n0\r\n\r\n", 400),
        (
            "a chunk beyond 64 bits",
            head_with("Transfer-Encoding: chunked\r\n") + "fffffffffffffffff\r\n",
            400,
        ),
        ("a folded header", head_with("X: a\r\n b\r\n"), 400),
        ("a NUL", head_with("X: \0\r\n"), 400),
        ("a nameless header", head_with(": x\r\n"), 400),
        ("no method", line("/mutate HTTP/1.1"), 400),
        ("a later version", line("POST /mutate HTTP/9.9"), 400),
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(status(&answer(&server, request.as_bytes()).await), expected, "{case}");
        assert_eq!(server.client().await.post(b"{}").await.status(), 200, "after {case}");
    }
    // The preface of HTTP/2, which the handshake did not agree on.
    let preface = answer(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(preface.is_empty() || status(&preface) == 400, "{preface}");
}

#[tokio::test]
async fn of_two_framings_the_chunks_count_and_what_follows_is_no_second_request() {
    let server = Server::start(echo, patient());
    let both = head_with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + "2\r\n{}\r\n0\r\n\r\n";
    let answer = answer(&server, [both.as_bytes(), &head(2), b"[]"].concat().as_slice()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!((status(&answer), answer.ends_with("\r\n\r\n{}")), (200, true), "{answer}");
}

#[tokio::test]
async fn a_body_in_tiny_chunks_with_extensions_and_trailers_is_read_up_to_the_cap() {
    let server = Server::start(echo, Limits { max_body: 5000, ..patient() });
    let chunked = head_with("Transfer-Encoding: chunked\r\nConnection: close\r\n");
    let body =
        |chunks: usize| format!("{chunked}{}0\r\nX-Trailer: x\r\n\r\n", "1;x=y\r\n \r\n".repeat(chunks));
    assert_eq!(status(&answer(&server, body(1000).as_bytes()).await), 200);
    assert_eq!(status(&answer(&server, body(5001).as_bytes()).await), 413);
}

#[tokio::test]
async fn bodies_together_take_bounded_memory_and_the_one_too_many_is_answered_503_at_once() {
    let server = Server::start(echo, Limits { max_body: 1000, max_buffered: 1100, ..patient() });
    let mut held = server.connect().await;
    held.write_all(&head(1000)).await.unwrap();
    server.metric("promsidecar_admission_in_flight 1").await;
    // What is only announced takes nothing from others.
    assert_eq!(server.client().await.post(&[b' '; 1000]).await.status(), 200);
    held.write_all(&[b' '; 999]).await.unwrap();
    until("the bytes that are left are too few", || async {
        server.client().await.post(&[b' '; 102]).await.status() == 503
    })
    .await;
    assert_eq!(server.client().await.post(&[b' '; 100]).await.status(), 200);
    held.write_all(b" ").await.unwrap();
    server.metric("promsidecar_admission_in_flight 0").await;
    assert_eq!(server.client().await.post(&[b' '; 1000]).await.status(), 200);
    server.metric("promsidecar_admission_rejected_total{limit=\"body-memory\"} 1").await;
}

#[tokio::test]
async fn a_body_of_no_declared_length_counts_with_what_its_buffer_takes() {
    let server = Server::start(echo, Limits { max_body: 1000, max_buffered: 1000, ..patient() });
    let mut held = server.connect().await;
    let pieces = format!("258\r\n{}\r\n1\r\n \r\n", " ".repeat(600));
    let chunked = head_with("Transfer-Encoding: chunked\r\n");
    held.write_all(format!("{chunked}{pieces}").as_bytes()).await.unwrap();
    until("601 bytes that stand in a buffer of 1000 leave no byte", || async {
        server.client().await.post(b" ").await.status() == 503
    })
    .await;
    held.write_all(b"0\r\n\r\n").await.unwrap();
    server.metric("promsidecar_admission_in_flight 0").await;
    assert_eq!(server.client().await.post(&[b' '; 1000]).await.status(), 200);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_a_body_that_never_comes() {
    let server = Server::start(echo, patient());
    for (request, expected) in [
        ("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", 404),
        ("POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", 415),
        ("PUT /mutate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 405),
    ] {
        assert_eq!(status(&answer(&server, request.as_bytes()).await), expected);
    }
}

#[tokio::test]
async fn the_wrong_protocol_on_either_port_is_closed() {
    let server = Server::start(echo, patient());
    let mut plain = TcpStream::connect(server.webhook).await.unwrap();
    plain.write_all(&[&head(2)[..], b"{}"].concat()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = soon(plain.read_to_end(&mut bytes)).await;
    // A TLS alert, or nothing.
    assert!(bytes.is_empty() || bytes.starts_with(&[0x15, 0x03]), "{bytes:?}");
    assert!(tls(server.admin, "localhost", &server.ca).await.is_err());
    assert_eq!(server.client().await.post(b"{}").await.status(), 200);
    assert_eq!(get(server.admin, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_client_that_closes_in_the_middle_costs_nothing() {
    let server = Server::start(echo, patient());
    let request = [&head(2)[..], b"{}"].concat();
    for cut in [0, 1, 20, request.len() - 2, request.len() - 1, request.len()] {
        let mut stream = server.connect().await;
        stream.write_all(&request[..cut]).await.unwrap();
        drop(stream);
    }
    server.metric("promsidecar_admission_in_flight 0").await;
    assert_eq!(server.client().await.post(b"{}").await.status(), 200);
}

/// More than the sockets of both sides buffer.
const LARGE: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_slow_reader_gets_the_whole_answer() {
    let server = Server::start(|_: &[u8]| reviewed(vec![b'x'; LARGE]), patient());
    let mut stream = server.connect().await;
    stream.write_all(head_with("Content-Length: 0\r\nConnection: close\r\n").as_bytes()).await.unwrap();
    // The server is held up before the first byte is read.
    server.metric("promsidecar_admission_duration_seconds_count 1").await;
    let (mut length, mut piece) = (0, vec![0; 100_000]);
    loop {
        match soon(stream.read(&mut piece)).await.unwrap() {
            0 => break,
            read => length += read,
        }
        tokio::task::yield_now().await;
    }
    assert!((LARGE..LARGE + 1000).contains(&length), "{length}");
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_and_its_permit_comes_back() {
    let limits = Limits { max_connections: 1, write: Duration::from_millis(200), ..patient() };
    let server = Server::start(|_: &[u8]| reviewed(vec![b'x'; LARGE]), limits);
    let mut greedy = server.connect().await;
    greedy.write_all(&[head(0), head(0)].concat()).await.unwrap();
    server.metric("promsidecar_admission_rejected_total{limit=\"write-time\"} 1").await;
    until("the permit comes back", || async { tls(server.webhook, "localhost", &server.ca).await.is_ok() })
        .await;
    server.metric("promsidecar_admission_rejected_total{limit=\"write-time\"} 1").await;
}
