//! The receiving direction.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http2::{Http2Error, Reason};
use tokio::io::{AsyncRead, ReadBuf};

use crate::client::Slot;
use crate::handle::Handle;
use crate::pace::Pace;

/// What the peer sends.
#[derive(Debug)]
pub struct ReadHalf {
    handle: Handle,
    pace: Pace,
    has_ended: bool,
    _slot: Option<Arc<Slot>>,
}

impl ReadHalf {
    pub(crate) fn new(handle: Handle, slot: Option<Arc<Slot>>) -> Self {
        let pace = Pace::new(handle.shared().neighbours());
        Self { handle, pace, has_ended: false, _slot: slot }
    }

    /// Polls for the next chunk; `None` at the end.
    ///
    /// A chunk is at most one frame, and the window that it took is returned to the peer with this call: ask for the
    /// next one only when this one has been dealt with.
    ///
    /// # Errors
    /// `ConnectionReset` when the peer reset the stream, or what broke the connection.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let chunk = ready!(self.poll_receive(cx, usize::MAX))?;
        Poll::Ready(Ok(Some(chunk).filter(|chunk| !chunk.is_empty())))
    }

    /// The next chunk; see [`ReadHalf::poll_chunk`].
    ///
    /// # Errors
    /// As [`ReadHalf::poll_chunk`].
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Polls for at most so many bytes of a chunk; empty at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Bytes>> {
        if self.has_ended {
            return Poll::Ready(Ok(Bytes::new()));
        }
        let (mut connection, key) = self.handle.lock();
        let received = ready!(connection.poll_receive(key, cx, most));
        if let Ok(bytes) = &received
            && let Some(window) = self.pace.read(bytes.len(), self.handle.shared().neighbours())
        {
            connection.set_window(key, window);
        }
        drop(connection);
        self.has_ended = received.as_ref().map_or(true, Bytes::is_empty);
        Poll::Ready(match received {
            Err(error) if is_clean_end(&error) => Ok(Bytes::new()),
            received => received.map_err(broken),
        })
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() > 0 {
            let chunk = ready!(self.poll_receive(cx, buf.remaining()))?;
            buf.put_slice(&chunk);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        let (mut connection, key) = self.handle.lock();
        connection.ignore(key);
    }
}

/// Proxies reset streams that they are done with; Envoy and ztunnel both read these two reasons as the end.
fn is_clean_end(error: &Http2Error) -> bool {
    let is_peaceful = matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL));
    error.is_reset() && error.is_remote() && is_peaceful
}

fn broken(error: Http2Error) -> io::Error {
    let kind = match &error {
        Http2Error::Io(error) => error.kind(),
        Http2Error::GoAway { .. } => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, error)
}
