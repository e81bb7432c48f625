//! One read buffer per thread, lent for the length of a poll.

use std::cell::Cell;

/// Size of the buffer that every read gets, and so the most that a connection keeps for a peer that reads slowly.
///
/// Four TLS records: large enough that system calls do not dominate, small enough to stay in the cache.
pub(crate) const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's buffer to `f`.
///
/// A nested loan gets a buffer of its own; it cannot happen unless a stream's poll runs another copy.
pub(crate) fn with<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let result = f(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
