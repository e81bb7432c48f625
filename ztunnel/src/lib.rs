//! The node proxy: captures the connections of a node's pods inside their network namespaces and carries them through
//! HBONE, with the identity of each pod, judged by layer-4 policy at the destination.
//!
//! [`run`] is the whole program; [`Node`] is what is left without control plane and ports of its own, made from
//! [`Parts`] that a test can supply.
//! A connection is handled in one short function per direction (`outbound`, `inbound`, `plaintext`), in one order:
//! accept, original destination, resolve, authorise, connect, copy, end.
//! Name lookups are answered, or forwarded, in `lookups`.
//! Connections run on worker threads, each with a runtime and pools of its own, so that both legs of a connection stay
//! on one thread; everything else runs on the caller's.
//! The crate refuses to know Kubernetes and how redirection is made.

mod accept;
mod admin;
mod authorise;
#[cfg(test)]
mod budget;
mod certificates;
mod channel;
mod claim;
mod connect;
mod end;
mod error;
mod hand_over;
mod inbound;
mod knowledge;
mod labels;
mod lane;
mod live;
mod lookups;
mod names;
mod node;
mod outbound;
mod plaintext;
mod pods;
mod ports;
mod proxy_header;
mod residents;
mod revocation;
mod run;
mod session;
mod shared;
mod socks;
mod succession;
mod tunnel;
mod workers;

pub use error::ZtunnelError;
pub use node::{Node, Parts};
pub use run::run;
