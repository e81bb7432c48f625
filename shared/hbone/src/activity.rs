//! A transport that remembers when something arrived last, so that a busy connection needs no PING, and that lets others
//! have their turn.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many bytes may be read in a row before other tasks of the thread have their turn: the streams whose bytes these
/// are, which pass them on while they are still in the cache, and everybody else's requests.
const BURST: usize = 256 * 1024;

/// When bytes arrived last; shared between the transport and the one who asks.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    start: Instant,
    /// Since the start; nothing else is published through it.
    milliseconds: Arc<AtomicU64>,
}

impl Seen {
    /// Nothing has arrived yet.
    pub(crate) fn now() -> Self {
        Self { start: Instant::now(), milliseconds: Arc::default() }
    }

    /// The moment in milliseconds since the start: a clock that costs nothing where bytes have just arrived.
    pub(crate) fn milliseconds(&self) -> u64 {
        self.milliseconds.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn set(&self, milliseconds: u64) {
        self.milliseconds.store(milliseconds, Ordering::Relaxed);
    }

    /// The moment, to the millisecond; the start when nothing has arrived.
    pub(crate) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.milliseconds())
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
    /// Bytes since others had their turn.
    burst: usize,
}

impl<T> Activity<T> {
    pub(crate) fn new(inner: T) -> (Self, Seen) {
        let seen = Seen::now();
        (Self { inner, seen: seen.clone(), burst: 0 }, seen)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Activity<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.burst >= BURST {
            this.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(outcome) = Pin::new(&mut this.inner).poll_read(cx, buf) else {
            this.burst = 0;
            return Poll::Pending;
        };
        let count = buf.filled().len() - before;
        if count > 0 {
            this.burst += count;
            this.seen.touch();
        }
        Poll::Ready(outcome)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use super::*;

    /// Always has more.
    struct Hose;

    impl AsyncRead for Hose {
        fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(&[0; 1024]);
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_that_always_has_more_pauses_for_others_and_comes_back() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let (mut transport, _seen) = Activity::new(Hose);
        for pauses in 1..4 {
            let mut bytes = 0;
            let mut space = [0; 1024];
            while Pin::new(&mut transport).poll_read(&mut context, &mut ReadBuf::new(&mut space)).is_ready() {
                bytes += space.len();
                assert!(bytes <= BURST, "{bytes} bytes without a pause");
            }
            assert_eq!((bytes, wakes.0.load(Ordering::Relaxed)), (BURST, pauses));
        }
    }
}
