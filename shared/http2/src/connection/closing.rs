//! The end of a connection: GOAWAY of either side, in peace or not ([RFC 9113, section
//! 6.8](https://www.rfc-editor.org/rfc/rfc9113#section-6.8)).

use super::{Connection, LAST_ID, State};
use crate::config::Role;
use crate::error::{Http2Error, Reason, Side};
use crate::frame::{self, kind};
use crate::stream::{Receiving, Sending};

/// The PING behind the announcement: its answer tells that the peer has read it.
pub(super) const DRAIN_PING: [u8; 8] = *b"draining";

/// How far a connection is on its way to the end.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// We announced the end; the peer may not know yet.
    is_announced: bool,
    /// Our last word: streams beyond this one are not looked at.
    last: Option<u32>,
    /// The peer's GOAWAY.
    pub(super) peer: Option<Reason>,
    /// Why streams broke.
    pub(super) failure: Option<Http2Error>,
    /// Nothing more is received; what is to be sent is sent, and that is all.
    outcome: Option<Result<(), Http2Error>>,
}

impl Closing {
    pub(super) fn has_begun(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether frames on this stream are not looked at.
    pub(super) fn ignores(&self, id: u32) -> bool {
        self.last.is_some_and(|last| id > last)
    }

    pub(super) fn failure(&self) -> Http2Error {
        self.failure.clone().unwrap_or_else(|| Http2Error::io(std::io::ErrorKind::BrokenPipe.into()))
    }
}

impl Connection {
    /// Says GOAWAY: streams that are open go on, and so do those that the peer opens before it has read that.
    pub fn drain(&mut self) {
        if self.state.closing.is_announced || self.state.closing.last.is_some() {
            return;
        }
        self.state.closing.is_announced = true;
        self.state.write_go_away(LAST_ID, Reason::NO_ERROR);
        self.state.write_ping(DRAIN_PING);
    }

    /// Says GOAWAY and ends all streams; the connection closes in peace.
    pub fn abort(&mut self) {
        self.state.end(Reason::NO_ERROR, Ok(()));
    }

    /// How the connection ended, or ends once the rest was sent; `None` while it goes on.
    ///
    /// It ends by itself when nobody can open streams any more and the last one is over.
    pub fn outcome(&mut self) -> Option<Result<(), Http2Error>> {
        self.state.close_if_done();
        self.state.closing.outcome.clone()
    }

    /// Whether streams can be opened.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.state.is_usable()
    }

    /// Counts one more handle that may open streams.
    pub fn add_handle(&mut self) {
        self.state.handles += 1;
    }

    /// Counts one handle less.
    pub fn remove_handle(&mut self) {
        self.state.handles = self.state.handles.saturating_sub(1);
        self.state.wake_if_done();
    }

    /// The transport is gone; nothing is sent any more.
    pub fn abandon(&mut self, error: std::io::Error) {
        self.state.break_off(Http2Error::io(error), false);
    }
}

impl State {
    pub(super) fn is_usable(&self) -> bool {
        !self.closing.has_begun() && self.closing.peer.is_none() && self.closing.last.is_none() && self.id <= LAST_ID
    }

    /// The peer broke the protocol.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.end(reason, Err(Http2Error::local(reason)));
    }

    /// Tells the peer that this is the end, and why, and breaks all streams.
    fn end(&mut self, reason: Reason, outcome: Result<(), Http2Error>) {
        if self.closing.has_begun() {
            return;
        }
        let last = self.closing.last.unwrap_or_else(|| self.last_of_peer());
        self.write_go_away(last, reason);
        self.closing.last = Some(last);
        self.break_streams(Http2Error::local(reason));
        self.closing.outcome = Some(outcome);
    }

    /// The transport is over; nobody can be told anything.
    pub(super) fn break_off(&mut self, error: Http2Error, is_peaceful: bool) {
        if self.closing.has_begun() {
            return;
        }
        self.control = Vec::new();
        self.break_streams(error.clone());
        self.closing.outcome = Some(if is_peaceful { Ok(()) } else { Err(error) });
        self.wake_mover();
    }

    fn break_streams(&mut self, error: Http2Error) {
        self.closing.failure = Some(error);
        self.requests.clear();
        self.places().into_iter().for_each(|place| self.break_stream(place));
        self.wake_openers();
    }

    /// Where streams are; what is done with one may remove it.
    fn places(&mut self) -> Vec<u32> {
        self.streams.iter_mut().map(|(place, _)| place).collect()
    }

    fn break_stream(&mut self, place: u32) {
        if let Some(stream) = self.streams.at(place) {
            stream.end(Receiving::Broken, Sending::Broken);
        }
        self.settle(place);
    }

    /// The peer's GOAWAY: streams beyond its last one were not looked at, the others go on.
    pub(super) fn take_go_away(&mut self, last: u32, reason: Reason) {
        self.closing.peer = Some(reason);
        if self.role == Role::Client {
            self.closing.failure = Some(Http2Error::GoAway { reason, side: Side::Remote });
            let mut beyond = self.places();
            beyond.retain(|place| self.streams.at(*place).is_some_and(|stream| stream.id > last));
            beyond.into_iter().for_each(|place| self.break_stream(place));
        }
        self.wake_openers();
    }

    /// The peer knows of the end: what it has opened by now is all.
    pub(super) fn finish_drain(&mut self) {
        if self.closing.is_announced && self.closing.last.is_none() {
            let last = self.last_of_peer();
            self.write_go_away(last, Reason::NO_ERROR);
            self.closing.last = Some(last);
        }
    }

    fn is_done(&self) -> bool {
        let nobody_opens = self.role == Role::Client && self.handles == 0 && self.streams.is_empty();
        let is_leaving = self.closing.peer.is_some() || self.closing.last.is_some();
        !self.closing.has_begun() && (nobody_opens || (is_leaving && self.active == 0))
    }

    /// Wakes the one who moves bytes when it is time to close.
    pub(super) fn wake_if_done(&mut self) {
        if self.is_done() {
            self.wake_mover();
        }
    }

    fn close_if_done(&mut self) {
        if !self.is_done() {
            return;
        }
        if self.closing.last.is_none() {
            let last = self.last_of_peer();
            self.write_go_away(last, Reason::NO_ERROR);
        }
        let outcome = match self.closing.peer {
            Some(reason) if reason != Reason::NO_ERROR => Err(Http2Error::GoAway { reason, side: Side::Remote }),
            _ => Ok(()),
        };
        self.closing.failure.get_or_insert_with(|| Http2Error::local(Reason::NO_ERROR));
        self.closing.outcome = Some(outcome);
    }

    /// The highest stream that the peer has opened.
    fn last_of_peer(&self) -> u32 {
        if self.role == Role::Server { self.id } else { 0 }
    }

    fn write_go_away(&mut self, last: u32, reason: Reason) {
        let payload = [last.to_be_bytes(), reason.0.to_be_bytes()].concat();
        frame::write(&mut self.control, kind::GOAWAY, 0, 0, &payload);
        self.wake_mover();
    }
}
