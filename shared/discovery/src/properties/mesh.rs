//! Random meshes out of a few names and addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use types::{Authority, NamespacedHostname, NetworkAddress, WorkloadUid};

use crate::fixtures::{address, gateway, ip, key, pod, ports, service, text};
use crate::model::{
    ApplicationTunnel, CidrVip, Destination, GatewayAddress, Health, HealthPolicy, IpFamilies, LoadBalancing,
    LocalName, Locality, Mode, NetworkMode, PortMap, Protocol, Scope, Service, TunnelProtocol, Visibility,
    WeightedWaypoint, Workload,
};

pub(super) const HOSTNAMES: [&str; 2] = ["x.example", "waypoint.example"];
const NAMESPACES: [&str; 2] = ["a", "b"];
const NETWORKS: [&str; 2] = ["", "remote"];
/// Drawn from, so that most things can meet.
const MOSTLY_ONE_NETWORK: [&str; 5] = ["", "", "", "", "remote"];
/// The last ones are above all virtual addresses.
const IPS: [&str; 6] = ["10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.3", "10.96.0.1", "fd00::96"];
const VIPS: [&str; 2] = ["10.96.0.1", "fd00::96"];
const UIDS: [&str; 6] =
    ["c//Pod/a/p", "c//Pod/a/q", "c//Pod/b/p", "c/networking.istio.io/WorkloadEntry/a/p", "odd", "a/x.example"];

#[derive(Debug, Clone)]
pub(super) enum Update {
    Workload(Box<Workload>),
    Service(Box<Service>),
    Remove(String),
    Publish,
}

pub(super) fn updates(most: usize) -> impl Strategy<Value = Vec<Update>> {
    let names = UIDS.iter().map(|uid| String::from(*uid)).chain(keys().into_iter().map(|key| key.to_string()));
    let update = prop_oneof![
        8 => workload().prop_map(|workload| Update::Workload(Box::new(workload))),
        5 => a_service().prop_map(|service| Update::Service(Box::new(service))),
        2 => select(names.collect::<Vec<_>>()).prop_map(Update::Remove),
        2 => Just(Update::Publish),
    ];
    prop::collection::vec(update, 0..most)
}

pub(super) fn keys() -> Vec<NamespacedHostname> {
    let keys = NAMESPACES.iter().flat_map(|namespace| HOSTNAMES.map(|host| key(&format!("{namespace}/{host}"))));
    keys.collect()
}

pub(super) fn addresses() -> Vec<NetworkAddress> {
    let ips = || IPS.iter().chain(&["10.96.0.2", "203.0.113.9"]);
    NETWORKS.iter().flat_map(|network| ips().map(move |ip| address(&format!("{network}/{ip}")))).collect()
}

pub(super) fn clients() -> [Option<&'static str>; 4] {
    [None, Some("a"), Some("b"), Some("c")]
}

pub(super) fn workload_names() -> Vec<LocalName> {
    let name = |namespace: &&str| {
        ["p", "q"].map(|name| {
            ["one", "two"].map(|account| LocalName {
                namespace: text(namespace),
                name: text(name),
                service_account: text(account),
            })
        })
    };
    NAMESPACES.iter().flat_map(name).flatten().collect()
}

pub(super) fn uid() -> impl Strategy<Value = WorkloadUid> {
    select(UIDS.to_vec()).prop_map(WorkloadUid::from)
}

pub(super) fn destination() -> impl Strategy<Value = SocketAddr> {
    let extra = ["203.0.113.9", "127.0.0.1", "::ffff:10.0.0.1", "10.96.7.7"];
    let ips: Vec<&str> = IPS.into_iter().chain(VIPS).chain(VIPS).chain(VIPS).chain(extra).collect();
    (select(ips), port()).prop_map(|(address, port)| SocketAddr::new(ip(address).to_canonical(), port))
}

pub(super) fn authority() -> impl Strategy<Value = Authority> {
    let name = (select(HOSTNAMES.to_vec()), port()).prop_map(|(host, port)| Authority::Name(host.into(), port));
    prop_oneof![destination().prop_map(Authority::Address), name]
}

pub(super) fn scopes() -> impl Strategy<Value = Vec<Scope>> {
    let all = vec![Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster];
    let some = proptest::sample::subsequence(all.clone(), 0..=4).prop_shuffle();
    let remote_first = proptest::sample::subsequence(all, 1..=4);
    prop_oneof![some, remote_first]
}

/// Whether there is an address, a name, or a gateway on the way.
pub(super) fn is_reachable(source: &Workload, endpoint: &Workload) -> bool {
    !endpoint.addresses.is_empty()
        || !endpoint.hostname.as_str().is_empty()
        || (endpoint.network != source.network && endpoint.network_gateway.is_some())
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![80, 80, 80, 81, 8080, 15001, 15006, 15008])
}

fn chosen(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(from)
}

fn vip() -> impl Strategy<Value = NetworkAddress> {
    let usual = (chosen(&MOSTLY_ONE_NETWORK), chosen(&VIPS));
    let usual = usual.prop_map(|(network, ip)| address(&format!("{network}/{ip}")));
    prop_oneof![3 => usual, 1 => select(addresses())]
}

fn a_gateway() -> impl Strategy<Value = GatewayAddress> {
    let by_address = select(addresses())
        .prop_map(|address| GatewayAddress { destination: Destination::Address(address), hbone_mtls_port: 15008 });
    let by_name = select(keys()).prop_map(|key| gateway(&key.to_string()));
    prop_oneof![by_name, by_address]
}

fn port_map() -> impl Strategy<Value = PortMap> {
    prop::collection::vec((select(vec![80, 80, 80, 81, 15008]), select(vec![0, 8080, 8080, 9090, 15006])), 0..4)
        .prop_map(|pairs| ports(&pairs))
}

fn workload() -> impl Strategy<Value = Workload> {
    let names =
        (uid(), chosen(&NAMESPACES), chosen(&["p", "q"]), chosen(&["one", "two"]), chosen(&["node-1", "node-2"]));
    let reach = (
        prop::collection::vec(chosen(&IPS).prop_map(ip), 0..3),
        chosen(&["", "", "x.example", "waypoint.example"]),
        chosen(&MOSTLY_ONE_NETWORK),
        any::<(bool, bool, bool)>(),
        option::weighted(0.2, a_gateway()),
        option::weighted(0.3, a_gateway()),
    );
    let role = (
        prop::collection::btree_map(select(keys()), port_map(), 0..4),
        (prop::bool::weighted(0.75), chosen(&["r1", "r2"]), chosen(&["z1", "z2"]), chosen(&["c1", "c2"])),
        select(vec![0_u32, 1, 1, 2, 5]),
        prop::bool::weighted(0.1),
    );
    (names, reach, role).prop_map(|(names, reach, role)| {
        let (uid, namespace, name, account, node) = names;
        let (addresses, hostname, network, (is_captured, is_host, is_native), waypoint, network_gateway) = reach;
        let (services, (is_healthy, region, zone, cluster), capacity, has_tunnel) = role;
        Workload {
            uid,
            addresses: addresses.into(),
            hostname: hostname.into(),
            network: text(network),
            protocol: if is_captured { Protocol::Hbone } else { Protocol::Tcp },
            service_account: text(account),
            waypoint: waypoint.map(Arc::new),
            network_gateway: network_gateway.map(Arc::new),
            node: text(node),
            native_tunnel: is_native && is_host,
            health: if is_healthy { Health::Healthy } else { Health::Unhealthy },
            cluster_id: text(cluster),
            services: services.into_iter().collect(),
            application_tunnel: has_tunnel
                .then_some(ApplicationTunnel { protocol: TunnelProtocol::None, port: Some(15088) }),
            locality: Locality { region: text(region), zone: text(zone), subzone: text("") }.into(),
            network_mode: if is_host && !is_captured { NetworkMode::HostNetwork } else { NetworkMode::Standard },
            capacity,
            ..pod(namespace, name, "10.0.0.1")
        }
    })
}

fn load_balancing() -> impl Strategy<Value = LoadBalancing> {
    let mode =
        select(vec![Mode::Standard, Mode::Standard, Mode::Strict, Mode::Failover, Mode::Failover, Mode::Passthrough]);
    (scopes(), mode, any::<bool>()).prop_map(|(routing_preference, mode, allows_all)| LoadBalancing {
        routing_preference,
        mode,
        health_policy: if allows_all { HealthPolicy::AllowAll } else { HealthPolicy::OnlyHealthy },
    })
}

fn a_service() -> impl Strategy<Value = Service> {
    let range = (chosen(&MOSTLY_ONE_NETWORK), chosen(&["10.96.0.0/16", "10.96.0.0/31", "fd00::/64"]))
        .prop_map(|(network, range)| CidrVip { network: text(network), cidr: range.parse().unwrap() });
    let weighted = (a_gateway(), 0_u32..3).prop_map(|(destination, weight)| WeightedWaypoint { destination, weight });
    let reach = (
        prop::collection::btree_set(vip(), 0..3),
        prop::collection::vec(range, 0..2),
        port_map(),
        option::weighted(0.1, a_gateway()),
        prop::collection::vec(weighted, 0..4).prop_map(|all| if all.len() == 3 { all } else { vec![] }),
    );
    let families = vec![IpFamilies::Automatic, IpFamilies::Dual, IpFamilies::Ipv4Only, IpFamilies::Ipv6Only];
    (select(keys()), reach, option::of(load_balancing()), select(families), (any::<bool>(), prop::bool::weighted(0.2)))
        .prop_map(|(key, reach, load_balancing, ip_families, (is_canonical, is_hidden))| {
            let (vips, cidr_vips, ports, waypoint, weighted_waypoints) = reach;
            Service {
                vips: vips.into_iter().collect(),
                cidr_vips,
                ports,
                waypoint,
                weighted_waypoints,
                load_balancing,
                ip_families,
                is_canonical,
                visibility: if is_hidden { Visibility::Namespace } else { Visibility::Public },
                ..service(&key.to_string(), "")
            }
        })
}
