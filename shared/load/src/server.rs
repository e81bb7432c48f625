//! The server that plans are carried out against: HTTP/1.1, HTTP/2 without TLS, gRPC and the raw kinds on one port, told
//! apart by the first bytes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Threads, each with connections of its own. Default 1.
    pub threads: usize,
    /// How long each answer is held back. Default none.
    pub delay: Duration,
    /// Connections at a time, over all threads; more wait to be accepted. Default 20,000.
    pub max_connections: usize,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
}

impl Options {
    /// The defaults, at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, threads: 1, delay: Duration::ZERO, max_connections: 20_000 }
    }
}

impl Server {
    /// Listens, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or the system refuses a thread.
    pub fn bind(_options: &Options) -> io::Result<Self> {
        todo!()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on threads of its own until `end` resolves, then closes everything.
    pub async fn serve(self, _end: impl Future<Output = ()>) {
        todo!()
    }
}
