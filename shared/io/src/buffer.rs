//! Buffers of a thread, lent for as long as something is in them: a connection at rest owns none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

/// How many a thread keeps for the next who needs one: about as many as a bulk stream has on its way.
const KEPT: usize = 32;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// [`Buffer::SIZE`] bytes with whatever the last one left in them; they go back to the thread when dropped.
///
/// Memory that is used again is in the cache, and the kernel does not have to map it.
#[derive(Debug)]
pub struct Buffer(Box<[u8]>);

impl Buffer {
    /// How many bytes: four TLS records of the largest size. Large enough that system calls do not dominate, small enough
    /// to stay in the cache.
    pub const SIZE: usize = 66 << 10;

    /// From how many bytes on it is worth a buffer of its own.
    pub const LARGE: usize = Self::SIZE / 2;

    /// A buffer that the thread has, or a new one.
    #[must_use]
    pub fn take() -> Self {
        let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Self(free.unwrap_or_else(|| vec![0; Self::SIZE].into_boxed_slice()))
    }

    /// The first `length` bytes; few of them are copied, since they would keep the whole buffer.
    #[must_use]
    pub fn into_bytes(self, length: usize) -> Bytes {
        let length = length.min(self.len());
        if length < Self::LARGE {
            return Bytes::copy_from_slice(self.get(..length).unwrap_or_default());
        }
        Bytes::from_owner(self).slice(..length)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that is ending keeps nothing.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the buffers are that a thread keeps.
    fn kept() -> Vec<*const u8> {
        FREE.with_borrow(|free| free.iter().map(|buffer| buffer.as_ptr()).collect())
    }

    #[test]
    fn memory_is_used_again_also_by_bytes_that_were_handed_on() {
        let buffer = Buffer::take();
        let place = buffer.as_ptr();
        let bytes = buffer.into_bytes(Buffer::SIZE);
        assert_eq!((bytes.len(), bytes.as_ptr()), (Buffer::SIZE, place), "nothing was copied");
        let part = bytes.slice(7..9);
        drop(bytes);
        assert_ne!(Buffer::take().as_ptr(), place, "a part is still in use");
        drop(part);
        assert_eq!(Buffer::take().as_ptr(), place);
    }

    #[test]
    fn few_bytes_do_not_keep_a_buffer() {
        let mut buffer = Buffer::take();
        let place = buffer.as_ptr();
        buffer.iter_mut().zip(b"few").for_each(|(to, from)| *to = *from);
        let bytes = buffer.into_bytes(3);
        assert_eq!(bytes, "few");
        assert_eq!(Buffer::take().as_ptr(), place);
        assert_eq!(Buffer::take().into_bytes(0), "");
        assert_eq!(Buffer::take().into_bytes(usize::MAX).len(), Buffer::SIZE, "there is no more");
    }

    #[test]
    fn a_thread_keeps_some_and_not_all() {
        drop((0..2 * KEPT).map(|_number| Buffer::take()).collect::<Vec<_>>());
        assert_eq!(kept().len(), KEPT);
    }
}
