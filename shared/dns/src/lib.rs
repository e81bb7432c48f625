//! Name lookups of captured pods: which names the mesh answers itself, and with what.
//!
//! Everything here is a function of bytes, of what discovery knows, and of randomness that is passed in; sockets and
//! deadlines are the caller's. What the mesh does not answer is left to the caller to forward, and comes back through
//! [`Forwarding`], which leaves every answer as it is but for the identifier and the claim to be authoritative.
//! The main type is [`Query`]; [`answer`] decides.

#![warn(missing_docs)]

mod answer;
mod client;
mod forward;
mod names;
mod query;

pub use answer::{Answer, Settings, TTL, answer};
pub use client::{addresses, question};
pub use forward::{Forwarding, Verdict};
pub use hickory_proto::op::ResponseCode;
pub use hickory_proto::rr::RecordType;
pub use query::{Query, Transport, Unusable};

#[cfg(test)]
mod tests;
