//! HTTP/2 as CONNECT tunnels need it: [RFC 9113](https://www.rfc-editor.org/rfc/rfc9113) and the header compression of
//! [RFC 7541](https://www.rfc-editor.org/rfc/rfc7541).
//!
//! The crate is a protocol core without transport, runtime or clock: received bytes and the time are arguments, bytes to
//! send are taken from an [`Output`], and whoever waits leaves a waker.
//! It speaks no push, no priorities and no extended CONNECT, and knows no bodies but tunnelled bytes.
//! A stream at rest owns no buffer, and all streams of a connection take turns of one frame.
//! Its main type is [`Connection`].
#![warn(missing_docs)]

mod config;
mod connection;
mod error;
mod frame;
mod hpack;
mod message;
mod output;
mod settings;
mod stream;

pub use config::{Config, Role};
pub use connection::{Connection, Key};
pub use error::{Http2Error, Reason, Side};
pub use frame::{Input, PREFACE};
pub use message::{Request, Response};
pub use output::Output;
