//! What a copy asks of its two streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Buffer;

/// The most that is read at a time, and so the most that a connection keeps for a peer that reads slowly.
///
/// Small enough to leave in one piece: the kernel carries up to 64 KiB with headers at a time, in whole segments, and a
/// write that is a little larger costs a second way through the network stack. TLS and HTTP/2 add about a hundred bytes.
pub(crate) const READ: usize = 60 * 1024;

/// A byte stream in both directions.
///
/// Streams that hold their bytes in memory of their own anyway hand it over instead of having it copied.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// Whether bytes come and go in memory of their own.
    const OWNS_BYTES: bool = false;

    /// Polls for bytes in memory of their own; empty at the end.
    ///
    /// # Errors
    /// As for reading.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut buffer = Buffer::take();
        let mut read = ReadBuf::new(buffer.get_mut(..READ).unwrap_or_default());
        ready!(Pin::new(self).poll_read(cx, &mut read))?;
        let length = read.filled().len();
        Poll::Ready(Ok(buffer.into_bytes(length)))
    }

    /// Polls until some of `bytes` could be sent, takes that off its front, and tells how much it was.
    ///
    /// # Errors
    /// As for writing.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(self).poll_write(cx, bytes))?.min(bytes.len());
        bytes.advance(count);
        Poll::Ready(Ok(count))
    }
}

impl Duplex for tokio::net::TcpStream {}

/// In memory: for tests and measurements.
impl Duplex for tokio::io::DuplexStream {}

impl<T: Duplex> Duplex for &mut T {
    const OWNS_BYTES: bool = T::OWNS_BYTES;

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        (**self).poll_receive(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        (**self).poll_send(cx, bytes)
    }
}
