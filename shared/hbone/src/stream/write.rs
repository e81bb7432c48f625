//! The sending direction.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http2::{Http2Error, Reason, Side};
use tokio::io::AsyncWrite;

use crate::client::Slot;
use crate::handle::Handle;

/// What the peer receives.
///
/// Dropping it before shutdown resets the stream, both directions of it.
#[derive(Debug)]
pub struct WriteHalf {
    handle: Handle,
    has_ended: bool,
    _slot: Option<Arc<Slot>>,
}

impl WriteHalf {
    pub(crate) fn new(handle: Handle, slot: Option<Arc<Slot>>) -> Self {
        Self { handle, has_ended: false, _slot: slot }
    }

    /// Polls for capacity, sends as much of `bytes` as it allows and takes that off its front.
    ///
    /// # Errors
    /// `BrokenPipe` when the peer has reset the stream or the connection is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_queue(cx, |capacity| bytes.split_to(capacity.min(bytes.len())))
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

    /// Waits until something may be sent and queues what `take` makes of the capacity, at most as much.
    fn poll_queue(&mut self, cx: &mut Context<'_>, take: impl FnOnce(usize) -> Bytes) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (mut connection, key) = self.handle.lock();
        let capacity = ready!(connection.poll_capacity(key, cx)).map_err(broken)?;
        let bytes = take(capacity);
        let length = bytes.len();
        connection.send(key, bytes);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_queue(cx, |capacity| {
            let (head, _) = buf.split_at(capacity.min(buf.len()));
            Bytes::copy_from_slice(head)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        self.poll_queue(cx, |capacity| {
            let mut room = capacity.min(total);
            let mut gathered = BytesMut::with_capacity(room);
            for buf in bufs {
                let (head, _) = buf.split_at(room.min(buf.len()));
                gathered.extend_from_slice(head);
                room -= head.len();
            }
            gathered.freeze()
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The connection's driver flushes by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        self.has_ended = true;
        let (mut connection, key) = self.handle.lock();
        Poll::Ready(match connection.finish(key) {
            // A peer that reset with NO_ERROR has said that it wants no more: there is nothing to tell it.
            Ok(()) | Err(Http2Error::Reset { reason: Reason::NO_ERROR, side: Side::Remote }) => Ok(()),
            Err(error) => Err(broken(Some(error))),
        })
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if !self.has_ended {
            let (mut connection, key) = self.handle.lock();
            connection.reset(key, Reason::CONNECT_ERROR);
        }
    }
}

/// Whatever happened, what was written will not be read.
fn broken(error: Option<Http2Error>) -> io::Error {
    error.map_or_else(|| io::ErrorKind::BrokenPipe.into(), |error| io::Error::new(io::ErrorKind::BrokenPipe, error))
}
