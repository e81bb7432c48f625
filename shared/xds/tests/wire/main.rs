//! Discovery over real connections on loopback: a scripted server against the client, the client against the server,
//! and what an Istio control plane sent.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may unwrap")]

mod garbage;
mod on_demand;
mod recorded;
mod scripted;
mod support;
mod together;
mod unreadable;
