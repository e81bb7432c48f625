//! The receiving direction.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncRead, ReadBuf};

use crate::client::Slot;
use crate::pace::Pace;

/// What the peer sends.
pub struct ReadHalf {
    receive: RecvStream,
    /// What is left of the chunk that byte-slice reads are working on.
    rest: Bytes,
    /// Bytes of the window that are returned once `rest` is used up.
    owed: usize,
    has_ended: bool,
    pace: Pace,
    _slot: Option<Arc<Slot>>,
}

impl ReadHalf {
    pub(crate) fn new(receive: RecvStream, pace: Pace, slot: Option<Arc<Slot>>) -> Self {
        Self { receive, rest: Bytes::new(), owed: 0, has_ended: false, pace, _slot: slot }
    }

    /// Polls for the next chunk; `None` at the end.
    ///
    /// A chunk is at most one frame, and the window that it took is returned to the peer with this call: ask for the
    /// next one only when this one has been dealt with.
    ///
    /// # Errors
    /// `ConnectionReset` when the peer reset the stream, or what broke the connection.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let has_chunk = ready!(self.poll_fill(cx))?;
        if !has_chunk {
            return Poll::Ready(Ok(None));
        }
        let chunk = std::mem::take(&mut self.rest);
        self.release();
        Poll::Ready(Ok(Some(chunk)))
    }

    /// The next chunk; see [`ReadHalf::poll_chunk`].
    ///
    /// # Errors
    /// As [`ReadHalf::poll_chunk`].
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Makes `rest` hold bytes; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.rest.is_empty() && !self.has_ended {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    self.owed = chunk.len();
                    self.rest = chunk;
                }
                None => self.has_ended = true,
                Some(Err(error)) => {
                    self.has_ended = true;
                    if !is_clean_end(&error) {
                        return Poll::Ready(Err(broken(error)));
                    }
                }
            }
        }
        Poll::Ready(Ok(!self.rest.is_empty()))
    }

    /// Gives the window of a used chunk back to the peer, as far as its neighbours allow it.
    fn release(&mut self) {
        let flow = self.receive.flow_control();
        // Windows, and the frames in them, are smaller than 2³¹.
        let small = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        let returned = self.pace.used(small(std::mem::take(&mut self.owed)), small(flow.used_capacity()));
        // It fails only for a stream that is over, whose window no longer matters.
        let _ = flow.release_capacity(returned as usize);
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 || !ready!(self.poll_fill(cx))? {
            return Poll::Ready(Ok(()));
        }
        let length = self.rest.len().min(buf.remaining());
        let (head, _) = self.rest.split_at(length);
        buf.put_slice(head);
        self.rest.advance(length);
        if self.rest.is_empty() {
            // Lets go of the frame's memory, too.
            self.rest = Bytes::new();
            self.release();
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").field("id", &self.receive.stream_id()).field("has_ended", &self.has_ended).finish()
    }
}

/// Proxies reset streams that they are done with; Envoy and ztunnel both read these two reasons as the end.
fn is_clean_end(error: &h2::Error) -> bool {
    let is_peaceful = matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL));
    error.is_reset() && error.is_remote() && is_peaceful
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    let kind = if error.is_go_away() { io::ErrorKind::ConnectionAborted } else { io::ErrorKind::ConnectionReset };
    io::Error::new(kind, error)
}
