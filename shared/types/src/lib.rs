//! The words that every part of the mesh shares: identities, names and addresses.
//!
//! Parsing happens here, at the edge, once; whoever holds a value of these types may rely on its form.
//! The crate refuses to know sockets, files, protobuf and Kubernetes.
//! Its main type is [`Identity`].
#![warn(missing_docs)]

mod address;
mod cidr;
mod identity;
mod name;

pub use address::{Authority, NetworkAddress, canonical_ip};
pub use cidr::Cidr;
pub use identity::{Identity, TrustDomain};
pub use name::{Hostname, NamespacedHostname, NamespacedName, PodUid, WorkloadUid};

/// What did not parse, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct ParseError {
    /// The text as it came in.
    pub found: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl ParseError {
    pub(crate) fn new(found: impl Into<String>, expected: &'static str) -> Self {
        Self { found: found.into(), expected }
    }
}
