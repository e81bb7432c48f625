//! One read buffer per thread, lent for the length of a poll: a connection at rest owns none.

use std::cell::Cell;

/// Size of the buffer, in bytes: a full turn of a tunnel's stream with the headers around it.
pub const LENT: usize = 64 << 10;

/// How much of it every read of a copy gets, and so the most that a connection keeps for a peer that reads slowly.
///
/// Large enough that system calls do not dominate, small enough to stay in the cache, and to leave in one piece: the
/// kernel carries up to 64 KiB with headers at a time, in whole segments, and a write that is a little larger costs a
/// second way through the network stack. TLS and HTTP/2 add about a hundred bytes.
pub(crate) const SIZE: usize = 60 * 1024;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's buffer, of [`LENT`] bytes, to `f`.
///
/// A nested loan gets a buffer of its own; it cannot happen unless a stream's poll runs another copy.
pub fn with<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; LENT].into_boxed_slice());
    let result = f(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
