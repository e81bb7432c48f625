//! The choice of one endpoint of a service.

use std::sync::Arc;

use rand::{Rng, RngExt};
use types::WorkloadUid;

use crate::index::Group;
use crate::model::{LoadBalancing, Mode, Scope, Service, Workload};

/// What to look for.
pub(crate) struct Wanted<'a> {
    pub(crate) source: &'a Workload,
    pub(crate) service: &'a Service,
    pub(crate) service_port: u16,
    pub(crate) part: Part,
    /// Endpoints that were tried already.
    pub(crate) failed: &'a [WorkloadUid],
}

/// What the endpoint is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// To be the destination.
    Destination,
    /// To be the waypoint on the way to it; the service port is that of the reference.
    Waypoint,
}

/// Chooses an endpoint and its port, at random by capacity among the best ones.
///
/// Capacity counts among the best alone: if all of those have none, nobody is chosen.
/// The endpoints are gone through twice instead of being collected, which costs no allocation on the way of every
/// connection.
pub(crate) fn pick<'a, R: Rng + ?Sized>(
    group: &'a Group,
    wanted: &Wanted<'_>,
    random: &mut R,
) -> Option<(&'a Arc<Workload>, u16)> {
    let key = wanted.service.key();
    let candidates = || {
        group.endpoints.iter().filter_map(|endpoint| {
            let port = wanted.port(&key, endpoint)?;
            Some((endpoint, port, wanted.rank(endpoint)?))
        })
    };
    let (mut best, mut total) = (0, 0_u64);
    for (endpoint, _, rank) in candidates() {
        if rank > best {
            (best, total) = (rank, 0);
        }
        if rank == best {
            total += u64::from(endpoint.capacity);
        }
    }
    if total == 0 {
        return None;
    }
    let mut left = random.random_range(0..total);
    for (endpoint, port, _) in candidates().filter(|(_, _, rank)| *rank == best) {
        let capacity = u64::from(endpoint.capacity);
        if left < capacity {
            return Some((endpoint, port));
        }
        left -= capacity;
    }
    None
}

impl Wanted<'_> {
    /// The endpoint's port, if the endpoint can be connected to at all.
    fn port(&self, key: &types::NamespacedHostname, endpoint: &Workload) -> Option<u16> {
        let is_usable = self.service.accepts(endpoint)
            && !self.failed.contains(&endpoint.uid)
            && (is_reachable(endpoint) || self.is_behind_gateway(endpoint));
        let own = || endpoint.ports(key).and_then(|ports| ports.target(self.service_port));
        let common = || self.service.ports.target(self.service_port);
        // The pods of a waypoint that is captured itself take HBONE on the port of the reference, listed or not.
        let captured = || {
            let has_port = endpoint.application_tunnel.is_some_and(|tunnel| tunnel.port.is_some());
            (self.part == Part::Waypoint && has_port).then_some(self.service_port)
        };
        if is_usable { own().or_else(common).or_else(captured) } else { None }
    }

    fn is_behind_gateway(&self, endpoint: &Workload) -> bool {
        endpoint.network != self.source.network && endpoint.network_gateway.is_some()
    }

    /// How near the endpoint is to what the service prefers; `None` if it is too far.
    fn rank(&self, endpoint: &Workload) -> Option<usize> {
        match &self.service.load_balancing {
            Some(wishes) if matches!(wishes.mode, Mode::Strict | Mode::Failover) => rank(wishes, self.source, endpoint),
            _ => Some(0),
        }
    }
}

/// Whether there is something to connect to.
fn is_reachable(workload: &Workload) -> bool {
    !workload.addresses.is_empty() || !workload.hostname.as_str().is_empty()
}

/// Counts the preferred scopes that both share, in order, up to the first that they do not.
///
/// A network as the first preference is special: another network does not end the count, so that the nearest of the
/// remote endpoints is found, but the own network outranks them all.
fn rank(wishes: &LoadBalancing, source: &Workload, endpoint: &Workload) -> Option<usize> {
    let preferences = &wishes.routing_preference;
    let mut shared = 0;
    for (index, scope) in preferences.iter().enumerate() {
        if is_shared(*scope, source, endpoint) {
            shared += 1;
        } else if index > 0 || *scope != Scope::Network {
            break;
        }
    }
    if wishes.mode == Mode::Strict && shared != preferences.len() {
        return None;
    }
    let prefers_network = preferences.first() == Some(&Scope::Network);
    if prefers_network && is_shared(Scope::Network, source, endpoint) {
        shared += preferences.len() - 1;
    }
    Some(shared)
}

fn is_shared(scope: Scope, source: &Workload, endpoint: &Workload) -> bool {
    match scope {
        Scope::Region => source.locality.region == endpoint.locality.region,
        Scope::Zone => source.locality.zone == endpoint.locality.zone,
        Scope::Subzone => source.locality.subzone == endpoint.locality.subzone,
        Scope::Node => source.node == endpoint.node,
        Scope::Cluster => source.cluster_id == endpoint.cluster_id,
        Scope::Network => source.network == endpoint.network,
    }
}

#[cfg(test)]
mod tests;
