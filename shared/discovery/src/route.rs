//! Where a connection goes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::{Rng, RngExt};
use types::{Authority, Hostname, Identity, canonical_ip};

use crate::model::{NetworkMode, Protocol, Service, Workload};
use crate::resolve::ResolveError;
use crate::view::View;

/// The port on which workloads accept HBONE.
pub const HBONE_PORT: u16 = 15008;

/// Where a connection goes: the decision as data, to be carried out, logged and explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To its original destination, untouched.
    Passthrough {
        /// The original destination.
        destination: SocketAddr,
        /// The service whose wish that is; `None` when nothing is known about the destination.
        service: Option<Arc<Service>>,
    },
    /// To a workload, in plaintext.
    Tcp {
        /// The workload's address and port.
        destination: SocketAddr,
        /// Who is reached.
        upstream: Upstream,
    },
    /// To a workload, through a tunnel.
    Hbone {
        /// Where the tunnel's server listens.
        destination: SocketAddr,
        /// What the server is asked to connect to.
        authority: Authority,
        /// The identities that the server may have, the workload's own first.
        expected: Vec<Identity>,
        /// Who is reached.
        upstream: Upstream,
    },
    /// Through a waypoint, which decides what becomes of the connection.
    Waypoint {
        /// Where the waypoint accepts HBONE.
        destination: SocketAddr,
        /// What the waypoint is asked for: the original destination, untranslated.
        authority: Authority,
        /// The identities that the waypoint may have, the chosen workload's own first.
        expected: Vec<Identity>,
        /// The waypoint's workload that was chosen, and its service.
        upstream: Upstream,
        /// The service that the connection is for; `None` when a workload was addressed itself.
        service: Option<Arc<Service>>,
    },
    /// To a workload of another network: through a tunnel to that network's gateway, and a second one inside it.
    DoubleHbone(Box<Crossing>),
    /// To a workload that the same proxy serves, inside the process; see [`Route::handed_over`].
    Local {
        /// The workload's address and port.
        destination: SocketAddr,
        /// Who is reached.
        upstream: Upstream,
    },
    /// To a workload that has a name instead of addresses, which must be resolved first.
    Unresolved(Unresolved),
}

impl Route {
    /// The same route without a tunnel, for a connection between two captured pods of the proxy's own node.
    ///
    /// `client` is the address that the connection came from.
    /// Only an address of the source's own will do: whatever else a pod may connect from, its loopback for instance,
    /// would come out of a tunnel as the pod's address, and must not be taken for somebody else's without one.
    ///
    /// The caller must itself serve the destination, otherwise the tunnel is the only way.
    #[must_use]
    pub fn handed_over(&self, view: &View, source: &Workload, client: IpAddr) -> Option<Self> {
        let Self::Hbone { authority: Authority::Address(destination), upstream, .. } = self else { return None };
        let target = &*upstream.workload;
        let is_captured_here = |workload: &Workload| {
            workload.protocol == Protocol::Hbone
                && !workload.native_tunnel
                && workload.network_mode == NetworkMode::Standard
                && view.node() == Some(&workload.node)
        };
        let keeps_addresses =
            source.addresses.contains(&canonical_ip(client)) && target.addresses.contains(&destination.ip());
        let is_local = is_captured_here(source) && is_captured_here(target) && source.network == target.network;
        (is_local && keeps_addresses).then(|| Self::Local { destination: *destination, upstream: upstream.clone() })
    }

    /// The service that the application addressed, as opposed to that of a waypoint on the way.
    #[must_use]
    pub fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Passthrough { service, .. } | Self::Waypoint { service, .. } => service.as_ref(),
            Self::Unresolved(Unresolved { role: Role::Waypoint(service), .. }) => service.as_ref(),
            Self::Unresolved(Unresolved { role: Role::Gateway(remote), .. }) => Some(&remote.service),
            Self::Unresolved(Unresolved { upstream, .. }) => upstream.service.as_ref(),
            Self::DoubleHbone(crossing) => Some(&crossing.remote.service),
            Self::Tcp { upstream, .. } | Self::Hbone { upstream, .. } | Self::Local { upstream, .. } => {
                upstream.service.as_ref()
            }
        }
    }

    /// Who is connected to first: the waypoint or gateway, if there is one on the way.
    ///
    /// `None` when the connection is left alone, and so nobody else could be tried.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Passthrough { .. } => None,
            Self::Tcp { upstream, .. }
            | Self::Hbone { upstream, .. }
            | Self::Waypoint { upstream, .. }
            | Self::Local { upstream, .. } => Some(upstream),
            Self::DoubleHbone(crossing) => Some(&crossing.gateway),
            Self::Unresolved(unresolved) => Some(&unresolved.upstream),
        }
    }
}

/// The way into another network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Where the gateway accepts HBONE.
    pub destination: SocketAddr,
    /// What is asked of the gateway, and of whoever answers behind it: the service and port that were addressed.
    pub authority: Authority,
    /// The identities that the gateway may have, the chosen workload's own first.
    pub expected: Vec<Identity>,
    /// The gateway's workload that was chosen, and its service.
    pub gateway: Upstream,
    /// Who is behind it.
    pub remote: Remote,
}

/// Who was chosen in another network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The chosen workload, which may stand for many, and its service: the addressed one's, or the waypoint's before it.
    pub upstream: Upstream,
    /// The service that was addressed.
    pub service: Arc<Service>,
}

impl Remote {
    /// The identities that whoever answers behind the gateway may have.
    ///
    /// Those of the service alone: the workload may stand for others, whose identities are not its own.
    #[must_use]
    pub fn expected(&self) -> &[Identity] {
        self.upstream.service.as_ref().map_or(&[], |service| &service.subject_alt_names)
    }
}

/// Who was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The service whose endpoint it is, if a service was addressed.
    pub service: Option<Arc<Service>>,
    /// The port that the workload's application listens on.
    pub port: u16,
}

impl Upstream {
    /// The route to this upstream at one of its addresses.
    #[must_use]
    pub fn route(self, ip: IpAddr) -> Route {
        let application = SocketAddr::new(canonical_ip(ip), self.port);
        match self.workload.protocol {
            Protocol::Tcp => Route::Tcp { destination: application, upstream: self },
            Protocol::Hbone => Route::Hbone {
                destination: SocketAddr::new(application.ip(), HBONE_PORT),
                authority: Authority::Address(application),
                expected: self.expected_identities(),
                upstream: self,
            },
        }
    }

    /// The route through this upstream, a waypoint, at one of its addresses.
    ///
    /// Always a tunnel, whatever the workload's protocol says: waypoints end HBONE themselves and are not captured.
    #[must_use]
    pub fn waypoint_route(self, ip: IpAddr, destination: SocketAddr, service: Option<Arc<Service>>) -> Route {
        Route::Waypoint {
            destination: SocketAddr::new(canonical_ip(ip), self.port),
            authority: Authority::Address(destination),
            expected: self.expected_identities(),
            upstream: self,
            service,
        }
    }

    /// The route through this upstream, a network's gateway, at one of its addresses.
    ///
    /// Always a tunnel, as gateways end HBONE themselves.
    #[must_use]
    fn gateway_route(self, ip: IpAddr, port: u16, remote: Remote) -> Route {
        Route::DoubleHbone(Box::new(Crossing {
            destination: SocketAddr::new(canonical_ip(ip), self.port),
            authority: Authority::Name(remote.service.hostname.clone(), port),
            expected: self.expected_identities(),
            gateway: self,
            remote,
        }))
    }

    /// The workload's identity, and those that the service accepts for any endpoint.
    fn expected_identities(&self) -> Vec<Identity> {
        let own = self.workload.identity();
        let others = self.service.iter().flat_map(|service| &service.subject_alt_names).filter(|other| **other != own);
        let others: Vec<_> = others.cloned().collect();
        std::iter::once(own).chain(others).collect()
    }
}

/// A choice whose host name must be resolved before a connection can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Who was chosen.
    pub upstream: Upstream,
    /// Where the application wanted to connect to.
    pub destination: SocketAddr,
    /// What the chosen workload is to the connection.
    pub role: Role,
}

/// What a chosen workload is to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Its destination.
    Destination,
    /// The waypoint on the way to this service, or to a workload that was addressed itself.
    Waypoint(Option<Arc<Service>>),
    /// The gateway of the network that the destination is in.
    Gateway(Box<Remote>),
}

impl Unresolved {
    /// The name to resolve.
    #[must_use]
    pub fn hostname(&self) -> &Hostname {
        &self.upstream.workload.hostname
    }

    /// The route at this address of the upstream.
    pub(crate) fn at(self, ip: IpAddr) -> Route {
        match self.role {
            Role::Destination => self.upstream.route(ip),
            Role::Waypoint(service) => self.upstream.waypoint_route(ip, self.destination, service),
            Role::Gateway(remote) => self.upstream.gateway_route(ip, self.destination.port(), *remote),
        }
    }

    /// The route to one of the addresses that the name has: at random, of the original destination's family if possible.
    ///
    /// # Errors
    /// [`ResolveError::NoAddress`] when there is no address that the service's families allow.
    pub fn resolved<R: Rng + ?Sized>(self, answers: &[IpAddr], random: &mut R) -> Result<Route, ResolveError> {
        let accepts = |ip: &IpAddr| self.upstream.service.as_ref().is_none_or(|svc| svc.ip_families.accepts(*ip));
        let usable: Vec<IpAddr> = answers.iter().copied().map(canonical_ip).filter(accepts).collect();
        let same = |ip: &&IpAddr| ip.is_ipv4() == self.destination.ip().is_ipv4();
        let same: Vec<IpAddr> = usable.iter().filter(same).copied().collect();
        let candidates = if same.is_empty() { usable } else { same };
        if candidates.is_empty() {
            return Err(ResolveError::NoAddress { workload: self.upstream.workload.uid.clone() });
        }
        let ip = candidates.get(random.random_range(0..candidates.len())).copied();
        let ip = ip.unwrap_or_else(|| self.destination.ip());
        Ok(self.at(ip))
    }
}
