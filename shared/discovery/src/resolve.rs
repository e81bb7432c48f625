//! Where an outbound connection goes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::Rng;
use types::{NamespacedHostname, NetworkAddress, WorkloadUid, canonical_ip};

use crate::balance::{self, Wanted};
use crate::model::{GatewayAddress, Mode, Service, Workload};
use crate::route::{Route, Unresolved, Upstream};
use crate::view::View;
use crate::waypoint;

/// Ports of this proxy's own listeners; nothing may be sent back to them.
const ILLEGAL_PORTS: [u16; 3] = [15008, 15006, 15001];

/// Why a connection goes nowhere; nothing is ever sent around what is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The connection would come back to this proxy.
    #[error("attempted recursive call to ourselves: {destination}")]
    Loop {
        /// The original destination.
        destination: SocketAddr,
    },
    /// The service does not listen on the port.
    #[error("no healthy upstream: {service} has no port {port}")]
    UnknownPort {
        /// The service.
        service: NamespacedHostname,
        /// The port that was asked for.
        port: u16,
    },
    /// The service has no endpoint that could be chosen and was not tried already.
    #[error("no healthy upstream: {service} has no endpoint left for port {port}")]
    NoEndpoint {
        /// The service.
        service: NamespacedHostname,
        /// The port that was asked for.
        port: u16,
    },
    /// The connection must go through a waypoint, which this proxy cannot do yet.
    #[error("{destination} must be reached through waypoint {waypoint}, which is not supported yet")]
    NeedsWaypoint {
        /// The original destination.
        destination: SocketAddr,
        /// The waypoint.
        waypoint: GatewayAddress,
    },
    /// The endpoint is in another network, behind a gateway, which this proxy cannot use yet.
    #[error("{workload} must be reached through the gateway of network {network:?}, which is not supported yet")]
    NeedsGateway {
        /// The workload that was chosen.
        workload: WorkloadUid,
        /// Its network.
        network: Arc<str>,
        /// The gateway of that network, if known.
        gateway: Option<GatewayAddress>,
    },
    /// The workload was addressed itself and has failed already, so there is nobody else to try.
    #[error("{workload} has failed, and nothing can take its place")]
    NoAlternative {
        /// The workload.
        workload: WorkloadUid,
    },
    /// The workload has neither an address that may be used nor a host name.
    #[error("{workload} has no address that may be used")]
    NoAddress {
        /// The workload.
        workload: WorkloadUid,
    },
}

/// Whether the port belongs to a listener of this proxy.
///
/// Connections for such a port never come out of the inbound listeners, whatever their address.
#[must_use]
pub fn is_illegal_port(port: u16) -> bool {
    ILLEGAL_PORTS.contains(&port)
}

/// Whether an outbound connection would come back to this proxy: to a loopback address and one of its listeners.
#[must_use]
pub fn is_loop(destination: SocketAddr) -> bool {
    canonical_ip(destination.ip()).is_loopback() && is_illegal_port(destination.port())
}

/// Decides where a connection of a local workload goes.
///
/// A destination is first looked up among the virtual addresses of services, then among the addresses of workloads;
/// what is neither is left alone.
/// The workloads in `failed` are not chosen again: when connecting to a route's upstream fails before a byte was sent,
/// add it and resolve once more, until that gives an error.
///
/// Where a service shares its address with a workload, a waypoint of the service is binding, although the reference looks
/// at the workload alone: traffic that was promised a waypoint's policy is never sent without.
///
/// # Errors
/// Each names what is missing. Waypoints and gateways are not followed yet, and never gone around.
pub fn resolve<R: Rng + ?Sized>(
    view: &View,
    source: &Workload,
    destination: SocketAddr,
    failed: &[WorkloadUid],
    random: &mut R,
) -> Result<Route, ResolveError> {
    let destination = SocketAddr::new(canonical_ip(destination.ip()), destination.port());
    if is_loop(destination) {
        return Err(ResolveError::Loop { destination });
    }
    let client = Some(&*source.namespace);
    let Some(service) = view.service_by_vip(&source.network, destination.ip(), client) else {
        let address = NetworkAddress { network: Arc::clone(&source.network), address: destination.ip() };
        return match view.workload_by_address(&address) {
            Some(workload) if failed.contains(&workload.uid) => {
                Err(ResolveError::NoAlternative { workload: workload.uid.clone() })
            }
            Some(workload) => to_workload(view, source, workload, destination),
            None => Ok(Route::Passthrough { destination, service: None }),
        };
    };
    if let Some(waypoint) = service.pick_waypoint(random) {
        return Err(ResolveError::NeedsWaypoint { destination, waypoint: waypoint.clone() });
    }
    if service.mode() == Mode::Passthrough {
        return Ok(Route::Passthrough { destination, service: Some(service) });
    }
    let upstream = to_service(view, source, service, destination.port(), failed, random)?;
    connect(source, upstream, destination)
}

fn to_service<R: Rng + ?Sized>(
    view: &View,
    source: &Workload,
    service: Arc<Service>,
    port: u16,
    failed: &[WorkloadUid],
    random: &mut R,
) -> Result<Upstream, ResolveError> {
    let key = service.key();
    if service.ports.port(port).is_none() {
        return Err(ResolveError::UnknownPort { service: key, port });
    }
    let group = view.group(&key).unwrap_or_default();
    let wanted = Wanted { source, service: &service, service_port: port, failed };
    let Some((workload, target)) = balance::pick(&group, &wanted, random) else {
        return Err(ResolveError::NoEndpoint { service: key, port });
    };
    Ok(Upstream { workload: Arc::clone(workload), service: Some(service), port: target })
}

fn to_workload(
    view: &View,
    source: &Workload,
    workload: Arc<Workload>,
    destination: SocketAddr,
) -> Result<Route, ResolveError> {
    if let Some(waypoint) = &workload.waypoint
        && !waypoint::is_served_by(view, waypoint, source)
    {
        return Err(ResolveError::NeedsWaypoint { destination, waypoint: waypoint.clone() });
    }
    let upstream = Upstream { workload, service: None, port: destination.port() };
    connect(source, upstream, destination)
}

fn connect(source: &Workload, upstream: Upstream, destination: SocketAddr) -> Result<Route, ResolveError> {
    let workload = &upstream.workload;
    if workload.network != source.network {
        return Err(ResolveError::NeedsGateway {
            workload: workload.uid.clone(),
            network: Arc::clone(&workload.network),
            gateway: workload.network_gateway.clone(),
        });
    }
    match address(&upstream, destination.ip()) {
        Some(ip) => Ok(upstream.route(ip)),
        None if workload.hostname.as_str().is_empty() => {
            Err(ResolveError::NoAddress { workload: workload.uid.clone() })
        }
        None => Ok(Route::Unresolved(Unresolved { upstream, destination })),
    }
}

/// Which of the workload's addresses to use: the one that was asked for, else one that the service allows,
/// of the same family if possible.
fn address(upstream: &Upstream, wanted: IpAddr) -> Option<IpAddr> {
    let addresses = &upstream.workload.addresses;
    if addresses.contains(&wanted) {
        return Some(wanted);
    }
    let accepts = |ip: &&IpAddr| upstream.service.as_ref().is_none_or(|service| service.ip_families.accepts(**ip));
    let mut usable = addresses.iter().filter(accepts);
    let first = usable.clone().next();
    usable.find(|ip| ip.is_ipv4() == wanted.is_ipv4()).or(first).copied()
}

#[cfg(test)]
mod tests;
