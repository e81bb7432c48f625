//! Buffers of a thread, lent for the length of a poll: a connection at rest owns none.

use std::cell::Cell;

/// How much is read at a time: a full turn of a peer's stream, with the headers around it.
pub(crate) const SIZE: usize = 64 << 10;

thread_local! {
    static RECEIVED: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static FRAMES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the buffer for reading to `f`; a nested loan gets one of its own.
pub(crate) fn with<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = RECEIVED.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let result = f(&mut buffer);
    RECEIVED.set(Some(buffer));
    result
}

/// Takes the buffer for small frames, if nobody has it.
pub(crate) fn take_frames() -> Vec<u8> {
    FRAMES.take()
}

/// Gives it back, if it is one.
pub(crate) fn return_frames(buffer: Vec<u8>) {
    if buffer.capacity() > 0 {
        FRAMES.set(buffer);
    }
}
