//! Where an outbound connection goes.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::Rng;
use types::{NamespacedHostname, NetworkAddress, WorkloadUid, canonical_ip};

use crate::balance::{self, Part, Wanted};
use crate::model::{Destination, GatewayAddress, Mode, Service, Workload};
use crate::route::{Remote, Role, Route, Unresolved, Upstream};
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
    /// The connection must go through a waypoint that nothing is known about.
    #[error("{destination} must be reached through waypoint {waypoint}, which is not known")]
    UnknownWaypoint {
        /// The original destination.
        destination: SocketAddr,
        /// The waypoint.
        waypoint: GatewayAddress,
    },
    /// The endpoint is in another network, whose gateway is not known.
    #[error("{workload} must be reached through the gateway of network {network:?}, {}", unknown_gateway(gateway))]
    UnknownGateway {
        /// The workload that was chosen.
        workload: WorkloadUid,
        /// Its network.
        network: Arc<str>,
        /// The gateway of that network, if discovery has named one.
        gateway: Option<GatewayAddress>,
    },
    /// What is addressed is in another network, and no service, whose name alone means something there.
    #[error("{workload} is in network {network:?}, and only connections to services cross networks")]
    OtherNetwork {
        /// The workload, or the waypoint that it must be reached through.
        workload: WorkloadUid,
        /// Its network.
        network: Arc<str>,
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

impl ResolveError {
    /// The waypoint or gateway that is not known, for whoever can ask for it.
    #[must_use]
    pub fn missing(&self) -> Option<&GatewayAddress> {
        match self {
            Self::UnknownWaypoint { waypoint, .. } => Some(waypoint),
            Self::UnknownGateway { gateway, .. } => gateway.as_ref(),
            _ => None,
        }
    }
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
/// What has a waypoint goes through it, unless it comes from there; a service's waypoint is for who addresses the
/// service, a workload's for who addresses the workload itself.
/// When the waypoint cannot be used the connection fails: it is never made without.
/// What is in another network is reached through the gateway of that network, if a service was addressed.
/// The workloads in `failed` are not chosen again: when connecting to a route's upstream fails before a byte was sent,
/// add it and resolve once more, until that gives an error.
///
/// Where a service shares its address with a workload, a waypoint of the service is binding, although the reference looks
/// at the workload alone: traffic that was promised a waypoint's policy is never sent without.
///
/// # Errors
/// Each names what is missing.
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
    let search = Search { view, source, destination, failed };
    let Some(service) = view.service_by_vip(&source.network, destination.ip(), Some(&source.namespace)) else {
        let address = NetworkAddress { network: Arc::clone(&source.network), address: destination.ip() };
        return match view.workload_by_address(&address) {
            Some(workload) => search.to_workload(workload, random),
            None => Ok(Route::Passthrough { destination, service: None }),
        };
    };
    if let Some(waypoint) = service.pick_waypoint(random) {
        return search.through_waypoint(waypoint, Some(Arc::clone(&service)), random);
    }
    if service.mode() == Mode::Passthrough {
        return Ok(Route::Passthrough { destination, service: Some(service) });
    }
    let wanted = Goal { port: destination.port(), ip: destination.ip(), role: Role::Destination };
    search.to_endpoint(&service, &wanted, random)
}

/// What a connection is resolved from.
struct Search<'a> {
    view: &'a View,
    source: &'a Workload,
    /// The original destination.
    destination: SocketAddr,
    failed: &'a [WorkloadUid],
}

/// What an endpoint or a workload is wanted for.
struct Goal {
    /// The port of the service.
    port: u16,
    /// The address that is best, if the workload has it.
    ip: IpAddr,
    role: Role,
}

/// Whom a reference leads to: one of a service's endpoints, or a workload.
enum Referent {
    Service(Arc<Service>),
    Workload(Arc<Workload>),
}

impl Search<'_> {
    fn to_workload<R: Rng + ?Sized>(&self, workload: Arc<Workload>, random: &mut R) -> Result<Route, ResolveError> {
        if let Some(waypoint) = &workload.waypoint
            && !waypoint::is_served_by(self.view, waypoint, self.source)
        {
            return self.through_waypoint(waypoint, None, random);
        }
        let upstream = self.itself(workload, self.destination.port())?;
        self.connect(upstream, self.destination.ip(), Role::Destination, random)
    }

    /// To one of a service's endpoints; those that cannot be reached are passed over, if there are others.
    fn to_endpoint<R: Rng + ?Sized>(
        &self,
        service: &Arc<Service>,
        goal: &Goal,
        random: &mut R,
    ) -> Result<Route, ResolveError> {
        let part = match goal.role {
            Role::Waypoint(_) => Part::Waypoint,
            Role::Destination | Role::Gateway(_) => Part::Destination,
        };
        let mut failed = Cow::Borrowed(self.failed);
        let mut first = None;
        loop {
            let upstream = match self.endpoint(service, goal.port, part, &failed, random) {
                Ok(upstream) => upstream,
                Err(error) => return Err(first.unwrap_or(error)),
            };
            let uid = upstream.workload.uid.clone();
            match self.connect(upstream, goal.ip, goal.role.clone(), random) {
                Ok(route) => return Ok(route),
                Err(error) => {
                    failed.to_mut().push(uid);
                    first.get_or_insert(error);
                }
            }
        }
    }

    fn through_waypoint<R: Rng + ?Sized>(
        &self,
        waypoint: &GatewayAddress,
        service: Option<Arc<Service>>,
        random: &mut R,
    ) -> Result<Route, ResolveError> {
        let (referent, ip) = self.follow(waypoint);
        let goal = Goal { port: waypoint.hbone_mtls_port, ip, role: Role::Waypoint(service) };
        match referent {
            Some(referent) => self.to_referent(referent, &goal, random),
            None => {
                let waypoint = waypoint.clone();
                Err(ResolveError::UnknownWaypoint { destination: self.destination, waypoint })
            }
        }
    }

    fn through_gateway<R: Rng + ?Sized>(&self, remote: Remote, random: &mut R) -> Result<Route, ResolveError> {
        let workload = Arc::clone(&remote.upstream.workload);
        let gateway = workload.network_gateway.as_ref();
        match gateway.map(|gateway| (self.follow(gateway), gateway.hbone_mtls_port)) {
            Some(((Some(referent), ip), port)) => {
                self.to_referent(referent, &Goal { port, ip, role: Role::Gateway(Box::new(remote)) }, random)
            }
            _ => Err(ResolveError::UnknownGateway {
                workload: workload.uid.clone(),
                network: Arc::clone(&workload.network),
                gateway: gateway.map(|gateway| GatewayAddress::clone(gateway)),
            }),
        }
    }

    fn to_referent<R: Rng + ?Sized>(
        &self,
        referent: Referent,
        goal: &Goal,
        random: &mut R,
    ) -> Result<Route, ResolveError> {
        match referent {
            Referent::Service(service) => self.to_endpoint(&service, goal, random),
            Referent::Workload(workload) => {
                let upstream = self.itself(workload, goal.port)?;
                self.connect(upstream, goal.ip, goal.role.clone(), random)
            }
        }
    }

    /// Follows a reference: to a service, or else to a workload; and the address that is best to use there.
    fn follow(&self, reference: &GatewayAddress) -> (Option<Referent>, IpAddr) {
        let view = self.view;
        match &reference.destination {
            Destination::Hostname(key) => {
                let service = view.service(key).map(Referent::Service);
                let workload = || view.workload_by_hostname(key).map(Referent::Workload);
                (service.or_else(workload), self.destination.ip())
            }
            Destination::Address(at) => {
                let service = view.service_by_vip(&at.network, at.address, Some(&self.source.namespace));
                let workload = || view.workload_by_address(at).map(Referent::Workload);
                (service.map(Referent::Service).or_else(workload), at.address)
            }
        }
    }

    /// A workload that was meant itself, which nobody can stand in for.
    fn itself(&self, workload: Arc<Workload>, port: u16) -> Result<Upstream, ResolveError> {
        if self.failed.contains(&workload.uid) {
            return Err(ResolveError::NoAlternative { workload: workload.uid.clone() });
        }
        Ok(Upstream { workload, service: None, port })
    }

    /// One of a service's endpoints.
    fn endpoint<R: Rng + ?Sized>(
        &self,
        service: &Arc<Service>,
        port: u16,
        part: Part,
        failed: &[WorkloadUid],
        random: &mut R,
    ) -> Result<Upstream, ResolveError> {
        let key = service.key();
        // An endpoint of a waypoint may know the port although its service does not list it.
        if part == Part::Destination && service.ports.port(port).is_none() {
            return Err(ResolveError::UnknownPort { service: key, port });
        }
        let group = self.view.group(&key).unwrap_or_default();
        let wanted = Wanted { source: self.source, service, service_port: port, part, failed };
        let Some((workload, target)) = balance::pick(&group, &wanted, random) else {
            return Err(ResolveError::NoEndpoint { service: key, port });
        };
        Ok(Upstream { workload: Arc::clone(workload), service: Some(Arc::clone(service)), port: target })
    }

    fn connect<R: Rng + ?Sized>(
        &self,
        upstream: Upstream,
        wanted: IpAddr,
        role: Role,
        random: &mut R,
    ) -> Result<Route, ResolveError> {
        let workload = &upstream.workload;
        // A gateway is in the network that it leads to, and can be reached all the same.
        if workload.network != self.source.network && !matches!(role, Role::Gateway(_)) {
            let addressed = match role {
                Role::Waypoint(service) => service,
                Role::Destination | Role::Gateway(_) => upstream.service.clone(),
            };
            let Some(service) = addressed else {
                let (workload, network) = (workload.uid.clone(), Arc::clone(&workload.network));
                return Err(ResolveError::OtherNetwork { workload, network });
            };
            return self.through_gateway(Remote { upstream, service }, random);
        }
        let chosen = address(&upstream, wanted);
        if chosen.is_none() && workload.hostname.as_str().is_empty() {
            return Err(ResolveError::NoAddress { workload: workload.uid.clone() });
        }
        let unresolved = Unresolved { upstream, destination: self.destination, role };
        Ok(match chosen {
            Some(ip) => unresolved.at(ip),
            None => Route::Unresolved(unresolved),
        })
    }
}

#[expect(clippy::ref_option, reason = "thiserror hands the field by reference")]
fn unknown_gateway(gateway: &Option<GatewayAddress>) -> String {
    match gateway {
        None => "which has none".to_owned(),
        Some(gateway) => format!("{gateway}, which is not known"),
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
