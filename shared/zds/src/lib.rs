//! The socket over which the node agent hands pods to the node proxy: one message per packet, a network namespace with
//! each added pod, every request acknowledged before the next.
//!
//! [`proxy::Session`] is the node proxy's side, [`agent::Listener`] and [`agent::Session`] are the node agent's.
//! The crate refuses to decide what a message means for a pod.
//! Its main type is [`Request`].

pub mod agent;
mod connection;
mod message;
pub mod proxy;

pub use connection::Connection;
pub use message::{Ack, Hello, MAX_MESSAGE, Request, WorkloadInfo};

/// What can go wrong between agent and proxy.
#[derive(Debug, thiserror::Error)]
pub enum ZdsError {
    /// The socket failed.
    #[error("the socket between node agent and node proxy failed")]
    Socket(#[from] std::io::Error),
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer did not read or answer in time.
    #[error("the peer did not {0} within {deadline:?}", deadline = connection::DEADLINE)]
    Timeout(&'static str),
    /// A message is longer than a peer's buffer.
    #[error("a message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong(usize),
    /// The bytes are no message of the protocol; the peer must not be trusted further.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// An added pod without the description that every release of the protocol requires.
    #[error("pod {0} was added without workload information")]
    MissingInfo(String),
    /// A message came with a descriptor that it must not have, or without the one that it must have.
    #[error("{0}")]
    Descriptor(&'static str),
}

impl ZdsError {
    /// Whether peer and proxy no longer speak the same protocol, so that the proxy should start anew rather than
    /// reconnect.
    #[must_use]
    pub fn is_protocol_violation(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::MissingInfo(_))
    }
}

#[cfg(test)]
mod tests;
