//! An application with metrics: a loopback server that counts how often it was scraped.
//!
//! Input: what it exposes, which may change while it runs. Output: its port and the count.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

/// From the number of the scrape, counted from 1, to the text.
type Body = Arc<dyn Fn(usize) -> String + Send + Sync>;

/// The running server; it ends with the test.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) port: u16,
    scrapes: Arc<AtomicUsize>,
    body: Arc<Mutex<Body>>,
}

impl App {
    /// An application that exposes this text.
    pub(crate) async fn start(text: &str) -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address"), text).await
    }

    /// The same at an address of the caller's choice.
    pub(crate) async fn listen(address: SocketAddr, text: &str) -> Self {
        let scrapes = Arc::new(AtomicUsize::new(0));
        let body = Arc::new(Mutex::new(constant(text)));
        let (counter, current) = (Arc::clone(&scrapes), Arc::clone(&body));
        let metrics = get(async move || {
            let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
            let body = Arc::clone(&current.lock().expect("no test panics with the body in hand"));
            body(number)
        });
        let listener =
            TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address} is not free: {error}"));
        let port = listener.local_addr().expect("its address").port();
        tokio::spawn(async { axum::serve(listener, Router::new().route("/metrics", metrics)).await });
        Self { port, scrapes, body }
    }

    /// Exposes this text from now on.
    pub(crate) fn expose(&self, text: &str) {
        self.replace(constant(text));
    }

    /// Exposes what `body` makes of the number of each scrape from now on.
    pub(crate) fn generate(&self, body: impl Fn(usize) -> String + Send + Sync + 'static) {
        self.replace(Arc::new(body));
    }

    /// How often it was scraped.
    pub(crate) fn scrapes(&self) -> usize {
        self.scrapes.load(Ordering::Relaxed)
    }

    /// Waits until it was scraped `count` times more.
    pub(crate) async fn scraped(&self, count: usize) {
        let goal = self.scrapes() + count;
        super::until(&format!("scrape {goal} of port {}", self.port), async || {
            if self.scrapes() >= goal { Ok(()) } else { Err(self.scrapes()) }
        })
        .await;
    }

    fn replace(&self, body: Body) {
        *self.body.lock().expect("no test panics with the body in hand") = body;
    }
}

fn constant(text: &str) -> Body {
    let text = text.to_owned();
    Arc::new(move |_| text.clone())
}
