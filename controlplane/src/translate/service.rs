//! Service to WDS Service.

use std::net::IpAddr;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::annotations;
use proto::istio::workload::load_balancing::{HealthPolicy, Mode, Scope};
use proto::istio::workload::{self, IpFamilies, LoadBalancing, NetworkAddress, Port};

use super::app_protocol;
use super::index::{Index, is_external_name};
use crate::objects::Named;

/// Derives a service; `None` for one that only points elsewhere by name.
pub(super) fn derive(service: &Service, index: &Index<'_>) -> Option<workload::Service> {
    let spec = service.spec.as_ref().filter(|_| !is_external_name(service))?;
    let waypoint = index.waypoints.of_service(service);
    Some(workload::Service {
        name: service.name().to_owned(),
        namespace: service.namespace().to_owned(),
        hostname: index.hostname(service),
        addresses: addresses(spec, &index.networks),
        ports: tcp_ports(service).map(port).collect(),
        load_balancing: load_balancing(service, spec, index),
        ip_families: ip_families(spec).into(),
        ingress_use_waypoint: waypoint.is_some() && index.waypoints.takes_ingress(service),
        waypoint,
        weighted_waypoints: index.waypoints.weighted(service),
        canonical: true,
        ..workload::Service::default()
    })
}

/// The ports that the mesh carries: TCP ones.
pub(super) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")))
}

/// A port number of the API, which is 32 bits wide and signed there.
pub(super) fn number(port: i32) -> u32 {
    u16::try_from(port).map_or(0, u32::from)
}

fn port(port: &ServicePort) -> Port {
    let target_port = match &port.target_port {
        Some(IntOrString::Int(target)) => number(*target),
        // A name: each endpoint says which of its ports has it.
        Some(IntOrString::String(_)) => 0,
        None => number(port.port),
    };
    let app_protocol = app_protocol::derive(port.app_protocol.as_deref(), port.name.as_deref(), port.port);
    Port { service_port: number(port.port), target_port, app_protocol: app_protocol.into() }
}

fn addresses(spec: &ServiceSpec, networks: &[String]) -> Vec<NetworkAddress> {
    let many = spec.cluster_ips.iter().flatten();
    let one = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.as_ref().is_none_or(Vec::is_empty));
    // A headless service says `None`, which is no address.
    let ips: Vec<IpAddr> = many.chain(one).filter_map(|text| text.parse().ok()).collect();
    networks.iter().flat_map(|network| ips.iter().map(|ip| network_address(*ip, network))).collect()
}

fn network_address(ip: IpAddr, network: &str) -> NetworkAddress {
    NetworkAddress { network: network.to_owned(), address: octets(ip), length: None }
}

/// The raw octets of an address.
pub(super) fn octets(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}

fn load_balancing(service: &Service, spec: &ServiceSpec, index: &Index<'_>) -> Option<LoadBalancing> {
    let (scopes, mode) = if spec.internal_traffic_policy.as_deref() == Some("Local") {
        (&[Scope::Node][..], Mode::Strict)
    } else {
        distribution(service, spec, index).map_or((&[][..], Mode::UnspecifiedMode), |scopes| (scopes, Mode::Failover))
    };
    let health_policy = match spec.publish_not_ready_addresses {
        Some(true) => HealthPolicy::AllowAll,
        _ => HealthPolicy::OnlyHealthy,
    };
    let routing_preference = scopes.iter().map(|scope| i32::from(*scope)).collect();
    let load_balancing = LoadBalancing { routing_preference, mode: mode.into(), health_policy: health_policy.into() };
    (load_balancing != LoadBalancing::default()).then_some(load_balancing)
}

const SAME_ZONE: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone];
const SAME_NODE: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];

/// Field, then annotation of the service, then annotation of its namespace: the first that says something.
fn distribution(service: &Service, spec: &ServiceSpec, index: &Index<'_>) -> Option<&'static [Scope]> {
    let by_field = match spec.traffic_distribution.as_deref() {
        Some("PreferClose" | "PreferSameZone") => Some(SAME_ZONE),
        Some("PreferSameNode") => Some(SAME_NODE),
        _ => None,
    };
    by_field.or_else(|| annotated_distribution(service, index))
}

/// The annotation of an object, else that of its namespace.
pub(super) fn annotated_distribution(object: &impl Named, index: &Index<'_>) -> Option<&'static [Scope]> {
    let of_namespace = || index.namespace(object.namespace())?.annotation(annotations::TRAFFIC_DISTRIBUTION);
    let text = object.annotation(annotations::TRAFFIC_DISTRIBUTION).or_else(of_namespace)?;
    match text.to_ascii_lowercase().as_str() {
        "preferclose" | "prefersamezone" => Some(SAME_ZONE),
        "prefersamenode" => Some(SAME_NODE),
        _ => None,
    }
}

fn ip_families(spec: &ServiceSpec) -> IpFamilies {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let has = |family: &str| families.iter().any(|found| found == family);
    match (has("IPv4"), has("IPv6")) {
        (true, true) => IpFamilies::Dual,
        (true, false) => IpFamilies::Ipv4Only,
        (false, true) => IpFamilies::Ipv6Only,
        (false, false) => IpFamilies::Automatic,
    }
}
