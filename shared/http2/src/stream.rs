//! One stream: its state, its windows, what waits to be read and to be sent.

mod chunks;
mod store;

use std::task::Waker;

pub(crate) use chunks::Chunks;
pub(crate) use store::Store;

use crate::error::{Reason, Side};
use crate::message::Response;

/// What may still be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// The answer, then bytes.
    Answer,
    /// Bytes.
    Open,
    /// Nothing: the peer has finished.
    Ended,
    /// Nothing: the stream was reset.
    Reset,
    /// Nothing: the connection is over.
    Broken,
}

/// What may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// The answer, which opens the direction or ends it.
    Answer,
    /// Bytes.
    Open,
    /// What is queued, then the end.
    Ending,
    /// Nothing: the peer has been told the end.
    Ended,
    /// Nothing: the stream was reset.
    Reset,
    /// Nothing: the connection is over.
    Broken,
}

/// A stream; small, as there may be very many of them that do nothing.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// The next one whose turn it is to send; meaningful while `is_queued`.
    pub(crate) next: u32,
    /// Why it was reset, and by whom.
    pub(crate) reason: Reason,
    pub(crate) side: Side,
    /// How much the peer may send; negative after the window was made smaller.
    pub(crate) in_window: i32,
    /// How much it may have sent ahead; may be changed at any time, and takes effect with the next window update.
    pub(crate) in_target: i32,
    /// How much was received and not yet read.
    pub(crate) unread: u32,
    /// How much may be sent; negative after the peer made it smaller.
    pub(crate) out_window: i32,
    /// How much waits to be sent.
    pub(crate) queued: u32,
    /// How many handles there are.
    pub(crate) handles: u8,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    /// Waits for its turn to send.
    pub(crate) is_queued: bool,
    /// Counts as open.
    pub(crate) is_counted: bool,
    /// Nobody will read what arrives.
    pub(crate) is_unread: bool,
    pub(crate) received: Chunks,
    pub(crate) to_send: Chunks,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// The answer, until somebody takes it.
    pub(crate) response: Option<Box<Response>>,
}

impl Stream {
    pub(crate) fn new(id: u32, in_window: i32, out_window: i32) -> Self {
        Self {
            id,
            next: 0,
            reason: Reason::NO_ERROR,
            side: Side::Local,
            in_window,
            in_target: in_window,
            unread: 0,
            out_window,
            queued: 0,
            handles: 0,
            receiving: Receiving::Open,
            sending: Sending::Open,
            is_queued: false,
            is_counted: true,
            is_unread: false,
            received: Chunks::default(),
            to_send: Chunks::default(),
            reader: None,
            writer: None,
            response: None,
        }
    }

    /// Whether the peer may still send.
    pub(crate) fn is_receiving(&self) -> bool {
        matches!(self.receiving, Receiving::Answer | Receiving::Open)
    }

    /// Whether both directions are over.
    pub(crate) fn is_closed(&self) -> bool {
        !self.is_receiving() && matches!(self.sending, Sending::Ended | Sending::Reset | Sending::Broken)
    }

    /// Whether there is something that could be sent now, given a window of the connection.
    pub(crate) fn has_something_to_send(&self) -> bool {
        (self.queued > 0 && self.out_window > 0) || (self.queued == 0 && self.sending == Sending::Ending)
    }

    /// Ends both directions, those that are not over already.
    pub(crate) fn end(&mut self, receiving: Receiving, sending: Sending) {
        if self.is_receiving() {
            self.receiving = receiving;
        }
        if !matches!(self.sending, Sending::Ended | Sending::Reset | Sending::Broken) {
            self.sending = sending;
        }
        self.clear_queue();
        self.wake_reader();
        self.wake_writer();
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Forgets what waits to be sent.
    pub(crate) fn clear_queue(&mut self) {
        self.to_send = Chunks::default();
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_at_rest_is_small() {
        let size = size_of::<Stream>();
        assert!(size <= 160, "{size} bytes");
    }
}
