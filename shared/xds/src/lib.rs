//! Discovery over the delta variant of xDS: the client that feeds the mesh's models, and the server that feeds clients.
//!
//! [`delta`] is the client as a pure state machine, [`client`] its transport with reconnects, [`feed`] and [`convert`]
//! turn what arrives into workloads, services and policies.
//! [`server`] answers `DeltaAggregatedResources` from immutable snapshots.
//! The crate refuses to know TLS, sockets and tokens: connections come from a [`client::ChannelFactory`], callers are
//! judged by a [`server::Authenticate`].
//! Its main types are [`client::Client`] and [`server::Server`].

pub mod backoff;
pub mod client;
pub mod convert;
pub mod delta;
pub mod demand;
pub mod feed;
pub mod node;
pub mod server;
mod wire;

/// The cause of a failure outside of this crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
