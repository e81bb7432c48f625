//! What is to be sent, and whose turn it is.

use super::{CONTROL, Connection, NOBODY, State};
use crate::config::Role;
use crate::error::Reason;
use crate::frame::{HEAD, Head, flag, kind};
use crate::output::Output;
use crate::stream::{Sending, Stream};

/// How much of a stream is sent before the others have their turn: what goes through the kernel in one piece, with its
/// headers and those of TLS.
const TURN: usize = 60 << 10;

/// Chunks up to this size are copied behind their header, several of them into one frame; larger ones are not copied.
const SMALL: usize = 4 << 10;

impl Connection {
    /// Takes what is to be sent next, as much as there is room for.
    ///
    /// Streams take turns of at most one frame each. To be called again once the output is empty.
    pub fn transmit(&mut self, output: &mut Output) {
        self.state.transmit_control(output);
        while output.has_room() && self.state.transmit_turn(output) {}
        // A stream's last frame may be followed by its reset.
        self.state.transmit_control(output);
    }

    /// Whether there is something to send that the windows allow.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.state.has_output()
    }
}

impl State {
    fn has_output(&self) -> bool {
        !self.control.is_empty() || (self.first != NOBODY && (self.windows.out_window > 0 || self.has_end_to_send))
    }

    fn transmit_control(&mut self, output: &mut Output) {
        if output.has_room() && !self.control.is_empty() {
            let was_full = self.control.len() >= CONTROL;
            output.buffer.extend_from_slice(&std::mem::take(&mut self.control));
            if was_full {
                self.wake_openers();
            }
        }
    }

    /// One frame of the stream whose turn it is; false when nobody can send.
    fn transmit_turn(&mut self, output: &mut Output) -> bool {
        let mut first_stalled = None;
        while let Some(place) = self.take_turn() {
            let (window, largest) = (self.windows.out_window, self.peer.frame_size as usize);
            let Some(stream) = self.streams.at(place) else { continue };
            if !stream.has_something_to_send() {
                self.settle(place);
                continue;
            }
            // Without a window of the connection only those that have nothing but their end to send can go on.
            if stream.queued > 0 && window <= 0 {
                self.queue(place);
                if first_stalled == Some(place) {
                    self.has_end_to_send = false;
                    return false;
                }
                first_stalled.get_or_insert(place);
                continue;
            }
            let allowed = window.min(stream.out_window).max(0).unsigned_abs() as usize;
            let sent = write_data(stream, output, allowed.min(largest).min(TURN));
            self.windows.out_window = window.saturating_sub_unsigned(sent);
            self.after_turn(place);
            return true;
        }
        self.has_end_to_send = false;
        false
    }

    /// A stream has sent a frame: what follows from that.
    fn after_turn(&mut self, place: u32) {
        let most = self.config.send_buffer;
        let Some(stream) = self.streams.at(place) else { return };
        if stream.has_something_to_send() {
            self.queue(place);
        }
        let Some(stream) = self.streams.at(place) else { return };
        if has_capacity_again(stream, most) {
            stream.wake_writer();
        }
        let is_left = stream.sending == Sending::Ended && stream.handles == 0;
        if is_left && stream.is_receiving() {
            self.leave(place);
        }
        self.settle(place);
    }

    /// Nobody uses a stream any more whose other direction is still open.
    pub(super) fn leave(&mut self, place: u32) {
        // A server may answer before it has heard everything, and says that this was no error (section 8.1).
        let reason = if self.role == Role::Server { Reason::NO_ERROR } else { Reason::CANCEL };
        self.reset(place, reason);
    }

    /// A stream's window or queue has changed: it may have something to send, and its writer may go on.
    pub(super) fn may_send(&mut self, place: u32) {
        let most = self.config.send_buffer;
        let Some(stream) = self.streams.at(place) else { return };
        if has_capacity_again(stream, most) {
            stream.wake_writer();
        }
        if stream.has_something_to_send() && !stream.is_queued {
            self.queue(place);
            self.wake_mover();
        }
    }

    /// Puts a stream at the end of the queue.
    fn queue(&mut self, place: u32) {
        let Some(stream) = self.streams.at(place) else { return };
        (stream.is_queued, stream.next) = (true, NOBODY);
        self.has_end_to_send |= stream.queued == 0;
        let last = std::mem::replace(&mut self.last, place);
        match self.streams.at(last) {
            Some(stream) if self.first != NOBODY => stream.next = place,
            _ => self.first = place,
        }
    }

    fn take_turn(&mut self) -> Option<u32> {
        let place = self.first;
        let stream = self.streams.at(place)?;
        stream.is_queued = false;
        self.first = stream.next;
        Some(place)
    }

    /// Forgets a stream that is over and that nobody uses any more.
    pub(super) fn settle(&mut self, place: u32) {
        let Some(stream) = self.streams.at(place).filter(|stream| stream.is_closed()) else { return };
        let (was_counted, is_queued) = (stream.is_counted, stream.is_queued);
        let is_forgotten = stream.handles == 0 && !is_queued;
        stream.is_counted = false;
        if is_queued {
            // It leaves the queue without waiting for a window.
            self.has_end_to_send = true;
            self.wake_mover();
        }
        if was_counted {
            self.active = self.active.saturating_sub(1);
            self.wake_openers();
        }
        if is_forgotten {
            self.discard_unread(place);
            self.streams.remove(place);
        }
        if was_counted || is_forgotten {
            self.wake_if_done();
        }
    }
}

/// How much a stream may queue now.
pub(super) fn capacity(stream: &Stream, most: usize) -> usize {
    let queued = stream.queued as usize;
    let window = usize::try_from(stream.out_window).unwrap_or_default().saturating_sub(queued);
    window.min(most.saturating_sub(queued))
}

/// Whether a writer that waits should be woken: not for a little room at a time.
fn has_capacity_again(stream: &Stream, most: usize) -> bool {
    stream.writer.is_some() && capacity(stream, most) > 0 && stream.queued as usize <= most / 2
}

/// Writes one DATA frame of at most `most` bytes, with the end if that is all; how many bytes.
fn write_data(stream: &mut Stream, output: &mut Output, most: usize) -> u32 {
    let start = output.buffer.len();
    output.buffer.extend_from_slice(&[0; HEAD]);
    let mut length = 0;
    if stream.to_send.front().len() > SMALL {
        output.payload = stream.to_send.take(most);
        length = output.payload.len();
    } else {
        while (1..=SMALL).contains(&stream.to_send.front().len()) && length < most {
            let chunk = stream.to_send.take(most - length);
            output.buffer.extend_from_slice(&chunk);
            length += chunk.len();
        }
    }
    let sent = u32::try_from(length).unwrap_or(u32::MAX);
    stream.out_window = stream.out_window.saturating_sub_unsigned(sent);
    stream.queued = stream.queued.saturating_sub(sent);
    let ends_stream = stream.queued == 0 && stream.sending == Sending::Ending;
    if ends_stream {
        stream.sending = Sending::Ended;
    }
    let flags = if ends_stream { flag::END_STREAM } else { 0 };
    let head = Head::new(kind::DATA, flags, stream.id, length);
    if let Some(space) = output.buffer.get_mut(start..start + HEAD) {
        space.copy_from_slice(&head.to_bytes());
    }
    sent
}
