//! What the users of a stream do with it.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{Connection, Key, State, send};
use crate::error::{Http2Error, Reason};
use crate::stream::{Receiving, Sending, Stream};

impl Connection {
    /// The stream's number on the wire.
    pub fn id(&mut self, key: Key) -> u32 {
        self.state.streams.at(key.0).map_or(0, |stream| stream.id)
    }

    /// Counts one more handle of a stream.
    pub fn retain(&mut self, key: Key) {
        if let Some(stream) = self.state.streams.at(key.0) {
            stream.handles += 1;
        }
    }

    /// Counts one handle less. Nobody being left, a stream that has not finished is reset: after what waits to be sent, if
    /// its end does, and at once otherwise.
    pub fn release(&mut self, key: Key) {
        let Some(stream) = self.state.streams.at(key.0) else { return };
        stream.handles = stream.handles.saturating_sub(1);
        if stream.handles > 0 {
            return;
        }
        let (sending, is_receiving) = (stream.sending, stream.is_receiving());
        self.state.ignore(key.0);
        match sending {
            Sending::Answer | Sending::Open => self.state.reset(key.0, Reason::CANCEL),
            Sending::Ended if is_receiving => self.state.leave(key.0),
            _ => {}
        }
        self.state.settle(key.0);
    }

    /// Waits for bytes, at most `most` of them and never of more than one DATA frame; empty at the end.
    ///
    /// The window that they took is returned to the peer.
    ///
    /// # Errors
    /// When the stream was reset, or the connection broke, once everything before that was read.
    pub fn poll_receive(&mut self, key: Key, cx: &mut Context<'_>, most: usize) -> Poll<Result<Bytes, Http2Error>> {
        let state = &mut self.state;
        let Some(stream) = state.streams.at(key.0) else { return Poll::Ready(Err(state.closing.failure())) };
        let before = stream.received.front().len();
        if before == 0 {
            return match stream.receiving {
                Receiving::Answer | Receiving::Open => {
                    wait(&mut stream.reader, cx);
                    Poll::Pending
                }
                Receiving::Ended => Poll::Ready(Ok(Bytes::new())),
                Receiving::Reset => Poll::Ready(Err(reset(stream))),
                Receiving::Broken => Poll::Ready(Err(state.closing.failure())),
            };
        }
        let chunk = stream.received.take(most);
        let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        stream.unread = stream.unread.saturating_sub(count);
        state.recount_chunk(before, before - chunk.len());
        state.count_read(count);
        state.update_stream(key.0);
        Poll::Ready(Ok(chunk))
    }

    /// Nobody will read what the peer sends; it costs it no window.
    pub fn ignore(&mut self, key: Key) {
        self.state.ignore(key.0);
    }

    /// Waits until something may be sent; how much.
    ///
    /// # Errors
    /// When the stream was reset, or the connection broke; `None` when the own end was sent.
    pub fn poll_capacity(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<Result<usize, Option<Http2Error>>> {
        let state = &mut self.state;
        let most = state.config.send_buffer;
        let Some(stream) = state.streams.at(key.0) else { return Poll::Ready(Err(Some(state.closing.failure()))) };
        match stream.sending {
            Sending::Open => match send::capacity(stream, most) {
                0 => {
                    wait(&mut stream.writer, cx);
                    Poll::Pending
                }
                capacity => Poll::Ready(Ok(capacity)),
            },
            Sending::Reset => Poll::Ready(Err(Some(reset(stream)))),
            Sending::Broken => Poll::Ready(Err(Some(state.closing.failure()))),
            Sending::Answer | Sending::Ending | Sending::Ended => Poll::Ready(Err(None)),
        }
    }

    /// Queues bytes, which must not be more than [`Connection::poll_capacity`] has just allowed.
    pub fn send(&mut self, key: Key, bytes: Bytes) {
        let Some(stream) = self.state.streams.at(key.0).filter(|stream| stream.sending == Sending::Open) else {
            return;
        };
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        stream.queued = stream.queued.saturating_add(count);
        stream.to_send.push(bytes);
        self.state.may_send(key.0);
    }

    /// Sends the end, behind what waits to be sent; once is enough.
    ///
    /// # Errors
    /// When the stream was reset, or the connection broke.
    pub fn finish(&mut self, key: Key) -> Result<(), Http2Error> {
        let state = &mut self.state;
        let Some(stream) = state.streams.at(key.0) else { return Err(state.closing.failure()) };
        match stream.sending {
            Sending::Open => {
                stream.sending = Sending::Ending;
                state.may_send(key.0);
                Ok(())
            }
            Sending::Reset => Err(reset(stream)),
            Sending::Broken => Err(state.closing.failure()),
            Sending::Answer | Sending::Ending | Sending::Ended => Ok(()),
        }
    }
}

impl State {
    fn ignore(&mut self, place: u32) {
        if let Some(stream) = self.streams.at(place) {
            stream.is_unread = true;
            stream.reader = None;
        }
        self.discard_unread(place);
        self.update_stream(place);
    }

    /// Forgets what waits to be read, and returns the window that it took.
    pub(super) fn discard_unread(&mut self, place: u32) {
        let Some(stream) = self.streams.at(place).filter(|stream| !stream.received.is_empty()) else { return };
        let unread = std::mem::take(&mut stream.unread);
        let received = std::mem::take(&mut stream.received);
        for length in received.lengths() {
            self.recount_chunk(length, 0);
        }
        self.count_read(unread);
    }
}

fn reset(stream: &Stream) -> Http2Error {
    Http2Error::Reset { reason: stream.reason, side: stream.side }
}

/// Leaves a waker, which costs nothing if it was left before.
fn wait(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        place => *place = Some(cx.waker().clone()),
    }
}
