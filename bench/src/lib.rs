//! `aquifer bench`: what does the mesh cost, compared with no mesh and with sidecars?
//!
//! The crate decides what is measured ([`Settings`]), makes the rounds ([`session::run`]) on a [`session::Stage`] that
//! somebody else provides, turns them into [`results::Results`] with intervals and verdicts, and shows these.
//! It knows how the compared proxies are configured ([`envoy`]) and how processes are looked at ([`usage`]).
//! It refuses to know labs, clusters and command lines.

pub mod budget;
mod charts;
pub mod compare;
pub mod conditions;
pub mod envoy;
#[cfg(test)]
mod fixture;
pub mod html;
mod load_plan;
pub mod machine;
pub mod metric;
pub mod mode;
pub mod results;
mod sampler;
pub mod session;
pub mod settings;
pub mod statistics;
pub mod table;
mod tunnels;
pub mod usage;
mod words;

pub use load_plan::{Numbers, Port};
pub use settings::Settings;
pub use tunnels::Opened;
