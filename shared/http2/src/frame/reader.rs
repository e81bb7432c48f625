//! Bytes that arrive in any pieces, as frames.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use super::{HEAD, Head, SMALLEST_LIMIT, flag, kind};
use crate::error::Reason;

/// DATA up to this size is delivered whole; larger frames in the pieces that they arrive in, none of them smaller than
/// this but the last.
const WHOLE: u32 = 4 << 10;

/// Control frames that nobody needs to be longer: as much as a peer without larger frames could send.
///
/// SETTINGS with more than 2,730 entries and GOAWAY with more words than that are an attack.
const LONGEST_CONTROL: u32 = SMALLEST_LIMIT;

/// From here a payload shares the memory that it was received in; below, it is copied.
///
/// A piece holds the whole receive buffer, which is at most eight times its size: a peer whose bytes are not read costs
/// eight windows at most.
const SHARED: usize = 8 << 10;

/// What was received.
#[derive(Debug)]
pub enum Input<'a> {
    /// In memory that is used again: what is to be kept is copied.
    Borrowed(&'a [u8]),
    /// In memory of its own: large payloads go on sharing it.
    Owned(Bytes),
}

impl<'a> Input<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// Takes at most `length` bytes off the front.
    fn take(&mut self, length: usize) -> Payload<'a> {
        match self {
            Self::Borrowed(bytes) => {
                let (front, rest) = bytes.split_at(length.min(bytes.len()));
                *bytes = rest;
                Payload::Borrowed(front)
            }
            Self::Owned(bytes) => Payload::Owned(bytes.split_to(length.min(bytes.len()))),
        }
    }
}

/// A frame's payload, or a part of it.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    /// A part of what was received.
    Owned(Bytes),
    /// In memory that holds nothing else.
    Gathered(Bytes),
}

impl Payload<'_> {
    /// In memory that may be kept.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Owned(bytes) if bytes.len() >= SHARED => bytes,
            payload => Bytes::copy_from_slice(&payload),
        }
    }

    /// Without `front` bytes at the front and `back` bytes at the back.
    fn trim(&mut self, front: usize, back: usize) -> bool {
        let Some(length) = self.len().checked_sub(front + back) else { return false };
        match self {
            Self::Borrowed(bytes) => *bytes = bytes.get(front..front + length).unwrap_or_default(),
            Self::Owned(bytes) | Self::Gathered(bytes) => {
                bytes.advance(front);
                bytes.truncate(length);
            }
        }
        true
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) | Self::Gathered(bytes) => bytes,
        }
    }
}

/// What the reader has found.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A frame other than DATA, without its padding and priority.
    Frame(Head, Payload<'a>),
    /// DATA begins; its length counts against the windows, padding included.
    Data(Head),
    /// Bytes of that DATA; the last ones if so said.
    Piece(Payload<'a>, bool),
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Head,
    /// A frame that must be complete.
    Whole(Head),
    /// DATA whose beginning has been told.
    Small(Head),
    /// The byte that tells how much padding there is.
    Padding(Head),
    /// Pieces of DATA: so many bytes, then so much padding.
    Large(u32, u32),
    /// Bytes that mean nothing to us.
    Skip(u32),
}

/// Cuts bytes into frames; holds only what is not complete, and nothing between frames.
#[derive(Debug)]
pub(crate) struct Reader {
    stage: Stage,
    rest: Vec<u8>,
    /// The stream whose header block goes on in the next frame.
    block: Option<u32>,
    largest: u32,
    largest_block: u32,
}

impl Reader {
    /// For frames up to this size, and for frames of header blocks up to that.
    pub(crate) fn new(largest: u32, largest_block: u32) -> Self {
        Self { stage: Stage::Head, rest: Vec::new(), block: None, largest, largest_block }
    }

    /// Whether nothing is missing of the last frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.rest.is_empty()
    }

    /// The next event; `None` when more must be received.
    pub(crate) fn next<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<Event<'a>>, Reason> {
        loop {
            match self.stage {
                Stage::Head => {
                    let Some(bytes) = self.gather(input, HEAD) else { return Ok(None) };
                    let Some(bytes) = bytes.first_chunk() else { return Ok(None) };
                    let head = Head::parse(*bytes);
                    self.stage = self.judge(head)?;
                    if head.kind == kind::DATA {
                        return Ok(Some(Event::Data(head)));
                    }
                }
                Stage::Whole(head) => {
                    let Some(mut payload) = self.gather(input, head.length as usize) else { return Ok(None) };
                    self.stage = Stage::Head;
                    unpad(head, &mut payload)?;
                    return Ok(Some(Event::Frame(head, payload)));
                }
                Stage::Small(head) => {
                    let Some(mut payload) = self.gather(input, head.length as usize) else { return Ok(None) };
                    self.stage = Stage::Head;
                    unpad(head, &mut payload)?;
                    return Ok(Some(Event::Piece(payload, true)));
                }
                Stage::Padding(head) => {
                    let Some(byte) = self.gather(input, 1) else { return Ok(None) };
                    let padding = byte.first().copied().map_or(0, u32::from);
                    let length = (head.length - 1).checked_sub(padding).ok_or(Reason::PROTOCOL_ERROR)?;
                    self.stage = Stage::Large(length, padding);
                }
                Stage::Large(left, padding) => {
                    let piece = if self.rest.is_empty() && input.len() >= left.min(WHOLE) as usize {
                        input.take(left as usize)
                    } else {
                        let Some(piece) = self.gather(input, left.min(WHOLE) as usize) else { return Ok(None) };
                        piece
                    };
                    let left = left - u32::try_from(piece.len()).unwrap_or(left);
                    self.stage = if left == 0 { Stage::Skip(padding) } else { Stage::Large(left, padding) };
                    return Ok(Some(Event::Piece(piece, left == 0)));
                }
                Stage::Skip(0) => self.stage = Stage::Head,
                Stage::Skip(left) => {
                    if input.len() == 0 {
                        return Ok(None);
                    }
                    let skipped = input.take(left as usize).len();
                    self.stage = Stage::Skip(left - u32::try_from(skipped).unwrap_or(left));
                }
            }
        }
    }

    /// What to do with the payload of a frame.
    fn judge(&mut self, head: Head) -> Result<Stage, Reason> {
        if head.length > self.largest {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let is_stream = head.stream != 0;
        let wrong_stream = match head.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => !is_stream,
            kind::SETTINGS | kind::PING | kind::GOAWAY => is_stream,
            // Push was never allowed.
            kind::PUSH_PROMISE => true,
            _ => false,
        };
        // Nothing may come between the frames of a header block, and nothing goes on that has not begun.
        let goes_on = head.kind == kind::CONTINUATION && self.block == Some(head.stream);
        if wrong_stream || goes_on != (self.block.is_some() || head.kind == kind::CONTINUATION) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let is_acknowledgement = head.kind == kind::SETTINGS && head.has(flag::ACK);
        let is_right_length = match (head.kind, head.length) {
            (kind::PRIORITY, length) => length == 5,
            (kind::RST_STREAM | kind::WINDOW_UPDATE, length) => length == 4,
            (kind::PING, length) => length == 8,
            (kind::SETTINGS, length) if is_acknowledgement => length == 0,
            (kind::SETTINGS, length) => length % 6 == 0 && length <= LONGEST_CONTROL,
            (kind::GOAWAY, length) => (8..=LONGEST_CONTROL).contains(&length),
            _ => true,
        };
        if !is_right_length {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
            if head.length > self.largest_block {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
            self.block = (!head.has(flag::END_HEADERS)).then_some(head.stream);
        }
        Ok(match head.kind {
            kind::DATA if head.length <= WHOLE => Stage::Small(head),
            kind::DATA if head.has(flag::PADDED) => Stage::Padding(head),
            kind::DATA => Stage::Large(head.length, 0),
            kind::PRIORITY => Stage::Skip(head.length),
            known if known <= kind::CONTINUATION => Stage::Whole(head),
            _ => Stage::Skip(head.length),
        })
    }

    /// So many bytes in a row, or `None`; what there is of them is kept.
    fn gather<'a>(&mut self, input: &mut Input<'a>, length: usize) -> Option<Payload<'a>> {
        if self.rest.is_empty() && input.len() >= length {
            return Some(input.take(length));
        }
        let missing = length.saturating_sub(self.rest.len());
        self.rest.extend_from_slice(&input.take(missing));
        (self.rest.len() == length).then(|| Payload::Gathered(Bytes::from(std::mem::take(&mut self.rest))))
    }
}

/// Takes padding and priority away (sections 6.1 and 6.2).
fn unpad(head: Head, payload: &mut Payload<'_>) -> Result<(), Reason> {
    let is_headers = head.kind == kind::HEADERS;
    let (mut front, mut back) = (0, 0);
    if head.has(flag::PADDED) && (is_headers || head.kind == kind::DATA) {
        back = payload.first().copied().map(usize::from).ok_or(Reason::FRAME_SIZE_ERROR)?;
        front = 1;
    }
    if head.has(flag::PRIORITY) && is_headers {
        front += 5;
    }
    if payload.trim(front, back) { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }
}

#[cfg(test)]
mod tests;
