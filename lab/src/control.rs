//! How commands talk to a running lab: messages over a unix socket that only the lab's user can reach.

mod channel;
pub mod client;
mod message;
pub(crate) mod server;

pub(crate) use channel::{Channel, watched};
pub(crate) use message::{Announcement, Message};
pub use message::{LogsRequest, Target};
