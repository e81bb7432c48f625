//! The knobs of every component: one table, read once at start.
//!
//! [`table::TABLE`] names each variable with type, unit, default and meaning; values and [`markdown()`] both come from
//! it, so that the documentation cannot differ from the program.
//! A value that does not parse is fatal and the error names the variable, what was found and what was expected.
//! The crate refuses to be asked after start-up, to know sockets and to guess.
//! Its main types are [`Lookup`] and one structure per component: [`Ztunnel`], [`ControlPlane`], [`Node`].
//!
//! ```
//! let lookup = config::Lookup::from_iter([("NODE_NAME", "node-1"), ("SECRET_TTL", "1h30m")]);
//! let ztunnel = config::Ztunnel::from(&lookup).unwrap();
//! assert_eq!(ztunnel.secret_ttl, std::time::Duration::from_secs(5400));
//! ```

mod address;
mod controlplane;
mod error;
mod knob;
mod lookup;
mod markdown;
mod mesh;
mod node;
mod selector;
pub mod table;
mod value;
mod ztunnel;

pub use address::{RootSource, ServerAddress, Token};
pub use controlplane::ControlPlane;
pub use error::ConfigError;
pub use knob::{Component, Knob, Row};
pub use lookup::{Lookup, environment};
pub use markdown::markdown;
pub use mesh::ProxyConfig;
pub use node::{Node, Plugin};
pub use selector::{EnablementSelector, LabelSelector, Operator, Requirement};
pub use value::{CompliancePolicy, Cpus, LogFormat, Threads, Value, duration_text, parse_duration};
pub use ztunnel::{ControlEndpoint, Dns, Http2, InPod, Keepalive, Log, Own, Ports, Ztunnel};
