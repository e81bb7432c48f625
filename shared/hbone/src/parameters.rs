//! The numbers of an HBONE connection.

use std::time::Duration;

use http2::{Config, Role};

/// How often a connection asks its peer whether it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// A PING goes out when nothing was received for this long; 10 s by default.
    pub interval: Duration,
    /// The connection is given up when nothing is received for this long after the PING; 20 s by default.
    pub timeout: Duration,
}

/// The HTTP/2 parameters of both sides; the defaults are those of Istio's ztunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes that a peer may send ahead on one stream; 4 MiB (`HTTP2_STREAM_WINDOW_SIZE`).
    pub stream_window: u32,
    /// Bytes that a peer may send ahead on all streams of a connection; 16 MiB (`HTTP2_CONNECTION_WINDOW_SIZE`).
    pub connection_window: u32,
    /// The largest frame that is accepted; 1 MiB (`HTTP2_FRAME_SIZE`), at least 16 KiB, below 16 MiB.
    pub frame_size: u32,
    /// Streams that a client opens on one connection, if the peer allows as many; 100
    /// (`POOL_MAX_STREAMS_PER_CONNECTION`).
    pub client_streams: usize,
    /// Streams that a server lets a client open on one connection; 200.
    pub server_streams: u32,
    /// Bytes of headers that a client accepts in an answer; 16 KiB.
    pub client_header_list: u32,
    /// Bytes of headers that a server accepts in a request, beyond which it answers 431; 64 KiB.
    pub server_header_list: u32,
    /// Bytes that one stream may hold back for the connection to send; 256 KiB.
    pub send_buffer: usize,
    /// When to ask whether the peer is alive.
    pub keepalive: Keepalive,
    /// How long a server waits for a client to begin HTTP/2; 10 s.
    pub handshake_timeout: Duration,
    /// How long TCP, TLS and HTTP/2 handshakes of a pooled connection may take together, until the peer's SETTINGS
    /// are there; 10 s.
    pub dial_timeout: Duration,
    /// How long a pooled connection may be without streams before it is closed; 5 min
    /// (`POOL_UNUSED_RELEASE_TIMEOUT`). Zero: it ends with its last stream.
    pub idle_timeout: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            frame_size: 1 << 20,
            client_streams: 100,
            server_streams: 200,
            client_header_list: 16 << 10,
            server_header_list: 64 << 10,
            send_buffer: 256 << 10,
            keepalive: Keepalive { interval: Duration::from_secs(10), timeout: Duration::from_secs(20) },
            handshake_timeout: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// How many frames a peer may keep sending on streams that were reset, for one second each, before it is an error.
///
/// Tunnels are cut all the time, and the other side's bytes are then still on their way.
const RESET_STREAMS: usize = 1024;

/// How many protocol errors on single streams a client may make in the life of a connection.
///
/// Frames that cross a reset by more than a second count; a busy client on a slow link makes some every day.
const STREAM_ERRORS: usize = 1 << 14;

impl Parameters {
    /// The numbers of one connection.
    pub(crate) fn config(&self, role: Role) -> Config {
        let is_server = role == Role::Server;
        Config {
            stream_window: self.stream_window,
            connection_window: self.connection_window,
            frame_size: self.frame_size,
            header_list: if is_server { self.server_header_list } else { self.client_header_list },
            streams: self.server_streams,
            send_buffer: self.send_buffer,
            reset_streams: RESET_STREAMS,
            // A server that answers late on streams that were cut is no reason to cut the others.
            stream_errors: is_server.then_some(STREAM_ERRORS),
            // Half the window would let a single reader that pauses over a chatty peer end the connection for all others
            // after 32 thousand one-byte frames.
            small_frame_budget: (self.connection_window as usize).saturating_mul(2),
        }
    }
}
