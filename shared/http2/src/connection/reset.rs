//! Streams that are reset, and what a peer may do wrong on single streams before it is shown the door.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Connection, Key, State, Verdict};
use crate::config::Role;
use crate::error::{Reason, Side};
use crate::frame::{self, kind};
use crate::stream::{Receiving, Sending};

/// For how long frames on a stream that we have reset are no offence: they may have been on their way.
const FORGIVEN: Duration = Duration::from_secs(1);

/// DATA frames without data in a row.
const EMPTY_FRAMES: u32 = 1000;

/// What a DATA frame costs in memory and work, in bytes, however short it is.
const FRAME_COST: usize = 256;

/// What a peer has done so far, and what it is forgiven.
#[derive(Debug, Default)]
pub(super) struct Offences {
    /// Streams that we have reset; since when, once something was received after it.
    resets: VecDeque<(u32, Option<Instant>)>,
    /// Errors on single streams.
    errors: usize,
    /// Requests in a row that were taken back before anybody looked at them.
    pub(super) taken_back: usize,
    /// What unread small DATA frames cost.
    small_frames: usize,
    /// DATA frames without data since the last with some.
    empty_frames: u32,
}

impl Offences {
    /// Something is received: what was reset before it is forgiven for a while from now on.
    pub(super) fn stamp(&mut self, now: Instant) {
        let fresh = self.resets.iter_mut().rev().map_while(|(_, since)| since.is_none().then_some(since));
        fresh.for_each(|since| *since = Some(now));
        let is_over = |(_, since): &(u32, Option<Instant>)| since.is_some_and(|since| now - since > FORGIVEN);
        while self.resets.front().is_some_and(is_over) {
            self.resets.pop_front();
        }
        if self.resets.is_empty() && self.resets.capacity() > 0 {
            self.resets = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(super) fn small_frames(&self) -> usize {
        self.small_frames
    }

    /// Remembers a stream that we have reset.
    pub(super) fn remember(&mut self, id: u32, most: usize) {
        if self.resets.len() >= most {
            self.resets.pop_front();
        }
        self.resets.push_back((id, None));
    }
}

/// What an unread chunk of this length costs beyond its bytes.
fn cost(length: usize) -> usize {
    if length == 0 { 0 } else { FRAME_COST.saturating_sub(length) }
}

impl Connection {
    /// Resets a stream, unless it is over: what waits to be sent is not sent any more.
    pub fn reset(&mut self, key: Key, reason: Reason) {
        self.state.reset(key.0, reason);
        self.state.settle(key.0);
    }
}

impl State {
    /// Resets a stream, unless it is over.
    pub(super) fn reset(&mut self, place: u32, reason: Reason) {
        let Some(stream) = self.streams.at(place).filter(|stream| !stream.is_closed()) else { return };
        (stream.reason, stream.side) = (reason, Side::Local);
        stream.end(Receiving::Reset, Sending::Reset);
        let id = stream.id;
        self.write_reset(id, reason);
    }

    /// Resets a stream that need not be there.
    pub(super) fn write_reset(&mut self, id: u32, reason: Reason) {
        frame::write_number(&mut self.control, kind::RST_STREAM, id, reason.0);
        self.offences.remember(id, self.config.reset_streams);
        self.wake_mover();
    }

    /// The peer did something wrong on a stream: it is reset.
    pub(super) fn offend(&mut self, place: u32, reason: Reason) -> Verdict {
        self.count_error()?;
        self.reset(place, reason);
        self.settle(place);
        Ok(())
    }

    /// Whether there ever was a stream of this number; only clients open streams.
    pub(super) fn was_opened(&self, id: u32) -> bool {
        id % 2 == 1 && if self.role == Role::Client { id < self.id } else { id <= self.id }
    }

    /// A frame on a stream that is over and forgotten, unless it was never opened.
    pub(super) fn stray(&mut self, id: u32) -> Verdict {
        if !self.was_opened(id) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if self.closing.ignores(id) || self.offences.resets.iter().any(|(reset, _)| *reset == id) {
            return Ok(());
        }
        self.count_error()?;
        self.write_reset(id, Reason::STREAM_CLOSED);
        Ok(())
    }

    /// Counts an error on a single stream.
    pub(super) fn count_error(&mut self) -> Verdict {
        self.offences.errors = self.offences.errors.saturating_add(1);
        match self.config.stream_errors {
            Some(most) if self.offences.errors > most => Err(Reason::ENHANCE_YOUR_CALM),
            _ => Ok(()),
        }
    }

    /// Counts a request that was taken back before anybody looked at it.
    pub(super) fn count_taken_back(&mut self) -> Verdict {
        self.offences.taken_back += 1;
        if self.offences.taken_back > self.config.reset_streams { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    /// Counts a DATA frame by its length.
    pub(super) fn count_frame(&mut self, is_empty: bool) -> Verdict {
        let empty = &mut self.offences.empty_frames;
        *empty = if is_empty { *empty + 1 } else { 0 };
        if *empty > EMPTY_FRAMES { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    /// A chunk waits to be read.
    pub(super) fn count_chunk(&mut self, length: usize) -> Verdict {
        self.offences.small_frames = self.offences.small_frames.saturating_add(cost(length));
        if self.offences.small_frames > self.config.small_frame_budget {
            Err(Reason::ENHANCE_YOUR_CALM)
        } else {
            Ok(())
        }
    }

    /// A chunk became shorter, or was read to its end.
    pub(super) fn recount_chunk(&mut self, before: usize, after: usize) {
        let small = self.offences.small_frames.saturating_sub(cost(before));
        self.offences.small_frames = small.saturating_add(cost(after));
    }
}
