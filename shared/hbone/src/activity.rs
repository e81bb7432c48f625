//! A transport that remembers when something arrived last, so that a busy connection needs no PING.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When bytes arrived last; shared between the transport and the one who asks.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    start: Instant,
    /// Since the start; nothing else is published through it.
    milliseconds: Arc<AtomicU64>,
}

impl Seen {
    /// The moment, to the millisecond; the start when nothing has arrived.
    pub(crate) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }

    /// A moment as [`Seen::last`] would tell it, so that the two can be compared.
    pub(crate) fn to_the_millisecond(&self, moment: Instant) -> Instant {
        self.start + Duration::from_millis(self.since_start(moment))
    }

    fn touch(&self) {
        self.milliseconds.store(self.since_start(Instant::now()), Ordering::Relaxed);
    }

    fn since_start(&self, moment: Instant) -> u64 {
        u64::try_from(moment.duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The transport of an HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Activity<T> {
    inner: T,
    seen: Seen,
}

impl<T> Activity<T> {
    pub(crate) fn new(inner: T) -> (Self, Seen) {
        let seen = Seen { start: Instant::now(), milliseconds: Arc::default() };
        (Self { inner, seen: seen.clone() }, seen)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Activity<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.seen.touch();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Activity<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
