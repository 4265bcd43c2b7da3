//! Routes of the webhook: HTTP in, [`Answer`] out as HTTP. IO: reads bodies.
//!
//! Input: requests of the API server. Output: 200 with a review, 500 where the failure policy has to decide, 400 for what
//! is no review, and what each limit answers. The query `?timeout=` is a hint rounded up to whole seconds and is ignored.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};
use tower_http::set_header::SetResponseHeaderLayer;

use super::Admit;
use super::cold::ColdCache;
use super::config::Limits;
use super::refusals::Refusals;
use crate::admission::Answer;
use crate::admission::entry::Entry;
use crate::metrics::{Limit, Metrics};
use crate::shutdown::{Phase, Shutdown, panic_message};

/// Paths that answer reviews: one for each entry of the registration, by who asks (`namespace`, `pod`) and by who requires
/// the agent (`ns`, `pod`, `no`one), and a plain one.
pub const PATHS: [&str; 7] = [
    "/mutate",
    Entry::NamespaceNs.path(),
    Entry::NamespacePod.path(),
    Entry::NamespaceNo.path(),
    Entry::PodNs.path(),
    Entry::PodPod.path(),
    Entry::PodNo.path(),
];

struct App {
    admit: Arc<dyn Admit>,
    metrics: Arc<Metrics>,
    limits: Limits,
    in_flight: Semaphore,
    /// Bytes that bodies may still take.
    buffered: Semaphore,
    refusals: Refusals,
    cold: ColdCache,
}

/// The routes. Responses close their connection once `shutdown` drains: the API server would otherwise keep using it.
pub fn router(admit: Arc<dyn Admit>, metrics: Arc<Metrics>, limits: Limits, shutdown: Shutdown) -> Router {
    let on_panic = CountPanic(Arc::clone(&metrics));
    let in_flight = Semaphore::new(limits.max_in_flight);
    let buffered = Semaphore::new(limits.max_buffered);
    let app = Arc::new(App {
        admit,
        metrics,
        limits,
        in_flight,
        buffered,
        refusals: Refusals::default(),
        cold: ColdCache::default(),
    });
    let routes = PATHS.iter().fold(Router::new(), |router, path| router.route(path, post(mutate)));
    // Looked at after the handler: a drain that began meanwhile closes this connection already.
    let close_while_draining = move |_: &Response<_>| {
        (shutdown.phase() > Phase::Serving).then_some(const { HeaderValue::from_static("close") })
    };
    let closing = SetResponseHeaderLayer::overriding(CONNECTION, close_while_draining);
    // As one layer, first one outermost: each that is added to a router is a box and a call more for every request.
    routes.with_state(app).layer((closing, CatchPanicLayer::custom(on_panic)))
}

/// Anything but an answer to a review, as text.
type Refused = (StatusCode, String);

async fn mutate(State(app): State<Arc<App>>, request: Request) -> Response {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        let text = "Content-Type must be application/json".to_owned();
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    let Ok(_permit) = app.in_flight.try_acquire() else {
        app.metrics.rejected(Limit::InFlight);
        // At once and without Retry-After, which would make the API server wait and try again within its timeout.
        return (StatusCode::SERVICE_UNAVAILABLE, "too many reviews in flight".to_owned()).into_response();
    };
    let _in_flight = app.metrics.in_flight();
    match app.read(&head.headers, body).await {
        Ok((body, _held)) => {
            let response = app.answer(&body, head.uri.path()).await;
            app.metrics.took(start.elapsed());
            response
        }
        Err(refused) => refused.into_response(),
    }
}

impl App {
    /// The body and what it takes of the memory for bodies.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(Vec<u8>, SemaphorePermit<'_>), Refused> {
        let declared =
            headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > self.limits.max_body) {
            return Err(self.too_large());
        }
        let collected = self.collect(declared.unwrap_or(self.limits.max_body), body);
        tokio::time::timeout(self.limits.body, collected).await.unwrap_or_else(|_elapsed| {
            self.metrics.rejected(Limit::BodyTime);
            let text = format!("the body took longer than {:?}", self.limits.body);
            Err((StatusCode::REQUEST_TIMEOUT, text))
        })
    }

    /// What the buffer grows by is paid for before it is allocated: as bytes come, so that none are held for those who only
    /// announce them. `most`: what the buffer may end with, the declared length if there is one.
    async fn collect(&self, most: usize, mut body: Body) -> Result<(Vec<u8>, SemaphorePermit<'_>), Refused> {
        let take = |bytes: usize| {
            self.buffered.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(|_| {
                self.metrics.rejected(Limit::BodyMemory);
                (StatusCode::SERVICE_UNAVAILABLE, "too many bytes of reviews in flight".to_owned())
            })
        };
        let mut held = take(0)?;
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))?;
            // Trailers say nothing that counts here.
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > self.limits.max_body {
                return Err(self.too_large());
            }
            if length > bytes.capacity() {
                // Twice as much, so that a body in tiny pieces is not copied for each.
                let capacity = length.max((2 * bytes.capacity()).min(most));
                held.merge(take(capacity - bytes.capacity())?);
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes, held))
    }

    fn too_large(&self) -> Refused {
        self.metrics.rejected(Limit::BodySize);
        let text = format!("the body is larger than {} bytes", self.limits.max_body);
        (StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    async fn answer(&self, body: &[u8], path: &str) -> Response {
        let entry = Entry::of_path(path);
        let decide = || self.admit.admit(entry, body);
        let mut answer = decide();
        if answer.missing().is_some()
            && let Some(changes) = self.admit.changes()
        {
            answer = self.cold.wait(answer, changes, &self.metrics, decide).await;
        }
        self.metrics.review(&answer);
        match answer {
            Answer::Reviewed { body, outcome } => {
                self.refusals.log(&outcome, Instant::now());
                ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
            }
            Answer::Failed { message, outcome } => {
                self.refusals.log(&outcome, Instant::now());
                (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
            }
            Answer::Unreadable { message } => {
                // The message may quote the body, so it goes to the caller alone.
                tracing::debug!(bytes = body.len(), "unreadable review");
                (StatusCode::BAD_REQUEST, message).into_response()
            }
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Answers 500 for a panic, so that the failure policy decides, and counts it; the hook has logged it.
#[derive(Clone)]
struct CountPanic(Arc<Metrics>);

impl ResponseForPanic for CountPanic {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, payload: Box<dyn Any + Send + 'static>) -> Response<Body> {
        self.0.panic();
        tracing::error!(message = panic_message(payload.as_ref()), "review panicked");
        (StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
    }
}
