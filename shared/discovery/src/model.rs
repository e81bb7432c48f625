//! What discovery knows about workloads and services, as parsed types.
//!
//! The fields are those of [`istio.workload`]; `Default` gives what the wire means where it says nothing.
//!
//! [`istio.workload`]: https://github.com/istio/ztunnel/blob/master/proto/workload.proto

mod addresses;
mod balancing;
mod gateway;
mod port;
mod service;
mod workload;

pub use addresses::Addresses;
pub use balancing::{HealthPolicy, IpFamilies, LoadBalancing, Mode, Scope};
pub use gateway::{Destination, GatewayAddress, WeightedWaypoint};
pub use port::{AppProtocol, Port, PortMap};
pub use service::{CidrVip, Service, Visibility};
pub use workload::{
    ApplicationTunnel, Health, Instance, Labels, LocalName, Locality, NetworkMode, Protocol, TunnelProtocol, Workload,
    WorkloadType,
};
