//! The HTTPS server of admission. IO.
//!
//! Input: listeners, an [`Admit`] that decides, a certificate, limits and a [`crate::shutdown::Shutdown`], all passed in, so that tests and the
//! demo own them. Output: responses, metrics and logs. No decision about pods is made here.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::admission::entry::Entry;
use crate::admission::{self, Answer, Policy};
use crate::store::Store;

pub mod admin;
pub mod certificate;
mod cold;
pub mod config;
mod connection;
pub(crate) mod descriptors;
mod refusals;
pub mod router;
pub mod run;
pub mod server;
pub mod tls;

/// Answers the bytes of one review. Synchronous: it takes microseconds and is called in line.
pub trait Admit: Send + Sync {
    /// The answer to `body`, which came by `entry`; by none if it came by the plain path.
    fn admit(&self, entry: Option<Entry>, body: &[u8]) -> Answer;

    /// Told whenever the same body may get another answer. `None`: nobody is told, and nobody waits.
    fn changes(&self) -> Option<watch::Receiver<()>> {
        None
    }
}

/// Any function of the body, for tests.
impl<F: Fn(&[u8]) -> Answer + Send + Sync> Admit for F {
    fn admit(&self, _: Option<Entry>, body: &[u8]) -> Answer {
        self(body)
    }
}

/// The real one: the pure core over the store's present snapshot.
pub struct Core {
    /// Templates and namespaces.
    pub store: Arc<dyn Store>,
    /// The operator's choices, and what was found out about the cluster.
    pub policy: Arc<ArcSwap<Policy>>,
}

impl Admit for Core {
    fn admit(&self, entry: Option<Entry>, body: &[u8]) -> Answer {
        admission::admit_by(entry, body, &self.store.catalog(), &self.policy.load())
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        self.store.changes()
    }
}
