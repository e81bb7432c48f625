//! The sending direction.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use tokio::io::AsyncWrite;

use crate::client::Slot;

/// What the peer receives.
///
/// Dropping it before shutdown resets the stream, both directions of it.
pub struct WriteHalf {
    send: SendStream<Bytes>,
    has_ended: bool,
    _slot: Option<Arc<Slot>>,
}

impl WriteHalf {
    pub(crate) fn new(send: SendStream<Bytes>, slot: Option<Arc<Slot>>) -> Self {
        Self { send, has_ended: false, _slot: slot }
    }

    /// Polls for capacity, sends as much of `bytes` as it allows and takes that off its front.
    ///
    /// # Errors
    /// `BrokenPipe` when the peer has reset the stream or the connection is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let capacity = ready!(self.poll_capacity(cx, bytes.len()))?;
        let length = capacity.min(bytes.len());
        Poll::Ready(self.enqueue(bytes.split_to(length)))
    }

    /// Sends all of `bytes`, waiting for capacity as often as need be.
    ///
    /// # Errors
    /// As [`WriteHalf::poll_send`].
    pub async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_send(cx, &mut bytes)).await?;
        }
        Ok(())
    }

    /// Waits until something may be sent, at most `wanted` bytes of it.
    ///
    /// Only what is at hand is reserved: capacity that nobody uses would be missing on other streams.
    fn poll_capacity(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.send.capacity() == 0 {
            self.send.reserve_capacity(wanted);
        }
        loop {
            let capacity = self.send.capacity();
            if capacity > 0 {
                return Poll::Ready(Ok(capacity.min(wanted)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(self.why_closed(cx))),
            }
        }
    }

    fn enqueue(&mut self, bytes: Bytes) -> io::Result<usize> {
        let length = bytes.len();
        self.send.send_data(bytes, false).map_err(broken)?;
        Ok(length)
    }

    /// Why there is nothing left to send on.
    fn why_closed(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.send.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => io::Error::new(io::ErrorKind::BrokenPipe, reason.description()),
            Poll::Ready(Err(error)) => broken(error),
            Poll::Pending => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let capacity = ready!(self.poll_capacity(cx, buf.len()))?;
        let (head, _) = buf.split_at(capacity.min(buf.len()));
        Poll::Ready(self.enqueue(Bytes::copy_from_slice(head)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut capacity = ready!(self.poll_capacity(cx, total))?;
        let mut gathered = BytesMut::with_capacity(capacity);
        for buf in bufs {
            let (head, _) = buf.split_at(capacity.min(buf.len()));
            gathered.extend_from_slice(head);
            capacity -= head.len();
        }
        Poll::Ready(self.enqueue(gathered.freeze()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The connection's driver flushes by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        self.has_ended = true;
        if self.send.send_data(Bytes::new(), true).is_ok() {
            return Poll::Ready(Ok(()));
        }
        // A peer that reset with NO_ERROR has said that it wants no more: there is nothing to tell it.
        match self.send.poll_reset(cx) {
            Poll::Ready(Ok(Reason::NO_ERROR)) => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(self.why_closed(cx))),
        }
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if !self.has_ended {
            self.send.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").field("id", &self.send.stream_id()).field("has_ended", &self.has_ended).finish()
    }
}

/// Whatever happened, what was written will not be read.
fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
