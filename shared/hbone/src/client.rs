//! The client: handshake, CONNECT, and the pool that shares connections.

mod connection;
mod member;
mod pool;
mod request;

pub use connection::{Client, Driver, handshake};
pub(crate) use member::Slot;
pub use pool::Pool;
pub use request::{Connect, Connected};
