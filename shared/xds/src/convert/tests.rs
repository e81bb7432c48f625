//! Each field arrives, and each malformed one is refused by name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use discovery::{Health, IpFamilies, Mode, NetworkMode, Protocol, Scope, Visibility, WorkloadType};
use prost::Message;
use prost::bytes::Bytes;
use prost_types::{Any, Struct, Value, value};
use proto::istio::security as policy_wire;
use types::{Cidr, Identity};

use super::*;

mod policies;

fn pod() -> wire::Workload {
    wire::Workload {
        uid: "Kubernetes//Pod/shop/cart-1".to_owned(),
        name: "cart-1".to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![Bytes::from_static(&[10, 0, 0, 1])],
        services: [("shop/cart.shop.svc.cluster.local".to_owned(), wire::PortList { ports: vec![port(80, 8080)] })]
            .into(),
        ..Default::default()
    }
}

fn cart() -> wire::Service {
    wire::Service {
        name: "cart".to_owned(),
        namespace: "shop".to_owned(),
        hostname: "cart.shop.svc.cluster.local".to_owned(),
        ports: vec![port(80, 0)],
        ..Default::default()
    }
}

fn port(service_port: u32, target_port: u32) -> wire::Port {
    wire::Port { service_port, target_port, app_protocol: 1 }
}

fn vip(bytes: &'static [u8], length: Option<u32>) -> wire::NetworkAddress {
    wire::NetworkAddress { network: "net".to_owned(), address: Bytes::from_static(bytes), length }
}

fn gateway(destination: Option<wire::gateway_address::Destination>) -> wire::GatewayAddress {
    wire::GatewayAddress { hbone_mtls_port: 15008, destination }
}

fn gateway_by_name(namespace: &str, hostname: &str) -> wire::GatewayAddress {
    let name = wire::NamespacedHostname { namespace: namespace.to_owned(), hostname: hostname.to_owned() };
    gateway(Some(wire::gateway_address::Destination::Hostname(name)))
}

/// Extension with labels, of which one may have a value that is no text.
fn labels(entries: &[(&str, Option<&str>)]) -> wire::Extension {
    let value = |text: Option<&str>| Value { kind: text.map(|text| value::Kind::StringValue(text.to_owned())) };
    let fields = entries.iter().map(|&(key, text)| (key.to_owned(), value(text))).collect();
    let config = Any { type_url: String::new(), value: Struct { fields }.encode_to_vec() };
    wire::Extension { name: LABELS_EXTENSION.to_owned(), config: Some(config) }
}

#[test]
fn empty_fields_of_a_workload_mean_their_defaults() {
    let converted = workload(pod()).unwrap();
    assert_eq!(converted.identity(), Identity::new("cluster.local".parse().unwrap(), "shop", "default"));
    assert_eq!((&*converted.cluster_id, converted.capacity), ("Kubernetes", 1));
    assert_eq!((converted.protocol, converted.health), (Protocol::Tcp, Health::Healthy));
    assert_eq!((converted.network_mode, converted.workload_type), (NetworkMode::Standard, WorkloadType::Deployment));
    assert_eq!((converted.waypoint, converted.network_gateway, converted.application_tunnel), (None, None, None));
    assert_eq!((converted.labels, converted.locality), (None, Arc::default()));
}

#[test]
fn every_field_of_a_workload_arrives() {
    let converted = workload(wire::Workload {
        addresses: vec![
            Bytes::from_static(&[10, 0, 0, 1]),
            Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]),
            Bytes::from_static(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ],
        hostname: "external.test".to_owned(),
        network: "net".to_owned(),
        tunnel_protocol: 1,
        trust_domain: "td".to_owned(),
        service_account: "cart".to_owned(),
        waypoint: Some(gateway_by_name("shop", "waypoint.shop")),
        network_gateway: Some(gateway(Some(wire::gateway_address::Destination::Address(vip(&[10, 9, 9, 9], None))))),
        node: "node-1".to_owned(),
        canonical_name: "cart".to_owned(),
        canonical_revision: "v1".to_owned(),
        workload_type: 1,
        workload_name: "cart".to_owned(),
        native_tunnel: true,
        authorization_policies: vec!["shop/b".to_owned(), "shop/a".to_owned()],
        status: 1,
        cluster_id: "east".to_owned(),
        application_tunnel: Some(wire::ApplicationTunnel { protocol: 1, port: 0 }),
        locality: Some(wire::Locality { region: "r".to_owned(), zone: "z".to_owned(), subzone: "s".to_owned() }),
        network_mode: 1,
        extensions: vec![
            wire::Extension { name: "someone.else/thing".to_owned(), config: None },
            labels(&[("version", Some("v1")), ("app", Some("cart"))]),
        ],
        capacity: Some(0),
        ..pod()
    })
    .unwrap();
    let v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap();
    let addresses: [IpAddr; 3] = [Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into(), v6.into()];
    assert_eq!(*converted.addresses, addresses, "an IPv4 address in IPv6 clothing is an IPv4 address");
    assert_eq!(converted.hostname.as_str(), "external.test");
    assert_eq!((converted.protocol, converted.health), (Protocol::Hbone, Health::Unhealthy));
    assert_eq!(converted.identity().to_string(), "spiffe://td/ns/shop/sa/cart");
    assert_eq!(converted.waypoint.unwrap().to_string(), "shop/waypoint.shop:15008");
    assert_eq!(converted.network_gateway.unwrap().to_string(), "net/10.9.9.9:15008");
    assert_eq!(converted.workload_type, WorkloadType::CronJob);
    assert_eq!(*converted.authorization_policies, ["shop/b".parse().unwrap(), "shop/a".parse().unwrap()]);
    assert_eq!(converted.application_tunnel.unwrap().port, None);
    assert_eq!((&*converted.locality.zone, converted.network_mode), ("z", NetworkMode::HostNetwork));
    assert_eq!(
        converted.labels.as_deref(),
        Some([("app".into(), "cart".into()), ("version".into(), "v1".into())].as_slice())
    );
    assert_eq!((converted.capacity, &*converted.cluster_id, converted.native_tunnel), (0, "east", true));
    let (key, ports) = &converted.services[0];
    assert_eq!((key.to_string().as_str(), ports.target(80)), ("shop/cart.shop.svc.cluster.local", Some(8080)));
}

#[test]
fn a_malformed_workload_is_refused_by_field() {
    type Spoil = fn(&mut wire::Workload);
    let cases: [(Spoil, &str); 22] = [
        (|w| w.uid.clear(), "uid: not set"),
        (|w| w.addresses.push(Bytes::new()), "addresses[1]: an address has 4 or 16 bytes, not 0"),
        (|w| w.addresses.push(Bytes::from_static(&[1; 5])), "addresses[1]: an address has 4 or 16 bytes, not 5"),
        (|w| w.tunnel_protocol = 2, "tunnel_protocol: LEGACY_ISTIO_MTLS is not supported"),
        (|w| w.tunnel_protocol = 3, "tunnel_protocol: 3 is not a known value"),
        (|w| w.tunnel_protocol = -1, "tunnel_protocol: -1 is not a known value"),
        (|w| w.trust_domain = "a/b".to_owned(), "trust_domain: \"a/b\" is not a trust domain"),
        (|w| w.waypoint = Some(gateway(None)), "waypoint.destination: not set"),
        (|w| w.waypoint = Some(gateway_by_name("", "host")), "waypoint.hostname: namespace and hostname must be set"),
        (
            |w| w.waypoint = Some(wire::GatewayAddress { hbone_mtls_port: 70_000, ..gateway_by_name("a", "b") }),
            "waypoint.hbone_mtls_port: 70000 is not a port",
        ),
        (
            |w| w.network_gateway = Some(gateway(Some(wire::gateway_address::Destination::Address(vip(&[1], None))))),
            "network_gateway.address.address: an address has 4 or 16 bytes, not 1",
        ),
        (|w| w.workload_type = 4, "workload_type: 4 is not a known value"),
        (
            |w| w.authorization_policies = vec!["a/b".to_owned(), "c".to_owned()],
            "authorization_policies[1]: \"c\" is not namespace/name",
        ),
        (|w| w.status = 2, "status: 2 is not a known value"),
        (
            |w| w.services = [("cart".to_owned(), wire::PortList::default())].into(),
            "services: \"cart\" is not namespace/hostname",
        ),
        (
            |w| w.services = [("a/b".to_owned(), wire::PortList { ports: vec![port(80, 65_536)] })].into(),
            "services[\"a/b\"].ports[0].target_port: 65536 is not a port",
        ),
        (
            |w| w.application_tunnel = Some(wire::ApplicationTunnel { protocol: 2, port: 0 }),
            "application_tunnel.protocol: 2 is not a known value",
        ),
        (
            |w| w.application_tunnel = Some(wire::ApplicationTunnel { protocol: 0, port: 65_536 }),
            "application_tunnel.port: 65536 is not a port",
        ),
        (|w| w.network_mode = 2, "network_mode: 2 is not a known value"),
        (
            |w| w.extensions = vec![labels(&[("a", None)])],
            "extensions[\"aquifer.dev/labels\"].a: a label's value is a text",
        ),
        (
            |w| w.extensions = vec![wire::Extension { config: None, ..labels(&[]) }],
            "extensions[\"aquifer.dev/labels\"]: not set",
        ),
        (
            |w| {
                w.services =
                    [("a/b".to_owned(), wire::PortList { ports: vec![wire::Port { app_protocol: 9, ..port(1, 1) }] })]
                        .into()
            },
            "services[\"a/b\"].ports[0].app_protocol: 9 is not a known value",
        ),
    ];
    for (spoil, expected) in cases {
        let mut message = pod();
        spoil(&mut message);
        assert_eq!(workload(message).unwrap_err().to_string(), expected);
    }
}

#[test]
fn every_field_of_a_service_arrives() {
    let converted = service(wire::Service {
        addresses: vec![
            vip(&[10, 96, 0, 1], None),
            vip(&[10, 96, 0, 2], Some(32)),
            vip(&[240, 240, 0, 0], Some(16)),
            vip(&[0; 16], Some(0)),
        ],
        subject_alt_names: vec!["spiffe://td/ns/a/sa/b".to_owned(), "not-spiffe.test".to_owned()],
        waypoint: Some(gateway_by_name("shop", "waypoint.shop")),
        weighted_waypoints: vec![wire::WeightedWaypoint { destination: Some(gateway_by_name("a", "b")), weight: 7 }],
        load_balancing: Some(wire::LoadBalancing {
            routing_preference: vec![6, 1, 2, 3, 4, 5],
            mode: 2,
            health_policy: 1,
        }),
        ip_families: 3,
        canonical: true,
        visibility: 1,
        ..cart()
    })
    .unwrap();
    assert_eq!(converted.key().to_string(), "shop/cart.shop.svc.cluster.local");
    assert_eq!(converted.vips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["net/10.96.0.1", "net/10.96.0.2"]);
    let ranges: Vec<Cidr> = converted.cidr_vips.iter().map(|vip| vip.cidr).collect();
    assert_eq!(ranges, ["240.240.0.0/16".parse().unwrap(), "::/0".parse().unwrap()]);
    assert_eq!(converted.ports.port(80).unwrap().target_port, 0);
    assert_eq!(converted.subject_alt_names, ["spiffe://td/ns/a/sa/b".parse().unwrap()]);
    assert_eq!(converted.weighted_waypoints[0].weight, 7);
    let balancing = converted.load_balancing.unwrap();
    let preference = [Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster];
    assert_eq!((balancing.routing_preference.as_slice(), balancing.mode), (preference.as_slice(), Mode::Failover));
    assert_eq!((converted.ip_families, converted.visibility), (IpFamilies::Dual, Visibility::Namespace));
    assert!(converted.is_canonical);
}

#[test]
fn an_unknown_visibility_is_public() {
    assert_eq!(service(wire::Service { visibility: 9, ..cart() }).unwrap().visibility, Visibility::Public);
}

#[test]
fn a_malformed_service_is_refused_by_field() {
    type Spoil = fn(&mut wire::Service);
    let cases: [(Spoil, &str); 12] = [
        (|s| s.namespace.clear(), "namespace: not set"),
        (|s| s.hostname.clear(), "hostname: not set"),
        (|s| s.hostname = "a/b".to_owned(), "hostname: \"a/b\" contains a slash"),
        (|s| s.addresses = vec![vip(&[1, 2, 3], None)], "addresses[0].address: an address has 4 or 16 bytes, not 3"),
        (
            |s| s.addresses = vec![vip(&[1, 2, 3, 4], Some(33))],
            "addresses[0].length: 33 is too long a prefix for 1.2.3.4",
        ),
        (
            |s| s.addresses = vec![vip(&[1, 2, 3, 4], Some(288))],
            "addresses[0].length: 288 is too long a prefix for 1.2.3.4",
        ),
        (|s| s.ports.push(port(70_000, 1)), "ports[1].service_port: 70000 is not a port"),
        (
            |s| s.weighted_waypoints = vec![wire::WeightedWaypoint { destination: None, weight: 1 }],
            "weighted_waypoints[0].destination: not set",
        ),
        (
            |s| s.load_balancing = Some(wire::LoadBalancing { routing_preference: vec![1, 0], ..Default::default() }),
            "load_balancing.routing_preference[1]: unspecified",
        ),
        (
            |s| s.load_balancing = Some(wire::LoadBalancing { mode: 4, ..Default::default() }),
            "load_balancing.mode: 4 is not a known value",
        ),
        (
            |s| s.load_balancing = Some(wire::LoadBalancing { health_policy: 2, ..Default::default() }),
            "load_balancing.health_policy: 2 is not a known value",
        ),
        (|s| s.ip_families = 4, "ip_families: 4 is not a known value"),
    ];
    for (spoil, expected) in cases {
        let mut message = cart();
        spoil(&mut message);
        assert_eq!(service(message).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_address_is_a_workload_or_a_service() {
    assert_eq!(address(wire::Address::default()).unwrap_err().to_string(), "type: neither a workload nor a service");
    let bad = wire::Workload { status: 7, ..pod() };
    let error = address(wire::Address { r#type: Some(wire::address::Type::Workload(bad)) }).unwrap_err();
    assert_eq!(error.to_string(), "workload.status: 7 is not a known value");
    let good = address(wire::Address { r#type: Some(wire::address::Type::Service(cart())) }).unwrap();
    assert_eq!(good.resource_name(), "shop/cart.shop.svc.cluster.local");
}
