//! One connection: what arrives changes it, and what is to be sent is taken from it.

mod closing;
mod headers;
mod receive;
mod reset;
mod send;
mod tunnel;
mod windows;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use crate::config::{Config, Role};
use crate::error::{Http2Error, Reason};
use crate::frame::{self, Input, PREFACE, Reader, kind};
use crate::hpack::{Decoder, Encoder};
use crate::message::Request;
use crate::settings::{self, INITIAL_WINDOW};
use crate::stream::Store;

/// Beyond so many bytes of answers, resets and requests that the transport has not taken, nothing more is read from a
/// peer, and no stream opened: whoever does not listen is not listened to.
const CONTROL: usize = 16 << 10;

/// The largest number of a stream.
const LAST_ID: u32 = 0x7fff_ffff;

/// Stands for "no stream" in the queue of those that want to send.
const NOBODY: u32 = u32::MAX;

/// A stream of a connection; valid until it was released as often as it was given out and retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u32);

/// The state of one HTTP/2 connection, of either role.
///
/// Whoever moves its bytes calls [`Connection::receive`] with what has arrived and takes what is to be sent with
/// [`Connection::transmit`]; when there is nothing left to do, it leaves its waker with [`Connection::park`].
/// The users of its streams are woken when there is something for them.
#[derive(Debug)]
pub struct Connection {
    reader: Reader,
    state: State,
}

/// All but the reader, which hands frames to it.
#[derive(Debug)]
struct State {
    role: Role,
    config: Config,
    streams: Store,
    /// Streams that count as open: those of the peer for a server, the own ones for a client.
    active: u32,
    /// Who sends first, and who last.
    first: u32,
    last: u32,
    /// Somebody among them may have nothing to send but the end, which needs no window.
    has_end_to_send: bool,
    /// Frames other than DATA that are to be sent.
    control: Vec<u8>,
    encoder: Encoder,
    decoder: Decoder,
    /// The header block that is not complete, and how many frames it has so far.
    block: Vec<u8>,
    block_frames: u32,
    block_ends_stream: bool,
    /// The DATA frame that is being received: its stream, and whether it ends it.
    data: Option<(u32, bool)>,
    windows: windows::Windows,
    peer: Peer,
    /// The number of the next stream of a client; the highest that a server has seen.
    id: u32,
    closing: closing::Closing,
    /// Handles of a client that may open streams.
    handles: usize,
    /// Those who wait to open a stream.
    openers: Vec<Waker>,
    /// The one who moves bytes, while it has nothing to do.
    mover: Option<Waker>,
    /// Requests that nobody has looked at.
    requests: VecDeque<(u32, Request)>,
    offences: reset::Offences,
}

/// What the peer allows.
#[derive(Debug)]
struct Peer {
    window: i32,
    frame_size: u32,
    /// `None` before it has said anything.
    streams: Option<u32>,
}

impl Connection {
    /// A connection that begins; its first bytes are there to be sent.
    #[must_use]
    pub fn new(role: Role, config: Config) -> Self {
        let mut control = Vec::new();
        if role == Role::Client {
            control.extend_from_slice(PREFACE);
        }
        frame::write(&mut control, kind::SETTINGS, 0, 0, &settings::announce(&config, role));
        let windows = windows::Windows::new(&config);
        if let Some(more) = windows.beyond_initial() {
            frame::write_number(&mut control, kind::WINDOW_UPDATE, 0, more);
        }
        let state = State {
            role,
            streams: Store::default(),
            active: 0,
            first: NOBODY,
            last: NOBODY,
            has_end_to_send: false,
            control,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            block: Vec::new(),
            block_frames: 0,
            block_ends_stream: false,
            data: None,
            windows,
            peer: Peer { window: INITIAL_WINDOW, frame_size: frame::SMALLEST_LIMIT, streams: None },
            id: if role == Role::Client { 1 } else { 0 },
            closing: closing::Closing::default(),
            handles: 0,
            openers: Vec::new(),
            mover: None,
            requests: VecDeque::new(),
            offences: reset::Offences::default(),
            config,
        };
        Self { reader: Reader::new(state.config.frame_size, state.block_limit()), state }
    }

    /// Takes what has arrived; a client's preface is not part of it.
    ///
    /// A peer that breaks the protocol is told so, and the connection begins to close: see [`Connection::outcome`].
    pub fn receive(&mut self, mut input: Input<'_>, now: Instant) {
        self.state.offences.stamp(now);
        while !self.state.closing.has_begun() {
            let event = match self.reader.next(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(reason) => return self.state.fail(reason),
            };
            if let Err(reason) = self.state.take(event) {
                return self.state.fail(reason);
            }
        }
    }

    /// The transport has ended, or broken.
    pub fn receive_end(&mut self, error: Option<std::io::Error>) {
        let is_cut = !self.reader.is_between_frames();
        let is_peaceful = error.is_none() && !is_cut;
        let error = error.unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        self.state.break_off(Http2Error::io(error), is_peaceful);
    }

    /// Whether more should be received.
    ///
    /// False while the peer does not take our answers, and when nothing that it could say matters any more.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.state.closing.has_begun() && self.state.control.len() < CONTROL
    }

    /// Leaves the waker of the one who moves bytes; false if there is something to send already.
    #[must_use]
    pub fn park(&mut self, waker: &Waker) -> bool {
        if self.has_output() {
            return false;
        }
        match &mut self.state.mover {
            Some(mover) => mover.clone_from(waker),
            mover => *mover = Some(waker.clone()),
        }
        true
    }

    /// How many streams the peer allows; `None` before its SETTINGS.
    #[must_use]
    pub fn peer_streams(&self) -> Option<usize> {
        let streams = self.state.peer.streams?;
        Some(if streams == u32::MAX { usize::MAX } else { streams as usize })
    }

    /// The next request that nobody has looked at; its key has one handle.
    pub fn next_request(&mut self) -> Option<(Key, Request)> {
        let (place, request) = self.state.requests.pop_front()?;
        if self.state.requests.is_empty() {
            self.state.requests = VecDeque::new();
            self.state.offences.taken_back = 0;
        }
        if let Some(stream) = self.state.streams.at(place) {
            stream.handles += 1;
        }
        Some((Key(place), request))
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self) {
        self.state.write_ping(PING);
    }
}

/// What our PING says; nobody looks at it.
const PING: [u8; 8] = *b"are you?";

impl State {
    fn write_ping(&mut self, payload: [u8; 8]) {
        frame::write(&mut self.control, kind::PING, 0, 0, &payload);
        self.wake_mover();
    }

    fn wake_mover(&mut self) {
        if let Some(mover) = self.mover.take() {
            mover.wake();
        }
    }

    fn wake_openers(&mut self) {
        std::mem::take(&mut self.openers).into_iter().for_each(Waker::wake);
    }

    /// The longest header block that is decoded: twice what its fields may be, so that those that are a little too long
    /// can be told from an attack.
    fn block_limit(&self) -> u32 {
        self.config.header_list.saturating_mul(2).max(frame::SMALLEST_LIMIT)
    }
}

/// What an offence against the protocol leads to: the end of the connection.
type Verdict<T = ()> = Result<T, Reason>;

#[cfg(test)]
mod tests;
