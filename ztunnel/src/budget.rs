//! What an idle connection may cost in memory: the sizes of what its task keeps.

use std::mem::size_of;

use crate::live::Live;
use crate::{inbound, outbound, plaintext};

/// The size of the future that an async function returns.
fn size_of_task<A, B, C, D, F: Future>(_serve: impl Fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn tasks_of_idle_connections_are_small() {
    // Two sides of one connection, and its place in the registry; buffers belong to threads while nothing moves.
    for (what, size, limit) in [
        ("an outbound task", size_of_task(outbound::serve), 648),
        ("a plaintext task", size_of_task(plaintext::serve), 568),
        ("a stream's task", inbound::size_of_stream_task(), 680),
        ("a registered connection", size_of::<Live>(), 200),
    ] {
        assert!(size <= limit, "{what} takes {size} bytes, more than {limit}");
    }
}
