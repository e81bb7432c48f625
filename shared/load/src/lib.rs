//! Load for comparisons: a generator that sends on a schedule fixed in advance and counts latency from the intended
//! send time, the server that it talks to, a relay that could stand between them, and an agent that runs one plan after the other in a pod.
//!
//! [`run`] carries out a [`Plan`] and tells an [`Outcome`]; [`start`] does the same with progress and an early end.
//! The model and the definitions are in docs/load.md.
//! The crate refuses to know proxies, pods and modes: it measures what is between two addresses.
#![warn(missing_docs)]

pub mod agent;
mod bulk;
mod client;
mod grpc;
mod histogram;
mod idle;
mod lane;
mod outcome;
mod plan;
mod preamble;
mod recorder;
pub mod relay;
mod requests;
mod run;
mod schedule;
pub mod server;
mod threads;
mod timer;
mod usage;
mod varint;
mod watchdog;

pub use histogram::{Histogram, MalformedHistogram, Summary};
pub use outcome::{Bulk as BulkOutcome, Cpu, Failure, Latencies, Outcome};
pub use plan::{Bulk, Connections, Direction, Idle, Kind, Mixed, Pace, Plan, PlanError, Protocol, Requests};
pub use run::{Control, LoadError, Phase, Progress, Run, run, start};
