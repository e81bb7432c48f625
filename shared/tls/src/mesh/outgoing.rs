//! What is to be sent: sealed records, and the one that is being filled.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::io::Buffer;
use rustls::{ContentType, Error};
use tokio::io::AsyncWrite;

use super::record::{HEADER, LARGEST_PLAINTEXT, Sealer, TRAILER};

/// How much is sent at a time: what leaves in one piece.
///
/// The kernel carries 64 KiB with headers, rounded down to whole segments: at least this much for segments of up to
/// 8,948 bytes (jumbo frames). A little more would cost a second way through the network stack.
const SENT: usize = 61 * 1024;

/// Room for what the connection itself has to say.
const _: () = assert!(SENT + 256 < Buffer::SIZE, "what is sent fits into a buffer");

/// The sending direction; a connection whose peer has taken everything owns no buffer.
///
/// Writes are gathered until somebody flushes or the buffer is full: many small ones make one record and one packet.
pub(super) struct Outgoing {
    sealer: Sealer,
    buffer: Option<Buffer>,
    /// Up to here the transport has taken it.
    sent: usize,
    /// Up to here records are sealed.
    sealed: usize,
    /// Up to here the open record is filled; at `sealed` when there is none.
    filled: usize,
}

impl Outgoing {
    /// Goes on where the handshake stopped: what it has still to say leaves with the first that is sent.
    pub(super) fn new(sealer: Sealer, said: &[u8]) -> Self {
        let mut outgoing = Self { sealer, buffer: None, sent: 0, sealed: 0, filled: 0 };
        if !said.is_empty() {
            let mut buffer = Buffer::take();
            // It was small enough to be held back.
            if let Some(space) = buffer.get_mut(..said.len()) {
                space.copy_from_slice(said);
                (outgoing.sealed, outgoing.filled) = (said.len(), said.len());
                outgoing.buffer = Some(buffer);
            }
        }
        outgoing
    }

    /// Whether the key has done its share.
    pub(super) fn is_worn(&self) -> bool {
        self.sealer.is_worn()
    }

    /// What is written from now on is sealed with another key; to be called right after [`Self::say`].
    pub(super) fn rekey(&mut self, sealer: Sealer) {
        self.sealer = sealer;
    }

    /// Takes what there is room for; how much.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.fill(bytes, SENT)
    }

    /// Says something of the connection itself, behind what was written; false when there is no room for it now.
    pub(super) fn say(&mut self, content: ContentType, bytes: &[u8]) -> Result<bool, Error> {
        self.seal(ContentType::ApplicationData)?;
        if self.filled + HEADER + bytes.len() + TRAILER > Buffer::SIZE {
            return Ok(false);
        }
        self.fill(bytes, Buffer::SIZE)?;
        self.seal(content)?;
        Ok(true)
    }

    fn fill(&mut self, bytes: &[u8], limit: usize) -> Result<usize, Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled >= self.sealed + HEADER + LARGEST_PLAINTEXT {
                self.seal(ContentType::ApplicationData)?;
            }
            let start = if self.filled == self.sealed { self.sealed + HEADER } else { self.filled };
            let end = (self.sealed + HEADER + LARGEST_PLAINTEXT).min(limit - TRAILER);
            let room = end.saturating_sub(start).min(rest.len());
            let (head, tail) = rest.split_at(room);
            let buffer = self.buffer.get_or_insert_with(Buffer::take);
            match buffer.get_mut(start..start + room) {
                Some(space) if room > 0 => space.copy_from_slice(head),
                _ => break,
            }
            self.filled = start + room;
            rest = tail;
        }
        Ok(bytes.len() - rest.len())
    }

    fn seal(&mut self, content: ContentType) -> Result<(), Error> {
        if self.filled == self.sealed {
            return Ok(());
        }
        let end = self.filled + TRAILER;
        let record = self.buffer.as_deref_mut().and_then(|buffer| buffer.get_mut(self.sealed..end));
        self.sealer.seal(record.ok_or(Error::EncryptError)?, content)?;
        (self.sealed, self.filled) = (end, end);
        Ok(())
    }

    /// Seals what was written and sends all there is.
    pub(super) fn poll_send<S>(&mut self, cx: &mut Context<'_>, transport: &mut S) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        self.seal(ContentType::ApplicationData).map_err(io::Error::other)?;
        while self.sent < self.sealed {
            let bytes = self.buffer.as_deref().and_then(|buffer| buffer.get(self.sent..self.sealed));
            let count = ready!(Pin::new(&mut *transport).poll_write(cx, bytes.unwrap_or_default()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.buffer = None;
        (self.sent, self.sealed, self.filled) = (0, 0, 0);
        Poll::Ready(Ok(()))
    }
}
