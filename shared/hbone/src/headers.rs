//! The headers that travel with a CONNECT request.

mod baggage;
mod forwarded;
mod traceparent;

pub use baggage::Baggage;
pub use forwarded::Forwarded;
pub use traceparent::TraceParent;

/// The header with the client's network id; on the inner request of double HBONE only.
pub const X_FORWARDED_NETWORK: &str = "x-forwarded-network";
