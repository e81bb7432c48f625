//! Frames that arrive.

use super::closing::DRAIN_PING;
use super::{State, Verdict};
use crate::error::{Reason, Side};
use crate::frame::{self, Event, Head, Payload, flag, kind};
use crate::settings;
use crate::stream::{Receiving, Sending};

impl State {
    pub(super) fn take(&mut self, event: Event<'_>) -> Verdict {
        match event {
            Event::Data(head) => self.take_data(head),
            Event::Piece(payload, is_last) => self.take_piece(payload, is_last),
            Event::Frame(head, payload) => self.take_frame(head, &payload),
        }
    }

    fn take_frame(&mut self, head: Head, payload: &[u8]) -> Verdict {
        match head.kind {
            kind::HEADERS | kind::CONTINUATION => self.take_block(head, payload),
            kind::SETTINGS if head.has(flag::ACK) => self.acknowledged(),
            kind::SETTINGS => self.take_settings(payload),
            kind::PING => {
                self.take_ping(head, payload);
                Ok(())
            }
            kind::RST_STREAM => self.take_reset(head.stream, Reason(number(payload))),
            kind::WINDOW_UPDATE => {
                let more = i32::try_from(number(payload) & 0x7fff_ffff).unwrap_or(i32::MAX);
                match (head.stream, self.streams.find(head.stream)) {
                    (0, _) => self.widen(more),
                    (_, Some(place)) => self.widen_stream(place, more),
                    (id, None) => self.expect_opened(id),
                }
            }
            kind::GOAWAY => {
                let (last, reason) = payload.split_at(payload.len().min(4));
                self.take_go_away(number(last) & 0x7fff_ffff, Reason(number(reason)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// DATA begins: its length counts at once, whoever it is for.
    fn take_data(&mut self, head: Head) -> Verdict {
        self.take_window(head.length)?;
        let ends_stream = head.has(flag::END_STREAM);
        self.count_frame(head.length == 0 && !ends_stream)?;
        self.data = None;
        let Some(place) = self.streams.find(head.stream) else {
            self.stray(head.stream)?;
            self.update_connection();
            return Ok(());
        };
        let Some(stream) = self.streams.at(place) else { return Ok(()) };
        match stream.receiving {
            Receiving::Open => match i32::try_from(head.length) {
                Ok(length) if length <= stream.in_window => {
                    stream.in_window -= length;
                    self.data = Some((place, ends_stream));
                }
                _ => self.offend(place, Reason::FLOW_CONTROL_ERROR)?,
            },
            Receiving::Answer => self.offend(place, Reason::PROTOCOL_ERROR)?,
            Receiving::Ended => self.offend(place, Reason::STREAM_CLOSED)?,
            Receiving::Reset | Receiving::Broken => {}
        }
        self.update_connection();
        Ok(())
    }

    fn take_piece(&mut self, payload: Payload<'_>, is_last: bool) -> Verdict {
        let Some((place, ends_stream)) = self.data else { return Ok(()) };
        let Some(stream) = self.streams.at(place) else { return Ok(()) };
        if stream.is_unread || !stream.is_receiving() {
            self.update_connection();
        } else if !payload.is_empty() {
            let length = payload.len();
            let bytes = u32::try_from(length).unwrap_or(u32::MAX);
            stream.unread = stream.unread.saturating_add(bytes);
            stream.received.push(payload.into_bytes());
            stream.wake_reader();
            self.count_unread(bytes);
            self.count_chunk(length)?;
        }
        if is_last {
            self.data = None;
            // What was padding, or nobody wants, is given back.
            self.update_connection();
            if ends_stream {
                self.end_receiving(place);
            } else {
                self.update_stream(place);
            }
        }
        Ok(())
    }

    /// The peer has finished.
    pub(super) fn end_receiving(&mut self, place: u32) {
        let Some(stream) = self.streams.at(place).filter(|stream| stream.is_receiving()) else { return };
        stream.receiving = Receiving::Ended;
        stream.wake_reader();
        self.settle(place);
    }

    fn take_settings(&mut self, payload: &[u8]) -> Verdict {
        let changes = settings::parse(payload, self.role)?;
        if let Some(table) = changes.header_table {
            self.encoder.resize(table);
        }
        if let Some(size) = changes.frame_size {
            self.peer.frame_size = size;
        }
        if let Some(window) = changes.window {
            self.change_out_windows(window)?;
        }
        self.peer.streams = changes.streams.or(self.peer.streams).or(Some(u32::MAX));
        frame::write(&mut self.control, kind::SETTINGS, flag::ACK, 0, &[]);
        self.wake_openers();
        Ok(())
    }

    fn take_ping(&mut self, head: Head, payload: &[u8]) {
        if !head.has(flag::ACK) {
            frame::write(&mut self.control, kind::PING, flag::ACK, 0, payload);
        } else if payload == DRAIN_PING {
            self.finish_drain();
        }
    }

    fn take_reset(&mut self, id: u32, reason: Reason) -> Verdict {
        let Some(place) = self.streams.find(id) else { return self.expect_opened(id) };
        let Some(stream) = self.streams.at(place).filter(|stream| !stream.is_closed()) else { return Ok(()) };
        (stream.reason, stream.side) = (reason, Side::Remote);
        stream.end(Receiving::Reset, Sending::Reset);
        let before = self.requests.len();
        self.requests.retain(|(requested, _)| *requested != place);
        if self.requests.len() < before {
            self.count_taken_back()?;
        }
        self.settle(place);
        Ok(())
    }

    /// A frame that means nothing for a stream that is over, and must not come for one that was never opened.
    fn expect_opened(&mut self, id: u32) -> Verdict {
        if self.was_opened(id) { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }
    }
}

/// The number that a payload consists of.
fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().copied().map_or(0, u32::from_be_bytes)
}
