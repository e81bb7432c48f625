//! What operators see: log lines, one access record per connection, metric families, and the small HTTP server on which
//! metrics, readiness and admin requests are answered.
//!
//! Layouts, keys, names and label order are those that dashboards and scripts of other meshes rely on.
//! Lines are written, and access records formatted, on a thread of their own; counters are plain atomics that a
//! connection resolves once.
//! The crate refuses to know proxies, policies and discovery: whoever records a connection hands in plain values.
//! Its main types are [`log::Logging`], [`AccessRecord`], [`TrafficMetrics`] and [`http::Router`].

pub mod access;
pub mod http;
pub mod log;
pub mod metrics;
pub mod traffic;

pub use access::{AccessLog, AccessRecord, Direction, Party};
pub use metrics::Registry;
pub use traffic::{ResponseFlag, TrafficMetrics};
