//! Moving bytes between two streams, and streams of which some bytes were already read.
//!
//! [`copy_bidirectional`] joins a downstream and an upstream until both directions have ended; [`Prefixed`] puts bytes
//! that were read ahead in front of the stream again, and [`ProxyHeader`] is what goes in front of one to say who connects.
//! The crate refuses to know TLS, HBONE and sockets: anything that is [`Duplex`] will do.
//! Its main function is [`copy_bidirectional`].

mod buffer;
mod copy;
mod direction;
mod duplex;
mod prefixed;
mod proxy_header;
mod transport;

pub use buffer::Buffer;
pub use copy::{CopyError, Counters, Direction, Operation, Side, copy_bidirectional};
pub use duplex::Duplex;
pub use prefixed::Prefixed;
pub use proxy_header::ProxyHeader;
pub use transport::Transport;
