//! Envoy's configuration as the mesh understands it: messages become the types of `routing`, or are refused.
//!
//! What would change what happens to a request and is not honoured is refused with its place: nothing is ignored silently.
//! The crate refuses to know sockets, async and what becomes of a decision.
//! Its main function is [`route_table`].
#![warn(missing_docs)]

mod change;
mod cors;
mod fault;
mod filter;
mod matcher;
mod part;
mod place;
mod rbac;
mod route;

pub use place::Refused;
pub use rbac::rules;
pub use route::route_table;
