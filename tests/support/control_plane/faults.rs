//! An API server that fails as it is told to: a proxy before the real one.
//!
//! Input: a control plane. Output: a kubeconfig that leads through the proxy; each request goes through a rule.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::ControlPlane;
use super::https::tls_offering;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// It is passed on.
    None,
    /// It is answered so, and not passed on; 429 says when to come again.
    Answer(u16),
    /// A watch begins well and ends with the error that its version is too old.
    Expired,
    /// No answer comes, and it is not passed on.
    Lost,
    /// It is passed on, and no answer comes.
    AnswerLost,
}

/// A request, as rules see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    /// Whether it changes anything but the Lease.
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET" && !self.path.contains("/leases")
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Fault + Send>;

/// The proxy; it goes with the test.
pub(crate) struct Faults {
    pub(crate) kubeconfig: PathBuf,
    rule: Arc<Mutex<Rule>>,
    log: Arc<Mutex<Vec<(Asked, Fault)>>>,
}

impl Faults {
    /// One that passes everything on.
    pub(crate) async fn before(plane: &ControlPlane, name: &str) -> Self {
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let log: Arc<Mutex<Vec<(Asked, Fault)>>> = Arc::default();
        let (rules, requests) = (Arc::clone(&rule), Arc::clone(&log));
        let (server, ca) = (plane.api.address, plane.api.ca.clone());
        let answer = move |request: Request| {
            let asked = Asked { method: request.method().to_string(), path: request.uri().to_string() };
            let fault = rules.lock().unwrap()(&asked);
            // One whose answer is lost stands in the log once it has arrived.
            if fault != Fault::AnswerLost {
                requests.lock().unwrap().push((asked.clone(), fault.clone()));
            }
            let (ca, requests) = (ca.clone(), Arc::clone(&requests));
            async move {
                match fault {
                    Fault::None => forward(server, &ca, request).await,
                    Fault::Answer(code) => failure(code),
                    Fault::Expired => expired(),
                    Fault::Lost => std::future::pending().await,
                    Fault::AnswerLost => {
                        drop(forward(server, &ca, request).await);
                        requests.lock().unwrap().push((asked, fault));
                        std::future::pending().await
                    }
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let text = std::fs::read_to_string(plane.kubeconfig("admin")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["clusters"][0]["cluster"] = json!({"server": format!("http://{address}")});
        let kubeconfig = plane.directory(name).join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig, rule, log }
    }

    /// From now on requests go through this rule; what went before is forgotten.
    pub(crate) fn set(&self, rule: impl FnMut(&Asked) -> Fault + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
        self.log.lock().unwrap().clear();
    }

    /// Requests under this rule, and what became of them.
    pub(crate) fn log(&self) -> Vec<(Asked, Fault)> {
        self.log.lock().unwrap().clone()
    }
}

async fn forward(server: std::net::SocketAddr, ca: &str, mut request: Request) -> Response {
    let Ok(stream) = tls_offering(&["http/1.1"], server, "127.0.0.1", ca).await else {
        return failure(502);
    };
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
        return failure(502);
    };
    tokio::spawn(connection);
    let path = request.uri().path_and_query().unwrap().as_str().parse::<Uri>().unwrap();
    *request.uri_mut() = path;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    match sender.send_request(request).await {
        Ok(response) => response.map(Body::new),
        Err(_) => failure(502),
    }
}

fn status(code: u16) -> Value {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "made to fail", "reason": reason,
        "code": code,
    })
}

fn failure(code: u16) -> Response {
    let mut response = (StatusCode::from_u16(code).unwrap(), status(code).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == 429 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn expired() -> Response {
    let line = format!("{}\n", json!({"type": "ERROR", "object": status(410)}));
    ([(header::CONTENT_TYPE, "application/json")], line).into_response()
}
