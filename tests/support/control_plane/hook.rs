//! A webhook in the test process: the API server calls it, a function answers, every call is kept.
//!
//! Input: a function from path and body to status and body. Output: address and CA for a registration, and the calls.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum_server::tls_rustls::RustlsConfig;
use promsidecar::metrics::Metrics;
use promsidecar::webhook::certificate::Authority;
use promsidecar::webhook::tls::{Keeper, Slot, Source, server_config};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::apply;

/// Pods of this name only find out whether a registration is in force; they are not kept as calls.
pub(crate) const PROBE: &str = "probe";

/// One call and what was answered.
#[derive(Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) path: String,
    /// The review as it came.
    pub(crate) body: Bytes,
    pub(crate) review: Value,
    pub(crate) status: u16,
    pub(crate) answer: Value,
}

impl Call {
    /// A member of the request.
    pub(crate) fn request(&self, key: &str) -> &Value {
        &self.review["request"][key]
    }

    /// The pod that was asked about.
    pub(crate) fn pod(&self) -> &Value {
        self.request("object")
    }

    /// Its name, or what its name will begin with.
    pub(crate) fn pod_name(&self) -> &str {
        let metadata = &self.pod()["metadata"];
        metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default()
    }

    /// The pod with the answer's patch, or as it was.
    pub(crate) fn patched(&self) -> Value {
        let answer = serde_json::to_vec(&self.answer).unwrap();
        crate::support::patched(self.pod(), &answer).unwrap_or_else(|| self.pod().clone())
    }
}

impl fmt::Debug for Call {
    /// Who was asked about what and what came of it; whole reviews would bury what a failed test has to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, status, .. } = self;
        let (namespace, name) = (self.request("namespace"), self.pod_name());
        let patched = if self.answer["response"]["patch"].is_null() { "not patched" } else { "patched" };
        let told = [&self.answer["response"]["auditAnnotations"], &self.answer["response"]["warnings"]];
        write!(f, "{path} {namespace}/{name}: {status}, {patched}, {told:?}")
    }
}

/// What a hook was asked.
#[derive(Debug, Default)]
struct Seen {
    calls: Vec<Call>,
    probes: usize,
}

/// A webhook that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Hook {
    address: SocketAddr,
    pub(crate) ca: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Hook {
    /// Answers with whatever `answer` makes of path and body.
    pub(crate) fn start<A, F>(answer: A) -> Self
    where
        A: Fn(String, Bytes) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = (u16, Vec<u8>)> + Send,
    {
        let seen = Arc::<Mutex<Seen>>::default();
        let kept = Arc::clone(&seen);
        let handler = move |uri: Uri, body: Bytes| {
            let (answer, seen) = (answer.clone(), Arc::clone(&kept));
            async move {
                let path = uri.path().to_owned();
                let (status, text) = answer(path.clone(), body.clone()).await;
                let review: Value = serde_json::from_slice(&body).unwrap_or_default();
                if review["request"]["name"] == PROBE {
                    locked(&seen).probes += 1;
                } else {
                    let answer = serde_json::from_slice(&text).unwrap_or_default();
                    locked(&seen).calls.push(Call { path, body, review, status, answer });
                }
                (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, "application/json")], text)
            }
        };
        let router = Router::new().fallback(handler).layer(DefaultBodyLimit::disable());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ca, tls) = tls();
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        let task = tokio::spawn(server.serve(router.into_make_service()));
        Self { address, ca, seen, task }
    }

    /// Adds to each pod what `operations` makes of it: RFC 6902, none for no patch.
    pub(crate) fn patching(
        operations: impl Fn(&Value) -> Vec<Value> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |_, body| {
            let review: Value = serde_json::from_slice(&body).unwrap();
            let operations = operations(&review["request"]["object"]);
            async move {
                let uid = &review["request"]["uid"];
                let mut response = json!({"uid": uid, "allowed": true});
                if !operations.is_empty() {
                    let patch = serde_json::to_vec(&operations).unwrap();
                    // A patch that does not apply would only show as a rejected pod.
                    apply(&review["request"]["object"], &patch);
                    response["patchType"] = json!("JSONPatch");
                    response["patch"] =
                        json!(base64::Engine::encode(&base64::prelude::BASE64_STANDARD, patch));
                }
                let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
                (200, serde_json::to_vec(&answer).unwrap())
            }
        })
    }

    /// For a registration.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        locked(&self.seen).calls.clone()
    }

    /// The calls so far for pods whose name begins like this.
    pub(crate) fn calls_for(&self, name: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.pod_name().starts_with(name)).collect()
    }

    /// How many calls there were for pods named [`PROBE`].
    pub(crate) fn probes(&self) -> usize {
        locked(&self.seen).probes
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new authority's certificate, and a certificate of its own for the loopback address.
fn tls() -> (String, RustlsConfig) {
    let authority = Authority::new(SystemTime::now()).unwrap();
    let ca = authority.pem().to_owned();
    let slot = Arc::new(Slot::default());
    let source = Source::Own { authority: Box::new(authority), names: vec!["127.0.0.1".to_owned()] };
    Keeper::new(source, Arc::clone(&slot), Arc::new(Metrics::default())).refresh(SystemTime::now());
    (ca, RustlsConfig::from_config(Arc::new(server_config(slot).unwrap())))
}
