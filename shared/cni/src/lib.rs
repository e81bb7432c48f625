//! The container network interface: what container runtimes, network plugins and the node agent say to each other.
//!
//! Both sides are here: what a plugin reads and answers ([`invocation`], [`result`]), what a runtime does with a
//! directory of networks ([`network`], [`chain`]), and the message by which our plugin announces a pod to the node agent
//! ([`announcement`]).
//! The crate refuses to know what a plugin does and how a process is started; [`chain::Run`] only says which comes next.
//! It keeps to the [specification](https://www.cni.dev/docs/spec/), versions 0.3.0 to 1.1.0.
#![warn(missing_docs)]

pub mod announcement;
pub mod chain;
pub mod invocation;
pub mod network;
pub mod result;

/// The type of our plugin, and the name of its binary.
pub const PLUGIN: &str = "aquifer-cni";

/// The versions of the specification that our plugin speaks; before 0.3.0 there were no chains.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
