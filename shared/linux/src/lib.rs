//! The kernel, as the rest of the mesh sees it: network namespaces, sockets with marks and spoofed sources, packet
//! filter rules as data, links and routes, processes in namespaces of their own.
//!
//! Everything is synchronous and works on the calling thread's namespaces; whoever wants another network namespace
//! wraps the call in [`NetNs::run`].
//! All `unsafe` code of the project lives here.
//! The crate refuses to know anything above the kernel: no pods, no policies, no protocols of the mesh.
//! Its main type is [`NetNs`].
#![warn(missing_docs)]
#![allow(unsafe_code, reason = "the one crate that may talk to the kernel without a safe wrapper")]

pub mod directory;
mod error;
pub mod link;
pub mod marks;
pub mod mount;
mod netlink;
pub mod netns;
pub mod nft;
pub mod packet;
mod prefix;
pub mod process;
pub mod route;
pub mod seqpacket;
pub mod socket;
pub mod syscalls;
pub mod sysctl;
pub mod timer;

pub use error::{OperationError, errno, is_no_ipv6};
pub use netns::NetNs;
pub use prefix::{ParsePrefixError, Prefix};
