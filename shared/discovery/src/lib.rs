//! What the mesh knows about workloads and services, and where a connection goes because of it.
//!
//! One [`Writer`] is fed by the control plane; any number of cheap [`View`]s read.
//! A reader never waits for the writer: indices are concurrent maps of immutable values that are replaced in place,
//! so that a workload under update is found in its old form or in its new one, and never missed.
//! [`resolve`] and [`inbound_target`] turn that knowledge into decisions; they are pure, their randomness an argument.
//!
//! The crate refuses to know sockets, clocks, protobuf and transports.
//!
//! ```
//! use discovery::{Route, Workload, Writer, resolve};
//!
//! let mut writer = Writer::new("", None);
//! let view = writer.view();
//! let client = Workload { uid: "Kubernetes//Pod/shop/frontend".into(), ..Workload::default() };
//! writer.upsert_workload(client.clone());
//!
//! // Nobody knows the destination, so the connection is left alone.
//! let destination = "203.0.113.9:443".parse().unwrap();
//! let route = resolve(&view, &client, destination, &[], &mut rand::rng()).unwrap();
//! assert_eq!(route, Route::Passthrough { destination, service: None });
//! ```
#![warn(missing_docs)]

mod balance;
mod identities;
mod inbound;
mod index;
mod intern;
mod model;
mod resolve;
mod route;
mod view;
mod waypoint;
mod writer;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;

pub use identities::{IdentityChange, IdentityChanges};
pub use inbound::{InboundError, InboundTarget, inbound_target};
pub use model::{
    Addresses, AppProtocol, ApplicationTunnel, CidrVip, Destination, GatewayAddress, Health, HealthPolicy, Instance,
    IpFamilies, Labels, LoadBalancing, LocalName, Locality, Mode, NetworkMode, Port, PortMap, Protocol, Scope, Service,
    TunnelProtocol, Visibility, WeightedWaypoint, Workload, WorkloadType,
};
pub use resolve::{ResolveError, is_illegal_port, is_loop, resolve};
pub use route::{Crossing, HBONE_PORT, Remote, Role, Route, Unresolved, Upstream};
pub use view::{Resident, View};
pub use writer::{Batch, Keeper, Kind, Maker, Record, Writer};
