//! Pods by their watch events: nothing that the API server told is missed, and each event has the time at which it came.
//!
//! Input: the API, and which pods. Output: the events, and what they say about readiness and restarts.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::Notify;

use crate::control_plane::api::Api;
use crate::control_plane::https::PATIENCE;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) kind: String,
    pub(crate) pod: Value,
}

impl Event {
    /// The condition `Ready`; a pod without it is not.
    pub(crate) fn is_ready(&self) -> bool {
        let conditions = self.pod["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
    }

    /// What is told about the containers, those of initialisation first.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Value> {
        let lists = ["initContainerStatuses", "containerStatuses"];
        lists.into_iter().filter_map(|list| self.pod["status"][list].as_array()).flatten()
    }

    /// What is told about one of them.
    pub(crate) fn container(&self, name: &str) -> Option<&Value> {
        self.containers().find(|container| container["name"] == name)
    }

    /// What a container that has ended left as its message.
    pub(crate) fn last_words(&self, container: &str) -> &str {
        let state = self.container(container).map(|it| &it["state"]["terminated"]);
        let words = state.and_then(|ended| ended["message"].as_str());
        words.unwrap_or_else(|| panic!("{container} left no last words: {}", self.line()))
    }

    /// Restarts of all containers.
    pub(crate) fn restarts(&self) -> u64 {
        self.containers().filter_map(|container| container["restartCount"].as_u64()).sum()
    }

    /// In a line, for a test that failed.
    fn line(&self) -> String {
        let mut line =
            format!("{} {} {}", self.kind, self.pod["metadata"]["name"], self.pod["status"]["phase"]);
        if self.is_ready() {
            line += " Ready";
        }
        for container in self.containers() {
            let state = container["state"].as_object().and_then(|state| state.iter().next());
            let (state, why) = state.map_or(("?", &Value::Null), |(state, more)| (state, &more["reason"]));
            write!(line, ", {} {state} {why} {}", container["name"], container["restartCount"])
                .expect("a string takes every write");
        }
        line
    }
}

/// A watch, from its start until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) began: Instant,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    what: String,
}

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    changed: Notify,
    over: Notify,
}

impl Watch {
    /// Watches the pods of a namespace with these labels, on a thread of its own in the network of the caller's, so that
    /// nothing that the test does delays a time.
    pub(crate) fn start(api: &Api, namespace: &str, selector: &str) -> Self {
        let shared = Arc::<Shared>::default();
        let what = format!("{namespace}, {selector}");
        let path = format!("/api/v1/namespaces/{namespace}/pods?watch=true&labelSelector={selector}");
        let follower = Follower {
            api: Api { address: api.address, ca: api.ca.clone(), token: api.token },
            path,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = follower.follow() => {}
                    () = follower.shared.over.notified() => {}
                }
            });
        });
        Self { began: Instant::now(), shared, thread, what }
    }

    /// The events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event that is as wanted, from the first on, and gives it.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        let looking = async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(event) = self.events().into_iter().find(|event| is(event)) {
                    return event;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(3 * PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("never: {what}\n{}", self.story()))
    }

    /// Waits until a pod is ready.
    pub(crate) async fn ready(&self) -> Event {
        self.until("a pod is ready", Event::is_ready).await
    }

    /// Each change of readiness of the one pod that was seen; the first is how it began.
    pub(crate) fn readiness(&self) -> Vec<bool> {
        let events = self.events();
        // Otherwise what came later would be missing here.
        assert!(!self.thread.is_finished(), "the watch has ended:\n{}", self.story());
        let uid = events.first().map(|event| event.pod["metadata"]["uid"].clone());
        let one = events.iter().all(|event| Some(&event.pod["metadata"]["uid"]) == uid.as_ref());
        assert!(one, "there is one pod:\n{}", self.story());
        let mut changes: Vec<bool> = events.iter().map(Event::is_ready).collect();
        changes.dedup();
        changes
    }

    /// Asserts that the pod got ready once, never was anything else since, and no container was started again.
    pub(crate) fn assert_undisturbed(&self) {
        assert_eq!(self.readiness(), [false, true], "{}", self.story());
        let restarts = self.events().last().map(Event::restarts);
        assert_eq!(restarts, Some(0), "{}", self.story());
    }

    /// Every event in a line.
    pub(crate) fn story(&self) -> String {
        let lines = self.events().into_iter().map(|event| {
            let seconds = event.at.duration_since(self.began).as_secs_f64();
            format!("{seconds:7.2} s  {}\n", event.line())
        });
        format!("{}:\n{}", self.what, lines.collect::<String>())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Kept for a thread that does not listen yet.
        self.shared.over.notify_one();
    }
}

struct Follower {
    api: Api,
    path: String,
    shared: Arc<Shared>,
}

impl Follower {
    /// Keeps every event that comes; panics when the API server ends the watch, which it does after half an hour.
    async fn follow(&self) {
        let stream = self.api.stream().await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get(&self.path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.api.token))
            .body(Empty::<Bytes>::new())
            .expect("a request");
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200, "{}", self.path);
        let mut body = response.into_body();
        let mut rest = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            let at = Instant::now();
            rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).expect("an event is JSON");
                let kind = event["type"].as_str().expect("an event has a type").to_owned();
                let event = Event { at, kind, pod: event["object"].take() };
                self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                self.shared.changed.notify_waiters();
            }
        }
        panic!("the API server ended the watch of {}", self.path);
    }
}
