//! The sentences of the decision tree, read from the outcome backwards.

use std::net::SocketAddr;

use types::{NamespacedHostname, WorkloadUid};

use super::model::{self, Model};
use crate::model::{Destination, GatewayAddress, Mode, Protocol, Service, Workload};
use crate::resolve::ResolveError;
use crate::route::{HBONE_PORT, Remote, Role, Route, Unresolved, Upstream};

/// A connection, and what is at its destination.
pub(super) struct Case<'a> {
    pub(super) model: &'a Model,
    pub(super) source: &'a Workload,
    pub(super) destination: SocketAddr,
    pub(super) service: Option<&'a Service>,
    pub(super) workload: Option<&'a Workload>,
}

impl Case<'_> {
    pub(super) fn check(&self, outcome: &Result<Route, ResolveError>) {
        let Self { source, service, workload, .. } = *self;
        let is_promised = self.must_pass_a_waypoint();
        match outcome {
            Ok(Route::Waypoint { upstream, service: addressed, .. }) => {
                assert_eq!(addressed.as_deref(), service);
                self.check_waypoint(outcome.as_ref().unwrap(), upstream);
            }
            Ok(Route::Unresolved(Unresolved { upstream, role: Role::Waypoint(addressed), .. })) => {
                assert_eq!(addressed.as_deref(), service);
                self.check_waypoint(outcome.as_ref().unwrap(), upstream);
            }
            Ok(Route::DoubleHbone(crossing)) => {
                let asked = format!("{}:{}", service.unwrap().hostname, self.destination.port());
                assert_eq!(crossing.authority.to_string(), asked);
                assert_eq!(crossing.destination.port(), crossing.gateway.port);
                assert!(crossing.gateway.workload.addresses.contains(&crossing.destination.ip()));
                assert_eq!(crossing.expected[0], crossing.gateway.workload.identity());
                self.check_crossing(&crossing.gateway, &crossing.remote, is_promised);
            }
            Ok(Route::Unresolved(Unresolved { upstream, role: Role::Gateway(remote), .. })) => {
                assert!(!upstream.workload.hostname.as_str().is_empty());
                self.check_crossing(upstream, remote, is_promised);
            }
            Ok(Route::Passthrough { service: None, .. }) => assert!(service.is_none() && workload.is_none()),
            Ok(Route::Passthrough { service: Some(found), .. }) => {
                assert_eq!(Some(&**found), service);
                assert!(found.mode() == Mode::Passthrough && !is_promised);
            }
            Ok(route) => {
                assert!(!is_promised, "{route:?} goes around a waypoint");
                let upstream = route.upstream().unwrap();
                assert_eq!(upstream.service.as_deref(), service);
                assert_eq!(upstream.workload.network, source.network);
                check_protocol(route, upstream);
                match service {
                    Some(service) => self.check_choice(service, upstream),
                    None => assert_eq!(Some(&*upstream.workload), workload),
                }
            }
            Err(error) => self.check_error(error, is_promised),
        }
    }

    fn check_error(&self, error: &ResolveError, is_promised: bool) {
        let Self { model, source, service, workload, .. } = *self;
        match error {
            ResolveError::UnknownWaypoint { destination, waypoint } => {
                assert_eq!(*destination, self.destination);
                assert!(self.references().contains(&waypoint));
                assert!(self.waypoint_service(waypoint).is_none() && self.waypoint_pods(waypoint).is_empty());
            }
            ResolveError::UnknownGateway { workload, gateway, .. } => {
                assert!(model.workloads[workload].network != source.network && service.is_some());
                assert_eq!(model.workloads[workload].network_gateway.as_deref(), gateway.as_ref());
                let is_unknown =
                    |at: &GatewayAddress| self.waypoint_service(at).is_none() && self.waypoint_pods(at).is_empty();
                assert!(gateway.as_ref().is_none_or(is_unknown));
            }
            ResolveError::OtherNetwork { workload, .. } => {
                assert!(model.workloads[workload].network != source.network && service.is_none());
            }
            ResolveError::UnknownPort { service: key, .. } | ResolveError::NoEndpoint { service: key, .. }
                if self.gateways().any(|gateway| self.waypoint_service(gateway).as_ref() == Some(key)) => {}
            ResolveError::NoAlternative { workload: uid }
                if self.gateways().any(|gateway| self.waypoint_pods(gateway).contains(uid)) => {}
            ResolveError::NoEndpoint { service: key, .. } if is_promised => {
                assert!(self.references().iter().any(|waypoint| self.waypoint_service(waypoint).as_ref() == Some(key)));
            }
            ResolveError::UnknownPort { service: key, port } | ResolveError::NoEndpoint { service: key, port } => {
                let service = service.unwrap();
                assert_eq!(*key, service.key());
                assert!(*port > 0 && service.mode() != Mode::Passthrough && !is_promised);
            }
            ResolveError::NoAlternative { workload: uid } if is_promised => {
                assert!(self.references().iter().any(|waypoint| self.waypoint_pods(waypoint).contains(uid)));
            }
            ResolveError::NoAlternative { workload: uid } => assert_eq!(*uid, workload.unwrap().uid),
            ResolveError::NoAddress { workload } => {
                assert!(model.workloads[workload].hostname.as_str().is_empty());
            }
            ResolveError::Loop { destination } => assert!(destination.ip().is_loopback()),
        }
    }

    /// The gateways of all networks but the source's.
    fn gateways(&self) -> impl Iterator<Item = &GatewayAddress> {
        let others = self.model.workloads.values().filter(|workload| workload.network != self.source.network);
        others.filter_map(|workload| workload.network_gateway.as_deref())
    }

    /// Only what is in another network is behind a gateway: its own, and only for who addresses a service.
    fn check_crossing(&self, gateway: &Upstream, remote: &Remote, is_promised: bool) {
        let service = self.service.unwrap();
        assert_eq!(*remote.service, *service);
        let chosen = &remote.upstream.workload;
        assert_ne!(chosen.network, self.source.network);
        if is_promised {
            self.check_is_meant(&remote.upstream);
        } else {
            assert_eq!(remote.upstream.service.as_deref(), Some(service));
            self.check_choice(service, &remote.upstream);
        }
        let reference = chosen.network_gateway.as_ref().unwrap();
        assert!(self.waypoint_pods(reference).contains(&gateway.workload.uid));
        assert_eq!(self.waypoint_service(reference), gateway.service.as_ref().map(|service| service.key()));
        if let Some(service) = &gateway.service {
            self.check_choice(service, gateway);
        }
    }

    /// The references of which one must be followed; weighted ones without any weight are as good as none.
    fn references(&self) -> Vec<&GatewayAddress> {
        let Some(service) = self.service else {
            return self.workload.and_then(|workload| workload.waypoint.as_deref()).into_iter().collect();
        };
        let weighted = service.weighted_waypoints.iter().filter(|weighted| weighted.weight > 0);
        let weighted: Vec<_> = weighted.map(|weighted| &weighted.destination).collect();
        if weighted.is_empty() { service.waypoint.iter().collect() } else { weighted }
    }

    /// Whether there is a waypoint; one of a workload lets its own connections through.
    fn must_pass_a_waypoint(&self) -> bool {
        let is_its_own = |waypoint: &&GatewayAddress| self.service.is_none() && self.is_waypoint(waypoint);
        !self.references().is_empty() && !self.references().iter().any(is_its_own)
    }

    /// Whether the source is who the reference means, whoever looks.
    fn is_waypoint(&self, waypoint: &GatewayAddress) -> bool {
        let Self { model, source, .. } = *self;
        match &waypoint.destination {
            Destination::Hostname(_) => self.waypoint_pods(waypoint).contains(&source.uid),
            Destination::Address(at) => {
                let is_there = |service: &&Service| {
                    let around = service.cidr_vips.iter();
                    service.vips.contains(at)
                        || around.clone().any(|vip| vip.network == at.network && vip.cidr.contains(at.address))
                };
                let mut services = model.services.values().filter(is_there);
                services.any(|service| source.ports(&service.key()).is_some())
                    || (source.network == at.network && source.addresses.contains(&at.address))
            }
        }
    }

    /// The service that a reference leads to.
    fn waypoint_service(&self, waypoint: &GatewayAddress) -> Option<NamespacedHostname> {
        match &waypoint.destination {
            Destination::Hostname(key) => self.model.services.contains_key(key).then(|| key.clone()),
            Destination::Address(at) => self.model.service_at(at, Some(&self.source.namespace)),
        }
    }

    /// Every workload that a reference may lead to.
    fn waypoint_pods(&self, waypoint: &GatewayAddress) -> Vec<WorkloadUid> {
        if let Some(key) = self.waypoint_service(waypoint) {
            return self.model.endpoints(&key);
        }
        match &waypoint.destination {
            Destination::Hostname(key) => {
                let all = self.model.workloads.values();
                let named = all.filter(|pod| pod.namespace == key.namespace && pod.hostname == key.hostname);
                named.map(|pod| pod.uid.clone()).collect()
            }
            Destination::Address(at) => self.model.workload_at(at).into_iter().collect(),
        }
    }

    fn check_waypoint(&self, route: &Route, upstream: &Upstream) {
        let chosen = &upstream.workload;
        assert_eq!(chosen.network, self.source.network);
        self.check_is_meant(upstream);
        match route {
            Route::Waypoint { destination, authority, expected, .. } => {
                assert_eq!(authority.to_string(), self.destination.to_string(), "asked for as it was dialled");
                assert_eq!(destination.port(), upstream.port);
                assert!(chosen.addresses.contains(&destination.ip()));
                assert_eq!(expected[0], chosen.identity());
                let more = upstream.service.iter().flat_map(|service| &service.subject_alt_names);
                assert!(expected[1..].iter().all(|identity| more.clone().any(|other| other == identity)));
            }
            Route::Unresolved(unresolved) => {
                assert!(!unresolved.hostname().as_str().is_empty());
                assert_eq!(unresolved.destination, self.destination);
            }
            other => panic!("not through a waypoint: {other:?}"),
        }
    }

    /// Whether a reference to a waypoint leads to this choice.
    fn check_is_meant(&self, upstream: &Upstream) {
        let chosen = &upstream.workload;
        let is_meant = |waypoint: &&&GatewayAddress| {
            self.waypoint_pods(waypoint).contains(&chosen.uid)
                && self.waypoint_service(waypoint) == upstream.service.as_ref().map(|service| service.key())
        };
        let references = self.references();
        assert!(references.iter().any(|waypoint| is_meant(&waypoint)), "{references:?} do not mean {chosen:?}");
        if let Some(service) = &upstream.service {
            assert!(service.accepts(chosen) && chosen.capacity > 0 && upstream.port > 0);
            assert!(model::rank(service, self.source, chosen).is_some());
        }
    }

    fn check_choice(&self, service: &Service, upstream: &Upstream) {
        let chosen = &upstream.workload;
        assert!(chosen.ports(&service.key()).is_some());
        assert!(service.accepts(chosen) && chosen.capacity > 0 && upstream.port > 0);
        assert!(model::rank(service, self.source, chosen).is_some(), "{chosen:?} is out of scope");
        assert!(self.model.workloads.contains_key(&chosen.uid));
    }
}

fn check_protocol(route: &Route, upstream: &Upstream) {
    let workload = &upstream.workload;
    match route {
        Route::Tcp { destination, .. } => {
            assert_eq!(workload.protocol, Protocol::Tcp);
            assert_eq!(destination.port(), upstream.port);
            assert!(workload.addresses.contains(&destination.ip()));
        }
        Route::Hbone { destination, authority, expected, .. } => {
            assert_eq!(workload.protocol, Protocol::Hbone);
            assert_eq!(destination.port(), HBONE_PORT);
            let asked = SocketAddr::new(destination.ip(), upstream.port);
            assert_eq!(authority.to_string(), asked.to_string());
            assert_eq!(expected[0], workload.identity());
        }
        Route::Unresolved(_) => assert!(!workload.hostname.as_str().is_empty()),
        Route::Local { .. } => unreachable!("only for who asks"),
        Route::Waypoint { .. } | Route::DoubleHbone(_) => unreachable!("checked by itself"),
        Route::Passthrough { .. } => unreachable!("has no upstream"),
    }
}
