//! HBONE: TCP streams inside HTTP/2 CONNECT requests, many of them on one connection.
//!
//! The crate speaks HTTP/2 over any [`Transport`](::io::Transport): a client, a [`Pool`](client::Pool) of connections, a
//! server, and the headers that describe who is talking.
//! It refuses to know sockets, TLS and what a workload is; statuses and reasons are data for its callers.
//! Its main type is [`Stream`], the tunnelled byte stream.
#![warn(missing_docs)]

mod activity;
pub mod client;
mod error;
mod frames;
mod handle;
mod headers;
mod keepalive;
mod mover;
mod pace;
mod parameters;
pub mod server;
mod status;
mod stream;

pub use error::{Cause, DialError, HboneError};
pub use headers::{Baggage, Forwarded, TraceParent, X_FORWARDED_NETWORK};
pub use parameters::{Keepalive, Parameters};
pub use status::{Refusal, Status};
pub use stream::{ReadHalf, Stream, WriteHalf};
