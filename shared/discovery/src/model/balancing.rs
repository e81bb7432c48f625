//! How a service wants its endpoints chosen.

use std::net::IpAddr;

/// A service's wishes for the choice among its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancing {
    /// What an endpoint should share with the source, most important first.
    pub routing_preference: Vec<Scope>,
    /// How binding the preference is.
    pub mode: Mode,
    /// Which endpoints count.
    pub health_policy: HealthPolicy,
}

/// Something that an endpoint may share with the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The region of the locality.
    Region,
    /// The zone of the locality.
    Zone,
    /// The subzone of the locality.
    Subzone,
    /// The node.
    Node,
    /// The cluster.
    Cluster,
    /// The network.
    Network,
}

/// How binding the routing preference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Every endpoint is as good as any other.
    #[default]
    Standard,
    /// Only endpoints that share every scope of the preference.
    Strict,
    /// The endpoints that share the most.
    Failover,
    /// No endpoint is chosen: the connection goes to its original destination.
    Passthrough,
}

/// Which endpoints count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HealthPolicy {
    /// Only healthy ones.
    #[default]
    OnlyHealthy,
    /// Unhealthy ones too (`publishNotReadyAddresses`).
    AllowAll,
}

/// The address families that a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IpFamilies {
    /// Not said; both are tried.
    #[default]
    Automatic,
    /// IPv4 alone.
    Ipv4Only,
    /// IPv6 alone.
    Ipv6Only,
    /// Both.
    Dual,
}

impl IpFamilies {
    /// Whether an address is of one of the families.
    #[must_use]
    pub fn accepts(self, ip: IpAddr) -> bool {
        match self {
            Self::Automatic | Self::Dual => true,
            Self::Ipv4Only => ip.is_ipv4(),
            Self::Ipv6Only => ip.is_ipv6(),
        }
    }
}
