//! Header blocks: requests, answers and trailers.

use std::task::{Context, Poll};

use http::HeaderMap;

use super::{CONTROL, Connection, Key, State, Verdict};
use crate::config::Role;
use crate::error::{Http2Error, Reason};
use crate::frame::{self, Head, flag};
use crate::message::{self, Fields, Response};
use crate::stream::{Receiving, Sending, Stream};

/// Frames that a header block may consist of.
const BLOCK_FRAMES: u32 = 100;

/// What a request is answered whose fields are too many.
const TOO_LARGE: u16 = 431;

impl Connection {
    /// Opens a stream with a CONNECT request, waiting for a place on the connection; its key has one handle.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        authority: &str,
        headers: &HeaderMap,
    ) -> Poll<Result<Key, Http2Error>> {
        let state = &mut self.state;
        if !state.is_usable() {
            return Poll::Ready(Err(state.closing.failure()));
        }
        if state.active >= state.peer.streams.unwrap_or(u32::MAX) || state.control.len() >= CONTROL {
            if !state.openers.iter().any(|opener| opener.will_wake(cx.waker())) {
                state.openers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let id = state.id;
        state.id += 2;
        let mut block = Vec::new();
        message::write_connect(&mut block, &mut state.encoder, authority, headers);
        frame::write_block(&mut state.control, id, false, &block, state.peer.frame_size);
        let mut stream = state.new_stream(id);
        stream.receiving = Receiving::Answer;
        stream.handles = 1;
        let place = state.streams.add(stream);
        state.active += 1;
        state.wake_mover();
        Poll::Ready(Ok(Key(place)))
    }

    /// Waits for the answer; to be called until it is ready, once.
    ///
    /// # Errors
    /// When the stream was reset, or the connection broke.
    pub fn poll_response(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<Result<Response, Http2Error>> {
        let failure = self.state.closing.failure();
        let Some(stream) = self.state.streams.at(key.0) else { return Poll::Ready(Err(failure)) };
        if let Some(response) = stream.response.take() {
            return Poll::Ready(Ok(*response));
        }
        match stream.receiving {
            Receiving::Broken => Poll::Ready(Err(failure)),
            Receiving::Answer => {
                stream.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Err(Http2Error::Reset { reason: stream.reason, side: stream.side })),
        }
    }

    /// Answers a request; with the end of the stream if so said.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn respond(&mut self, key: Key, status: u16, headers: &HeaderMap, ends_stream: bool) -> Result<(), Http2Error> {
        let state = &mut self.state;
        let Some(stream) = state.streams.at(key.0) else { return Err(state.closing.failure()) };
        match stream.sending {
            Sending::Answer => {}
            Sending::Broken => return Err(state.closing.failure()),
            _ => return Err(Http2Error::Reset { reason: stream.reason, side: stream.side }),
        }
        stream.sending = if ends_stream { Sending::Ended } else { Sending::Open };
        let id = stream.id;
        state.write_answer(id, status, headers, ends_stream);
        state.settle(key.0);
        Ok(())
    }
}

impl State {
    fn new_stream(&self, id: u32) -> Stream {
        Stream::new(id, self.windows.in_initial, self.peer.window)
    }

    fn write_answer(&mut self, id: u32, status: u16, headers: &HeaderMap, ends_stream: bool) {
        let mut block = Vec::new();
        message::write_status(&mut block, &mut self.encoder, status, headers);
        frame::write_block(&mut self.control, id, ends_stream, &block, self.peer.frame_size);
        self.wake_mover();
    }

    /// HEADERS or CONTINUATION; the reader has checked their order.
    pub(super) fn take_block(&mut self, head: Head, payload: &[u8]) -> Verdict {
        let is_first = self.block_frames == 0;
        if is_first && head.has(flag::END_HEADERS) {
            return self.take_fields(head.stream, head.has(flag::END_STREAM), payload);
        }
        if is_first {
            // Only the first frame says whether the stream ends.
            self.block_ends_stream = head.has(flag::END_STREAM);
        }
        self.block_frames += 1;
        self.block.extend_from_slice(payload);
        if self.block_frames > BLOCK_FRAMES || self.block.len() > self.block_limit() as usize {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if !head.has(flag::END_HEADERS) {
            return Ok(());
        }
        self.block_frames = 0;
        let block = std::mem::take(&mut self.block);
        self.take_fields(head.stream, self.block_ends_stream, &block)
    }

    fn take_fields(&mut self, id: u32, ends_stream: bool, block: &[u8]) -> Verdict {
        let mut fields = Fields::default();
        let limit = self.config.header_list as usize;
        let decoded = self.decoder.decode(block, limit, |name, value| fields.take(name, value));
        let is_within = decoded.map_err(|_malformed| Reason::COMPRESSION_ERROR)?;
        match self.streams.find(id) {
            Some(place) => self.take_answer(place, ends_stream, fields, is_within),
            None if self.role == Role::Server && id % 2 == 1 && id > self.id => {
                self.take_request(id, ends_stream, fields, is_within)
            }
            None => self.stray(id),
        }
    }

    fn take_request(&mut self, id: u32, ends_stream: bool, fields: Fields, is_within: bool) -> Verdict {
        self.id = id;
        if self.closing.ignores(id) {
            return Ok(());
        }
        if self.active >= self.config.streams {
            self.write_reset(id, Reason::REFUSED_STREAM);
            return Ok(());
        }
        if !is_within {
            self.write_answer(id, TOO_LARGE, &HeaderMap::new(), true);
            if !ends_stream {
                self.write_reset(id, Reason::NO_ERROR);
            }
            return Ok(());
        }
        let Some(request) = fields.into_request() else {
            self.count_error()?;
            self.write_reset(id, Reason::PROTOCOL_ERROR);
            return Ok(());
        };
        let mut stream = self.new_stream(id);
        stream.sending = Sending::Answer;
        if ends_stream {
            stream.receiving = Receiving::Ended;
        }
        let place = self.streams.add(stream);
        self.active += 1;
        self.requests.push_back((place, request));
        Ok(())
    }

    /// The fields of a stream that is there: its answer, or trailers.
    fn take_answer(&mut self, place: u32, ends_stream: bool, fields: Fields, is_within: bool) -> Verdict {
        let Some(stream) = self.streams.at(place) else { return Ok(()) };
        match stream.receiving {
            Receiving::Answer => {}
            Receiving::Open if ends_stream && fields.is_trailers() => {
                self.end_receiving(place);
                return Ok(());
            }
            Receiving::Open => return self.offend(place, Reason::PROTOCOL_ERROR),
            Receiving::Ended => return self.offend(place, Reason::STREAM_CLOSED),
            Receiving::Reset | Receiving::Broken => return Ok(()),
        }
        let response = if is_within { fields.into_response() } else { None };
        match response {
            // An interim answer announces another one.
            Some(Response { status: 100..200, .. }) if !ends_stream => {}
            Some(Response { status: 100..200, .. }) | None => return self.offend(place, Reason::PROTOCOL_ERROR),
            Some(response) => {
                stream.response = Some(Box::new(response));
                stream.receiving = Receiving::Open;
                stream.wake_reader();
                if ends_stream {
                    self.end_receiving(place);
                }
            }
        }
        Ok(())
    }
}
