//! The tunnelled byte stream: one HTTP/2 stream as a duplex pipe with flow control.

mod read;
mod write;

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::io::{Duplex, Transport};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use read::ReadHalf;
pub use write::WriteHalf;

use crate::client::Slot;
use crate::handle::Handle;

/// A byte stream inside an HTTP/2 stream.
///
/// - Reading returns the capacity that it uses up, so a reader that pauses stops its peer, and nobody else on the
///   connection as long as the connection's own window lasts.
/// - Shutting down sends END_STREAM and leaves the other direction open.
/// - A peer's RST_STREAM with NO_ERROR or CANCEL reads as a clean end; any other as `ConnectionReset`.
/// - Writing to a stream that the peer has reset fails with `BrokenPipe`.
/// - Dropping it before shutdown resets it with CONNECT_ERROR, as
///   [RFC 9113, section 8.5](https://www.rfc-editor.org/rfc/rfc9113#section-8.5) wants a cut TCP connection told.
///
/// Besides the byte-slice interfaces of tokio, [`Stream::chunk`] and [`Stream::send`] move [`Bytes`] without a copy.
pub struct Stream {
    read: ReadHalf,
    write: WriteHalf,
}

impl Stream {
    /// `slot` keeps a place on a pooled connection until both halves are gone.
    pub(crate) fn new(handle: Handle, slot: Option<Slot>) -> Self {
        let slot = slot.map(Arc::new);
        Self { read: ReadHalf::new(handle.clone(), slot.clone()), write: WriteHalf::new(handle, slot) }
    }

    /// The two directions, to be used by two tasks.
    #[must_use]
    pub fn into_halves(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// The next chunk without a copy; `None` at the end.
    ///
    /// # Errors
    /// As [`ReadHalf::poll_chunk`].
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.read.chunk().await
    }

    /// Sends all of `bytes` without a copy, waiting for capacity as often as need be.
    ///
    /// # Errors
    /// As [`WriteHalf::poll_send`].
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write.send(bytes).await
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("read", &self.read).field("write", &self.write).finish()
    }
}

impl Duplex for Stream {
    const OWNS_BYTES: bool = true;

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.read.poll_chunk(cx).map_ok(Option::unwrap_or_default)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        self.write.poll_send(cx, bytes)
    }
}

/// A tunnel inside a tunnel.
impl Transport for Stream {}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}
