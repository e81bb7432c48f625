//! Bytes on their way to the transport.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Up to here small frames are gathered, so that many leave in one write.
const GATHERED: usize = 16 << 10;

/// Frames that were taken from a connection and not yet from here: small ones one after the other in a buffer, then at
/// most one large payload, which is not copied.
///
/// Once empty, it can give the buffer back, for others to use.
#[derive(Debug, Default)]
pub struct Output {
    pub(crate) buffer: Vec<u8>,
    /// Up to here the transport has taken the buffer.
    taken: usize,
    pub(crate) payload: Bytes,
}

impl Output {
    /// Uses this memory for small frames, unless there is some already.
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffer();
        }
    }

    /// Whether everything was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken >= self.buffer.len() && self.payload.is_empty()
    }

    /// What is to be written, in this order; either may be empty.
    #[must_use]
    pub fn slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(self.buffer.get(self.taken..).unwrap_or_default()), IoSlice::new(&self.payload)]
    }

    /// The transport has taken so many bytes.
    pub fn advance(&mut self, count: usize) {
        let small = count.min(self.buffer.len() - self.taken);
        self.taken += small;
        self.payload.advance((count - small).min(self.payload.len()));
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
        if self.payload.is_empty() {
            // Lets go of the memory behind it.
            self.payload = Bytes::new();
        }
    }

    /// The memory for small frames, when nothing is in it any more.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Whether another frame may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.payload.is_empty() && self.buffer.len() < GATHERED
    }
}
