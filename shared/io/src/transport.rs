//! What the connections that others share stand on.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

/// A byte stream over a network.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// How long a byte and the answer to it take at least; zero where nobody knows.
    fn round_trip(&self) -> Duration {
        Duration::ZERO
    }
}

impl Transport for TcpStream {
    fn round_trip(&self) -> Duration {
        // The kernel knows it of every TCP connection; without it, a network is taken for a fast one.
        linux::socket::round_trip(self).unwrap_or_default()
    }
}

/// In memory: for tests and measurements.
impl Transport for DuplexStream {}
