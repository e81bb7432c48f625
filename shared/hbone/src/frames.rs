//! One buffer per thread for small frames on their way out: a connection with nothing to send owns none.

use std::cell::Cell;

thread_local! {
    static FRAMES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes the buffer, if nobody has it.
pub(crate) fn take() -> Vec<u8> {
    FRAMES.take()
}

/// Gives it back, if it is one.
pub(crate) fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() > 0 {
        FRAMES.set(buffer);
    }
}
