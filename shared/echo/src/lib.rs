//! A peer to test a network with: it answers over HTTP/1.1, WebSocket, HTTP/2 without TLS, gRPC, TCP and server-first
//! TCP, and says what it saw; with the clients that put steady load on such a peer, check a long stream byte for byte,
//! and hold many connections at the same time.
//!
//! The crate refuses to know Kubernetes and the mesh: whatever it reports about its pod is handed to it.
//! Its main types are [`Server`], [`client::load`], [`client::stream`] and [`client::crowd`].

pub mod client;
mod server;

pub use server::{Addresses, MAX_CONNECTIONS, Options, Pod, Server};

/// What can go wrong in the peer and in its clients.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// An address could not be bound.
    #[error("cannot listen on {address} for {protocol}")]
    Listen {
        /// The address that was asked for.
        address: std::net::SocketAddr,
        /// Which of the four listeners it is.
        protocol: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A URL or an option of a client makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A name of the target has no address.
    #[error("cannot find an address of {target}")]
    Resolve {
        /// Host and port.
        target: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The stream's connection could not be made.
    #[error("cannot connect to {target}")]
    Connect {
        /// Host and port.
        target: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
