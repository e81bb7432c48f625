//! Services.

use std::sync::Arc;

use rand::{Rng, RngExt};
use types::{Cidr, Hostname, Identity, NamespacedHostname, NetworkAddress};

use super::{
    GatewayAddress, Health, HealthPolicy, IpFamilies, LoadBalancing, Mode, PortMap, WeightedWaypoint, Workload,
};

/// A service: a host name, virtual addresses, and how its endpoints are reached.
///
/// Its endpoints are the workloads that name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// The name of the Kubernetes Service or ServiceEntry.
    pub name: Arc<str>,
    /// The namespace that defines the service.
    pub namespace: Arc<str>,
    /// The fully qualified host name; a ServiceEntry's may be a wildcard such as `*.example.com`.
    pub hostname: Hostname,
    /// The virtual addresses; none for a headless service.
    pub vips: Vec<NetworkAddress>,
    /// Virtual addresses that are ranges.
    pub cidr_vips: Vec<CidrVip>,
    /// The ports that clients may connect to.
    pub ports: PortMap,
    /// Identities that any endpoint may have instead of its workload's own.
    ///
    /// Names on the wire that are not SPIFFE identities never match a workload's certificate and are left out.
    pub subject_alt_names: Vec<Identity>,
    /// The waypoint that all connections go through.
    pub waypoint: Option<GatewayAddress>,
    /// Several waypoints that share the connections; takes precedence over `waypoint` unless all weights are 0.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// How to choose an endpoint; `None` is plain random.
    pub load_balancing: Option<LoadBalancing>,
    /// The address families that the service speaks.
    pub ip_families: IpFamilies,
    /// Whether this service wins where several share a host name or address.
    pub is_canonical: bool,
    /// Who may look the service up.
    pub visibility: Visibility,
}

/// A range of virtual addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CidrVip {
    /// The network that the range is in.
    pub network: Arc<str>,
    /// The range.
    pub cidr: Cidr,
}

/// Who may look a service up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Visibility {
    /// Everyone.
    #[default]
    Public,
    /// Clients of the service's own namespace.
    Namespace,
}

impl Service {
    /// The service's key.
    #[must_use]
    pub fn key(&self) -> NamespacedHostname {
        NamespacedHostname { namespace: Arc::clone(&self.namespace), hostname: self.hostname.clone() }
    }

    /// How binding the routing preference is; `Standard` when the service does not say.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.load_balancing.as_ref().map_or(Mode::Standard, |balancing| balancing.mode)
    }

    /// Whether an endpoint in this health may be chosen.
    #[must_use]
    pub fn accepts(&self, workload: &Workload) -> bool {
        let policy = self.load_balancing.as_ref().map_or(HealthPolicy::OnlyHealthy, |wishes| wishes.health_policy);
        workload.health == Health::Healthy || policy == HealthPolicy::AllowAll
    }

    /// Whether a client of this namespace may look the service up; a lookup for nobody in particular sees all.
    #[must_use]
    pub fn is_visible_to(&self, client_namespace: Option<&str>) -> bool {
        match (self.visibility, client_namespace) {
            (Visibility::Public, _) | (Visibility::Namespace, None) => true,
            (Visibility::Namespace, Some(namespace)) => *self.namespace == *namespace,
        }
    }

    /// Every waypoint that may carry connections of this service.
    pub fn waypoints(&self) -> impl Iterator<Item = &GatewayAddress> {
        self.waypoint.iter().chain(self.weighted_waypoints.iter().map(|weighted| &weighted.destination))
    }

    /// The waypoint for one connection: a weighted one if there are any with weight, else the only one.
    pub fn pick_waypoint<R: Rng + ?Sized>(&self, random: &mut R) -> Option<&GatewayAddress> {
        let total: u64 = self.weighted_waypoints.iter().map(|weighted| u64::from(weighted.weight)).sum();
        if total == 0 {
            return self.waypoint.as_ref();
        }
        let mut left = random.random_range(0..total);
        let picked = self.weighted_waypoints.iter().find(|weighted| {
            let weight = u64::from(weighted.weight);
            let is_here = left < weight;
            left = left.saturating_sub(weight);
            is_here
        });
        picked.map(|weighted| &weighted.destination)
    }
}
