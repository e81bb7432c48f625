//! Flow control ([RFC 9113, section 5.2](https://www.rfc-editor.org/rfc/rfc9113#section-5.2)).

use super::{Connection, Key, State, Verdict};
use crate::config::Config;
use crate::error::Reason;
use crate::frame::{self, kind};
use crate::settings::INITIAL_WINDOW;

/// The windows of a connection as a whole.
#[derive(Debug)]
pub(super) struct Windows {
    /// How much the peer may send.
    in_window: i32,
    /// How much it may have sent ahead.
    in_target: i32,
    /// How much of all streams was received and not yet read.
    unread: u32,
    /// How much may be sent.
    pub(super) out_window: i32,
    /// The window of new streams: what was announced counts once the peer has acknowledged it.
    pub(super) in_initial: i32,
    /// The peer has acknowledged our SETTINGS.
    pub(super) is_acknowledged: bool,
}

impl Windows {
    pub(super) fn new(config: &Config) -> Self {
        let in_window = i32::try_from(config.connection_window).unwrap_or(i32::MAX).max(INITIAL_WINDOW);
        Self {
            in_window,
            in_target: in_window,
            unread: 0,
            out_window: INITIAL_WINDOW,
            in_initial: INITIAL_WINDOW,
            is_acknowledged: false,
        }
    }

    /// By how much the window is larger than every connection's at first.
    pub(super) fn beyond_initial(&self) -> Option<u32> {
        u32::try_from(self.in_window - INITIAL_WINDOW).ok().filter(|more| *more > 0)
    }
}

#[cfg(test)]
impl Windows {
    pub(super) fn unread(&self) -> u32 {
        self.unread
    }
}

/// How much to allow in addition, if that is worth a frame: half of what may be sent ahead.
fn increment(target: i32, window: i32, unread: u32) -> Option<u32> {
    let missing = i64::from(target) - i64::from(window) - i64::from(unread);
    let missing = u32::try_from(missing).ok().filter(|missing| *missing > 0)?;
    (missing >= target.unsigned_abs() / 2).then_some(missing)
}

impl Connection {
    /// Changes how much the peer may send ahead on a stream, from the next window update on.
    pub fn set_window(&mut self, key: Key, bytes: u32) {
        if let Some(stream) = self.state.streams.at(key.0) {
            stream.in_target = i32::try_from(bytes).unwrap_or(i32::MAX);
            self.state.update_stream(key.0);
        }
    }
}

impl State {
    /// DATA of this length counts against the connection's window, whatever becomes of it.
    pub(super) fn take_window(&mut self, length: u32) -> Verdict {
        let length = i32::try_from(length).map_err(|_too_large| Reason::FLOW_CONTROL_ERROR)?;
        if length > self.windows.in_window {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        self.windows.in_window -= length;
        Ok(())
    }

    /// Bytes wait to be read.
    pub(super) fn count_unread(&mut self, bytes: u32) {
        self.windows.unread = self.windows.unread.saturating_add(bytes);
    }

    /// Bytes no longer wait to be read.
    pub(super) fn count_read(&mut self, bytes: u32) {
        self.windows.unread = self.windows.unread.saturating_sub(bytes);
        self.update_connection();
    }

    /// Allows more on the connection when that is due.
    pub(super) fn update_connection(&mut self) {
        let windows = &mut self.windows;
        let Some(more) = increment(windows.in_target, windows.in_window, windows.unread) else { return };
        windows.in_window = windows.in_window.saturating_add_unsigned(more);
        if !self.closing.has_begun() {
            frame::write_number(&mut self.control, kind::WINDOW_UPDATE, 0, more);
            self.wake_mover();
        }
    }

    /// Allows more on a stream when that is due.
    pub(super) fn update_stream(&mut self, place: u32) {
        let Some(stream) = self.streams.at(place).filter(|stream| stream.is_receiving()) else { return };
        let Some(more) = increment(stream.in_target, stream.in_window, stream.unread) else { return };
        stream.in_window = stream.in_window.saturating_add_unsigned(more);
        let id = stream.id;
        frame::write_number(&mut self.control, kind::WINDOW_UPDATE, id, more);
        self.wake_mover();
    }

    /// The peer has acknowledged our SETTINGS: from now on the announced window counts, for open streams, too.
    pub(super) fn acknowledged(&mut self) -> Verdict {
        if std::mem::replace(&mut self.windows.is_acknowledged, true) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let announced = i32::try_from(self.config.stream_window).unwrap_or(i32::MAX);
        let more = announced - self.windows.in_initial;
        self.windows.in_initial = announced;
        for (_, stream) in self.streams.iter_mut() {
            stream.in_window = stream.in_window.saturating_add(more);
            stream.in_target = announced;
        }
        Ok(())
    }

    /// The peer has changed the window of all streams.
    pub(super) fn change_out_windows(&mut self, window: i32) -> Verdict {
        let more = i64::from(window) - i64::from(self.peer.window);
        self.peer.window = window;
        let mut places = Vec::new();
        for (place, stream) in self.streams.iter_mut() {
            let changed = i64::from(stream.out_window) + more;
            stream.out_window = i32::try_from(changed).map_err(|_overflow| Reason::FLOW_CONTROL_ERROR)?;
            places.push(place);
        }
        if more > 0 {
            places.into_iter().for_each(|place| self.may_send(place));
        }
        Ok(())
    }

    /// WINDOW_UPDATE of the connection.
    pub(super) fn widen(&mut self, more: i32) -> Verdict {
        if more == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.windows.out_window = self.windows.out_window.checked_add(more).ok_or(Reason::FLOW_CONTROL_ERROR)?;
        Ok(())
    }

    /// WINDOW_UPDATE of a stream.
    pub(super) fn widen_stream(&mut self, place: u32, more: i32) -> Verdict {
        let Some(stream) = self.streams.at(place) else { return Ok(()) };
        if stream.is_closed() {
            return Ok(());
        }
        if more == 0 {
            return self.offend(place, Reason::PROTOCOL_ERROR);
        }
        match stream.out_window.checked_add(more) {
            Some(window) => stream.out_window = window,
            None => return self.offend(place, Reason::FLOW_CONTROL_ERROR),
        }
        self.may_send(place);
        Ok(())
    }
}
