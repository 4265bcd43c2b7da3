//! The bound on connections, and the deadline for clients that do not read. IO.
//!
//! Input: accepted sockets. Output: sockets that count against the bound until they are closed, handshake included. One
//! above the bound is closed at once, so that the API server's failure policy decides without waiting. A write that makes
//! no progress fails after a while: hyper has no such deadline, and a client that never reads would keep its permit for
//! ever.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::metrics::{Limit, Metrics};

/// Admits connections while permits are left.
#[derive(Debug, Clone)]
pub(super) struct BoundedAcceptor {
    permits: Arc<Semaphore>,
    write: Duration,
    metrics: Arc<Metrics>,
}

impl BoundedAcceptor {
    /// At most so many connections, and at most this long without progress of a write.
    pub(super) fn new(connections: usize, write: Duration, metrics: Arc<Metrics>) -> Self {
        Self { permits: Arc::new(Semaphore::new(connections)), write, metrics }
    }
}

impl<S> Accept<TcpStream, S> for BoundedAcceptor {
    type Stream = BoundedStream;
    type Service = S;
    type Future = Ready<io::Result<(BoundedStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.metrics.rejected(Limit::Connections);
            return ready(Err(io::Error::other("the bound on connections is reached")));
        };
        // Responses are one small write; waiting to fill a segment only adds latency.
        let accepted = stream.set_nodelay(true).map(|()| {
            let (write, metrics) = (self.write, Arc::clone(&self.metrics));
            (BoundedStream { stream, write, stalled: None, metrics, _permit: permit }, service)
        });
        ready(accepted)
    }
}

/// A socket that gives its permit back when it is dropped.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    write: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl BoundedStream {
    /// `written`, or an error once it was pending for too long.
    fn unless_stalled(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write = self.write;
        let deadline = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(write)));
        deadline.as_mut().poll(context).map(|()| {
            self.metrics.rejected(Limit::WriteTime);
            Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
        })
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.unless_stalled(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
