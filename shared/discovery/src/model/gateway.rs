//! References to waypoints and network gateways.

use std::fmt;

use types::{NamespacedHostname, NetworkAddress};

/// Where a waypoint or network gateway is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// A service or an address.
    pub destination: Destination,
    /// The port that accepts HBONE; 15008 by custom.
    pub hbone_mtls_port: u16,
}

/// What a [`GatewayAddress`] points to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A service, or else a workload, of this namespace and host name.
    Hostname(NamespacedHostname),
    /// The address of a service or a workload.
    Address(NetworkAddress),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(hostname) => hostname.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.destination, self.hbone_mtls_port)
    }
}

/// One of several waypoints that share a service's connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WeightedWaypoint {
    /// The waypoint.
    pub destination: GatewayAddress,
    /// Its share, in relation to the sum of all.
    pub weight: u32,
}
