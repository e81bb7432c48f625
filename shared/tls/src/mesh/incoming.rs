//! What was received: records not yet opened, and plaintext not yet read.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::io::Buffer;
use rustls::{ContentType, Error};
use tokio::io::{AsyncRead, ReadBuf};

use super::record::{self, LARGEST_RECORD, Opener};

/// What a peer sends at a time arrives at a time.
const _: () = assert!(4 * LARGEST_RECORD <= Buffer::SIZE, "four records of the largest size fit into a buffer");

/// The receiving direction; a connection on which nothing arrives owns no buffer.
pub(super) struct Incoming {
    opener: Opener,
    buffer: Option<Buffer>,
    plain: Range<usize>,
    sealed: Range<usize>,
}

impl Incoming {
    /// Goes on where the handshake stopped: what it has opened already, and received beyond.
    pub(super) fn new(opener: Opener, plain: &[u8], sealed: &[u8]) -> Self {
        let mut incoming = Self { opener, buffer: None, plain: 0..0, sealed: 0..0 };
        if plain.len() + sealed.len() > 0 {
            let mut buffer = Buffer::take();
            let end = plain.len() + sealed.len();
            // Both were part of what fits into one buffer.
            if let Some(space) = buffer.get_mut(..end) {
                let (front, back) = space.split_at_mut(plain.len());
                front.copy_from_slice(plain);
                back.copy_from_slice(sealed);
                (incoming.plain, incoming.sealed) = (0..plain.len(), plain.len()..end);
                incoming.buffer = Some(buffer);
            }
        }
        incoming
    }

    /// The peer has changed its key.
    pub(super) fn rekey(&mut self, opener: Opener) {
        self.opener = opener;
    }

    /// Gives as much plaintext as there is and fits; whether that was anything.
    pub(super) fn read(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let length = self.plain.len().min(out.remaining());
        let taken = self.plain.start..self.plain.start + length;
        let Some(bytes) = self.buffer.as_deref().and_then(|buffer| buffer.get(taken)) else { return false };
        out.put_slice(bytes);
        self.plain.start += length;
        self.release();
        length > 0
    }

    /// Whether there is something to read.
    pub(super) fn has_plaintext(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Opens the next record if it is whole; what it is, and its content. Application data is kept for [`Self::read`].
    pub(super) fn open(&mut self) -> Result<Option<(ContentType, &[u8])>, Error> {
        let Some(buffer) = self.buffer.as_deref_mut() else { return Ok(None) };
        let received = buffer.get_mut(self.sealed.clone()).unwrap_or_default();
        let Some(length) = record::length(received)? else { return Ok(None) };
        let Some(record) = received.get_mut(..length) else { return Ok(None) };
        let (content, plain) = self.opener.open(record)?;
        let start = self.sealed.start;
        let plain = start + plain.start..start + plain.end;
        self.sealed.start += length;
        if content == ContentType::ApplicationData {
            self.plain = plain.clone();
        }
        Ok(Some((content, buffer.get(plain).unwrap_or_default())))
    }

    /// Receives more; how much, which is nothing at the end.
    pub(super) fn poll_receive<S>(&mut self, cx: &mut Context<'_>, transport: &mut S) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        self.release();
        let buffer = self.buffer.get_or_insert_with(Buffer::take);
        if Buffer::SIZE - self.sealed.end < LARGEST_RECORD {
            buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..self.sealed.len();
        }
        let mut space = ReadBuf::new(buffer.get_mut(self.sealed.end..).unwrap_or_default());
        let outcome = Pin::new(transport).poll_read(cx, &mut space);
        let received = space.filled().len();
        self.sealed.end += received;
        self.release();
        ready!(outcome)?;
        Poll::Ready(Ok(received))
    }

    /// Gives the buffer back when nothing is in it.
    fn release(&mut self) {
        if self.plain.is_empty() && self.sealed.is_empty() {
            self.buffer = None;
            (self.plain, self.sealed) = (0..0, 0..0);
        }
    }
}
