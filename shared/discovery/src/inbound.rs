//! What a tunnel's client may reach on a local workload.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use types::{Authority, Hostname, NetworkAddress, ParseError, canonical_ip};

use crate::model::{GatewayAddress, Service, TunnelProtocol, Workload};
use crate::resolve::is_illegal_port;
use crate::view::View;
use crate::waypoint;

/// Where an inbound connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundTarget {
    /// The pod's address and the port that the application listens on; also what policies see as destination.
    pub destination: SocketAddr,
    /// The service that was asked for by name.
    pub service: Option<Arc<Service>>,
    /// What a PROXY header names as the destination; `None` when the application wants no header.
    pub announced: Option<SocketAddr>,
}

/// Why a CONNECT request goes nowhere; [`InboundError::status`] is the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The authority is no host and port.
    #[error("invalid authority")]
    Malformed(#[from] ParseError),
    /// Nothing is known about the workload that the connection came to.
    #[error("local workload {address} is not known")]
    UnknownWorkload {
        /// Where the connection came to.
        address: SocketAddr,
    },
    /// The address is neither the local workload's nor one that it is the waypoint of.
    #[error("ip mismatch: {asked} was asked for at {local}")]
    WrongAddress {
        /// The address that was asked for.
        asked: IpAddr,
        /// Where the connection came to.
        local: IpAddr,
    },
    /// No service has the host name.
    #[error("no service has the host name {0}")]
    UnknownHost(Hostname),
    /// The service does not say which port of the workload is meant.
    #[error("{hostname} has no port {port} on this workload")]
    NoPort {
        /// The service's host name.
        hostname: Hostname,
        /// The port that was asked for.
        port: u16,
    },
    /// The application wants to be told an address, and the service that was asked for has none.
    #[error("{0} has no address to announce to the application")]
    NothingToAnnounce(Hostname),
    /// The connection would come back to this proxy.
    #[error("port {0} belongs to the mesh itself")]
    IllegalPort(u16),
}

impl InboundError {
    /// The HTTP status of the answer: 400 when the request is wrong, 503 when it cannot be served here.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::WrongAddress { .. } => 400,
            Self::UnknownWorkload { .. }
            | Self::UnknownHost(_)
            | Self::NoPort { .. }
            | Self::NothingToAnnounce(_)
            | Self::IllegalPort(_) => 503,
        }
    }
}

/// Decides what a CONNECT request to a local workload reaches.
///
/// `local_address` is where the tunnel's TCP connection came to.
/// The connection goes to that address in any case, never to the one of the request.
///
/// # Errors
/// See [`InboundError`]; its status is the answer to the request.
pub fn inbound_target(
    view: &View,
    local: &Workload,
    authority: &Authority,
    local_address: SocketAddr,
) -> Result<InboundTarget, InboundError> {
    let ip = canonical_ip(local_address.ip());
    let (port, service) = match authority {
        Authority::Address(asked) => {
            check_address(view, local, canonical_ip(asked.ip()), ip)?;
            (asked.port(), None)
        }
        Authority::Name(hostname, port) => {
            let (target, service) = named_target(view, local, hostname, *port)?;
            (target, Some(service))
        }
    };
    // A port that the application tunnel chooses is the operator's; one that the client chooses is not.
    if is_illegal_port(port) {
        return Err(InboundError::IllegalPort(port));
    }
    let wants_header = local.application_tunnel.is_some_and(|tunnel| tunnel.protocol == TunnelProtocol::Proxy);
    let announced = if wants_header { Some(announced(local, authority, service.as_deref())?) } else { None };
    let port = local.application_tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port);
    let destination = SocketAddr::new(ip, port);
    Ok(InboundTarget { destination, service, announced })
}

/// The address that was asked for, or one of the service that was: in the own network and IPv4 if there is a choice.
fn announced(local: &Workload, authority: &Authority, service: Option<&Service>) -> Result<SocketAddr, InboundError> {
    match authority {
        Authority::Address(asked) => Ok(SocketAddr::new(canonical_ip(asked.ip()), asked.port())),
        Authority::Name(hostname, port) => {
            let vips = service.into_iter().flat_map(|service| &service.vips);
            let vip = vips.min_by_key(|vip| (vip.network != local.network, !vip.address.is_ipv4()));
            let nothing = || InboundError::NothingToAnnounce(hostname.clone());
            vip.map(|vip| SocketAddr::new(vip.address, *port)).ok_or_else(nothing)
        }
    }
}

fn check_address(view: &View, local: &Workload, asked: IpAddr, ip: IpAddr) -> Result<(), InboundError> {
    if asked == ip || local.application_tunnel.is_some() || is_waypoint_of(view, local, asked) {
        Ok(())
    } else {
        Err(InboundError::WrongAddress { asked, local: ip })
    }
}

/// Whether the workload is the waypoint of who is at the address.
///
/// Every service there is asked, not only the one that the waypoint itself would be sent to:
/// which of them the client meant depends on the client's namespace.
fn is_waypoint_of(view: &View, local: &Workload, asked: IpAddr) -> bool {
    let address = NetworkAddress { network: Arc::clone(&local.network), address: asked };
    let serves = |waypoint: &GatewayAddress| waypoint::is_served_by(view, waypoint, local);
    if view.services_at(&address).iter().any(|service| service.waypoints().any(serves)) {
        return true;
    }
    view.workload_by_address(&address).is_some_and(|workload| workload.waypoint.as_deref().is_some_and(serves))
}

fn named_target(
    view: &View,
    local: &Workload,
    hostname: &Hostname,
    port: u16,
) -> Result<(u16, Arc<Service>), InboundError> {
    let service = view
        .service_by_hostname(hostname.as_str(), Some(&local.namespace), None)
        .ok_or_else(|| InboundError::UnknownHost(hostname.clone()))?;
    let own = local.ports(&service.key()).and_then(|ports| ports.target(port));
    let target = own.or_else(|| service.ports.target(port));
    match target {
        Some(target) => Ok((target, service)),
        None => Err(InboundError::NoPort { hostname: hostname.clone(), port }),
    }
}

#[cfg(test)]
mod tests;
