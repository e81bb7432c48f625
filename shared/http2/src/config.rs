//! The numbers of a connection, and which end of it this is.

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that opens streams.
    Client,
    /// The one that answers.
    Server,
}

/// What a connection offers its peer, and what it puts up with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes that a peer may send ahead on one stream; at most 2³¹ − 1.
    pub stream_window: u32,
    /// Bytes that a peer may send ahead on all streams; at most 2³¹ − 1, at least 65,535.
    pub connection_window: u32,
    /// The largest frame that is accepted; 16 KiB to 16 MiB − 1.
    pub frame_size: u32,
    /// Bytes of headers that are accepted, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub header_list: u32,
    /// Streams that a server lets its client have open.
    pub streams: u32,
    /// Bytes that one stream may hold back for the connection to send.
    pub send_buffer: usize,
    /// Streams that were reset by this end and are remembered for a second, because the peer may not know yet; and
    /// requests that a peer may take back before anybody has looked at them.
    pub reset_streams: usize,
    /// Errors on single streams, frames on streams long gone among them, that a peer may make in the life of a
    /// connection; no limit if `None`.
    pub stream_errors: Option<usize>,
    /// What unread small DATA frames may cost before they count as an attack: a frame of n < 256 bytes costs 256 − n.
    pub small_frame_budget: usize,
}
